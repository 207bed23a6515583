//! A listening socket that is bound and not yet accepted from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::driver::ListenOptions;
use crate::driver::simulated::SimulatedListener;
use crate::{SocketAddress, socket};

/// A bound, listening socket. The kernel queues connections for it; [`start_accept`](crate::Operations::start_accept)
/// takes them. Dropping it closes the socket and resets what waits in its queue, unless another handle to the same
/// queue is left, here or in another process.
#[derive(Debug)]
pub struct Listener {
    pub(crate) handle: ListenerHandle,
    pub(crate) address: SocketAddress,
    pub(crate) is_held_elsewhere: bool,
}

#[derive(Debug)]
pub(crate) enum ListenerHandle {
    Descriptor(OwnedFd),
    Simulated(SimulatedListener),
}

impl Listener {
    pub(crate) fn new(handle: ListenerHandle, address: SocketAddress) -> Self {
        Self { handle, address, is_held_elsewhere: false }
    }

    /// Makes a listening socket of the kernel before there is an engine. Inside one, or for a simulated network, it is
    /// [`Operations::bind`](crate::Operations::bind).
    ///
    /// # Errors
    /// What `bind` and `listen` say: EADDRINUSE, EADDRNOTAVAIL, EACCES.
    pub fn bind(address: &SocketAddress, options: &ListenOptions) -> io::Result<Self> {
        socket::listen(address, options)
    }

    /// The listening socket that a descriptor names: one that another process handed over, or opened for this one. It
    /// blocks no longer, for everybody who holds it; its options are as they were until they are
    /// [changed](crate::Operations::reassign_accept).
    ///
    /// # Errors
    /// `InvalidInput`, with the reason in words, if it is no stream socket (TCP or Unix) that listens; then it is closed.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        socket::listener_of(descriptor)
    }

    /// Says that somebody else keeps the socket open and will accept from it: when it is
    /// [stopped](crate::Operations::stop_accept) what waits in its queue stays there, and new clients may still come.
    #[must_use]
    pub fn held_elsewhere(mut self) -> Self {
        self.is_held_elsewhere = true;
        self
    }

    /// Whether somebody else [keeps it open](Self::held_elsewhere).
    pub fn is_held_elsewhere(&self) -> bool {
        self.is_held_elsewhere
    }

    /// The address it is bound to, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> &SocketAddress {
        &self.address
    }

    /// Its descriptor, for a copy to be sent to another process. None of a simulated one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            ListenerHandle::Descriptor(fd) => Some(fd.as_fd()),
            ListenerHandle::Simulated(_) => None,
        }
    }

    /// Whether it is bound to an IPv6 address and takes IPv4 as well. A system call; a simulated one never says so.
    pub fn is_dual_stack(&self) -> bool {
        self.is_so(socket::is_dual_stack)
    }

    /// Whether other sockets of the same user may be bound to its port (SO_REUSEPORT). A system call; a simulated one
    /// never says so.
    pub fn allows_others(&self) -> bool {
        self.is_so(socket::allows_others)
    }

    fn is_so(&self, ask: impl FnOnce(BorrowedFd<'_>) -> bool) -> bool {
        self.address.inet().is_some() && self.descriptor().is_some_and(ask)
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
        let (address, is_held_elsewhere) = (self.address.clone(), self.is_held_elsewhere);
        Ok(Self { handle, address, is_held_elsewhere })
    }
}

impl TryFrom<Listener> for OwnedFd {
    type Error = Listener;

    /// The socket alone, for whoever accepts by other means; a simulated one comes back.
    fn try_from(listener: Listener) -> Result<Self, Listener> {
        match listener.handle {
            ListenerHandle::Descriptor(fd) => Ok(fd),
            ListenerHandle::Simulated(_) => Err(listener),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn why_not(descriptor: impl Into<OwnedFd>) -> String {
        Listener::from_descriptor(descriptor.into()).expect_err("it is refused").to_string()
    }

    #[test]
    fn only_listening_stream_sockets_are_taken() {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = tcp.local_addr().expect("it is bound");
        let connected = TcpStream::connect(address).expect("it listens");
        let taken = Listener::from_descriptor(tcp.into()).expect("it listens");
        assert_eq!(*taken.address(), SocketAddress::Inet(address));
        assert!(!taken.allows_others() && !taken.is_dual_stack());
        assert_eq!(why_not(connected), "a socket that does not listen");
        assert_eq!(why_not(UnixStream::pair().expect("a pair").0), "a socket that does not listen");
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        assert_eq!(why_not(udp), "not a stream socket");
        assert_eq!(why_not(UnixDatagram::unbound().expect("a socket")), "not a stream socket");
        assert_eq!(why_not(std::fs::File::open("/dev/null").expect("it is there")), "not a socket");
    }

    #[test]
    fn what_a_socket_allows_is_asked_of_it() {
        let options = ListenOptions { v6_only: false, ..ListenOptions::default() };
        let any = "[::]:0".parse::<std::net::SocketAddr>().expect("an address");
        // A machine without IPv6 has no such socket.
        if let Ok(listener) = Listener::bind(&any.into(), &options) {
            assert!(listener.is_dual_stack() && listener.allows_others());
        }
        let v4 = "127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address");
        let listener = Listener::bind(&v4.into(), &options).expect("a port");
        assert!(!listener.is_dual_stack() && listener.allows_others());
    }

    #[test]
    fn taken_socket_no_longer_blocks_and_comes_back_as_a_descriptor() {
        let path = std::env::temp_dir().join(format!("ringway-taken-{}", std::process::id()));
        let unix = UnixListener::bind(&path).expect("a path");
        std::fs::remove_file(&path).expect("it was made");
        let taken = Listener::from_descriptor(unix.into()).expect("it listens").held_elsewhere();
        assert!(taken.try_clone().expect("a clone").is_held_elsewhere);
        let unix = UnixListener::from(OwnedFd::try_from(taken).expect("it is of the kernel"));
        let error = unix.accept().expect_err("nobody waits");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
