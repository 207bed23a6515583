//! The only way into an engine from another thread: a queue of mail, and a waker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Wakes an engine that is parked; its sink gets [`Event::Woken`](crate::Event::Woken). Cheap to clone, usable
/// from any thread. Calls made before the engine noticed the first are merged.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<WakerShared>,
}

#[derive(Debug)]
struct WakerShared {
    /// Set by the first caller, cleared by the engine before it looks for mail.
    notified: AtomicBool,
    /// Wakes a parked kernel wait; none in a simulated engine, which is asked every turn.
    event_fd: Option<std::os::fd::OwnedFd>,
}

impl Waker {
    pub(crate) fn new(event_fd: Option<std::os::fd::OwnedFd>) -> Self {
        Self { shared: Arc::new(WakerShared { notified: AtomicBool::new(false), event_fd }) }
    }

    /// Whether somebody called since the last time; looks for mail must come after.
    pub(crate) fn take(&self) -> bool {
        self.shared.notified.swap(false, Ordering::AcqRel)
    }

    /// The same, without taking note of it.
    pub(crate) fn is_notified(&self) -> bool {
        self.shared.notified.load(Ordering::Acquire)
    }

    /// Wakes the engine.
    pub fn wake(&self) {
        if !self.shared.notified.swap(true, Ordering::AcqRel) {
            // Written once the drivers have their event descriptor.
            let _ = &self.shared.event_fd;
        }
    }
}
