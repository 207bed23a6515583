//! Active checks of backends, as ordinary connections of an engine on a thread without listeners.
//!
//! [`ProbeHandler`] dials each endpoint at its interval and writes what that means into the endpoint, where every
//! worker reads it. When which check is due and what its result means is decided by [`ActiveCheck`].

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use ringway::{
    CloseReason, ConnectOptions, ConnectionId, EventHandler, ListenerId, Operations, SocketAddress, Time,
    TimerId, Token,
};

use crate::endpoint::{AppState, DialFailure, Endpoint, EndpointSet, Health, Sources, socket_options};
use crate::health::active::ActiveCheck;
use crate::metrics::{AppCounter, WorkerMetrics};
use crate::model::Check;
use crate::session::Slab;

/// Checks under way at once; the others wait their turn. Each is a descriptor, and at start all are due together.
const CHECKS_MAX: usize = 256;

/// What the control plane tells the prober.
#[derive(Clone, Debug)]
pub enum ProbeMail {
    /// The endpoints of an app changed.
    Endpoints {
        /// Place of the app in the configuration.
        app: usize,
        /// Its endpoints from now on.
        set: Arc<EndpointSet>,
    },
    /// End.
    Stop,
}

/// What a prober is made of.
pub struct ProbeSetup {
    /// All apps, by their places.
    pub apps: Vec<Arc<AppState>>,
    /// Its counters.
    pub metrics: Arc<WorkerMetrics>,
    /// TCP_CONGESTION of its sockets.
    pub congestion: Option<String>,
    /// Decides the jitter.
    pub seed: u64,
}

/// Checks the endpoints of all apps.
pub struct ProbeHandler {
    apps: Vec<ProbedApp>,
    metrics: Arc<WorkerMetrics>,
    targets: Slab<Target>,
    /// Targets that are due and wait for one of [`CHECKS_MAX`], with the number by which each is known.
    due: VecDeque<(u32, u64)>,
    under_way: usize,
    seed: u64,
    next_number: u64,
    is_stopped: bool,
}

struct ProbedApp {
    state: Arc<AppState>,
    sources: Sources,
    options: ConnectOptions,
    /// Places of the targets of its set.
    targets: Vec<u32>,
}

/// An endpoint that is checked.
struct Target {
    endpoint: Arc<Endpoint>,
    app: usize,
    /// A place is used again, a number is not.
    number: u64,
    check: ActiveCheck,
    state: State,
}

enum State {
    Sleeping(TimerId),
    Due,
    Dialling { dial: ConnectionId, started: Time, timer: TimerId },
}

impl ProbeHandler {
    /// A handler that begins to check when its worker starts to turn.
    pub fn new(setup: ProbeSetup) -> Self {
        let app = |state: &Arc<AppState>| ProbedApp {
            sources: Sources::new(&state.model().source),
            options: ConnectOptions {
                source: None,
                socket: socket_options(state.model(), setup.congestion.clone()),
            },
            state: Arc::clone(state),
            targets: Vec::new(),
        };
        Self {
            apps: setup.apps.iter().map(app).collect(),
            metrics: setup.metrics,
            targets: Slab::new(),
            due: VecDeque::new(),
            under_way: 0,
            seed: setup.seed,
            next_number: 0,
            is_stopped: false,
        }
    }

    /// Endpoints that are checked.
    pub fn target_count(&self) -> usize {
        self.targets.len()
    }

    /// Checks the endpoints of `set` from now on, and no others of this app.
    fn adopt(&mut self, ops: &mut Operations<'_>, app: usize, set: &EndpointSet) {
        let Some(probed) = self.apps.get_mut(app) else { return };
        match probed.state.model().health.check {
            Check::None => return,
            Check::Tcp => {}
        }
        let mut before = std::mem::take(&mut probed.targets);
        let mut now = Vec::with_capacity(set.endpoints().len());
        for endpoint in set.endpoints() {
            let same = |place: &u32| {
                self.targets.get(*place).is_some_and(|target| Arc::ptr_eq(&target.endpoint, endpoint))
            };
            match before.iter().position(same) {
                Some(index) => now.push(before.swap_remove(index)),
                None => now.push(self.add(ops, app, endpoint)),
            }
        }
        self.apps[app].targets = now;
        before.into_iter().for_each(|place| self.remove(ops, place));
        self.start_due(ops);
    }

    fn add(&mut self, ops: &mut Operations<'_>, app: usize, endpoint: &Arc<Endpoint>) -> u32 {
        let number = self.next_number;
        self.next_number += 1;
        // Neighbouring seeds give unrelated sequences: the generator mixes them.
        let mut check =
            ActiveCheck::new(&self.apps[app].state.model().health, self.seed.wrapping_add(number));
        let first = check.first(ops.now());
        let place = self.targets.insert(Target {
            endpoint: Arc::clone(endpoint),
            app,
            number,
            check,
            state: State::Due,
        });
        self.wait_until(ops, place, first);
        place
    }

    fn remove(&mut self, ops: &mut Operations<'_>, place: u32) {
        let Some(target) = self.targets.remove(place) else { return };
        match target.state {
            State::Sleeping(timer) => ops.cancel_timer(timer),
            State::Due => {}
            State::Dialling { dial, timer, .. } => {
                ops.cancel_timer(timer);
                ops.close(dial);
                self.under_way -= 1;
            }
        }
    }

    fn wait_until(&mut self, ops: &mut Operations<'_>, place: u32, due: Time) {
        if let Some(target) = self.targets.get_mut(place) {
            target.state = State::Sleeping(ops.set_timer(due, Token(place)));
        }
    }

    /// Starts what is due, as far as the bound allows.
    fn start_due(&mut self, ops: &mut Operations<'_>) {
        while self.under_way < CHECKS_MAX
            && let Some((place, number)) = self.due.pop_front()
        {
            let Some(target) = self.targets.get_mut(place).filter(|target| target.number == number) else {
                continue;
            };
            let app = &mut self.apps[target.app];
            app.options.source = app.sources.next(&target.endpoint);
            let dial = ops.connect(target.endpoint.address(), &app.options, Token(place));
            let started = ops.now();
            let timer = ops.set_timer(started + app.state.model().health.timeout, Token(place));
            target.state = State::Dialling { dial, started, timer };
            self.under_way += 1;
        }
    }

    /// The check that dials by `dial` has a result.
    fn finish(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        dial: ConnectionId,
        result: Result<(), DialFailure>,
    ) {
        let Some(target) = self.targets.get_mut(place) else { return };
        let State::Dialling { dial: own, started, timer } = target.state else { return };
        if own != dial {
            return;
        }
        if !timer.is_none() {
            ops.cancel_timer(timer);
        }
        ops.close(dial);
        self.under_way -= 1;
        let now = ops.now();
        let next = target.check.next(started, now);
        self.take_result(place, result, now);
        self.wait_until(ops, place, next);
        self.start_due(ops);
    }

    fn take_result(&mut self, place: u32, result: Result<(), DialFailure>, now: Time) {
        let Some(target) = self.targets.get_mut(place) else { return };
        let app = self.apps[target.app].state.name();
        let (backend, address) = (target.endpoint.name(), target.endpoint.address());
        if let Err(failure) = result
            && !failure.is_the_endpoints()
        {
            let reason = failure.as_str();
            tracing::debug!(%app, %backend, %address, reason, "check could not be made");
            return;
        }
        let counter = if result.is_ok() { AppCounter::ChecksPassed } else { AppCounter::ChecksFailed };
        self.metrics.add(counter, target.app, 1);
        let Some(health) = target.check.handle_result(result, target.endpoint.health()) else { return };
        if target.endpoint.set_health(health, result.err(), now).is_none() {
            return;
        }
        match (health, result) {
            (Health::Up, _) => tracing::info!(%app, %backend, %address, "backend is up"),
            (Health::Down | Health::Ejected, result) => {
                let reason = result.err().map_or("", DialFailure::as_str);
                tracing::warn!(%app, %backend, %address, reason, "backend is down");
            }
        }
    }
}

impl EventHandler for ProbeHandler {
    type Mail = ProbeMail;

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        for app in 0..self.apps.len() {
            let set = self.apps[app].state.endpoints();
            self.adopt(ops, app, &set);
        }
    }

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _: ListenerId,
        _: Token,
        connection: ConnectionId,
        _: SocketAddress,
    ) {
        // There are no listeners.
        ops.close(connection);
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        self.finish(ops, token.0, connection, Ok(()));
    }

    fn on_connect_failed(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        error: io::Error,
    ) {
        self.finish(ops, token.0, connection, Err(DialFailure::from_error(&error)));
    }

    fn on_read(&mut self, _: &mut Operations<'_>, _: ConnectionId, _: Token, _: &mut [u8]) {
        // What a backend says is not listened to: that it answers the dial is enough.
    }

    fn on_close(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token, _: CloseReason) {
        // Of a dial that is under way still: it broke before it was told of.
        self.finish(ops, token.0, connection, Err(DialFailure::Reset));
    }

    fn on_timer(&mut self, ops: &mut Operations<'_>, timer: TimerId, token: Token) {
        let Some(target) = self.targets.get_mut(token.0) else { return };
        match target.state {
            State::Sleeping(own) if own == timer => {
                target.state = State::Due;
                self.due.push_back((token.0, target.number));
                self.start_due(ops);
            }
            State::Dialling { dial, timer: ref mut own, .. } if *own == timer => {
                // It has fired: its number may be another's by now.
                *own = TimerId::NONE;
                self.finish(ops, token.0, dial, Err(DialFailure::TimedOut));
            }
            State::Sleeping(_) | State::Due | State::Dialling { .. } => {}
        }
    }

    fn on_mail(&mut self, ops: &mut Operations<'_>, mail: ProbeMail) {
        match mail {
            ProbeMail::Endpoints { app, set } => self.adopt(ops, app, &set),
            ProbeMail::Stop => self.is_stopped = true,
        }
    }

    fn is_finished(&self) -> bool {
        self.is_stopped
    }
}
