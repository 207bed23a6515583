//! Clients for tests: checked exchanges, resets, half-closes, and readers that stop.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::EXCHANGE_HEAD_BYTES;
use crate::{PATIENCE, Pattern, PatternChecker};

const CHUNK_BYTES: usize = 32 * 1024;

/// Connects, with [`PATIENCE`] for the connection and for each read.
///
/// # Errors
///
/// When the connection fails.
pub fn connect(address: SocketAddr) -> io::Result<StdStream> {
    let stream = StdStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// As [`connect`], from the local address `ip`.
///
/// # Errors
///
/// What the system says about either address.
pub fn connect_from(ip: IpAddr, address: SocketAddr) -> io::Result<StdStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Or its port, which the kernel may give out at another address at the same time, could not be listened on there.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((ip, 0)).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    let stream = StdStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Closes with a reset, as a program does that is killed with data unread.
///
/// # Panics
///
/// When the system refuses SO_LINGER.
pub fn reset(stream: StdStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
}

/// Reads one line, without its newline, byte by byte: nothing after it is taken.
///
/// # Errors
///
/// When the stream fails or ends first.
pub fn read_line(stream: &mut impl Read) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        line.push(byte[0]);
    }
}

/// Moves `bytes` checked bytes each way at once against a [`Behaviour::Exchange`](crate::backend::Behaviour::Exchange).
///
/// # Errors
///
/// In words: what failed, or which byte was wrong first.
pub async fn exchange(address: SocketAddr, seed: u64, bytes: u64) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
    exchange_on(stream, seed, bytes).await
}

/// As [`exchange`], over a connection that is there already.
///
/// # Errors
///
/// In words: what failed, or which byte was wrong first.
pub async fn exchange_on(stream: TcpStream, seed: u64, bytes: u64) -> Result<(), String> {
    let (mut reader, mut writer) = stream.into_split();
    let sending = async {
        let mut head = [0; EXCHANGE_HEAD_BYTES];
        head[..8].copy_from_slice(&seed.to_le_bytes());
        head[8..].copy_from_slice(&bytes.to_le_bytes());
        writer.write_all(&head).await?;
        let mut pattern = Pattern::new(seed);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut left = bytes;
        while left > 0 {
            let count = left.min(CHUNK_BYTES as u64) as usize;
            pattern.fill(&mut buffer[..count]);
            writer.write_all(&buffer[..count]).await?;
            left -= count as u64;
        }
        writer.shutdown().await
    };
    let receiving = async {
        let mut checker = PatternChecker::new(!seed);
        let mut buffer = vec![0; CHUNK_BYTES];
        while checker.bytes() < bytes {
            let room = (bytes - checker.bytes()).min(CHUNK_BYTES as u64) as usize;
            let count = reader.read(&mut buffer[..room]).await.map_err(|error| format!("read: {error}"))?;
            if count == 0 {
                return Err(format!("ended after {} of {bytes} bytes", checker.bytes()));
            }
            checker.feed(&buffer[..count])?;
        }
        let mut verdict = Vec::new();
        reader.read_to_end(&mut verdict).await.map_err(|error| format!("read the verdict: {error}"))?;
        if verdict == b"K" { Ok(()) } else { Err(format!("the backend's verdict is {verdict:?}")) }
    };
    let (sent, received) = tokio::join!(sending, receiving);
    sent.map_err(|error| format!("write: {error}"))?;
    received
}

/// Opens `count` connections that take little into the kernel and read one byte each, then no more.
///
/// # Errors
///
/// When a connection fails, or brings no first byte in time.
pub fn stopped_readers(address: SocketAddr, count: usize) -> io::Result<Vec<StdStream>> {
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // The kernel's minimum: what is under test is the memory of the process in the middle.
        socket.set_recv_buffer_size(4096)?;
        // Send buffers grow to many segments. With those of the loopback device thousands of stalled connections
        // take more than all the memory that the kernel has for TCP, and it resets whom it likes.
        socket.set_tcp_mss(1400)?;
        socket.connect_timeout(&address.into(), PATIENCE)?;
        let mut stream: StdStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut [0])?;
        readers.push(stream);
    }
    Ok(readers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Behaviour, Ending};
    use crate::block_on;

    #[test]
    fn an_exchange_checks_both_directions() {
        let backend = Backend::start(Behaviour::Exchange);
        block_on(exchange(backend.address(), 5, 300_000)).expect("nothing is in between");
        assert_eq!(backend.wait_endings(1, PATIENCE), [Ending::End]);
    }

    #[test]
    fn a_reset_is_seen_as_one() {
        let backend = Backend::start(Behaviour::Echo);
        let stream = connect(backend.address()).expect("it listens");
        backend.wait_accepted(1, PATIENCE);
        reset(stream);
        assert_eq!(backend.wait_endings(1, PATIENCE), [Ending::Broken(io::ErrorKind::ConnectionReset)]);
    }

    #[test]
    fn bytes_before_a_reset_arrive() {
        use std::io::Write;
        let backend = Backend::start(Behaviour::SendThenReset(100_000));
        let mut stream = connect(backend.address()).expect("it listens");
        stream.write_all(b"x").expect("it reads");
        let mut checker = PatternChecker::new(0);
        let mut buffer = [0; 4096];
        let error = loop {
            match stream.read(&mut buffer) {
                Ok(count) => checker.feed(&buffer[..count]).expect("the pattern of seed 0"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(checker.bytes(), 100_000);
    }
}
