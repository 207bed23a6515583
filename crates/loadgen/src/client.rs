//! What a client does when connected, when bytes come, and when it may send again.

use std::mem;
use std::ops::Range;

use ringway::{ConnectionId, Operations, Time};

use crate::load::{Load, STREAM_TIMER};
use crate::options::{Direction, MESSAGE_BYTES_MAX, Mode};
use crate::pacing::request_offset;

/// A client's place: its connection of the moment, and how far the reply in flight has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// The connection; none between a failure and the next dial.
    pub(crate) connection: ConnectionId,
    /// It has been set up as its mode wants.
    pub(crate) is_established: bool,
    /// Bytes of the current reply that have arrived.
    received: usize,
    /// When the current request (in mode `connections`, and before the first one: the dial) began.
    began: Time,
    /// A request is out, its reply not whole. Kept under `pace` only.
    is_waiting: bool,
    /// Requests so far under `pace`.
    round: u32,
}

impl Client {
    /// Without a connection.
    pub(crate) const NONE: Self = Self {
        connection: ConnectionId::NONE,
        is_established: false,
        received: 0,
        began: Time::ZERO,
        is_waiting: false,
        round: 0,
    };

    /// A dial is under way.
    pub(crate) fn dialled(connection: ConnectionId, now: Time) -> Self {
        Self { connection, began: now, ..Self::NONE }
    }

    /// Since when it waits for a reply, or to be connected.
    pub(crate) fn waits_since(&self) -> Option<Time> {
        let is_dialling = !self.is_established && self.connection != ConnectionId::NONE;
        (self.is_waiting || is_dialling).then_some(self.began)
    }
}

/// Messages that a client sends before others get their turn.
const MESSAGES_A_TURN: usize = 8;

impl Load {
    pub(crate) fn client_connected(&mut self, ops: &mut Operations<'_>, place: usize) {
        ops.start_receive(self.clients[place].connection);
        match &self.tls {
            Some(tls) => {
                self.wire.clear();
                match tls.begin(&mut self.wire) {
                    Ok(session) => self.sessions[place] = Some(session),
                    Err(error) => return self.client_refuses(ops, place, &error),
                }
                send(ops, self.clients[place].connection, &self.wire);
            }
            None => self.client_ready(ops, place),
        }
    }

    /// It can send and receive what its mode wants.
    fn client_ready(&mut self, ops: &mut Operations<'_>, place: usize) {
        if self.pacing.is_some() && self.is_flowing {
            let took = self.clock.now().since(self.clients[place].began);
            self.tally.longest = self.tally.longest.max(took);
        }
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
        match (self.options.mode, self.options.direction) {
            // Its turn comes.
            (Mode::Pingpong, _) if self.pacing.is_some() => {}
            (Mode::Pingpong, _) => {
                self.clients[place].began = self.clock.now();
                self.request(ops, place);
            }
            // One byte asks a backend for its stream: a proxy's own checks must not start one.
            (Mode::Bulk, Direction::Down) => {
                self.client_send(ops, place, 0..1);
            }
            (Mode::Bulk, Direction::Up) => self.client_stream(ops, place),
            (Mode::Connections | Mode::Idle, _) => {}
        }
    }

    /// A client's turn under `pace`: a request, unless it still waits for the last reply.
    pub(crate) fn client_turn(&mut self, ops: &mut Operations<'_>, place: usize) {
        let size = self.options.message_bytes();
        let client = &mut self.clients[place];
        if !client.is_established || client.is_waiting {
            return;
        }
        client.is_waiting = true;
        client.round = client.round.wrapping_add(1);
        client.began = self.clock.now();
        let from = request_offset(place, client.round, size, self.payload.len());
        self.client_send(ops, place, from..from + size);
    }

    /// Bytes of a reply under `pace`: they are those of the request.
    fn check_reply(&mut self, place: usize, bytes: &[u8]) {
        let size = self.options.message_bytes();
        let client = &self.clients[place];
        let from = request_offset(place, client.round, size, self.payload.len());
        let expected = &self.payload[(from + client.received).min(from + size)..from + size];
        let differing = bytes.iter().zip(expected).filter(|(byte, expected)| byte != expected).count();
        let unasked =
            if client.is_waiting { bytes.len().saturating_sub(expected.len()) } else { bytes.len() };
        self.wrong_bytes += differing.max(unasked) as u64;
    }

    pub(crate) fn client_received(&mut self, ops: &mut Operations<'_>, place: usize, bytes: &[u8]) {
        let byte_count = bytes.len();
        if self.pacing.is_some() {
            self.check_reply(place, bytes);
        }
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
        client.is_waiting = false;
        let began = client.began;
        match self.options.mode {
            Mode::Pingpong => {
                // The reply's arrival is the next request's start: one reading of the clock a round trip.
                let now = self.clock.now();
                client.began = now;
                self.tally.unit(size, now.since(began));
                match self.pacing {
                    None => self.request(ops, place),
                    Some(pacing) if pacing.is_churned(place) => self.dial_again(ops, place),
                    Some(_) => {}
                }
            }
            Mode::Connections => {
                self.tally.unit(size, self.clock.now().since(began));
                self.dial_again(ops, place);
            }
            Mode::Idle => self.client_established(ops, place),
            Mode::Bulk => {}
        }
    }

    /// What was queued has left.
    pub(crate) fn client_writable(&mut self, ops: &mut Operations<'_>, place: usize) {
        if self.is_flowing && (self.options.mode, self.options.direction) == (Mode::Bulk, Direction::Up) {
            self.client_stream(ops, place);
        }
    }

    /// Closes, and takes a new connection.
    fn dial_again(&mut self, ops: &mut Operations<'_>, place: usize) {
        let connection = self.clients[place].connection;
        if let Some(session) = self.sessions.get_mut(place).and_then(Option::as_mut) {
            self.wire.clear();
            if session.finish(&mut self.wire).is_ok() {
                send(ops, connection, &self.wire);
            }
        }
        ops.close(connection);
        self.established -= 1;
        self.dial(ops, place);
    }

    fn request(&mut self, ops: &mut Operations<'_>, place: usize) {
        self.client_send(ops, place, 0..self.options.message_bytes());
    }

    /// Sends a part of the payload, in TLS or as it is; what is queued then, `None` if nothing can be sent any more.
    fn client_send(&mut self, ops: &mut Operations<'_>, place: usize, part: Range<usize>) -> Option<usize> {
        let connection = self.clients[place].connection;
        let bytes = &self.payload[part];
        let Some(session) = self.sessions.get_mut(place).and_then(Option::as_mut) else {
            return ops.send(connection, bytes).ok();
        };
        self.wire.clear();
        if session.send(bytes, &mut self.wire).is_err() {
            // Its end comes as an event, as that of a connection that broke.
            ops.close(connection);
            return None;
        }
        ops.send(connection, &self.wire).ok()
    }

    /// As [`stream`], in TLS or as it is. Some receivers keep up with what is sealed here: after a few messages others get
    /// their turn.
    fn client_stream(&mut self, ops: &mut Operations<'_>, place: usize) {
        for _ in 0..MESSAGES_A_TURN {
            if self.client_send(ops, place, 0..MESSAGE_BYTES_MAX) != Some(0) {
                return;
            }
        }
        if self.streaming.is_empty() {
            ops.set_timer(ops.now(), STREAM_TIMER);
        }
        self.streaming.push(place);
    }

    /// Goes on with clients whose turn was over.
    pub(crate) fn stream_on(&mut self, ops: &mut Operations<'_>) {
        for place in mem::take(&mut self.streaming) {
            self.client_writable(ops, place);
        }
    }

    /// What came for a client in TLS.
    pub(crate) fn client_heard(&mut self, ops: &mut Operations<'_>, place: usize, bytes: &mut [u8]) {
        let Some(session) = &mut self.sessions[place] else { return };
        let (was_established, is_bulk) = (session.is_established(), self.options.mode == Mode::Bulk);
        let mut opened = mem::take(&mut self.opened);
        let mut bulk_bytes = 0;
        self.wire.clear();
        let heard = session.receive(bytes, &mut self.wire, |payload| match is_bulk {
            true => bulk_bytes += payload.len() as u64,
            false => opened.extend_from_slice(payload),
        });
        let is_resumed = session.is_resumed();
        let is_new = !was_established && session.is_established();
        if let Err(error) = heard {
            return self.client_refuses(ops, place, &error);
        }
        if !self.wire.is_empty() {
            send(ops, self.clients[place].connection, &self.wire);
        }
        self.tally.bytes += bulk_bytes;
        if is_new {
            self.tally.handshake(is_resumed);
            self.client_ready(ops, place);
        }
        if !opened.is_empty() {
            self.client_received(ops, place, &opened);
        }
        opened.clear();
        self.opened = opened;
    }

    /// What the other end says is no TLS, or an alert.
    fn client_refuses(&mut self, ops: &mut Operations<'_>, place: usize, error: &rustls::Error) {
        ops.close(self.clients[place].connection);
        self.client_failed(place, &format!("TLS: {error}"));
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
