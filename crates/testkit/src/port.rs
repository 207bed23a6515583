//! Loopback ports that nobody else gets while a test prepares to listen there.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

/// A free TCP port of 127.0.0.1 that the kernel gives to nobody for the next minute.
///
/// A connection on it is closed from the listening side, which leaves it in TIME_WAIT: the kernel no longer hands
/// the port out by itself, but whoever asks for it by number with SO_REUSEADDR gets it.
///
/// # Panics
///
/// When the machine has no port left.
pub fn free_port() -> u16 {
    let reserve = || -> std::io::Result<u16> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.set_reuse_address(true)?;
        listener.set_reuse_port(true)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listener.listen(1)?;
        let address = listener.local_addr()?.as_socket().ok_or(std::io::ErrorKind::Unsupported)?;
        let client = TcpStream::connect(address)?;
        let (accepted, _) = listener.accept()?;
        drop(accepted);
        drop(client);
        Ok(address.port())
    };
    reserve().expect("a loopback port can be reserved")
}

/// A free address of 127.0.0.1; see [`free_port`].
pub fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// A socket that listens at a free port of 127.0.0.1, at which others of the same user may listen too.
///
/// # Panics
///
/// When the machine has no port left.
pub fn listener_for_several() -> TcpListener {
    let listen = || -> std::io::Result<TcpListener> {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        listener.set_reuse_address(true)?;
        listener.set_reuse_port(true)?;
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        listener.listen(128)?;
        Ok(listener.into())
    };
    listen().expect("a loopback port can be listened at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_can_be_listened_on() {
        let address = free_address();
        TcpListener::bind(address).expect("std sets SO_REUSEADDR");
    }
}
