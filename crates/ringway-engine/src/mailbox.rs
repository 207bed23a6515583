//! The only way into an engine from another thread: a queue of mail, and a waker.
//!
//! The mail itself belongs to the user of the engine (a queue behind a lock, taken whole); the waker makes the
//! engine look. The order is: the sender stores its mail, then wakes; the engine clears the flag, then looks.
//! `tests/loom_mailbox.rs` includes this file to try every interleaving.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sync::{Arc, AtomicBool, Ordering};
use crate::sys;

/// Wakes an engine that is parked; its sink gets [`Event::Woken`](crate::Event::Woken). Cheap to clone, usable
/// from any thread. Calls made before the engine noticed the first are merged.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Set by the first caller, cleared by the engine before it looks for mail.
    notified: AtomicBool,
    /// Wakes a parked kernel wait; none in a simulated engine, which looks every turn.
    event_fd: Option<OwnedFd>,
}

impl Waker {
    pub(crate) fn new(event_fd: Option<OwnedFd>) -> Self {
        Self { shared: Arc::new(Shared { notified: AtomicBool::new(false), event_fd }) }
    }

    /// Wakes the engine. Cost: one atomic swap, and a write to an event descriptor if the engine has not noticed
    /// an earlier call yet.
    pub fn wake(&self) {
        if !self.shared.notified.swap(true, Ordering::AcqRel)
            && let Some(fd) = &self.shared.event_fd
        {
            sys::signal_event(fd.as_fd());
        }
    }

    /// Whether somebody called since the last time; looks for mail must come after.
    pub(crate) fn take(&self) -> bool {
        self.shared.notified.swap(false, Ordering::AcqRel)
    }

    /// The same, without taking note of it.
    pub(crate) fn is_notified(&self) -> bool {
        self.shared.notified.load(Ordering::Acquire)
    }

    /// What a kernel wait listens to.
    pub(crate) fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        self.shared.event_fd.as_ref().map(AsFd::as_fd)
    }
}
