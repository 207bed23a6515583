//! The driver contract: what an engine can be asked for, what it tells, and the laws both sides keep.
//!
//! The operations are *streams* in completion shape (`start_receive` … `pause_receive`), not single reads:
//! multishot on io_uring, "try, then wait for readiness" on epoll. So a driver is one module.
//!
//! # Laws
//!
//! 1. **Events come one at a time**, to a [`Sink`], together with the operations. Received bytes are lent
//!    for that call and live outside what the operations borrow.
//! 2. **No operation calls back.** What it brings about is a later event, in this turn or a later one.
//! 3. **When `send` returns, the slice is free.** What was not sent is owned by the driver;
//!    [`Operations::queued_bytes`] is the back-pressure, and [`Event::Writable`] says that it fell to zero.
//!    Small sends of one call leave together. A synchronous try is made only when nothing is queued.
//! 4. **An ended id never speaks again.** These are last events: `ConnectFailed`, `Failed`, `Closed`,
//!    `Exported`, and for both ends of a relay `RelayEnded`. Operations on a dead id do nothing (queries answer zero).
//! 5. **`stop_relay` is asynchronous** and ends with one `RelayStopped` that holds every byte in flight, or,
//!    if the relay ended first, with `RelayEnded`. The same holds for `export` and `Exported`/`Failed`.
//! 6. **Pending data is bounded** per connection and per engine: past the engine's budget nothing more is read
//!    that could not be sent at once.
//! 7. **A reset hands on what was received before it**, then resets the other side.
//! 8. **Half-close is kept**: the end of one direction is passed on after its last byte and the other goes on.
//! 9. **A listening socket is accepted empty before it is closed**; new connections are turned away meanwhile
//!    without a reset to those that wait.
//! 10. **Running out of descriptors or memory at accept pauses the listener**, says so once, and resumes by itself.
//! 11. **Peeked bytes stay where they are**: whoever reads next, a receive, a relay or another engine, gets them first,
//!     but for those that `consume` took. A peek tells of more bytes and of the end, of each once; what breaks the
//!     connection ends it at once, unread bytes or not.
//! 12. **A listener that was released accepts nothing more**: every connection that it took was told of before
//!     `ListenerReleased`, all others wait in its queue, which stays for whoever else holds the socket.
//! 13. **A socket that another process may hold tells its end all the same**: closing sends FIN and resetting RST at
//!     once, whatever copies there are. Only to drop what was exported, and to abandon, is silent while a copy is left.
//! 14. **A connection that stands says nothing**, whatever happens to it, and no byte of it moves. What it missed is found
//!     when a relay begins, here or in the engine of whoever has a copy: of two that stand ready for one socket, one goes on.
//!
//! One contract suite (`tests/contract`) runs against all three drivers.

mod engine;
mod epoll;
mod kernel;
mod operations;
pub mod simulated;
mod turn;
mod uring;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::{ConnectionId, DatagramSocketId, Listener, ListenerId, SocketAddress, Time, TimerId, Token, sys};

pub use engine::Engine;
pub(crate) use operations::DriverOperations;
pub use operations::Operations;

/// The farthest that [`Operations::start_peek`] looks: a ClientHello of TLS fits into it (RFC 8446, section 5.1).
pub const PEEK_BYTES_MAX: usize = 16 << 10;

/// Receives the events of an engine.
pub trait Sink {
    /// Handles one event. Whatever is started through `ops` answers with later events.
    fn on_event(&mut self, ops: &mut Operations<'_>, event: Event<'_>);
}

/// What happened. Every event of a connection carries the [`Token`] that its user gave it last.
#[derive(Debug)]
pub enum Event<'a> {
    /// A listener accepted a connection. Nothing is read from it until it is told to; its token is the listener's.
    Accepted {
        /// Which listener.
        listener: ListenerId,
        /// The listener's token.
        token: Token,
        /// The new connection.
        connection: ConnectionId,
        /// The other end's address, asked for once, here.
        peer: SocketAddress,
    },
    /// A listener ran out of descriptors or memory and rests; it resumes by itself.
    AcceptPaused {
        /// Which listener.
        listener: ListenerId,
        /// Its token.
        token: Token,
        /// EMFILE, ENFILE, ENOBUFS or ENOMEM.
        error: io::Error,
    },
    /// A listener that rested for want of resources accepts again.
    AcceptResumed {
        /// Which listener.
        listener: ListenerId,
        /// Its token.
        token: Token,
    },
    /// A listener that was told to stop has handed out all that waited and is closed. Last event of the listener.
    ListenerClosed {
        /// Which listener.
        listener: ListenerId,
        /// Its token.
        token: Token,
    },
    /// A listener left the engine as told, with its queue. Last event of the listener.
    ListenerReleased {
        /// Which listener.
        listener: ListenerId,
        /// Its token.
        token: Token,
        /// The socket: accept from it again, here or elsewhere, or drop it.
        released: Listener,
    },
    /// A dialled connection is established.
    Connected {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
    },
    /// A dialled connection could not be established. Last event of the connection.
    ConnectFailed {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
        /// What the system said: ECONNREFUSED, EADDRNOTAVAIL, EMFILE, ETIMEDOUT …
        error: io::Error,
    },
    /// Bytes arrived on a connection whose receive stream runs. Never empty.
    Received {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
        /// The bytes, lent for this call; the user may change them in place (to unmask or decrypt).
        bytes: &'a mut [u8],
    },
    /// The other end finished sending (FIN) and all its bytes were delivered. Sending to it still works.
    Ended {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
    },
    /// More bytes than before wait on a connection that is peeked at, or its end. They are not taken.
    Peeked {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
        /// All bytes that wait, from the first, as far as the peek reaches; lent for this call.
        bytes: &'a [u8],
        /// The other end finished sending: `bytes` is all that will ever come.
        ended: bool,
    },
    /// Everything queued on the connection has been handed to the kernel, after some had to wait.
    Writable {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
    },
    /// A watched connection's other end left, or finished sending. Nothing was read. Comes at most once a watch.
    PeerLeft {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
        /// It was reset: nothing can be sent to it. `false`: it sent FIN.
        reset: bool,
        /// Bytes wait to be read.
        unread: bool,
    },
    /// The connection broke (reset, time-out of the kernel). All bytes that came before were delivered if its
    /// receive stream ran. Last event of the connection; its descriptor is gone.
    Failed {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
        /// ECONNRESET, ETIMEDOUT, EPIPE …
        error: io::Error,
    },
    /// The connection was closed as told. Last event of the connection.
    Closed {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
    },
    /// One direction of a relay came to its end, and the end was passed on.
    RelayHalfClosed {
        /// The connection whose other end finished sending.
        from: ConnectionId,
        /// Token of the relay's first connection.
        token: Token,
    },
    /// A relay is over. Last event of both its connections; both descriptors are gone.
    RelayEnded(RelayEnd),
    /// A relay was stopped as told; both its connections live on, nothing is read from them.
    RelayStopped(RelayStop),
    /// A connection left the engine as told. Last event of the connection in this engine.
    Exported {
        /// Which connection.
        connection: ConnectionId,
        /// Its token.
        token: Token,
        /// Everything another engine needs to carry it on.
        exported: ExportedConnection,
    },
    /// Datagrams arrived.
    Datagrams {
        /// Which socket.
        socket: DatagramSocketId,
        /// Its token.
        token: Token,
        /// Up to [`DatagramBatch::CAPACITY`] datagrams, lent for this call.
        batch: &'a mut DatagramBatch,
    },
    /// A timer came due. Timers are coarse: up to 8 ms late, never early.
    TimerFired {
        /// Which timer; the number may be used again at once.
        timer: TimerId,
        /// Its token.
        token: Token,
    },
    /// Another thread called the engine's [`Waker`](crate::mailbox::Waker): there may be mail.
    Woken,
}

/// One of the two connections of a relay, in the order in which `start_relay` got them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// 0 for A, 1 for B: the place in the pairs of [`RelayEnd`] and [`RelayProgress`].
    pub fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

/// Why a relay ended.
#[derive(Debug)]
pub enum RelayCause {
    /// Both sides finished sending, and every byte was handed on. `side` is the one that finished first.
    Finished,
    /// `side` was reset (ECONNRESET, EPIPE).
    Reset,
    /// The kernel gave `side` up: keep-alive or TCP_USER_TIMEOUT (ETIMEDOUT), or the network is unreachable.
    Failed(io::Error),
    /// [`Operations::cut_relay`] ended it; `side` is A.
    Cut,
}

/// The account of a relay that is over.
#[derive(Debug)]
pub struct RelayEnd {
    /// The first connection, now dead.
    pub a: ConnectionId,
    /// The second connection, now dead.
    pub b: ConnectionId,
    /// Token of the first.
    pub token: Token,
    /// Bytes handed to the kernel: `[from A to B, from B to A]`.
    pub bytes: [u64; 2],
    /// Bytes that were received and could not be handed on, in the same order.
    pub undelivered: [u64; 2],
    /// Whose doing it was.
    pub side: Side,
    /// What it was.
    pub cause: RelayCause,
}

/// The account of a relay that was stopped: both connections live and owe nothing to each other.
#[derive(Debug)]
pub struct RelayStop {
    /// The first connection.
    pub a: ConnectionId,
    /// The second connection.
    pub b: ConnectionId,
    /// Token of the first.
    pub token: Token,
    /// Bytes handed to the kernel so far, `[from A to B, from B to A]`, earlier stretches of this relay included.
    pub bytes: [u64; 2],
    /// Bytes taken from one side and not yet handed to the other: `[from A, for B; from B, for A]`.
    ///
    /// To go on, `send` them to the other side and `start_relay` again: half-closes are remembered. A receive that is
    /// started instead tells of an end that came before, even if one was told of it before the relay.
    pub pending: [Vec<u8>; 2],
}

/// How far a relay has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayProgress {
    /// Bytes handed to the kernel: `[from A to B, from B to A]`.
    pub bytes: [u64; 2],
    /// When bytes last moved in either direction; the start of the relay if none did. Coarse (8 ms).
    pub last_activity: Time,
    /// Whether A, B have finished sending and their ends were passed on.
    pub half_closed: [bool; 2],
}

/// What `start_relay` may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayOptions {
    /// What the count begins with: `[from A to B, from B to A]`. After a stop: the bytes of the `RelayStop`, and
    /// those of its pending bytes that were sent again. Default: none.
    pub bytes: [u64; 2],
    /// Since when no byte has moved, for a relay that was stopped and goes on. Default: since now.
    pub last_activity: Option<Time>,
    /// Whether the kernel may splice once the flow is bulk. Default: yes.
    pub splice: bool,
    /// `a` has probably sent something already: try to read at once. Default: yes.
    pub a_is_ready: bool,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { bytes: [0, 0], last_activity: None, splice: true, a_is_ready: true }
    }
}

/// Keep-alive probes of a TCP connection. One that was dialled has them within 50 ms: what ends sooner needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe (TCP_KEEPIDLE), whole seconds, at least one.
    pub idle: Duration,
    /// Time between probes (TCP_KEEPINTVL), whole seconds, at least one.
    pub interval: Duration,
    /// Unanswered probes before the connection is given up (TCP_KEEPCNT).
    pub count: u32,
}

/// Options of a TCP socket, dialled or listening (what is accepted inherits them). Unix sockets ignore them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// TCP_NODELAY. Default: on.
    pub nodelay: bool,
    /// Keep-alive probes. Default: none.
    pub keep_alive: Option<KeepAlive>,
    /// TCP_USER_TIMEOUT: how long sent data may stay unacknowledged, in milliseconds. Default: the system's.
    pub user_timeout: Option<Duration>,
    /// TCP_CONGESTION, as `"reno"` or `"cubic"`. Default: the system's. A refusal is an error of the operation.
    pub congestion: Option<String>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { nodelay: true, keep_alive: None, user_timeout: None, congestion: None }
    }
}

/// How a listening socket is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Length of the kernel's queue; the kernel caps it at `net.core.somaxconn`. Default: 4096.
    pub backlog: u32,
    /// SO_REUSEPORT (TCP only). Default: on.
    pub reuse_port: bool,
    /// IP_FREEBIND: bind to an address that the machine does not have (yet). Default: off.
    pub freebind: bool,
    /// For an IPv6 address: IPV6_V6ONLY. Default: on (`[::]:443` is IPv6 only; `:443` clears it).
    pub v6_only: bool,
    /// Permission bits of a Unix socket's file. Default: what the umask leaves.
    pub unix_mode: Option<u32>,
    /// Options that accepted connections inherit.
    pub socket: SocketOptions,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 4096,
            reuse_port: true,
            freebind: false,
            v6_only: true,
            unix_mode: None,
            socket: SocketOptions::default(),
        }
    }
}

/// How a connection is dialled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Local address to dial from (IP_BIND_ADDRESS_NO_PORT, so that ports are shared per destination).
    pub source: Option<IpAddr>,
    /// Options of the socket.
    pub socket: SocketOptions,
}

/// How an engine is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Which driver. Default: epoll.
    pub kind: EngineKind,
    /// How long to poll before parking while work comes in quick succession. Default: zero, never.
    pub spin: Duration,
    /// Bytes that all connections together may hold queued before reads stop taking what cannot be sent at once.
    /// Default: 64 MiB.
    pub pending_bytes_max: usize,
    /// SO_RCVLOWAT for the source of a spliced stream, with a guard timer. Default: none.
    pub bulk_low_water: Option<u32>,
    /// The most pipes for splicing, of 1 MiB each where the system grants it. Default: 64.
    pub pipes_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            kind: EngineKind::Epoll,
            spin: Duration::ZERO,
            pending_bytes_max: 64 << 20,
            bulk_low_water: None,
            pipes_max: 64,
        }
    }
}

/// The drivers that run on a real kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// Completion-based, Linux 6.0 or later with what [`EngineKind::probe`] asks for.
    IoUring,
    /// Readiness-based, edge-triggered; works everywhere.
    Epoll,
}

impl EngineKind {
    /// Whether this machine allows the driver; if not, why, in words for a log line.
    ///
    /// # Errors
    /// What is missing or forbidden.
    pub fn probe(self) -> Result<(), String> {
        match self {
            Self::Epoll => Ok(()),
            Self::IoUring => uring::probe(),
        }
    }
}

/// A datagram within a [`DatagramBatch`].
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The local address it was sent to, where the system tells.
    pub local: Option<IpAddr>,
    /// Its bytes.
    pub bytes: &'a mut [u8],
    /// It was longer than the buffer, and its end is lost.
    pub truncated: bool,
}

/// Datagrams of one system call, received or to be sent; its buffers are reused.
#[derive(Debug, Default)]
pub struct DatagramBatch {
    /// `(peer, local, start, length, truncated)` of each datagram in `bytes`.
    pub(crate) entries: Vec<DatagramEntry>,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct DatagramEntry {
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) truncated: bool,
}

impl DatagramBatch {
    /// The most datagrams in one received batch.
    pub const CAPACITY: usize = 32;

    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of datagrams.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the datagrams and keeps the memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
    }

    /// Adds a datagram for `peer`.
    pub fn push(&mut self, peer: SocketAddr, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.entries.push(DatagramEntry { peer, local: None, start, len: bytes.len(), truncated: false });
    }

    /// The datagram at `index`, if there is one.
    pub fn get(&mut self, index: usize) -> Option<Datagram<'_>> {
        let entry = *self.entries.get(index)?;
        Some(Datagram {
            peer: entry.peer,
            local: entry.local,
            bytes: &mut self.bytes[entry.start..entry.start + entry.len],
            truncated: entry.truncated,
        })
    }
}

/// A connection that left an engine, and everything another one needs to carry it on.
///
/// Dropping it closes the socket. That ends the connection, unless another process holds a copy of the descriptor: then
/// its other end hears nothing of it.
#[derive(Debug)]
pub struct ExportedConnection {
    /// The socket itself.
    pub(crate) handle: ExportedHandle,
    /// Bytes received and never delivered; the adopting engine delivers (or relays) them first.
    pub received: Vec<u8>,
    /// Bytes sent by the user and not yet handed to the kernel; the adopting engine sends them first.
    pub queued: Vec<u8>,
    /// The other end has finished sending (and `received` is the last of it).
    pub ended: bool,
    /// The user finished sending: `shut` was called (and takes effect after `queued`).
    pub shut: bool,
    /// Another process may hold the socket, so that closing it would tell the other end nothing: the adopting engine
    /// shuts it down before it closes it. Costs a system call at the end of the connection.
    pub shared: bool,
}

impl ExportedConnection {
    /// A connection whose socket came from another process, with nothing received, queued or ended: fill in what that
    /// process said. It counts as shared.
    ///
    /// # Errors
    /// `InvalidInput` if it is no stream socket, or one that listens; then it is closed.
    pub fn from_descriptor(fd: OwnedFd) -> io::Result<Self> {
        if sys::check_stream(fd.as_fd())? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket that listens"));
        }
        Ok(Self {
            handle: ExportedHandle::Descriptor(fd),
            received: Vec::new(),
            queued: Vec::new(),
            ended: false,
            shut: false,
            shared: true,
        })
    }

    /// A second handle to its socket, as a copy of the descriptor is for another process: with nothing received, queued or
    /// ended, and shared. Set `shared` of this one, too, before it is adopted again.
    ///
    /// # Errors
    /// EMFILE when out of descriptors.
    pub fn duplicate(&self) -> io::Result<Self> {
        let handle = match &self.handle {
            ExportedHandle::Descriptor(fd) => ExportedHandle::Descriptor(fd.try_clone()?),
            ExportedHandle::Simulated(socket) => ExportedHandle::Simulated(
                socket.duplicate().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?,
            ),
        };
        Ok(Self { handle, received: Vec::new(), queued: Vec::new(), ended: false, shut: false, shared: true })
    }

    /// Its descriptor, for a copy to be sent to another process; set `shared` before this one is adopted again. None of a
    /// simulated one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            ExportedHandle::Descriptor(fd) => Some(fd.as_fd()),
            ExportedHandle::Simulated(_) => None,
        }
    }
}

/// What is under way at a connection, apart from what the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Underway {
    /// Bytes received and never delivered.
    pub received: Vec<u8>,
    /// Bytes sent by the user and not yet handed to the kernel.
    pub queued: Vec<u8>,
    /// What of it has come to its end.
    pub ends: Ends,
}

/// Which directions of a connection have come to their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The other end has finished sending, and all of it was received.
    pub ended: bool,
    /// The user finished sending, or the relay did.
    pub shut: bool,
}

#[derive(Debug)]
pub(crate) enum ExportedHandle {
    Descriptor(OwnedFd),
    Simulated(simulated::ExportedSocket),
}

/// Why `send` refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection is gone, or `shut` or `close` was called on it before. Nothing was taken.
    Closed,
}
