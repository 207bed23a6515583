//! What the control plane and other workers tell a worker.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ringway::Mailer;

use crate::admission::{Bell, Call};
use crate::inspection::Inquiry;
use crate::snapshot::Adoption;

/// What the control plane, or another worker, tells a worker.
#[derive(Clone, Debug)]
pub enum WorkerMail {
    /// Go on by this snapshot. What is the same in it as in the one until now is not touched.
    Adopt(Adoption),
    /// The endpoints of an app changed: its state has the new set.
    Endpoints {
        /// Slot of the app.
        app: usize,
    },
    /// An app is drained, or is not any more: its state says which.
    Serve {
        /// Slot of the app.
        app: usize,
    },
    /// One of its clients that wait for a backend is called: there may be room.
    Room(Call),
    /// Look at connections, or end some.
    Inspect(Inquiry),
    /// Add one: this worker turns.
    Beat(Arc<AtomicUsize>),
    /// Stop accepting, once what waits in the queues is accepted; let connections finish.
    Drain,
    /// Stop accepting and close all connections now.
    CloseNow,
}

/// Calls clients of a worker by mail.
pub(super) struct MailBell(pub(super) Mailer<WorkerMail>);

impl Bell for MailBell {
    fn ring(&self, call: Call) {
        self.0.send(WorkerMail::Room(call));
    }
}
