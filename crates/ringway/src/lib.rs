//! Event framework on io_uring and epoll: the load balancer of the same name is built on it.
//!
//! Implement [`EventHandler`], hand it to a [`Worker`], and turn. Each worker is one thread with its own engine
//! and its own handler; threads talk to it by mail.
#![forbid(unsafe_code)]

mod close_reason;
mod handler;
mod worker;

pub use close_reason::{CloseReason, Initiator};
pub use handler::EventHandler;
pub use ringway_engine::driver::simulated;
pub use ringway_engine::sys::raise_descriptor_limit;
pub use ringway_engine::{
    Clock, ConnectOptions, ConnectionId, Datagram, DatagramBatch, DatagramSocketId, Engine, EngineConfig,
    EngineKind, ExportedConnection, KeepAlive, ListenOptions, Listener, ListenerId, Operations, RelayCause,
    RelayEnd, RelayOptions, RelayProgress, RelayStop, SendError, Side, SocketAddress, SocketOptions, Time,
    TimerId, Token,
};
pub use worker::{Mailer, Worker};
