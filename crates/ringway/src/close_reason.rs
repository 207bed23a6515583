//! Why a connection ended: a normal value, not an error.

use std::fmt;
use std::io;

/// Whose doing the end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// The other end of the connection.
    Peer,
    /// This program: `close`, `reset`.
    Local,
    /// The kernel or the network.
    System,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum CloseReason {
    /// This program closed it (or reset it), after everything queued was handed on.
    Closed,
    /// The other end reset it.
    Reset,
    /// Anything else that broke it: keep-alive, TCP_USER_TIMEOUT, an unreachable network.
    Failed(io::Error),
}

impl CloseReason {
    /// What an error of a socket means for its connection.
    pub fn from_error(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            _ => Self::Failed(error),
        }
    }

    /// Whose doing it was.
    pub fn initiator(&self) -> Initiator {
        match self {
            Self::Closed => Initiator::Local,
            Self::Reset => Initiator::Peer,
            Self::Failed(_) => Initiator::System,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Reset => f.write_str("reset by peer"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
