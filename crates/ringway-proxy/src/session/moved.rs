//! All that a proxied connection is, apart from its two sockets: plain data with names in the place of numbers.
//!
//! Whoever has it and the sockets can carry the connection on: another worker of this process, or another process with
//! the same apps and the same beginning of time.

use std::net::SocketAddr;
use std::sync::Arc;

use ringway::{SocketAddress, Time};

use super::tcp::FrozenSession;

/// All that a proxied connection is, apart from its two sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// Its number in the process, as in the access log.
    pub number: u64,
    /// Name of its app.
    pub app: Arc<str>,
    /// Name of its frontend.
    pub frontend: Arc<str>,
    /// The client's address.
    pub client: SocketAddress,
    /// What its PROXY header said, if that named another client than the end of its connection.
    pub carried: Option<CarriedAddresses>,
    /// The endpoint that was chosen last: that of the relay, or the last that was dialled.
    pub endpoint: Option<EndpointName>,
    /// Endpoints that failed, while another one is to be dialled.
    pub tried: Vec<EndpointName>,
    /// It is counted at its source.
    pub has_permit: bool,
    /// What its state machine is.
    pub session: FrozenSession,
    /// Bytes handed on, `[client to backend, backend to client]`, those included that are queued at its sockets.
    pub bytes: [u64; 2],
    /// When bytes moved last.
    pub last_activity: Time,
}

/// What a PROXY header says of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedAddresses {
    /// The end of the connection itself.
    pub via: SocketAddress,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// An endpoint as every process knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName {
    /// Its backend, as written in the configuration.
    pub backend: Arc<str>,
    /// Where it is.
    pub address: SocketAddress,
}
