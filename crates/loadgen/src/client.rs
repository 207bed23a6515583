//! What a client does when connected, when bytes come, and when it may send again.

use ringway::{ConnectionId, Operations, Time};

use crate::load::Load;
use crate::options::{Direction, MESSAGE_BYTES_MAX, Mode};

/// A client's place: its connection of the moment, and how far the reply in flight has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// The connection; none between a failure and the next dial.
    pub(crate) connection: ConnectionId,
    /// It has been set up as its mode wants.
    pub(crate) is_established: bool,
    /// Bytes of the current reply that have arrived.
    received: usize,
    /// When the current request (in mode `connections`: the dial) began.
    began: Time,
}

impl Client {
    /// Without a connection.
    pub(crate) const NONE: Self =
        Self { connection: ConnectionId::NONE, is_established: false, received: 0, began: Time::ZERO };

    /// A dial is under way.
    pub(crate) fn dialled(connection: ConnectionId, now: Time) -> Self {
        Self { connection, began: now, ..Self::NONE }
    }
}

impl Load {
    pub(crate) fn client_connected(&mut self, ops: &mut Operations<'_>, place: usize) {
        ops.start_receive(self.clients[place].connection);
        match self.options.mode {
            Mode::Bulk | Mode::Pingpong => {
                // Under traffic it replaces one that failed; else it waits for the others.
                if self.is_flowing {
                    self.start_client(ops, place);
                }
                self.client_established(ops, place);
            }
            Mode::Connections => {
                self.request(ops, place);
                self.client_established(ops, place);
            }
            Mode::Idle => self.request(ops, place),
        }
    }

    /// Traffic begins.
    pub(crate) fn start_client(&mut self, ops: &mut Operations<'_>, place: usize) {
        let client = &mut self.clients[place];
        match (self.options.mode, self.options.direction) {
            (Mode::Pingpong, _) => {
                client.began = self.clock.now();
                self.request(ops, place);
            }
            // One byte asks a backend for its stream: a proxy's own checks must not start one.
            (Mode::Bulk, Direction::Down) => send(ops, client.connection, &self.payload[..1]),
            (Mode::Bulk, Direction::Up) => stream(ops, client.connection, &self.payload),
            (Mode::Connections | Mode::Idle, _) => {}
        }
    }

    pub(crate) fn client_received(&mut self, ops: &mut Operations<'_>, place: usize, byte_count: usize) {
        if self.options.mode == Mode::Bulk {
            self.tally.bytes += byte_count as u64;
            return;
        }
        let size = self.options.message_bytes();
        let client = &mut self.clients[place];
        client.received += byte_count;
        if client.received < size {
            return;
        }
        if client.received > size {
            ops.close(client.connection);
            self.client_failed(place, "more bytes than were asked for");
            return;
        }
        client.received = 0;
        let began = client.began;
        match self.options.mode {
            Mode::Pingpong => {
                // The reply's arrival is the next request's start: one reading of the clock a round trip.
                let now = self.clock.now();
                client.began = now;
                self.tally.unit(size, now.since(began));
                self.request(ops, place);
            }
            Mode::Connections => {
                ops.close(client.connection);
                self.tally.unit(size, self.clock.now().since(began));
                self.established -= 1;
                self.dial(ops, place);
            }
            Mode::Idle => self.client_established(ops, place),
            Mode::Bulk => {}
        }
    }

    /// What was queued has left.
    pub(crate) fn client_writable(&self, ops: &mut Operations<'_>, place: usize) {
        if self.is_flowing && (self.options.mode, self.options.direction) == (Mode::Bulk, Direction::Up) {
            stream(ops, self.clients[place].connection, &self.payload);
        }
    }

    fn request(&self, ops: &mut Operations<'_>, place: usize) {
        send(ops, self.clients[place].connection, &self.payload[..self.options.message_bytes()]);
    }
}

/// Sends a message; the engine keeps what the kernel does not take.
pub(crate) fn send(ops: &mut Operations<'_>, connection: ConnectionId, bytes: &[u8]) {
    // A refusal means that the connection broke, which comes as an event of its own.
    let _ = ops.send(connection, bytes);
}

/// Sends until the kernel takes no more; goes on at the next `Writable`.
///
/// Ends, because what lies between sender and receiver is bounded and this thread does not receive meanwhile,
/// or because no network drains as fast as memory is copied.
pub(crate) fn stream(ops: &mut Operations<'_>, connection: ConnectionId, payload: &[u8]) {
    debug_assert_eq!(payload.len(), MESSAGE_BYTES_MAX);
    while let Ok(0) = ops.send(connection, payload) {}
}
