//! The event engine of Ringway: one contract, three drivers (io_uring, epoll, a simulated network).
//!
//! The engine moves bytes and tells what happened; it decides nothing. Start with [`Engine`], whose
//! [`turn`](Engine::turn) waits once and hands [`Event`]s to a [`Sink`] together with the
//! [`Operations`] that the sink may start. The laws that every driver keeps are written in [`driver`].
//!
//! This is the only crate of Ringway with system calls and `unsafe`.

mod address;
mod clock;
mod credentials;
pub mod driver;
pub mod handover;
mod id;
mod listener;
pub mod mailbox;
mod passed;
mod pipe;
mod raw_address;
mod socket;
pub mod sys;
mod table;
mod time;
mod timer;
mod udp;

/// What threads share by; loom's where a test includes a file of this crate.
mod sync {
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
}

pub use address::SocketAddress;
pub use clock::Clock;
pub use credentials::Identity;
pub use driver::{
    ConnectOptions, Datagram, DatagramBatch, Ends, Engine, EngineConfig, EngineKind, Event,
    ExportedConnection, KeepAlive, ListenOptions, Operations, PEEK_BYTES_MAX, RelayCause, RelayEnd,
    RelayOptions, RelayProgress, RelayStop, SendError, Side, Sink, SocketOptions, Underway,
};
pub use id::{ConnectionId, DatagramSocketId, ListenerId, TimerId, Token};
pub use listener::Listener;
pub use passed::{PassedDescriptor, take_descriptors_of_parent, take_passed_descriptors};
pub use time::Time;
