//! Event framework on io_uring and epoll: the load balancer of the same name is built on it.
//!
//! Implement [`EventHandler`] and hand it to a [`Server`] (the same handler on several workers, each with its own
//! listening sockets), a [`Client`] (connections to one address), or a bare [`Worker`] that you turn yourself. Each
//! worker is one thread with its own engine and its own handler; other threads talk to it by [`Mailer`].
#![forbid(unsafe_code)]

mod client;
mod close_reason;
mod handler;
pub mod handover;
pub mod layer;
pub mod relay;
mod server;
#[cfg(feature = "tls")]
pub mod tls;
mod worker;

pub use client::Client;
pub use close_reason::{CloseReason, Initiator};
pub use handler::EventHandler;
pub use ringway_engine::driver::simulated;
pub use ringway_engine::sys::{open_descriptors, raise_descriptor_limit, reserve_descriptors};
pub use ringway_engine::{
    Clock, ConnectOptions, ConnectionId, Datagram, DatagramBatch, DatagramSocketId, Ends, Engine,
    EngineConfig, EngineKind, ExportedConnection, Identity, KeepAlive, ListenOptions, Listener, ListenerId,
    Operations, PEEK_BYTES_MAX, PassedDescriptor, RelayCause, RelayEnd, RelayOptions, RelayProgress,
    RelayStop, SendError, Side, SocketAddress, SocketOptions, Time, TimerId, Token, Underway,
    take_descriptors_of_parent, take_passed_descriptors,
};
pub use server::{RunningServer, Server};
pub use worker::{Mailer, Worker};
