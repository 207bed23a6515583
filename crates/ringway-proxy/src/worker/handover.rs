//! A worker's part in a hand-over to another process: to come to rest, and then to go on or to leave; or to wake up.

use std::sync::mpsc;

use ringway::Operations;

use super::moving::{TakeOut, Taken, Which};
use super::{Legacy, ProxyHandler, Rested};

impl ProxyHandler {
    /// Takes the listening sockets out of the engine, then all connections; `reply` hears when all are.
    pub(super) fn rest(&mut self, ops: &mut Operations<'_>, reply: mpsc::Sender<Rested>) {
        self.resting = Some(reply);
        if !self.is_draining {
            self.frontends.release(ops);
        }
        self.come_to_rest(ops);
    }

    /// Takes the connections out, once nobody is accepted any more.
    pub(super) fn come_to_rest(&mut self, ops: &mut Operations<'_>) {
        if !self.frontends.are_released() {
            return;
        }
        let Some(reply) = self.resting.take() else { return };
        let (worker, next_number) = (self.connections.worker(), self.connections.next_number());
        let deliver = move |taken| {
            let rested = Rested { worker, next_number, taken };
            // Whoever asked may have given up: then they go on here.
            reply.send(rested).map_err(|refused| -> Taken { refused.0.taken })
        };
        self.connections.take_out(ops, TakeOut::new(Which::All, deliver));
    }

    /// This process goes on.
    pub(super) fn resume(&mut self, ops: &mut Operations<'_>) {
        self.resting = None;
        self.connections.resume_held(ops);
        self.frontends.resume_released(ops);
    }

    /// Another process goes on. What is left here ends here.
    pub(super) fn leave(&mut self, ops: &mut Operations<'_>) {
        self.is_draining = true;
        self.connections.let_go_of_rest(ops);
        for place in self.frontends.leave_to_others(ops) {
            self.connections.let_go_of_route(place);
        }
    }

    /// This process goes on, from where another one left.
    pub(super) fn wake(&mut self, ops: &mut Operations<'_>, legacy: Legacy) {
        let Legacy { listeners, sessions, progress, is_whole, next_number, outliers, awake } = legacy;
        self.connections.continue_numbers(next_number);
        self.connections.watch_outliers(ops, outliers);
        self.connections.go_on_expected(ops, progress);
        for moved in sessions {
            self.connections.put_in(ops, moved);
        }
        self.frontends.wake(ops, listeners);
        // Whoever counts may have given up.
        let _ = awake.send(());
        self.connections.drop_expected(ops, is_whole);
    }
}
