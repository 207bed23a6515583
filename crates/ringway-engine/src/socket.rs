//! Sockets as the engine makes them: listening, dialled, datagram; with their options.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::driver::{ConnectOptions, KeepAlive, ListenOptions, SocketOptions};
use crate::listener::{Listener, ListenerHandle};
use crate::raw_address::RawAddress;
use crate::{SocketAddress, sys};

fn domain(address: &SocketAddress) -> i32 {
    match address {
        SocketAddress::Inet(SocketAddr::V4(_)) => libc::AF_INET,
        SocketAddress::Inet(SocketAddr::V6(_)) => libc::AF_INET6,
        SocketAddress::Unix(_) => libc::AF_UNIX,
    }
}

fn set_tcp_options(fd: BorrowedFd<'_>, options: &SocketOptions) -> io::Result<()> {
    if options.nodelay {
        sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    }
    if let Some(timeout) = options.user_timeout {
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, milliseconds)?;
    }
    if let Some(congestion) = &options.congestion {
        sys::set_option_bytes(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION, congestion.as_bytes())?;
    }
    Ok(())
}

/// Gives a socket that listens already other options, as far as they can be changed.
pub(crate) fn change_listener(fd: BorrowedFd<'_>, is_tcp: bool, options: &ListenOptions) -> io::Result<()> {
    if is_tcp {
        // What the new options leave to the system was perhaps set by the old ones. TCP_CONGESTION has no such value.
        sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, i32::from(options.socket.nodelay))?;
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 0)?;
        sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 0)?;
        set_tcp_options(fd, &options.socket)?;
    }
    // On a socket that listens this sets the length of its queue, and nothing else.
    sys::listen(fd, options.backlog)
}

/// Has the kernel probe a silent connection; of a listening socket, those that it accepts.
pub(crate) fn set_keep_alive(fd: BorrowedFd<'_>, keep_alive: KeepAlive) -> io::Result<()> {
    let seconds = |duration: Duration| i32::try_from(duration.as_secs().clamp(1, 32767)).unwrap_or(32767);
    let count = i32::try_from(keep_alive.count.clamp(1, 127)).unwrap_or(127);
    sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(keep_alive.idle))?;
    sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds(keep_alive.interval))?;
    sys::set_option(fd, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, count)?;
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)
}

/// Binds a listening socket.
pub(crate) fn listen(address: &SocketAddress, options: &ListenOptions) -> io::Result<Listener> {
    let fd = sys::socket(domain(address), libc::SOCK_STREAM)?;
    if let SocketAddress::Inet(addr) = address {
        sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        if options.reuse_port {
            sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        set_ip_options(fd.as_fd(), addr.is_ipv6(), options)?;
        set_tcp_options(fd.as_fd(), &options.socket)?;
    }
    sys::bind(fd.as_fd(), &RawAddress::new(address)?)?;
    if let (Some(path), Some(mode)) = (address.path(), options.unix_mode) {
        // Before `listen`: nobody can connect to a socket that does not listen yet.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    sys::listen(fd.as_fd(), options.backlog)?;
    let address = sys::local_address(fd.as_fd())?;
    Ok(Listener::new(ListenerHandle::Descriptor(fd), address))
}

/// A listening socket that somebody else made.
pub(crate) fn listener_of(fd: OwnedFd) -> io::Result<Listener> {
    let refused = |reason| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let listens = sys::check_stream(fd.as_fd()).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTSOCK) => refused("not a socket"),
        _ => error,
    })?;
    let get = |name| sys::get_option(fd.as_fd(), libc::SOL_SOCKET, name);
    match (get(libc::SO_DOMAIN)?, get(libc::SO_PROTOCOL)?) {
        _ if !listens => return Err(refused("a socket that does not listen")),
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_TCP) | (libc::AF_UNIX, _) => {}
        _ => return Err(refused("neither a TCP nor a Unix socket")),
    }
    sys::close_on_exec(fd.as_fd())?;
    let address = sys::local_address(fd.as_fd())?;
    Ok(Listener::new(ListenerHandle::Descriptor(fd), address))
}

/// Whether an IPv6 socket takes IPv4 as well.
pub(crate) fn is_dual_stack(fd: BorrowedFd<'_>) -> bool {
    sys::get_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).is_ok_and(|v6_only| v6_only == 0)
}

/// Whether other sockets may be bound to the same port.
pub(crate) fn allows_others(fd: BorrowedFd<'_>) -> bool {
    sys::get_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT).is_ok_and(|reuse| reuse != 0)
}

fn set_ip_options(fd: BorrowedFd<'_>, is_ipv6: bool, options: &ListenOptions) -> io::Result<()> {
    if options.freebind {
        // The IPv4 option serves IPv6 sockets as well.
        sys::set_option(fd, libc::IPPROTO_IP, libc::IP_FREEBIND, 1)?;
    }
    if is_ipv6 {
        sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, i32::from(options.v6_only))?;
    }
    Ok(())
}

/// Makes a socket and starts to connect it; `true` if it is established already. Its keep-alive is set later.
pub(crate) fn dial(target: &SocketAddress, options: &ConnectOptions) -> io::Result<(OwnedFd, bool)> {
    let fd = sys::socket(domain(target), libc::SOCK_STREAM)?;
    if target.inet().is_some() {
        set_tcp_options(fd.as_fd(), &options.socket)?;
        if let Some(source) = options.source {
            bind_source(fd.as_fd(), source)?;
        }
    }
    let established = sys::connect(fd.as_fd(), &RawAddress::new(target)?)?;
    // On loopback the handshake is over when `connect` returns, although it says "in progress".
    let established = established || sys::is_connected(fd.as_fd());
    Ok((fd, established))
}

fn bind_source(fd: BorrowedFd<'_>, source: IpAddr) -> io::Result<()> {
    // Chooses the port at connect, so that it must differ only per destination (Linux 4.2).
    sys::set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    sys::bind(fd, &RawAddress::inet(SocketAddr::new(source, 0)))
}

/// Binds a UDP socket.
pub(crate) fn bind_datagram(address: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let fd = sys::socket(domain(&SocketAddress::Inet(address)), libc::SOCK_DGRAM)?;
    if options.reuse_port {
        sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    set_ip_options(fd.as_fd(), address.is_ipv6(), options)?;
    // So that each datagram tells which local address it was sent to.
    if address.is_ipv6() {
        sys::set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    } else {
        sys::set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    }
    sys::bind(fd.as_fd(), &RawAddress::inet(address))?;
    Ok(fd)
}
