//! PROXY headers of clients, and for backends.

use ringway::Operations;

use super::Connections;
use crate::control::access_log::Secured;
use crate::endpoint::{SecuredClient, header_for_client};
use crate::model::SendHeader;
use crate::session::tcp::Event;
use crate::session::{CarriedAddresses, CloseReason};
use crate::worker::preface::{Inspection, Preface, Verdict};

impl Connections {
    /// Whether the client's first bytes are to be looked at.
    pub(super) fn look_for_header(&self, place: u32, app: usize) -> Event {
        let Some(entry) = self.entries.get(place) else { return Event::PrefaceRead };
        let peer = self.peers.address(entry.session.identity().peer);
        match self.apps[app].preface.inspect(&peer) {
            Inspection::Read => Event::PrefaceDue,
            Inspection::Pass => Event::PrefaceRead,
            Inspection::Refuse => Event::Refused(CloseReason::Untrusted),
        }
    }

    /// Bytes of a client wait, or its end; they are looked at and not taken.
    pub(in crate::worker) fn handle_peek(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        bytes: &[u8],
        ended: bool,
    ) {
        if self.entries.get(place).is_some_and(|entry| entry.session.awaits_route()) {
            return self.read_first_bytes(ops, place, bytes, ended);
        }
        if self.entries.get(place).is_some_and(|entry| entry.session.awaits_handshake()) {
            return self.continue_handshake(ops, place, bytes, ended);
        }
        let Some(entry) = self.entries.get_mut(place).filter(|entry| entry.session.awaits_preface()) else {
            return;
        };
        let app = &self.apps[self.routes.app_of(entry.session.identity().frontend)];
        let peer = entry.session.identity().peer;
        self.prefaces.note_bytes(place);
        let event = match app.preface.judge(bytes, ended) {
            Verdict::More => return,
            Verdict::None => Event::PrefaceRead,
            Verdict::Left => Event::ClientLeft { reset: false, unread: !bytes.is_empty() },
            Verdict::Malformed(error) => {
                let peer = self.peers.address(peer);
                tracing::debug!(app = %app.state.name(), %peer, %error, "PROXY header refused");
                Event::Refused(CloseReason::HeaderMalformed)
            }
            Verdict::Header(length, addresses) => {
                ops.consume(entry.client, length);
                if let Some((client, destination)) = addresses {
                    let via = self.peers.take(peer);
                    entry.session.set_peer(self.peers.store(client.into()));
                    self.prefaces.set(place, Preface::Carried(CarriedAddresses { via, destination }));
                }
                Event::PrefaceRead
            }
        };
        ops.stop_peek(entry.client);
        self.handle(ops, place, event);
    }

    /// The time for the client's header is over.
    pub(super) fn end_preface(&mut self, ops: &mut Operations<'_>, place: u32, app: usize) -> Event {
        if let Some(entry) = self.entries.get(place) {
            ops.stop_peek(entry.client);
        }
        match self.prefaces.is_silent(place) && self.apps[app].preface.allows_silence() {
            true => Event::PrefaceRead,
            false => Event::Refused(CloseReason::HeaderTimedOut),
        }
    }

    /// Sends the backend of the session at `place` its PROXY header, if it gets one. Nothing was sent to it before.
    pub(super) fn send_header(&self, ops: &mut Operations<'_>, place: u32, app: usize) {
        let form = self.apps[app].state.model().proxy_protocol.send;
        if form == SendHeader::None {
            return;
        }
        let Some(entry) = self.entries.get(place) else { return };
        let client = self.peers.address(entry.session.identity().peer);
        let local = self.prefaces.destination(place).or_else(|| ops.local_address(entry.client));
        let asked = self.first_bytes.asked(place);
        let unique_id = format!("{:x}-{}", self.seed, self.number_of(entry));
        let secured = match asked.and_then(|asked| asked.secured.as_ref()) {
            Some(Secured::Agreed { version, cipher, alpn, is_resumed, client }) => Some(SecuredClient {
                version,
                cipher,
                alpn: alpn.as_deref(),
                authority: asked.and_then(|asked| asked.sni()),
                unique_id: &unique_id,
                client: client.as_deref(),
                is_resumed: *is_resumed,
            }),
            Some(Secured::Failed(_)) | None => None,
        };
        let header = header_for_client(form, &client, local.as_ref(), secured.as_ref());
        // If the backend is gone already, its next event says so.
        let _ = ops.send(entry.backend, &header);
    }
}
