//! Handing sockets, and all that is said on them, over to another process.
//!
//! [`protocol`] has the order in which that goes and the proof that one process serves at any moment; the rest is what it
//! is made of: a [`Channel`] for messages with descriptors, the [`CommitWord`] that decides, a [`ProcessHandle`] that
//! tells of a death.

pub mod protocol;

pub use ringway_engine::handover::{
    Channel, ChannelListener, CommitWord, DESCRIPTORS_MAX, Decision, Interest, MESSAGE_BYTES_MAX, Message,
    PeerCredentials, ProcessHandle, wait,
};
