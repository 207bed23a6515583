//! The run as the engine's handler: backends, clients, and the phases from first dial to last count.
//!
//! One thread carries it all. What a client or a backend does with an event is in their own modules.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ringway::{
    Clock, CloseReason, ConnectOptions, ConnectionId, EventHandler, ListenOptions, ListenerId, Operations,
    SocketAddress, Time, TimerId, Token,
};

use crate::backend::Backends;
use crate::client::{Client, send};
use crate::control::Command;
use crate::options::{Handshakes, MESSAGE_BYTES_MAX, Mode, Options};
use crate::output::Output;
use crate::pacing::{Pacing, TURN_INTERVAL, noise};
use crate::report::{Latency, Report, RunEvent, Tally, TlsReport};
use crate::tls::{Session, Tls};
use crate::{LoadError, watch};

/// Dials under way at once while connections are set up: below any proxy's listen queue.
const DIALS_MAX: usize = 64;
/// Progress is shown, and failed clients dial again, this often.
const TICK: Duration = Duration::from_millis(100);

/// Tokens of timers; those of connections are below, listeners share the last.
const TICK_TIMER: Token = Token(u32::MAX);
const PHASE_TIMER: Token = Token(u32::MAX - 1);
const LISTENER: Token = Token(u32::MAX - 2);
const TURN_TIMER: Token = Token(u32::MAX - 3);
pub(crate) const STREAM_TIMER: Token = Token(u32::MAX - 4);
/// Set in the token of a backend's connection; the rest is its place.
const BACKEND_BIT: u32 = 1 << 31;

/// Where the run stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Waits for `target`.
    AwaitingTarget,
    /// Not all connections stand.
    Connecting,
    /// Traffic flows and is not counted.
    Warmup,
    /// Traffic is counted since then.
    Measuring { since: Time, watched_nanos: Option<u64>, own_nanos: Option<u64> },
    /// Idle connections are held; which of the steps.
    Holding,
    /// Over; there is an outcome.
    Finished,
}

/// Handles everything of a run.
pub(crate) struct Load {
    pub(crate) options: Options,
    pub(crate) payload: Vec<u8>,
    pub(crate) tally: Tally,
    pub(crate) clock: Clock,
    /// Round trips are by the clock and checked.
    pub(crate) pacing: Option<Pacing>,
    /// Traffic flows: from `Ready` to the end.
    pub(crate) is_flowing: bool,
    /// A place a client; its connections bear the place as their token.
    pub(crate) clients: Vec<Client>,
    /// Clients speak TLS; the session of each, in its place, while it has one.
    pub(crate) tls: Option<Tls>,
    pub(crate) sessions: Vec<Option<Session>>,
    /// What is to be sent, sealed, and what was received, opened: empty between events, but their memory is kept.
    pub(crate) wire: Vec<u8>,
    /// Clients that go on sending in the next turn.
    pub(crate) streaming: Vec<usize>,
    pub(crate) opened: Vec<u8>,
    /// Tickets of before the window.
    tickets_before: u64,
    backends: Backends,
    targets: Vec<SocketAddress>,
    phase: Phase,
    /// How many clients are wanted now, how many have been dialled for the first time, stand, and are being set up.
    wanted: usize,
    dialled: usize,
    pub(crate) established: usize,
    dialling: usize,
    /// Clients that failed and dial again at the next tick.
    again: Vec<usize>,
    holds: std::vec::IntoIter<usize>,
    last_success: Time,
    errors: u64,
    /// Of these, connections that stood.
    cut: u64,
    pub(crate) wrong_bytes: u64,
    first_error: Option<String>,
    output: Output,
    outcome: Option<Result<Report, LoadError>>,
}

impl Load {
    /// # Errors
    /// When the options of TLS make no sense.
    pub(crate) fn new(mut options: Options, output: Output) -> Result<Self, String> {
        let mut holds = options.holds().into_iter();
        let wanted = match options.mode {
            Mode::Idle => holds.next().unwrap_or(options.connections),
            Mode::Bulk | Mode::Pingpong | Mode::Connections => options.connections,
        };
        let most = holds.as_slice().last().copied().unwrap_or(wanted);
        let clock = Clock::process();
        let tls_of = |handshakes| Tls::new(handshakes, options.key_exchange, &options.server_name, most);
        let tls = options.tls.map(tls_of).transpose()?;
        let mut payload = noise(MESSAGE_BYTES_MAX);
        if options.hello {
            let mut hello = Vec::new();
            tls_of(Handshakes::Full)?.begin(&mut hello).map_err(|error| error.to_string())?;
            payload[..hello.len()].copy_from_slice(&hello);
            options.size = hello.len();
        }
        Ok(Self {
            payload,
            tally: Tally::new(),
            clock,
            pacing: None,
            is_flowing: false,
            clients: vec![Client::NONE; most],
            sessions: std::iter::repeat_with(|| None).take(if tls.is_some() { most } else { 0 }).collect(),
            tls,
            wire: Vec::new(),
            streaming: Vec::new(),
            opened: Vec::new(),
            tickets_before: 0,
            backends: Backends::default(),
            targets: Vec::new(),
            phase: Phase::AwaitingTarget,
            wanted,
            dialled: 0,
            established: 0,
            dialling: 0,
            again: Vec::new(),
            holds,
            last_success: clock.now(),
            errors: 0,
            cut: 0,
            wrong_bytes: 0,
            first_error: None,
            output,
            outcome: None,
            options,
        })
    }

    /// What came of it.
    pub(crate) fn into_outcome(self) -> Result<Report, LoadError> {
        self.outcome.unwrap_or(Err(LoadError::Interrupted))
    }

    fn finish(&mut self, outcome: Result<Report, LoadError>) {
        self.phase = Phase::Finished;
        self.is_flowing = false;
        if let Ok(report) = &outcome {
            self.output.event(&RunEvent::Result(report.clone()));
        }
        self.outcome = Some(outcome);
    }

    fn listen(&mut self, ops: &mut Operations<'_>) -> Result<(), LoadError> {
        let mut addresses = Vec::new();
        for &wish in &self.options.backends {
            let failed = |error: io::Error| LoadError::Listen { address: wish, error };
            let listener = ops.bind(&wish.into(), &ListenOptions::default()).map_err(failed)?;
            let address = listener.address().inet().unwrap_or(wish);
            ops.start_accept(listener, LISTENER).map_err(failed)?;
            addresses.push(address);
        }
        self.targets = match self.options.target {
            Some(target) => vec![target.into()],
            None if self.options.stdin => Vec::new(),
            None => addresses.iter().map(|&address| address.into()).collect(),
        };
        self.output.event(&RunEvent::Listening { backends: addresses });
        Ok(())
    }

    /// All is known: dial.
    fn begin(&mut self, ops: &mut Operations<'_>) {
        self.phase = Phase::Connecting;
        self.last_success = self.clock.now();
        ops.set_timer(self.last_success + TICK, TICK_TIMER);
        if self.options.mode == Mode::Connections {
            // Nothing to set up first: connections are what this mode is about.
            self.start_traffic(ops);
        }
        self.dial_more(ops);
    }

    fn dial_more(&mut self, ops: &mut Operations<'_>) {
        let at_once = if self.options.mode == Mode::Connections { self.wanted } else { DIALS_MAX };
        while self.dialled < self.wanted && self.dialling < at_once {
            let place = self.dialled;
            self.dialled += 1;
            self.dial(ops, place);
        }
    }

    /// Dials for the client at `place`, which has no connection.
    pub(crate) fn dial(&mut self, ops: &mut Operations<'_>, place: usize) {
        let target = &self.targets[place % self.targets.len()];
        let options = ConnectOptions { source: self.source(place), ..ConnectOptions::default() };
        let connection = ops.connect(target, &options, Token(place as u32));
        self.clients[place] = Client::dialled(connection, self.clock.now());
        if let Some(session) = self.sessions.get_mut(place) {
            *session = None;
        }
        self.dialling += 1;
    }

    /// The local address of a client: 127.1.0.1 and up, in turn.
    fn source(&self, place: usize) -> Option<IpAddr> {
        let sources = usize::from(self.options.sources);
        if sources == 0 {
            return None;
        }
        let number = place % sources;
        let [high, low] = [number / 250, number % 250 + 1].map(|part| u8::try_from(part).unwrap_or(u8::MAX));
        Some(Ipv4Addr::new(127, 1, high, low).into())
    }

    /// A client stands and is ready for what comes.
    pub(crate) fn client_established(&mut self, ops: &mut Operations<'_>, place: usize) {
        self.clients[place].is_established = true;
        self.dialling -= 1;
        self.established += 1;
        self.last_success = self.clock.now();
        self.dial_more(ops);
        if self.established == self.wanted && self.phase == Phase::Connecting {
            self.output.event(&RunEvent::Ready { connections: self.established });
            match self.options.mode {
                Mode::Idle => self.hold(ops),
                Mode::Bulk | Mode::Pingpong | Mode::Connections => self.start_traffic(ops),
            }
        }
    }

    fn start_traffic(&mut self, ops: &mut Operations<'_>) {
        self.phase = Phase::Warmup;
        self.is_flowing = true;
        let now = self.clock.now();
        ops.set_timer(now + self.options.warmup, PHASE_TIMER);
        if let Some(pacing) = &mut self.pacing {
            pacing.start(now);
            ops.set_timer(now + TURN_INTERVAL, TURN_TIMER);
        }
        for place in 0..self.established {
            self.start_client(ops, place);
        }
    }

    fn hold(&mut self, ops: &mut Operations<'_>) {
        self.phase = Phase::Holding;
        self.output.event(&RunEvent::Holding { connections: self.established });
        if !self.options.stdin {
            ops.set_timer(self.clock.now() + self.options.seconds, PHASE_TIMER);
        }
    }

    /// A hold is over: on to the next step, or to the end.
    fn end_hold(&mut self, ops: &mut Operations<'_>) {
        match self.holds.next() {
            Some(step) => {
                self.wanted = step;
                self.phase = Phase::Connecting;
                self.last_success = self.clock.now();
                self.dial_more(ops);
            }
            None => {
                let report = self.report(0.0, None, None);
                self.finish(Ok(report));
            }
        }
    }

    fn start_window(&mut self, ops: &mut Operations<'_>) {
        let watched_nanos = match self.watched_nanos() {
            Ok(nanos) => nanos,
            Err(error) => return self.finish(Err(error)),
        };
        self.output.event(&RunEvent::WindowStart);
        self.tally.reset();
        self.tickets_before = self.tls.as_ref().map_or(0, Tls::tickets);
        let since = self.clock.now();
        self.phase = Phase::Measuring { since, watched_nanos, own_nanos: watch::own_cpu_nanos() };
        ops.set_timer(since + self.options.seconds, PHASE_TIMER);
    }

    fn end_window(&mut self, since: Time, watched_before: Option<u64>, own_before: Option<u64>) {
        let seconds = self.clock.now().since(since).as_secs_f64();
        let watched_nanos = match self.watched_nanos() {
            Ok(nanos) => nanos,
            Err(error) => return self.finish(Err(error)),
        };
        let own_nanos = watch::own_cpu_nanos();
        let spent = |after: Option<u64>, before: Option<u64>| {
            after.zip(before).map(|(after, before)| after.saturating_sub(before) as f64 / 1e9)
        };
        let report = self.report(seconds, spent(watched_nanos, watched_before), spent(own_nanos, own_before));
        self.output.event(&RunEvent::WindowEnd);
        self.finish(Ok(report));
    }

    /// Tells what was counted, and counts anew.
    fn mark(&mut self) {
        let now = self.clock.now();
        let Phase::Measuring { since, .. } = &mut self.phase else { return };
        let seconds = now.since(*since).as_secs_f64();
        *since = now;
        let report = self.report(seconds, None, None);
        self.output.event(&RunEvent::Mark(report));
        self.tally.reset();
    }

    /// Whoever's turn it is under `pace` sends.
    fn give_turns(&mut self, ops: &mut Operations<'_>) {
        let now = self.clock.now();
        let clients = self.wanted;
        let Some(pacing) = &mut self.pacing else { return };
        for turn in pacing.due(now, clients) {
            self.client_turn(ops, (turn % clients as u64) as usize);
        }
        ops.set_timer(now + TURN_INTERVAL, TURN_TIMER);
    }

    fn longest_wait(&self) -> Duration {
        let waiting = if self.pacing.is_some() { &self.clients[..] } else { &[] };
        let now = self.clock.now();
        let waits = waiting.iter().filter_map(|client| Some(now.since(client.waits_since()?)));
        waits.fold(self.tally.longest, Duration::max)
    }

    fn watched_nanos(&self) -> Result<Option<u64>, LoadError> {
        if self.options.watch.is_empty() {
            return Ok(None);
        }
        watch::cpu_nanos(&self.options.watch).map(Some).map_err(LoadError::Watch)
    }

    fn report(&self, seconds: f64, watched: Option<f64>, own: Option<f64>) -> Report {
        Report {
            mode: self.options.mode.name(),
            connections: self.wanted,
            seconds,
            units: self.tally.units,
            bytes: self.tally.bytes,
            latency: Latency::of(&self.tally.latency),
            errors: self.errors,
            cut: self.cut,
            wrong_bytes: self.wrong_bytes,
            longest_wait_us: self.longest_wait().as_nanos() as f64 / 1e3,
            first_error: self.first_error.clone(),
            watched_cpu_seconds: watched,
            tls: self.tls.as_ref().map(|tls| TlsReport {
                handshakes: self.tally.handshakes,
                resumed: self.tally.resumed,
                tickets: tls.tickets() - self.tickets_before,
            }),
            load_cpu_seconds: own,
        }
    }

    /// A client's connection is gone and should not be: count it and dial again at the next tick.
    pub(crate) fn client_failed(&mut self, place: usize, why: &str) {
        if self.phase == Phase::Finished {
            return;
        }
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(format!("client {place}: {why}"));
        }
        if self.clients[place].is_established {
            self.cut += 1;
            self.established -= 1;
        } else {
            self.dialling -= 1;
        }
        self.clients[place] = Client::NONE;
        self.again.push(place);
    }

    fn tick(&mut self, ops: &mut Operations<'_>) {
        let now = self.clock.now();
        for place in std::mem::take(&mut self.again) {
            self.dial(ops, place);
        }
        let is_stuck = now.since(self.last_success) > self.options.setup_patience;
        if self.phase == Phase::Connecting && is_stuck {
            let first_error = self.first_error.take();
            return self.finish(Err(LoadError::Setup {
                established: self.established,
                wanted: self.wanted,
                first_error,
            }));
        }
        match self.phase {
            Phase::Connecting => self.output.progress("connecting", self.established, self.wanted),
            Phase::Measuring { since, .. } => {
                let done = now.since(since).as_millis() as usize;
                self.output.progress("measuring", done, self.options.seconds.as_millis() as usize);
            }
            Phase::AwaitingTarget | Phase::Warmup | Phase::Holding | Phase::Finished => {}
        }
        ops.set_timer(now + TICK, TICK_TIMER);
    }

    /// The place of a client's connection, unless the place has moved on to another one.
    fn client_place(&self, connection: ConnectionId, token: Token) -> Option<usize> {
        let place = token.0 as usize;
        (self.clients[place].connection == connection).then_some(place)
    }
}

/// The place of a backend's connection; none for a client's.
fn backend_place(token: Token) -> Option<usize> {
    (token.0 & BACKEND_BIT != 0).then_some((token.0 & !BACKEND_BIT) as usize)
}

impl EventHandler for Load {
    type Mail = Command;

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        match self.listen(ops) {
            Err(error) => self.finish(Err(error)),
            Ok(()) if self.targets.is_empty() => {}
            Ok(()) => self.begin(ops),
        }
    }

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _listener: ListenerId,
        _token: Token,
        connection: ConnectionId,
        _peer: SocketAddress,
    ) {
        let place = self.backends.insert();
        ops.set_token(connection, Token(BACKEND_BIT | place as u32));
        ops.start_receive(connection);
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        if let Some(place) = self.client_place(connection, token) {
            self.client_connected(ops, place);
        }
    }

    fn on_connect_failed(
        &mut self,
        _ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        error: io::Error,
    ) {
        if let Some(place) = self.client_place(connection, token) {
            self.client_failed(place, &format!("connect: {error}"));
        }
    }

    fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &mut [u8],
    ) {
        if let Some(place) = backend_place(token) {
            if self.pacing.is_some() {
                return send(ops, connection, bytes);
            }
            let sunk =
                self.backends.received(ops, connection, place, bytes.len(), &self.options, &self.payload);
            self.tally.bytes += sunk as u64;
        } else if let Some(place) = self.client_place(connection, token) {
            if self.tls.is_some() {
                self.client_heard(ops, place, bytes);
            } else {
                self.client_received(ops, place, bytes);
            }
        }
    }

    fn on_end(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        ops.close(connection);
        if backend_place(token).is_some() {
            return;
        }
        if let Some(place) = self.client_place(connection, token) {
            self.client_failed(place, "closed by the other end");
        }
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        if let Some(place) = backend_place(token) {
            self.backends.writable(ops, connection, place, &self.payload);
        } else if let Some(place) = self.client_place(connection, token) {
            self.client_writable(ops, place);
        }
    }

    fn on_close(
        &mut self,
        _ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        reason: CloseReason,
    ) {
        if let Some(place) = backend_place(token) {
            self.backends.remove(place);
        } else if let Some(place) = self.client_place(connection, token) {
            self.client_failed(place, &reason.to_string());
        }
    }

    fn on_timer(&mut self, ops: &mut Operations<'_>, _timer: TimerId, token: Token) {
        if token == TICK_TIMER {
            return self.tick(ops);
        }
        if token == STREAM_TIMER {
            return self.stream_on(ops);
        }
        if token == TURN_TIMER {
            return self.give_turns(ops);
        }
        match self.phase {
            Phase::Warmup => self.start_window(ops),
            Phase::Measuring { since, watched_nanos, own_nanos } => {
                self.end_window(since, watched_nanos, own_nanos);
            }
            Phase::Holding => self.end_hold(ops),
            Phase::AwaitingTarget | Phase::Connecting | Phase::Finished => {}
        }
    }

    fn on_mail(&mut self, ops: &mut Operations<'_>, mail: Command) {
        match mail {
            Command::Watch(pid) => self.options.watch.push(pid),
            Command::Target(target) if self.phase == Phase::AwaitingTarget => {
                self.targets = vec![target.into()];
                self.begin(ops);
            }
            Command::Next if self.phase == Phase::Holding => self.end_hold(ops),
            Command::Pace(period, churn) if self.phase == Phase::AwaitingTarget => {
                self.pacing = Some(Pacing::new(period, churn));
            }
            Command::Mark => self.mark(),
            Command::Target(_) | Command::Next | Command::Pace(..) => {}
            Command::Finish if self.phase == Phase::Finished => {}
            Command::Finish => self.finish(Err(LoadError::Interrupted)),
        }
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }
}
