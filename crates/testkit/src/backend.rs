//! Backends for tests: small TCP servers with one behaviour each, and a record of what they saw.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::{Pattern, PatternChecker, eventually, runtime};

/// How much a backend reads or writes at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// Length of the head of an exchange: seed and number of bytes, both little-endian u64.
pub(crate) const EXCHANGE_HEAD_BYTES: usize = 16;

/// What a backend does with each connection.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Sends back what comes; ends when the other side ends.
    Echo,
    /// Sends its name and a newline, then echoes.
    Named(String),
    /// Takes part in [`client::exchange`](crate::client::exchange): checks a pattern and sends another at once.
    Exchange,
    /// Sends without end and reads nothing.
    Flood,
    /// Reads to the end, then answers with the number of bytes as text.
    Count,
    /// Sends so many bytes of the pattern of seed 0, ends its direction, and reads the other to the end.
    SendThenEnd(usize),
    /// Waits for one byte, sends so many bytes of the pattern of seed 0, then resets the connection.
    SendThenReset(usize),
    /// Reads a little, then stops reading for good.
    Stall,
    /// Answers one HTTP request with this body.
    Http(String),
    /// Answers one HTTP request with this, head and all, which may change while the backend runs.
    Answer(Arc<Mutex<String>>),
}

/// How a connection ended, as the backend saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The other side ended its direction and this one followed.
    End,
    /// It broke: a reset, most often.
    Broken(io::ErrorKind),
    /// The bytes were not the ones that were expected.
    Wrong(String),
}

/// A running backend. Dropped, it behaves like a process that was killed.
pub struct Backend {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    accepted: AtomicUsize,
    open: AtomicUsize,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    endings: Mutex<Vec<Ending>>,
}

impl Backend {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When the system has no port.
    pub fn start(behaviour: Behaviour) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), behaviour)
    }

    /// Starts at `address`: to revive one that was killed.
    ///
    /// # Panics
    ///
    /// When the address is taken.
    pub fn start_at(address: SocketAddr, behaviour: Behaviour) -> Self {
        let listener = listen(address, 4096).unwrap_or_else(|error| panic!("listen on {address}: {error}"));
        let address = listener.local_addr().expect("a listener has an address");
        let seen = Arc::new(Seen::default());
        let task = runtime::spawn(serve(listener, behaviour, Arc::clone(&seen)));
        Self { address, seen, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted until now.
    pub fn accepted(&self) -> usize {
        self.seen.accepted.load(Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.seen.open.load(Relaxed)
    }

    /// Bytes handed to the system over all connections.
    pub fn sent_bytes(&self) -> u64 {
        self.seen.sent_bytes.load(Relaxed)
    }

    /// Bytes received over all connections.
    pub fn received_bytes(&self) -> u64 {
        self.seen.received_bytes.load(Relaxed)
    }

    /// How the connections ended that are over.
    pub fn endings(&self) -> Vec<Ending> {
        self.seen.endings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many connections have been accepted.
    ///
    /// # Panics
    ///
    /// After `limit`.
    pub fn wait_accepted(&self, count: usize, limit: Duration) {
        eventually(&format!("{count} connections at the backend"), limit, || {
            (self.accepted() >= count).then_some(())
        });
    }

    /// Waits until so many connections are over, and returns how.
    ///
    /// # Panics
    ///
    /// After `limit`.
    pub fn wait_endings(&self, count: usize, limit: Duration) -> Vec<Ending> {
        eventually(&format!("the end of {count} connections at the backend"), limit, || {
            let endings = self.endings();
            (endings.len() >= count).then_some(endings)
        })
    }

    /// Ends it as `kill -9` would end a process: listener and connections are closed at once.
    pub fn kill(mut self) {
        self.task.abort();
        // The sockets are closed when the task is gone, not before.
        let _ = runtime::block_on(&mut self.task);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Backend")
            .field("address", &self.address)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// An address that answers no connection attempt: its queue is full and nobody accepts.
#[derive(Debug)]
pub struct BlackHole {
    listener: StdListener,
    /// Fill the queue.
    _waiting: Vec<StdStream>,
}

impl BlackHole {
    /// Listens with the shortest queue and fills it.
    ///
    /// # Panics
    ///
    /// When the system has no port, or lets everyone in.
    pub fn start() -> Self {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 0).expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let mut waiting = Vec::new();
        while let Ok(stream) = StdStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
            assert!(waiting.len() < 64, "the queue of one never fills");
        }
        Self { listener, _waiting: waiting }
    }

    /// Where nobody answers.
    ///
    /// # Panics
    ///
    /// Never: a listener has an address.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listener has an address")
    }
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn serve(listener: StdListener, behaviour: Behaviour, seen: Arc<Seen>) {
    let listener = Closing(TcpListener::from_std(listener).expect("the listener does not block"));
    // Dropped with this task, and with it all connections.
    let mut connections = JoinSet::new();
    loop {
        // An error here is one of the connection that was to be accepted, or want of descriptors: go on.
        let Ok((stream, _)) = listener.0.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        seen.accepted.fetch_add(1, Relaxed);
        seen.open.fetch_add(1, Relaxed);
        let (behaviour, seen) = (behaviour.clone(), Arc::clone(&seen));
        connections.spawn(async move {
            let ending = match attend(stream, behaviour, &seen).await {
                Ok(ending) => ending,
                Err(error) => Ending::Broken(error.kind()),
            };
            seen.endings.lock().unwrap_or_else(PoisonError::into_inner).push(ending);
            seen.open.fetch_sub(1, Relaxed);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// A listener that leaves its address at once: to be closed is not enough while a child that another thread has just
/// started has it too, until it executes.
struct Closing(TcpListener);

impl Drop for Closing {
    fn drop(&mut self) {
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

async fn attend(mut stream: TcpStream, behaviour: Behaviour, seen: &Seen) -> io::Result<Ending> {
    match behaviour {
        Behaviour::Echo => echo(&mut stream, seen).await?,
        Behaviour::Named(name) => {
            send(&mut stream, format!("{name}\n").as_bytes(), seen).await?;
            echo(&mut stream, seen).await?;
        }
        Behaviour::Exchange => return exchange(stream, seen).await,
        Behaviour::Flood => return flood(stream, seen).await,
        Behaviour::Count => {
            let count = drain(&mut stream, seen).await?;
            send(&mut stream, count.to_string().as_bytes(), seen).await?;
            stream.shutdown().await?;
        }
        Behaviour::SendThenEnd(bytes) => {
            send_pattern(&mut stream, 0, bytes as u64, seen).await?;
            stream.shutdown().await?;
            drain(&mut stream, seen).await?;
        }
        Behaviour::SendThenReset(bytes) => {
            stream.read_u8().await?;
            send_pattern(&mut stream, 0, bytes as u64, seen).await?;
            wait_until_sent(&stream).await;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Behaviour::Stall => {
            stream.read_u8().await?;
            std::future::pending::<()>().await;
        }
        Behaviour::Http(body) => {
            read_head(&mut stream).await?;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            send(&mut stream, head.as_bytes(), seen).await?;
            stream.shutdown().await?;
            drain(&mut stream, seen).await?;
        }
        Behaviour::Answer(answer) => {
            read_head(&mut stream).await?;
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            send(&mut stream, answer.as_bytes(), seen).await?;
            stream.shutdown().await?;
            drain(&mut stream, seen).await?;
        }
    }
    Ok(Ending::End)
}

async fn echo(stream: &mut TcpStream, seen: &Seen) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        seen.received_bytes.fetch_add(count as u64, Relaxed);
        send(stream, &buffer[..count], seen).await?;
    }
}

/// Reads the head, then checks the client's pattern and sends its own at once; a last byte says that all was right.
async fn exchange(stream: TcpStream, seen: &Seen) -> io::Result<Ending> {
    let (mut reader, mut writer) = stream.into_split();
    let seed = reader.read_u64_le().await?;
    let bytes = reader.read_u64_le().await?;
    let sending = async {
        send_pattern(&mut writer, !seed, bytes, seen).await?;
        io::Result::Ok(writer)
    };
    let (checked, writer) = tokio::join!(check_pattern(&mut reader, seed, seen), sending);
    let (checked, mut writer) = (checked?, writer?);
    match checked {
        Ok(received) if received == bytes => {
            writer.write_u8(b'K').await?;
            writer.shutdown().await?;
            Ok(Ending::End)
        }
        Ok(received) => Ok(Ending::Wrong(format!("{received} bytes instead of {bytes}"))),
        Err(wrong) => Ok(Ending::Wrong(wrong)),
    }
}

/// Reads to the end and says how many bytes were right, or which was wrong first.
async fn check_pattern(
    reader: &mut (impl AsyncRead + Unpin),
    seed: u64,
    seen: &Seen,
) -> io::Result<Result<u64, String>> {
    let mut checker = PatternChecker::new(seed);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return Ok(Ok(checker.bytes()));
        }
        seen.received_bytes.fetch_add(count as u64, Relaxed);
        if let Err(wrong) = checker.feed(&buffer[..count]) {
            return Ok(Err(wrong));
        }
    }
}

async fn flood(mut stream: TcpStream, seen: &Seen) -> io::Result<Ending> {
    // Little in the kernel: what is under test is the memory of the process in the middle.
    SockRef::from(&stream).set_send_buffer_size(CHUNK_BYTES)?;
    let chunk = [b'x'; CHUNK_BYTES / 2];
    loop {
        let count = stream.write(&chunk).await?;
        seen.sent_bytes.fetch_add(count as u64, Relaxed);
    }
}

async fn send_pattern(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    seed: u64,
    mut bytes: u64,
    seen: &Seen,
) -> io::Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut buffer = vec![0; CHUNK_BYTES];
    while bytes > 0 {
        let count = bytes.min(CHUNK_BYTES as u64) as usize;
        pattern.fill(&mut buffer[..count]);
        writer.write_all(&buffer[..count]).await?;
        seen.sent_bytes.fetch_add(count as u64, Relaxed);
        bytes -= count as u64;
    }
    Ok(())
}

async fn send(stream: &mut TcpStream, bytes: &[u8], seen: &Seen) -> io::Result<()> {
    stream.write_all(bytes).await?;
    seen.sent_bytes.fetch_add(bytes.len() as u64, Relaxed);
    Ok(())
}

async fn drain(stream: &mut TcpStream, seen: &Seen) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(total);
        }
        total += count as u64;
        seen.received_bytes.fetch_add(count as u64, Relaxed);
    }
}

async fn read_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(())
}

/// Waits until the other end has acknowledged everything: a reset would throw away what is still on its way.
async fn wait_until_sent(stream: &TcpStream) {
    let mut pause = tokio::time::interval(Duration::from_millis(2));
    while unsent_bytes(stream) > 0 {
        pause.tick().await;
    }
}

fn unsent_bytes(stream: &TcpStream) -> u64 {
    // SIOCOUTQ has no safe wrapper; the kernel's table of connections has the same number.
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        return 0;
    };
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    let row = format!(": {} {} ", proc_address(local), proc_address(peer));
    table
        .lines()
        .find_map(|line| line.split_once(&row))
        .and_then(|(_, rest)| rest.split_whitespace().nth(1))
        .and_then(|queues| u64::from_str_radix(queues.split(':').next()?, 16).ok())
        .unwrap_or(0)
}

fn proc_address(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
        }
        SocketAddr::V6(_) => String::new(),
    }
}
