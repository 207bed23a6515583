//! A worker's part in a hand-over to another process: to come to rest, and then to go on or to leave; or to wake up.

use std::sync::mpsc;

use ringway::Operations;

use super::{Legacy, ProxyHandler, Rested};

impl ProxyHandler {
    /// Takes the listening sockets out of the engine; `reply` hears when all are.
    pub(super) fn rest(&mut self, ops: &mut Operations<'_>, reply: mpsc::Sender<Rested>) {
        self.resting = Some(reply);
        if !self.is_draining {
            self.frontends.release(ops);
        }
        self.come_to_rest();
    }

    /// Says that this worker rests, if it does by now.
    pub(super) fn come_to_rest(&mut self) {
        if self.frontends.are_released()
            && let Some(reply) = self.resting.take()
        {
            // Whoever asked may have given up.
            let _ = reply.send(Rested {
                worker: self.connections.worker(),
                next_number: self.connections.next_number(),
            });
        }
    }

    /// This process goes on.
    pub(super) fn resume(&mut self, ops: &mut Operations<'_>) {
        self.resting = None;
        self.frontends.resume_released(ops);
    }

    /// Another process goes on. What is left here ends here.
    pub(super) fn leave(&mut self, ops: &mut Operations<'_>) {
        self.is_draining = true;
        for place in self.frontends.leave_to_others(ops) {
            self.connections.let_go_of_route(place);
        }
    }

    /// This process goes on, from where another one left.
    pub(super) fn wake(&mut self, ops: &mut Operations<'_>, legacy: Legacy) {
        let Legacy { listeners, next_number, awake } = legacy;
        self.connections.continue_numbers(next_number);
        self.frontends.wake(ops, listeners);
        // Whoever counts may have given up.
        let _ = awake.send(());
    }
}
