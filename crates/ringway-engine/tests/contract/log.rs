//! Records what an engine says, and checks what must hold of any sequence of events.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ringway_engine::{
    ConnectionId, DatagramSocketId, Event, ExportedConnection, Listener, ListenerId, Operations, RelayEnd,
    RelayStop, Sink, SocketAddress, TimerId, Token,
};

/// An event that is kept. What can be had only once lies beside, in [`Log`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Accepted { listener: ListenerId, token: Token, connection: ConnectionId, peer: SocketAddress },
    AcceptPaused { listener: ListenerId, token: Token, error: Option<i32> },
    AcceptResumed { listener: ListenerId, token: Token },
    ListenerClosed { listener: ListenerId, token: Token },
    ListenerReleased { listener: ListenerId, token: Token },
    Connected { connection: ConnectionId, token: Token },
    ConnectFailed { connection: ConnectionId, token: Token, error: Option<i32> },
    Received { connection: ConnectionId, token: Token, count: usize },
    Peeked { connection: ConnectionId, token: Token, bytes: Vec<u8>, ended: bool },
    Ended { connection: ConnectionId, token: Token },
    Writable { connection: ConnectionId, token: Token },
    PeerLeft { connection: ConnectionId, token: Token, reset: bool, unread: bool },
    Failed { connection: ConnectionId, token: Token, error: io::ErrorKind },
    Closed { connection: ConnectionId, token: Token },
    HalfClosed { from: ConnectionId, token: Token },
    RelayEnded { a: ConnectionId, b: ConnectionId, token: Token },
    RelayStopped { a: ConnectionId, b: ConnectionId, token: Token },
    Exported { connection: ConnectionId, token: Token },
    Datagrams { socket: DatagramSocketId, token: Token },
    Timer { timer: TimerId, token: Token },
    Woken,
}

impl Seen {
    fn connections(&self) -> [ConnectionId; 2] {
        match *self {
            Self::Accepted { connection, .. }
            | Self::Connected { connection, .. }
            | Self::ConnectFailed { connection, .. }
            | Self::Received { connection, .. }
            | Self::Peeked { connection, .. }
            | Self::Ended { connection, .. }
            | Self::Writable { connection, .. }
            | Self::PeerLeft { connection, .. }
            | Self::Failed { connection, .. }
            | Self::Closed { connection, .. }
            | Self::Exported { connection, .. } => [connection, ConnectionId::NONE],
            Self::HalfClosed { from, .. } => [from, ConnectionId::NONE],
            Self::RelayEnded { a, b, .. } | Self::RelayStopped { a, b, .. } => [a, b],
            Self::AcceptPaused { .. }
            | Self::AcceptResumed { .. }
            | Self::ListenerClosed { .. }
            | Self::ListenerReleased { .. }
            | Self::Datagrams { .. }
            | Self::Timer { .. }
            | Self::Woken => [ConnectionId::NONE; 2],
        }
    }

    fn is_last(&self) -> bool {
        matches!(
            self,
            Self::ConnectFailed { .. }
                | Self::Failed { .. }
                | Self::Closed { .. }
                | Self::Exported { .. }
                | Self::RelayEnded { .. }
        )
    }
}

/// What a test wants done at once, inside of an event.
pub(crate) type Hook = Box<dyn FnMut(&mut Operations<'_>, &Seen)>;

/// Everything one engine said.
#[derive(Default)]
pub(crate) struct Log {
    pub seen: Vec<Seen>,
    pub relay_ends: Vec<RelayEnd>,
    pub relay_stops: Vec<RelayStop>,
    pub exports: Vec<ExportedConnection>,
    pub released: Vec<Listener>,
    /// Peer, local, bytes.
    pub datagrams: Vec<(std::net::SocketAddr, Option<std::net::IpAddr>, Vec<u8>)>,
    pub hook: Option<Hook>,
    /// All events, those included that are not kept.
    pub event_count: u64,
    bytes: BTreeMap<ConnectionId, Vec<u8>>,
    dead: BTreeSet<ConnectionId>,
}

impl Log {
    /// All that was received on a connection.
    pub(crate) fn bytes(&self, connection: ConnectionId) -> &[u8] {
        self.bytes.get(&connection).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn is_dead(&self, connection: ConnectionId) -> bool {
        self.dead.contains(&connection)
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.seen.iter().filter(|seen| wanted(seen)).count()
    }

    pub(crate) fn has(&self, wanted: impl Fn(&Seen) -> bool) -> bool {
        self.seen.iter().any(wanted)
    }

    pub(crate) fn ended(&self, connection: ConnectionId) -> bool {
        self.has(|seen| matches!(seen, Seen::Ended { connection: c, .. } if *c == connection))
    }

    pub(crate) fn closed(&self, connection: ConnectionId) -> bool {
        self.has(|seen| matches!(seen, Seen::Closed { connection: c, .. } if *c == connection))
    }

    pub(crate) fn failed(&self, connection: ConnectionId) -> bool {
        self.has(|seen| matches!(seen, Seen::Failed { connection: c, .. } if *c == connection))
    }

    pub(crate) fn writable(&self, connection: ConnectionId) -> usize {
        self.count(|seen| matches!(seen, Seen::Writable { connection: c, .. } if *c == connection))
    }

    /// Connections that were accepted, in order.
    pub(crate) fn accepted(&self) -> Vec<ConnectionId> {
        let accepted = self.seen.iter().filter_map(|seen| match seen {
            Seen::Accepted { connection, .. } => Some(*connection),
            _ => None,
        });
        accepted.collect()
    }
}

impl Sink for Log {
    fn on_event(&mut self, ops: &mut Operations<'_>, event: Event<'_>) {
        self.event_count += 1;
        let seen = match event {
            Event::Accepted { listener, token, connection, peer } => {
                self.bytes.remove(&connection);
                Seen::Accepted { listener, token, connection, peer }
            }
            Event::AcceptPaused { listener, token, error } => {
                Seen::AcceptPaused { listener, token, error: error.raw_os_error() }
            }
            Event::AcceptResumed { listener, token } => Seen::AcceptResumed { listener, token },
            Event::ListenerClosed { listener, token } => Seen::ListenerClosed { listener, token },
            Event::ListenerReleased { listener, token, released } => {
                self.released.push(released);
                Seen::ListenerReleased { listener, token }
            }
            Event::Connected { connection, token } => Seen::Connected { connection, token },
            Event::ConnectFailed { connection, token, error } => {
                Seen::ConnectFailed { connection, token, error: error.raw_os_error() }
            }
            Event::Received { connection, token, bytes } => {
                assert!(!bytes.is_empty(), "Received without bytes");
                assert!(!self.ended(connection), "Received after Ended");
                self.bytes.entry(connection).or_default().extend_from_slice(bytes);
                // They may be changed in place, and nobody else may notice.
                bytes.fill(0xee);
                Seen::Received { connection, token, count: bytes.len() }
            }
            Event::Peeked { connection, token, bytes, ended } => {
                assert!(!bytes.is_empty() || ended, "Peeked without news");
                Seen::Peeked { connection, token, bytes: bytes.to_vec(), ended }
            }
            Event::Ended { connection, token } => Seen::Ended { connection, token },
            Event::Writable { connection, token } => {
                assert_eq!(ops.queued_bytes(connection), 0, "Writable with bytes queued");
                Seen::Writable { connection, token }
            }
            Event::PeerLeft { connection, token, reset, unread } => {
                Seen::PeerLeft { connection, token, reset, unread }
            }
            Event::Failed { connection, token, error } => {
                Seen::Failed { connection, token, error: error.kind() }
            }
            Event::Closed { connection, token } => Seen::Closed { connection, token },
            Event::RelayHalfClosed { from, token } => Seen::HalfClosed { from, token },
            Event::RelayEnded(end) => {
                let seen = Seen::RelayEnded { a: end.a, b: end.b, token: end.token };
                self.relay_ends.push(end);
                seen
            }
            Event::RelayStopped(stop) => {
                let seen = Seen::RelayStopped { a: stop.a, b: stop.b, token: stop.token };
                self.relay_stops.push(stop);
                seen
            }
            Event::Exported { connection, token, exported } => {
                self.exports.push(exported);
                Seen::Exported { connection, token }
            }
            Event::Datagrams { socket, token, batch } => {
                assert!(!batch.is_empty(), "Datagrams without a datagram");
                for index in 0..batch.len() {
                    if let Some(datagram) = batch.get(index) {
                        self.datagrams.push((datagram.peer, datagram.local, datagram.bytes.to_vec()));
                    }
                }
                Seen::Datagrams { socket, token }
            }
            Event::TimerFired { timer, token } => Seen::Timer { timer, token },
            Event::Woken => Seen::Woken,
        };
        for connection in seen.connections() {
            assert!(!self.dead.contains(&connection), "{seen:?} after the connection's last event");
            if seen.is_last() && !connection.is_none() {
                self.dead.insert(connection);
            }
        }
        if let Some(mut hook) = self.hook.take() {
            hook(ops, &seen);
            self.hook.get_or_insert(hook);
        }
        // Bytes are kept apart; the events of a bulk test would only fill the memory.
        if !matches!(seen, Seen::Received { .. }) {
            self.seen.push(seen);
        }
    }
}
