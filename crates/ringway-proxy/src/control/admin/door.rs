//! The admin interface's listening socket, as far as others are concerned: an upgrade takes a copy of it, and shuts it.

use std::future;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::serve::Listener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::bounded;

/// Where the admin interface lets people in.
#[derive(Debug)]
pub(in crate::control) struct Door {
    listener: Mutex<Option<OwnedFd>>,
    is_shut: watch::Sender<bool>,
    room: Arc<Semaphore>,
}

impl Door {
    pub(in crate::control) fn new() -> Self {
        Self { listener: Mutex::default(), is_shut: watch::Sender::new(false), room: bounded::room() }
    }

    /// This is the socket that is listened at.
    pub(super) fn open(&self, listener: BorrowedFd<'_>) {
        // Without descriptors an upgrade does not get far either.
        let copy = listener.try_clone_to_owned().ok();
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = copy;
    }

    /// A copy of the socket; none while there is no socket.
    pub(in crate::control) fn copy(&self) -> Option<OwnedFd> {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        listener.as_ref().and_then(|listener| listener.try_clone().ok())
    }

    /// Nobody is let in here any more: another process listens. Whoever is in may stay.
    pub(in crate::control) fn shut(&self) {
        self.is_shut.send_replace(true);
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(super) async fn until_shut(&self) {
        // The sender is held here.
        let _ = self.is_shut.subscribe().wait_for(|is_shut| *is_shut).await;
    }

    pub(super) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }

    /// Waits until all who are in have left, for at most so long.
    pub(in crate::control) async fn until_empty(&self, limit: Duration) {
        let _ = timeout(limit, bounded::until_empty(&self.room)).await;
    }
}

/// Accepts from `L` until the door is shut. Whoever comes later is left to the other process.
pub(super) struct Entrance<L> {
    listener: L,
    door: Arc<Door>,
}

impl<L> Entrance<L> {
    pub(super) fn new(listener: L, door: &Arc<Door>) -> Self {
        Self { listener, door: Arc::clone(door) }
    }
}

impl<L: Listener> Listener for Entrance<L> {
    type Io = L::Io;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (L::Io, L::Addr) {
        tokio::select! {
            // Asked first: once an upgrade was told of, the old process answers nobody new.
            biased;
            () = self.door.until_shut() => future::pending().await,
            accepted = self.listener.accept() => accepted,
        }
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}
