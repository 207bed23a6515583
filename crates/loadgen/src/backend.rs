//! The backends' side: connections that were accepted, and the replies they owe.

use ringway::{ConnectionId, Operations};

use crate::client::{send, stream};
use crate::options::{Direction, Mode, Options};

/// All connections of the backends. A place is used again after its connection is gone.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    connections: Vec<BackendConnection>,
    free: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct BackendConnection {
    /// Bytes of the current request that have arrived.
    received: usize,
    /// It was asked for a stream.
    is_streaming: bool,
}

impl Backends {
    /// A place for a new connection.
    pub(crate) fn insert(&mut self) -> usize {
        match self.free.pop() {
            Some(place) => place,
            None => {
                self.connections.push(BackendConnection::default());
                self.connections.len() - 1
            }
        }
    }

    /// The connection at `place` is gone.
    pub(crate) fn remove(&mut self, place: usize) {
        self.connections[place] = BackendConnection::default();
        self.free.push(place);
    }

    /// Bytes of a client arrived. Returns how many of them are bulk data that has reached its goal.
    pub(crate) fn received(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        place: usize,
        byte_count: usize,
        options: &Options,
        payload: &[u8],
    ) -> usize {
        let entry = &mut self.connections[place];
        match (options.mode, options.direction) {
            (Mode::Bulk, Direction::Up) => byte_count,
            (Mode::Bulk, Direction::Down) => {
                if !entry.is_streaming {
                    entry.is_streaming = true;
                    stream(ops, connection, payload);
                }
                0
            }
            (Mode::Pingpong | Mode::Connections | Mode::Idle, _) => {
                let size = options.message_bytes();
                entry.received += byte_count;
                while entry.received >= size {
                    entry.received -= size;
                    send(ops, connection, &payload[..size]);
                }
                0
            }
        }
    }

    /// What was queued has left.
    pub(crate) fn writable(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        place: usize,
        payload: &[u8],
    ) {
        if self.connections[place].is_streaming {
            stream(ops, connection, payload);
        }
    }
}
