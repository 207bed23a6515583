//! Names for the things an engine holds. All are plain numbers, valid only in the engine that gave them.

use std::fmt;

/// A TCP or Unix connection in an engine's table: a place and the generation that lives there.
///
/// An id never speaks again once its connection is gone: operations on it do nothing, and no event bears it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// An id that no engine ever gives out.
    pub const NONE: Self = Self { index: u32::MAX, generation: u32::MAX };

    /// Whether this is [`ConnectionId::NONE`].
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Both halves in one number, for logs and hand-over records.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("ConnectionId(none)");
        }
        write!(f, "ConnectionId({}.{})", self.index, self.generation)
    }
}

/// A listening socket in an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub(crate) u32);

/// A UDP socket in an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatagramSocketId(pub(crate) u32);

/// A timer that was set and has neither fired nor been cancelled.
///
/// Its owner forgets it when it fires or is cancelled: the number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(pub(crate) u32);

impl TimerId {
    /// An id that no engine ever gives out.
    pub const NONE: Self = Self(u32::MAX);

    /// Whether this is [`TimerId::NONE`].
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// A number that the user of the engine attaches to a connection, listener, socket or timer and gets back
/// with each of its events; usually the place of the owner's own record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u32);
