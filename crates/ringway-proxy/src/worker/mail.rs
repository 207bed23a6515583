//! What the control plane tells a worker.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::inspection::Inquiry;
use crate::snapshot::Adoption;

/// What the control plane tells a worker.
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
    /// Look at connections, or end some.
    Inspect(Inquiry),
    /// Add one: this worker turns.
    Beat(Arc<AtomicUsize>),
    /// Stop accepting, once what waits in the queues is accepted; let connections finish.
    Drain,
    /// Stop accepting and close all connections now.
    CloseNow,
}
