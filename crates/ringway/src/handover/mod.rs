//! Handing sockets, and all that is said on them, over to another process: a server that survives its own replacement.
//!
//! Implement [`Handover`] beside [`EventHandler`], start the server by
//! [`Server::start_succession`](crate::Server::start_succession), and let it
//! [`hand_over`](SuccessionServer::hand_over) to a process of the next version of the program. No client notices more than a
//! pause of some milliseconds: listening sockets go with their queues, connections with every byte and end that was under way.
//! `examples/successor.rs` is an echo server that does it.
//!
//! Underneath, [`protocol`] has the order in which that goes and the proof that one process serves at any moment; a
//! [`Channel`] carries messages with descriptors, a [`CommitWord`] decides once whose the sockets are, and a
//! [`ProcessHandle`] tells of a death.

mod carrier;
mod line;
mod new;
mod old;
pub mod protocol;
mod record;
mod server;

use std::fmt;
use std::io;
use std::time::Duration;

pub use line::{Line, Packet};
pub use ringway_engine::handover::{
    Channel, ChannelListener, CommitWord, DESCRIPTORS_MAX, Decision, Interest, MESSAGE_BYTES_MAX, Message,
    PeerCredentials, ProcessHandle, wait,
};
pub use server::{SuccessionMailer, SuccessionServer};

use ringway_engine::{ConnectionId, Operations, Token};

use crate::EventHandler;

/// Names the socket by which a new process finds the one that started it.
const VARIABLE: &str = "RINGWAY_SUCCESSION";

/// A handler whose connections can go on in another process, under another handler of the same kind.
///
/// A connection stands still while it moves: it is out of the engine, and its id is dead. What the handler keeps of it
/// stays, by its token, until [`on_resume`](Self::on_resume) or [`on_handed_over`](Self::on_handed_over) tells which it was.
pub trait Handover: EventHandler {
    /// The version of what [`save`](Self::save) writes. Change it with the format, and let [`restore`](Self::restore) read
    /// the earlier ones.
    const STATE_VERSION: u32;

    /// The connections that can move, with their tokens: established, and in no relay. What is not in the list finishes
    /// in the old process.
    fn connections(&self) -> Vec<(ConnectionId, Token)>;

    /// Writes what another process must know of a connection, beside the bytes that are under way.
    fn save(&self, token: Token, state: &mut Vec<u8>);

    /// Makes a record of a connection that another process saved, and says its token. The connection is not here yet, and
    /// may never come.
    ///
    /// # Errors
    /// Why the state is not understood: that connection finishes in the old process.
    fn restore(&mut self, version: u32, state: &[u8]) -> Result<Token, String>;

    /// A connection goes on here: one that was restored, or one that was saved and did not move. Nothing is read from it
    /// until told to; what was queued for sending is sent.
    fn on_resume(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token);

    /// A connection that was saved goes on in the other process: forget it.
    fn on_handed_over(&mut self, token: Token);
}

/// A step of a hand-over that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// By the old process.
    Old(protocol::OldAction),
    /// By the new one.
    New(protocol::NewAction),
}

/// As `old Say(Go)`.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Old(action) => write!(f, "old {action:?}"),
            Self::New(action) => write!(f, "new {action:?}"),
        }
    }
}

/// What came of a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverReport {
    /// The new process.
    pub pid: u32,
    /// Connections that go on there.
    pub moved: usize,
    /// Why connections stayed, one reason each.
    pub refused: Vec<String>,
    /// How long it took, from the start of the process.
    pub took: Duration,
    /// How long connections stood still, at most.
    pub paused: Duration,
}

/// Why a hand-over was called off.
#[derive(Debug)]
pub enum HandoverError {
    /// The program could not be started.
    Start(io::Error),
    /// The new process does not take over, or is not understood.
    Refused(String),
    /// The new process ended.
    PeerEnded,
    /// The new process did not say what it had to in time.
    Silent,
    /// Something is amiss in this process.
    Local(io::Error),
    /// The new process had decided to serve, and ended at once. This one serves again; the connections were cut.
    TakenBack,
}

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => write!(f, "the program cannot be started: {error}"),
            Self::Refused(reason) => write!(f, "the new process does not take over: {reason}"),
            Self::PeerEnded => f.write_str("the new process ended"),
            Self::Silent => f.write_str("the new process did not answer in time"),
            Self::Local(error) => write!(f, "the hand-over failed here: {error}"),
            Self::TakenBack => {
                f.write_str("the new process ended just as it began to serve; connections were cut")
            }
        }
    }
}

impl std::error::Error for HandoverError {}
