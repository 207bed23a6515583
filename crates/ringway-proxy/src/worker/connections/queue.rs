//! Sessions that wait for a backend with room.

use ringway::{Operations, Time};

use super::Connections;
use crate::admission::{Call, Queue};
use crate::metrics::AppCounter;
use crate::session::CloseReason;
use crate::session::tcp::Event;

impl Connections {
    /// Puts the session at `place` at the end of the line of its app.
    pub(super) fn join_queue(&mut self, place: u32, app: usize, now: Time) -> Event {
        let app = &mut self.apps[app];
        let queue = app.state.queue();
        // Who gets here has seen that there is a queue; but the configuration is asked, and not the past.
        let max = app.state.model().limits.queue.unwrap_or(0);
        let Some(seat) = Queue::join(queue, &self.bell, place, max) else {
            return Event::Refused(CloseReason::QueueFull);
        };
        self.seats.insert(place, seat);
        app.counters.add(AppCounter::ConnectionsQueued, 1);
        // It may have been made since the choice that found none.
        if app.has_room(now) {
            app.state.queue().call();
        }
        Event::Queued
    }

    /// A session is called.
    pub(in crate::worker) fn handle_call(&mut self, ops: &mut Operations<'_>, call: Call) {
        if self.line.is_over() {
            return;
        }
        // One that has left passed the call on.
        if self.seats.get(&call.place).is_some_and(|seat| seat.is_meant(call)) {
            self.handle(ops, call.place, Event::RoomMade);
        }
    }

    /// There was no room for the session at `place`, which was called.
    pub(super) fn stay_queued(&mut self, place: u32, app: usize, now: Time) {
        let Some(seat) = self.seats.get(&place) else { return };
        seat.stay();
        let app = &mut self.apps[app];
        // It may have been made since the choice that found none.
        if app.has_room(now) {
            app.state.queue().call();
        }
    }
}
