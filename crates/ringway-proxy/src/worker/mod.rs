//! The shell around the sessions of one worker: engine events in, decisions out.
//!
//! [`ProxyHandler`] belongs to one worker thread. It listens at every frontend with sockets of its own, keeps a
//! [`Session`](crate::session::tcp::Session) for each connection of a client, tells it what happened and does what it
//! answers. It reads no clock and keeps nothing outside itself, so that the simulator can turn it.

mod adoption;
mod app;
mod app_table;
mod arrival;
mod connections;
mod endpoint_table;
mod handover;
mod listening;
mod loading;
mod mail;
mod moving;
mod preface;
mod recorder;
mod routes;
mod token;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use ringway::layer::Buffers;
use ringway::relay::{Step, TransformRelay};
use ringway::{
    CloseReason, ConnectionId, EventHandler, ExportedConnection, Listener, ListenerId, Mailer, Operations,
    RelayCause, RelayEnd, RelayStop, Side, SocketAddress, TimerId, Token,
};

pub use arrival::Homes;
pub use listening::LentListener;
pub use loading::{Asker, Loader};
pub use mail::{
    CopiedAhead, CopyAhead, Legacy, LetGo, MESSAGE_BYTES, MESSAGE_DESCRIPTORS, Parcel, Rested, WorkerMail,
};
pub use moving::{Arrivals, Held, MovedSession, Stayed, Staying, TakeOut, Taken, Which};
pub use recorder::Recorder;

use crate::admission::Admission;
use crate::endpoint::DialFailure;
use crate::metrics::WorkerMetrics;
use crate::session::tcp::{Event, RelayOutcome};
use crate::snapshot::Snapshot;
use connections::moving::reset;
use connections::{AppGate, Connections};
use listening::Frontends;
use token::Owner;

/// What a worker is made of.
pub struct WorkerSetup {
    /// Its number, from 0.
    pub worker: u32,
    /// How many workers the process has.
    pub workers: u32,
    /// What it begins with.
    pub snapshot: Arc<Snapshot>,
    /// The limit on connections.
    pub admission: Arc<Admission>,
    /// Its counters.
    pub metrics: Arc<WorkerMetrics>,
    /// Where ended connections are told of.
    pub recorder: Box<dyn Recorder>,
    /// Loads certificates, for all workers.
    pub loader: Loader,
    /// TCP_CONGESTION of all its sockets.
    pub congestion: Option<String>,
    /// Decides what is chosen at random; a different one for each worker.
    pub seed: u64,
}

/// Serves all frontends of a process on one worker.
pub struct ProxyHandler {
    /// What it works by; none until it is started.
    snapshot: Option<Arc<Snapshot>>,
    /// What it begins with; none once it has.
    first: Option<Arc<Snapshot>>,
    frontends: Frontends,
    connections: Connections,
    is_draining: bool,
    /// Who wants to hear that this worker came to rest.
    resting: Option<mpsc::Sender<Rested>>,
}

/// What a worker did, for the last line of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSummary {
    /// Connections of clients that ended.
    pub ended: u64,
    /// Of these, how many were cut because the process ended.
    pub cut: u64,
}

impl ProxyHandler {
    /// A handler that begins to listen when its worker starts to turn. `mailer`: to that worker.
    pub fn new(setup: WorkerSetup, mailer: Mailer<WorkerMail>) -> Self {
        let first = Some(Arc::clone(&setup.snapshot));
        let frontends = Frontends::new(Arc::clone(&setup.metrics));
        let connections = Connections::new(setup, mailer);
        Self { snapshot: None, first, frontends, connections, is_draining: false, resting: None }
    }

    /// A handler that knows its apps and touches no socket until it gets [`WorkerMail::Wake`].
    pub fn dormant(setup: WorkerSetup, mailer: Mailer<WorkerMail>) -> Self {
        let mut handler = Self::new(setup, mailer);
        handler.frontends.sleep();
        handler
    }

    /// What it did so far.
    pub fn summary(&self) -> WorkerSummary {
        self.connections.summary()
    }

    /// Connections of clients that it holds, those included that wait for admission.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Looks after the limit: those that wait are served if there is room; accepting rests or goes on.
    fn settle(&mut self, ops: &mut Operations<'_>) {
        self.connections.admit_waiting(ops);
        if self.connections.are_starved() {
            self.frontends.pause_for_want(ops);
            self.connections.watch_limit(ops);
        } else if self.connections.is_full() {
            self.frontends.pause(ops);
            self.connections.watch_limit(ops);
        } else {
            self.frontends.resume(ops);
        }
    }

    /// Tells the relay of a connection whose bytes pass through here.
    fn relayed(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        event: impl FnOnce(&mut TransformRelay, &mut Operations<'_>, Side, &mut AppGate<'_>, &mut Buffers) -> Step,
    ) {
        if let Owner::Session(place) = Owner::of(token)
            && let Some(side) = self.connections.side(place, connection)
            && self.connections.handle_transformed(ops, place, |relay, ops, gate, buffers| {
                event(relay, ops, side, gate, buffers)
            })
        {
            self.settle(ops);
        }
    }

    fn drain(&mut self, ops: &mut Operations<'_>) {
        if !std::mem::replace(&mut self.is_draining, true) {
            for place in self.frontends.stop(ops) {
                self.connections.let_go_of_route(place);
            }
        }
    }
}

impl EventHandler for ProxyHandler {
    type Mail = WorkerMail;

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        if let Some(first) = self.first.take() {
            self.adopt(ops, &first);
        }
    }

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _listener: ListenerId,
        token: Token,
        connection: ConnectionId,
        peer: SocketAddress,
    ) {
        let Owner::Frontend(frontend) = Owner::of(token) else {
            return ops.close(connection);
        };
        self.connections.accept(ops, frontend, connection, peer);
        self.settle(ops);
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        match Owner::of(token) {
            Owner::SocketFile(frontend) => self.frontends.handle_answer(ops, frontend, connection),
            Owner::Session(place) if self.connections.side(place, connection) == Some(Side::B) => {
                self.connections.handle(ops, place, Event::Connected);
            }
            Owner::Session(_) | Owner::Frontend(_) | Owner::Admission | Owner::Ejections => {}
        }
    }

    fn on_connect_failed(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        error: io::Error,
    ) {
        match Owner::of(token) {
            Owner::SocketFile(frontend) => {
                self.frontends.handle_no_answer(ops, frontend, connection, &error);
            }
            Owner::Session(place) if self.connections.side(place, connection) == Some(Side::B) => {
                let failure = DialFailure::from_error(&error);
                self.connections.handle(ops, place, Event::DialFailed(failure));
                self.settle(ops);
            }
            Owner::Session(_) | Owner::Frontend(_) | Owner::Admission | Owner::Ejections => {}
        }
    }

    /// Only of connections whose bytes pass through here: those of others go from socket to socket inside the
    /// engine.
    fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &mut [u8],
    ) {
        self.relayed(ops, connection, token, |relay, ops, side, gate, buffers| {
            relay.on_read(ops, side, bytes, gate, buffers)
        });
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        self.relayed(ops, connection, token, |relay, ops, side, gate, buffers| {
            relay.on_write(ops, side, gate, buffers)
        });
    }

    fn on_relay_stopped(&mut self, ops: &mut Operations<'_>, stop: RelayStop) {
        if let Owner::Session(place) = Owner::of(stop.token)
            && self.connections.side(place, stop.a) == Some(Side::A)
        {
            self.connections.handle_relay_stopped(ops, place, stop);
            self.settle(ops);
        }
    }

    fn on_peek(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &[u8],
        ended: bool,
    ) {
        let Owner::Session(place) = Owner::of(token) else { return };
        match self.connections.side(place, connection) {
            Some(Side::A) => self.connections.handle_peek(ops, place, bytes, ended),
            Some(Side::B) => self.connections.handle_backend_peek(ops, place, bytes, ended),
            None => return,
        }
        self.settle(ops);
    }

    fn on_end(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        self.relayed(ops, connection, token, |relay, ops, side, _, buffers| relay.on_end(ops, side, buffers));
    }

    fn on_peer_left(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        reset: bool,
        unread: bool,
    ) {
        if let Owner::Session(place) = Owner::of(token)
            && self.connections.side(place, connection) == Some(Side::A)
        {
            self.connections.handle(ops, place, Event::ClientLeft { reset, unread });
            self.settle(ops);
        }
    }

    fn on_close(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        reason: CloseReason,
    ) {
        // Connections that this worker closed are no longer known to their session.
        let Owner::Session(place) = Owner::of(token) else { return };
        if self.connections.is_transformed(place) {
            return self.relayed(ops, connection, token, |relay, ops, side, _, buffers| {
                relay.on_close(ops, side, reason, buffers)
            });
        }
        let reset = matches!(reason, CloseReason::Reset);
        let event = match self.connections.side(place, connection) {
            Some(Side::A) => Event::ClientLost { reset },
            Some(Side::B) => Event::BackendLost { reset },
            None => return,
        };
        self.connections.handle(ops, place, event);
        self.settle(ops);
    }

    fn on_relay_half_closed(&mut self, ops: &mut Operations<'_>, from: ConnectionId, token: Token) {
        if let Owner::Session(place) = Owner::of(token)
            && self.connections.side(place, from).is_some()
        {
            self.connections.handle(ops, place, Event::HalfClosed);
        }
    }

    fn on_relay_ended(&mut self, ops: &mut Operations<'_>, end: RelayEnd) {
        if let Owner::Session(place) = Owner::of(end.token)
            && self.connections.side(place, end.a) == Some(Side::A)
        {
            let outcome = outcome_of(&end);
            self.connections.handle_end(ops, place, outcome, end.bytes);
            self.settle(ops);
        }
    }

    fn on_exported(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        exported: ExportedConnection,
    ) {
        let side = match Owner::of(token) {
            Owner::Session(place) => self.connections.side(place, connection).map(|side| (place, side)),
            Owner::Frontend(_) | Owner::SocketFile(_) | Owner::Admission | Owner::Ejections => None,
        };
        match side {
            Some((place, side)) => self.connections.handle_exported(ops, place, side, exported),
            // Its session ended meanwhile.
            None => reset(ops, exported),
        }
        self.settle(ops);
    }

    fn on_timer(&mut self, ops: &mut Operations<'_>, timer: TimerId, token: Token) {
        match Owner::of(token) {
            Owner::Session(place) => self.connections.handle_timer(ops, place, timer),
            Owner::Frontend(frontend) => self.frontends.handle_timer(ops, frontend, timer),
            Owner::Admission => self.connections.handle_limit_timer(timer),
            Owner::Ejections => self.connections.end_ejections(ops, timer),
            Owner::SocketFile(_) => {}
        }
        self.settle(ops);
    }

    fn on_mail(&mut self, ops: &mut Operations<'_>, mail: WorkerMail) {
        match mail {
            WorkerMail::Adopt(adoption) => {
                self.adopt(ops, adoption.snapshot());
                adoption.acknowledge();
            }
            WorkerMail::Endpoints { app } => self.connections.refresh(app),
            WorkerMail::Serve { app } => self.serve(ops, app),
            WorkerMail::Room(call) => self.connections.handle_call(ops, call),
            WorkerMail::Loaded(client) => self.connections.handle_loaded(ops, client),
            WorkerMail::TakeOut(request) => self.connections.take_out(ops, request),
            WorkerMail::PutIn(parcel) => {
                if let Some(arrivals) = parcel.open() {
                    self.connections.put_all_in(ops, arrivals);
                }
            }
            WorkerMail::Cut(parcel) => {
                if let Some(arrivals) = parcel.open() {
                    self.connections.cut_all(ops, arrivals);
                }
            }
            WorkerMail::Inspect(inquiry) => self.connections.inspect(ops, &inquiry),
            WorkerMail::Beat(count) => drop(count.fetch_add(1, Ordering::Relaxed)),
            WorkerMail::Drain => self.drain(ops),
            WorkerMail::CloseNow => {
                self.drain(ops);
                self.connections.close_all(ops);
            }
            WorkerMail::Lend(reply) => drop(reply.send(self.frontends.lend(ops))),
            WorkerMail::CopyAhead(request) => self.connections.copy_ahead(ops, &request),
            WorkerMail::Expect(parcel) => {
                if let Some(arrivals) = parcel.open() {
                    self.connections.expect_all(ops, arrivals);
                }
            }
            WorkerMail::CutHeld => self.connections.cut_held(ops),
            WorkerMail::LetGo(request) => self.connections.let_go_held(ops, &request),
            WorkerMail::Rest(reply) => self.rest(ops, reply),
            WorkerMail::Resume => self.resume(ops),
            WorkerMail::LookAgain => self.frontends.look_again(ops),
            WorkerMail::Leave => self.leave(ops),
            WorkerMail::Wake(legacy) => {
                if let Some(legacy) = legacy.open() {
                    self.wake(ops, legacy);
                }
            }
        }
        self.settle(ops);
    }

    fn on_accept_paused(&mut self, _: &mut Operations<'_>, _: ListenerId, token: Token, error: io::Error) {
        if let Owner::Frontend(frontend) = Owner::of(token) {
            self.frontends.handle_paused_by_engine(frontend, &error);
        }
    }

    fn on_listener_closed(&mut self, _: &mut Operations<'_>, _: ListenerId, token: Token) {
        if let Owner::Frontend(place) = Owner::of(token)
            && self.frontends.handle_closed(place)
        {
            self.connections.let_go_of_route(place);
        }
    }

    fn on_listener_released(
        &mut self,
        ops: &mut Operations<'_>,
        _: ListenerId,
        token: Token,
        released: Listener,
    ) {
        if let Owner::Frontend(place) = Owner::of(token) {
            self.frontends.handle_released(place, released);
            self.come_to_rest(ops);
        }
    }

    fn is_finished(&self) -> bool {
        self.is_draining && self.frontends.are_closed() && self.connections.is_empty()
    }
}

/// Client is A, backend is B.
fn outcome_of(end: &RelayEnd) -> RelayOutcome {
    match (&end.cause, end.side) {
        (RelayCause::Finished, Side::A) => RelayOutcome::ClientFinished,
        (RelayCause::Finished, Side::B) => RelayOutcome::BackendFinished,
        (RelayCause::Reset, Side::A) => RelayOutcome::ClientReset,
        (RelayCause::Reset, Side::B) => RelayOutcome::BackendReset,
        (RelayCause::Failed(error), side) => match (error.kind(), side) {
            (io::ErrorKind::UnexpectedEof, Side::A) => RelayOutcome::ClientCutShort,
            (io::ErrorKind::UnexpectedEof, Side::B) => RelayOutcome::BackendCutShort,
            (io::ErrorKind::InvalidData, Side::A) => RelayOutcome::ClientTlsFailed,
            (io::ErrorKind::InvalidData, Side::B) => RelayOutcome::BackendTlsFailed,
            (_, Side::A) => RelayOutcome::ClientFailed,
            (_, Side::B) => RelayOutcome::BackendFailed,
        },
        (RelayCause::Cut, _) => RelayOutcome::Cut,
    }
}
