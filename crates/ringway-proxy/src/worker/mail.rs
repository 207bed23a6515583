//! What the control plane tells a worker.

use std::sync::Arc;

use crate::endpoint::EndpointSet;
use crate::inspection::Inquiry;

/// What the control plane tells a worker.
#[derive(Clone, Debug)]
pub enum WorkerMail {
    /// The endpoints of an app changed.
    Endpoints {
        /// Place of the app in the configuration.
        app: usize,
        /// Its endpoints from now on.
        set: Arc<EndpointSet>,
    },
    /// Look at connections, or end some.
    Inspect(Inquiry),
    /// Stop accepting, once what waits in the queues is accepted; let connections finish.
    Drain,
    /// Stop accepting and close all connections now.
    CloseNow,
}
