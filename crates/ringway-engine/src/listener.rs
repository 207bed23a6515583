//! A listening socket that is bound and not yet accepted from.

use std::io;
use std::os::fd::OwnedFd;

use crate::SocketAddress;
use crate::driver::simulated::SimulatedListener;

/// A bound, listening socket. The kernel queues connections for it; [`start_accept`](crate::Operations::start_accept)
/// takes them. Dropping it closes the socket and resets what waits in its queue.
#[derive(Debug)]
pub struct Listener {
    pub(crate) handle: ListenerHandle,
    pub(crate) address: SocketAddress,
}

#[derive(Debug)]
pub(crate) enum ListenerHandle {
    Descriptor(OwnedFd),
    Simulated(SimulatedListener),
}

impl Listener {
    /// The address it is bound to, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> &SocketAddress {
        &self.address
    }

    /// A second handle to the same queue, for another worker (Unix sockets have no SO_REUSEPORT).
    ///
    /// # Errors
    /// EMFILE when out of descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        let handle = match &self.handle {
            ListenerHandle::Descriptor(fd) => ListenerHandle::Descriptor(fd.try_clone()?),
            ListenerHandle::Simulated(listener) => ListenerHandle::Simulated(listener.clone()),
        };
        Ok(Self { handle, address: self.address.clone() })
    }
}
