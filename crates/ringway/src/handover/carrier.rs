//! Around a handler that can hand over: brings its connections to rest, and to life again.
//!
//! Runs on the worker's thread and is told what to do by mail; the thread that conducts the hand-over never touches a
//! socket itself.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;

use ringway_engine::{
    ConnectionId, DatagramBatch, DatagramSocketId, ExportedConnection, ListenOptions, Listener, ListenerId,
    Operations, RelayEnd, RelayStop, SocketAddress, TimerId, Token,
};

use super::Handover;
use super::record::ConnectionRecord;
use crate::{CloseReason, EventHandler};

/// A connection that left its engine, with what its handler says of it.
pub(super) struct Departure {
    pub(super) token: Token,
    pub(super) exported: ExportedConnection,
    pub(super) state: Vec<u8>,
}

/// All that a worker held, at rest.
pub(super) struct Frozen {
    pub(super) worker: usize,
    pub(super) listeners: Vec<(u32, Listener)>,
    pub(super) connections: Vec<Departure>,
}

/// A connection that came from another process.
pub(super) struct Arrival {
    pub(super) record: ConnectionRecord,
    pub(super) descriptor: OwnedFd,
}

/// What a worker of the new process does at the commit.
pub(super) struct Wake {
    pub(super) listeners: Vec<(u32, Listener)>,
    /// Addresses for which nothing came, and the place of each.
    pub(super) missing: Vec<(u32, SocketAddress)>,
    pub(super) options: ListenOptions,
    /// Connections that came without all that belongs to them.
    pub(super) cut: Vec<OwnedFd>,
    /// What was prepared is cut, too.
    pub(super) is_afresh: bool,
    /// A second handle to each listening socket, for the next hand-over.
    pub(super) done: Sender<Woken>,
}

/// The listening sockets of a worker that woke, by place; or why some are not there.
pub(super) struct Woken {
    pub(super) listeners: Vec<(u32, Listener)>,
    pub(super) error: Option<io::Error>,
}

/// What a worker is told.
pub(super) enum CarrierMail<M> {
    User(M),
    /// Come to rest.
    Freeze(Sender<Frozen>),
    /// Go on with what had come to rest.
    Thaw(Box<Frozen>),
    /// Go on with the listeners, and cut the connections.
    TakeBack(Box<Frozen>),
    /// These are the other process's; end when no connection is left.
    Forget(Vec<Token>),
    /// Rebuild these in memory. Answers with the numbers of those that it cannot.
    Prepare(Vec<Arrival>, Sender<Vec<(u64, String)>>),
    Wake(Box<Wake>),
}

/// A hand-over that a worker takes part in, until it is at rest.
struct Resting {
    reply: Sender<Frozen>,
    listeners: Vec<(u32, Listener)>,
    leaving: BTreeMap<ConnectionId, Token>,
    connections: Vec<Departure>,
}

/// The handler, and what surrounds it.
pub(super) struct Carrier<H: Handover> {
    handler: H,
    worker: usize,
    /// Those of the server's addresses, with their places.
    listeners: Vec<(ListenerId, u32)>,
    resting: Option<Resting>,
    prepared: Vec<(Token, ExportedConnection)>,
    /// A new process's worker does nothing before the commit.
    is_dormant: bool,
    /// Between the order to come to rest and what becomes of it.
    is_at_rest: bool,
    /// Mail for the handler that came meanwhile: it may be about a connection that is nowhere now.
    held: Vec<H::Mail>,
    /// The other process serves: what is left here is all there will be.
    is_leaving: bool,
}

impl<H: Handover> Carrier<H> {
    /// One that serves.
    pub(super) fn new(handler: H, worker: usize, listeners: Vec<(ListenerId, u32)>) -> Self {
        Self {
            handler,
            worker,
            listeners,
            resting: None,
            prepared: Vec::new(),
            is_dormant: false,
            is_at_rest: false,
            held: Vec::new(),
            is_leaving: false,
        }
    }

    /// One that waits for the commit.
    pub(super) fn dormant(handler: H, worker: usize) -> Self {
        Self { is_dormant: true, ..Self::new(handler, worker, Vec::new()) }
    }

    fn end_rest(&mut self, ops: &mut Operations<'_>) {
        self.is_at_rest = false;
        for mail in std::mem::take(&mut self.held) {
            self.handler.on_mail(ops, mail);
        }
    }

    fn freeze(&mut self, ops: &mut Operations<'_>, reply: Sender<Frozen>) {
        self.is_at_rest = true;
        self.resting =
            Some(Resting { reply, listeners: Vec::new(), leaving: BTreeMap::new(), connections: Vec::new() });
        for (listener, _) in &self.listeners {
            ops.release_accept(*listener);
        }
        if self.listeners.is_empty() {
            self.export_all(ops);
        }
    }

    /// Nothing is accepted any more: the handler's list is complete.
    fn export_all(&mut self, ops: &mut Operations<'_>) {
        let Some(resting) = &mut self.resting else { return };
        for (connection, token) in self.handler.connections() {
            resting.leaving.insert(connection, token);
            ops.export(connection);
        }
        self.rest_if_quiet();
    }

    fn rest_if_quiet(&mut self) {
        if self.resting.as_ref().is_some_and(|resting| resting.leaving.is_empty())
            && self.listeners.is_empty()
            && let Some(Resting { reply, listeners, connections, .. }) = self.resting.take()
        {
            // Whoever asked waits for every worker's answer, however late.
            let _ = reply.send(Frozen { worker: self.worker, listeners, connections });
        }
    }

    fn accept_again(&mut self, ops: &mut Operations<'_>, listeners: Vec<(u32, Listener)>) -> io::Result<()> {
        for (place, listener) in listeners {
            let listener = ops.start_accept(listener, Token(place))?;
            self.listeners.push((listener, place));
        }
        Ok(())
    }

    fn thaw(&mut self, ops: &mut Operations<'_>, frozen: Frozen) {
        // Fails only when the kernel has no memory left for a watch.
        let _ = self.accept_again(ops, frozen.listeners);
        for Departure { token, mut exported, .. } in frozen.connections {
            // The new process may not have closed its copy yet.
            exported.shared = true;
            if let Ok(connection) = ops.adopt(exported, token) {
                self.handler.on_resume(ops, connection, token);
            }
        }
    }

    /// Rebuilds a connection in memory.
    fn prepare(&mut self, arrival: Arrival) -> Result<(), String> {
        let Arrival { record, descriptor } = arrival;
        let mut exported =
            ExportedConnection::from_descriptor(descriptor).map_err(|error| error.to_string())?;
        let token = self.handler.restore(record.state_version, &record.state)?;
        exported.received = record.received;
        exported.queued = record.queued;
        exported.ended = record.ended;
        exported.shut = record.shut;
        self.prepared.push((token, exported));
        Ok(())
    }

    fn cut(ops: &mut Operations<'_>, exported: ExportedConnection, token: Token) {
        if let Ok(connection) = ops.adopt(exported, token) {
            // Reset: a stream that was cut must not look complete.
            ops.reset(connection);
        }
    }

    fn wake(&mut self, ops: &mut Operations<'_>, wake: Wake) {
        let Wake { listeners, missing, options, cut, is_afresh, done } = wake;
        self.is_dormant = false;
        self.handler.on_start(ops);
        self.end_rest(ops);
        for (token, exported) in std::mem::take(&mut self.prepared) {
            match is_afresh {
                true => Self::cut(ops, exported, token),
                false => {
                    if let Ok(connection) = ops.adopt(exported, token) {
                        self.handler.on_resume(ops, connection, token);
                    }
                }
            }
        }
        for descriptor in cut {
            if let Ok(exported) = ExportedConnection::from_descriptor(descriptor) {
                Self::cut(ops, exported, Token(u32::MAX));
            }
        }
        let mut woken = Woken { listeners: Vec::new(), error: None };
        let bound = missing.into_iter().map(|(place, address)| (place, ops.bind(&address, &options)));
        let all: Vec<_> =
            listeners.into_iter().map(|(place, listener)| (place, Ok(listener))).chain(bound).collect();
        for (place, listener) in all {
            let accept = |listener: Listener| {
                let copy = listener.try_clone()?;
                self.accept_again(ops, vec![(place, listener)])?;
                Ok((place, copy))
            };
            match listener.and_then(accept) {
                Ok(listener) => woken.listeners.push(listener),
                Err(error) => woken.error = Some(error),
            }
        }
        // The conductor waits for it.
        let _ = done.send(woken);
    }
}

impl<H: Handover> EventHandler for Carrier<H> {
    type Mail = CarrierMail<H::Mail>;

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        if !self.is_dormant {
            self.handler.on_start(ops);
        }
    }

    fn on_mail(&mut self, ops: &mut Operations<'_>, mail: Self::Mail) {
        match mail {
            CarrierMail::User(mail) if self.is_at_rest || self.is_dormant => self.held.push(mail),
            CarrierMail::User(mail) => self.handler.on_mail(ops, mail),
            CarrierMail::Freeze(reply) => self.freeze(ops, reply),
            CarrierMail::Thaw(frozen) => {
                self.thaw(ops, *frozen);
                self.end_rest(ops);
            }
            CarrierMail::TakeBack(frozen) => {
                self.end_rest(ops);
                let _ = self.accept_again(ops, frozen.listeners);
                for Departure { token, exported, .. } in frozen.connections {
                    Self::cut(ops, exported, token);
                }
            }
            CarrierMail::Forget(tokens) => {
                self.is_leaving = true;
                self.end_rest(ops);
                for token in tokens {
                    self.handler.on_handed_over(token);
                }
            }
            CarrierMail::Prepare(arrivals, reply) => {
                let mut refused = Vec::new();
                for arrival in arrivals {
                    let number = arrival.record.number;
                    if let Err(reason) = self.prepare(arrival) {
                        refused.push((number, reason));
                    }
                }
                let _ = reply.send(refused);
            }
            CarrierMail::Wake(wake) => self.wake(ops, *wake),
        }
    }

    fn on_listener_released(
        &mut self,
        ops: &mut Operations<'_>,
        listener: ListenerId,
        token: Token,
        released: Listener,
    ) {
        let Some(position) = self.listeners.iter().position(|(known, _)| *known == listener) else {
            return self.handler.on_listener_released(ops, listener, token, released);
        };
        let (_, place) = self.listeners.swap_remove(position);
        if let Some(resting) = &mut self.resting {
            resting.listeners.push((place, released));
            if self.listeners.is_empty() {
                self.export_all(ops);
            }
        }
    }

    fn on_exported(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        exported: ExportedConnection,
    ) {
        let leaves = self.resting.as_mut().and_then(|resting| resting.leaving.remove(&connection));
        let Some(token) = leaves else {
            return self.handler.on_exported(ops, connection, token, exported);
        };
        let mut state = Vec::new();
        self.handler.save(token, &mut state);
        if let Some(resting) = &mut self.resting {
            resting.connections.push(Departure { token, exported, state });
        }
        self.rest_if_quiet();
    }

    fn on_close(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        reason: CloseReason,
    ) {
        if token != Token(u32::MAX) {
            self.handler.on_close(ops, connection, token, reason);
        }
        if let Some(resting) = &mut self.resting
            && resting.leaving.remove(&connection).is_some()
        {
            // It ended before it had left.
            self.rest_if_quiet();
        }
    }

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        listener: ListenerId,
        token: Token,
        connection: ConnectionId,
        peer: SocketAddress,
    ) {
        self.handler.on_accept(ops, listener, token, connection, peer);
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        self.handler.on_connect(ops, connection, token);
    }

    fn on_connect_failed(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        error: io::Error,
    ) {
        self.handler.on_connect_failed(ops, connection, token, error);
    }

    fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &mut [u8],
    ) {
        self.handler.on_read(ops, connection, token, bytes);
    }

    fn on_peek(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &[u8],
        ended: bool,
    ) {
        self.handler.on_peek(ops, connection, token, bytes, ended);
    }

    fn on_end(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        self.handler.on_end(ops, connection, token);
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        self.handler.on_write(ops, connection, token);
    }

    fn on_peer_left(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        reset: bool,
        unread: bool,
    ) {
        self.handler.on_peer_left(ops, connection, token, reset, unread);
    }

    fn on_relay_half_closed(&mut self, ops: &mut Operations<'_>, from: ConnectionId, token: Token) {
        self.handler.on_relay_half_closed(ops, from, token);
    }

    fn on_relay_ended(&mut self, ops: &mut Operations<'_>, end: RelayEnd) {
        self.handler.on_relay_ended(ops, end);
    }

    fn on_relay_stopped(&mut self, ops: &mut Operations<'_>, stop: RelayStop) {
        self.handler.on_relay_stopped(ops, stop);
    }

    fn on_datagrams(
        &mut self,
        ops: &mut Operations<'_>,
        socket: DatagramSocketId,
        token: Token,
        batch: &mut DatagramBatch,
    ) {
        self.handler.on_datagrams(ops, socket, token, batch);
    }

    fn on_timer(&mut self, ops: &mut Operations<'_>, timer: TimerId, token: Token) {
        self.handler.on_timer(ops, timer, token);
    }

    fn on_accept_paused(
        &mut self,
        ops: &mut Operations<'_>,
        listener: ListenerId,
        token: Token,
        error: io::Error,
    ) {
        self.handler.on_accept_paused(ops, listener, token, error);
    }

    fn on_accept_resumed(&mut self, ops: &mut Operations<'_>, listener: ListenerId, token: Token) {
        self.handler.on_accept_resumed(ops, listener, token);
    }

    fn on_listener_closed(&mut self, ops: &mut Operations<'_>, listener: ListenerId, token: Token) {
        let before = self.listeners.len();
        self.listeners.retain(|(known, _)| *known != listener);
        self.handler.on_listener_closed(ops, listener, token);
        if self.listeners.is_empty() && before > 0 && self.resting.is_some() {
            // The handler had stopped it, so that it could not be released.
            self.export_all(ops);
        }
    }

    fn is_finished(&self) -> bool {
        self.handler.is_finished() || self.is_leaving && self.handler.connections().is_empty()
    }
}
