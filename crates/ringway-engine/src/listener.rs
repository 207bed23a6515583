//! A listening socket that is bound and not yet accepted from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::driver::simulated::SimulatedListener;
use crate::{SocketAddress, sys};

/// A bound, listening socket. The kernel queues connections for it; [`start_accept`](crate::Operations::start_accept)
/// takes them. Dropping it closes the socket and resets what waits in its queue, unless another handle to the same
/// queue is left, here or in another process.
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

    /// The listening socket that a descriptor names: one that another process handed over, or opened for this one.
    ///
    /// # Errors
    /// `InvalidInput` if it is no stream socket (TCP or Unix) that listens; then it is closed.
    pub fn from_descriptor(fd: OwnedFd) -> io::Result<Self> {
        if !sys::check_stream(fd.as_fd())? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket that does not listen"));
        }
        sys::close_on_exec(fd.as_fd())?;
        let address = sys::local_address(fd.as_fd())?;
        Ok(Self { handle: ListenerHandle::Descriptor(fd), address })
    }

    /// Its descriptor, for a copy to be sent to another process. None of a simulated one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            ListenerHandle::Descriptor(fd) => Some(fd.as_fd()),
            ListenerHandle::Simulated(_) => None,
        }
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn a_descriptor_is_a_listener_only_if_it_listens() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = socket.local_addr().expect("its address");
        let stream = TcpStream::connect(address).expect("somebody listens");
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let file = std::fs::File::open("/dev/null").expect("a file");
        let listener = Listener::from_descriptor(socket.into()).expect("a socket that listens");
        assert_eq!(*listener.address(), SocketAddress::Inet(address));
        for other in [OwnedFd::from(stream), datagrams.into(), file.into()] {
            assert!(Listener::from_descriptor(other).is_err());
        }
    }
}
