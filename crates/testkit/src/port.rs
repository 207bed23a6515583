//! Loopback ports that nobody else gets while a test prepares to listen there.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

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
        // Closing is not enough: a child that another thread starts just now has it too, until it executes.
        listener.shutdown(Shutdown::Both)?;
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
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::thread;

    use super::*;

    #[test]
    fn a_reserved_port_can_be_listened_on() {
        let address = free_address();
        TcpListener::bind(address).expect("std sets SO_REUSEADDR");
    }

    #[test]
    fn a_reserved_port_is_free_while_other_threads_start_programs() {
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !enough.load(Relaxed) {
                        // Told of a user the standard library forks: the child has all descriptors until it executes.
                        let mut program = Command::new("true");
                        program.uid(rustix::process::getuid().as_raw());
                        program.status().expect("it starts");
                    }
                });
            }
            let taken = (0..300).filter(|_| TcpListener::bind(free_address()).is_err()).count();
            enough.store(true, Relaxed);
            assert_eq!(taken, 0, "of 300");
        });
    }
}
