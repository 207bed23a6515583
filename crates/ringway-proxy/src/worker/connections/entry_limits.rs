//! The limits of an app, when a connection is to be let in.

use ringway::Time;

use super::Connections;
use crate::admission::Refusal;
use crate::session::CloseReason;
use crate::session::tcp::Event;

impl Connections {
    /// Counts the session at `place` against the limits of its app.
    pub(super) fn enter(&mut self, place: u32, app: usize, now: Time) -> Event {
        let Some(entry) = self.entries.get(place) else { return Event::Entered };
        let ip = self.peers.address(entry.session.identity().peer).inet().map(|address| address.ip());
        let state = &self.apps[app].state;
        match state.counts().enter(state.rules(), ip, now) {
            Ok(permit) => {
                if let Some(permit) = permit {
                    self.permits.insert(place, permit);
                }
                Event::Entered
            }
            Err(refusal) => Event::Refused(reason_of(refusal)),
        }
    }
}

pub(super) fn reason_of(refusal: Refusal) -> CloseReason {
    match refusal {
        Refusal::Denied => CloseReason::Denied,
        Refusal::Connections => CloseReason::LimitConnections,
        Refusal::SourceConnections => CloseReason::LimitSource,
        Refusal::Rate => CloseReason::LimitRate,
        Refusal::SourceRate => CloseReason::LimitSourceRate,
        Refusal::Handshakes => CloseReason::LimitHandshakes,
        Refusal::SourceHandshakes => CloseReason::LimitSourceHandshakes,
    }
}
