//! Active checks of backends, as ordinary connections of an engine on a thread without listeners.
//!
//! [`ProbeHandler`] dials each endpoint at its interval and writes what that means into the endpoint, where every
//! worker reads it. When which check is due and what its result means is decided by [`ActiveCheck`].

mod secured;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use ringway::layer::{Buffers, Layer};
use ringway::{
    CloseReason, ConnectOptions, ConnectionId, EventHandler, ListenerId, Operations, SocketAddress, Time,
    TimerId, Token,
};

use crate::endpoint::{
    AppState, DialFailure, DownReason, Endpoint, EndpointId, Health, Sources, header_for_check,
    socket_options,
};
use crate::health::active::ActiveCheck;
use crate::health::conversation::{Conversation, Step};
use crate::health::outlier;
use crate::metrics::{AppBlock, AppCounter};
use crate::model::OnDown;
use crate::session::Slab;
use crate::snapshot::{Adoption, Snapshot};

/// Checks under way at once; the others wait their turn. Each is a descriptor, and at start all are due together.
const CHECKS_MAX: usize = 256;

/// What the control plane tells the prober.
#[derive(Clone, Debug)]
pub enum ProbeMail {
    /// Check by this snapshot from now on.
    Adopt(Adoption),
    /// The endpoints of an app changed: its state has the new set.
    Endpoints {
        /// Slot of the app.
        app: usize,
    },
    /// End.
    Stop,
}

/// Is told of an endpoint that went down.
pub type OnDownHook = Box<dyn FnMut(&AppState, &Endpoint) + Send>;

/// What a prober is made of.
pub struct ProbeSetup {
    /// Told of each endpoint whose connections are to be closed, because it went down.
    pub on_down: OnDownHook,
    /// What it begins with.
    pub snapshot: Arc<Snapshot>,
    /// TCP_CONGESTION of its sockets.
    pub congestion: Option<String>,
    /// Decides the jitter.
    pub seed: u64,
}

/// Checks the endpoints of all apps.
pub struct ProbeHandler {
    on_down: OnDownHook,
    snapshot: Option<Arc<Snapshot>>,
    /// What it begins with; none once it has.
    first: Option<Arc<Snapshot>>,
    /// By slot.
    apps: Vec<Option<ProbedApp>>,
    congestion: Option<String>,
    targets: Slab<Target>,
    /// Targets that are due and wait for one of [`CHECKS_MAX`], with the number by which each is known.
    due: VecDeque<(u32, u64)>,
    under_way: usize,
    /// What checks within TLS write into.
    buffers: Buffers,
    seed: u64,
    next_number: u64,
    is_stopped: bool,
}

struct ProbedApp {
    state: Arc<AppState>,
    counters: Arc<AppBlock>,
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
    Checking {
        connection: ConnectionId,
        started: Time,
        timer: TimerId,
        conversation: Conversation,
        /// What it is held in, once the connection is open.
        tls: Option<Box<ringway::tls::Conversation>>,
        is_open: bool,
    },
}

/// Why a check failed.
enum CheckFailure {
    Dial(DialFailure),
    /// In words.
    Answer(String),
}

impl CheckFailure {
    fn reason(&self) -> DownReason {
        match self {
            Self::Dial(failure) => DownReason::Dial(*failure),
            Self::Answer(_) => DownReason::Answer,
        }
    }
}

impl ProbeHandler {
    /// A handler that begins to check when its worker starts to turn.
    pub fn new(setup: ProbeSetup) -> Self {
        Self {
            snapshot: None,
            first: Some(setup.snapshot),
            apps: Vec::new(),
            on_down: setup.on_down,
            congestion: setup.congestion,
            targets: Slab::new(),
            due: VecDeque::new(),
            under_way: 0,
            buffers: Buffers::default(),
            seed: setup.seed,
            next_number: 0,
            is_stopped: false,
        }
    }

    /// Endpoints that are checked.
    pub fn target_count(&self) -> usize {
        self.targets.len()
    }

    /// Checks by this snapshot from now on. Apps that are the same in it are not touched.
    fn adopt(&mut self, ops: &mut Operations<'_>, next: &Arc<Snapshot>) {
        let before = self.snapshot.replace(Arc::clone(next));
        for change in next.changes_since(before.as_deref()) {
            match change.after {
                Some(state) => self.put(ops, state),
                None => self.forget(ops, change.slot),
            }
        }
    }

    /// The app in its slot is this one from now on.
    fn put(&mut self, ops: &mut Operations<'_>, state: &Arc<AppState>) {
        let slot = state.slot();
        if self.apps.len() <= slot {
            self.apps.resize_with(slot + 1, || None);
        }
        let model = state.model();
        let old = self.apps[slot].take();
        let is_checked_alike = old.as_ref().is_some_and(|old| old.state.model().health == model.health);
        let (counters, targets) = match old {
            Some(old) => (old.counters, old.targets),
            None => {
                // A pool counts with its app.
                let parent = state.core().parent().and_then(|parent| self.app(parent.slot()));
                (parent.map_or_else(|| state.counters().block(), |app| Arc::clone(&app.counters)), Vec::new())
            }
        };
        self.apps[slot] = Some(ProbedApp {
            sources: Sources::new(&model.source),
            options: ConnectOptions { source: None, socket: socket_options(model, self.congestion.clone()) },
            state: Arc::clone(state),
            counters,
            targets,
        });
        if !is_checked_alike {
            // Other intervals and thresholds are as good as other targets.
            self.forget_targets(ops, slot);
        }
        self.refresh(ops, slot);
    }

    /// The app in this slot is gone.
    fn forget(&mut self, ops: &mut Operations<'_>, slot: usize) {
        self.forget_targets(ops, slot);
        if let Some(place) = self.apps.get_mut(slot) {
            *place = None;
        }
    }

    fn forget_targets(&mut self, ops: &mut Operations<'_>, slot: usize) {
        let Some(app) = self.app_mut(slot) else { return };
        let targets = std::mem::take(&mut app.targets);
        targets.into_iter().for_each(|place| self.remove(ops, place));
    }

    fn app(&self, slot: usize) -> Option<&ProbedApp> {
        self.apps.get(slot)?.as_ref()
    }

    fn app_mut(&mut self, slot: usize) -> Option<&mut ProbedApp> {
        self.apps.get_mut(slot)?.as_mut()
    }

    /// Checks the endpoints that the app has now, and no others of it.
    fn refresh(&mut self, ops: &mut Operations<'_>, slot: usize) {
        let Some(app) = self.app_mut(slot) else { return };
        let set = app.state.endpoints();
        if !app.state.model().health.check.is_active() {
            // Nobody would ever take back one that is out.
            for endpoint in set.endpoints() {
                let has_time = endpoint.is_outlier() && ops.now() < endpoint.last_ejection().until;
                if !has_time {
                    endpoint.set_health(Health::Up, None, ops.now());
                }
            }
            return;
        }
        let before = std::mem::take(&mut app.targets);
        let mut known: HashMap<EndpointId, u32> = HashMap::with_capacity(before.len());
        for place in before {
            if let Some(target) = self.targets.get(place) {
                known.insert(target.endpoint.id(), place);
            }
        }
        let mut now = Vec::with_capacity(set.endpoints().len());
        for endpoint in set.endpoints() {
            match known.remove(&endpoint.id()) {
                Some(place) => now.push(place),
                None => now.extend(self.add(ops, slot, endpoint)),
            }
        }
        let mut gone: Vec<u32> = known.into_values().collect();
        // The order of a hash map is chance, and a simulation knows no chance but its own.
        gone.sort_unstable();
        gone.into_iter().for_each(|place| self.remove(ops, place));
        if let Some(app) = self.app_mut(slot) {
            app.targets = now;
        }
        self.start_due(ops);
    }

    fn add(&mut self, ops: &mut Operations<'_>, app: usize, endpoint: &Arc<Endpoint>) -> Option<u32> {
        let health = &self.app(app)?.state.model().health;
        let number = self.next_number;
        // Neighbouring seeds give unrelated sequences: the generator mixes them.
        let mut check = ActiveCheck::new(health, self.seed.wrapping_add(number));
        self.next_number += 1;
        let first = check.first(ops.now());
        let place = self.targets.insert(Target {
            endpoint: Arc::clone(endpoint),
            app,
            number,
            check,
            state: State::Due,
        });
        self.wait_until(ops, place, first);
        Some(place)
    }

    fn remove(&mut self, ops: &mut Operations<'_>, place: u32) {
        let Some(target) = self.targets.remove(place) else { return };
        match target.state {
            State::Sleeping(timer) => ops.cancel_timer(timer),
            State::Due => {}
            State::Checking { connection, timer, .. } => {
                ops.cancel_timer(timer);
                ops.close(connection);
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
            let Some(app) = self.apps.get_mut(target.app).and_then(Option::as_mut) else { continue };
            let address = target.endpoint.address().to_string();
            let Some(conversation) = Conversation::new(&app.state.model().health.check, &address) else {
                continue;
            };
            app.options.source = app.sources.next(&target.endpoint);
            let connection = ops.connect(target.endpoint.address(), &app.options, Token(place));
            let started = ops.now();
            let timer = ops.set_timer(started + app.state.model().health.timeout, Token(place));
            target.state =
                State::Checking { connection, started, timer, conversation, tls: None, is_open: false };
            self.under_way += 1;
        }
    }

    /// A backend that expects a PROXY header gets one of a check too, or its log would fill with complaints.
    fn send_header(&self, ops: &mut Operations<'_>, place: u32, dial: ConnectionId) {
        let Some(target) = self.targets.get(place) else { return };
        let Some(app) = &self.apps[target.app] else { return };
        let form = app.state.model().proxy_protocol.send;
        let header = header_for_check(form, ops, dial, target.endpoint.address());
        if !header.is_empty() {
            // If the backend is gone already, there is nobody to be told.
            let _ = ops.send(dial, &header);
        }
    }

    /// Tells the conversation of the check on `connection` what happened, and does what it answers.
    fn converse(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        connection: ConnectionId,
        tell: impl FnOnce(&mut Conversation) -> Step,
    ) {
        let Some(target) = self.targets.get_mut(place) else { return };
        let State::Checking { connection: own, conversation, tls, .. } = &mut target.state else { return };
        if *own != connection {
            return;
        }
        let step = tell(conversation);
        if let Step::Send(bytes) | Step::Passed { goodbye: bytes } = &step {
            let wire = &mut self.buffers.wire;
            wire.clear();
            match tls {
                None => wire.extend(bytes),
                Some(tls) => {
                    // One in which nothing can be said any more fails by itself, or by the timer.
                    let _ = tls.send(bytes, wire);
                    if let Step::Passed { .. } = step {
                        tls.finish(wire);
                    }
                }
            }
            secured::say(ops, connection, wire.as_slice());
        }
        match step {
            Step::Wait | Step::Send(_) => {}
            Step::Passed { .. } => self.finish(ops, place, connection, Ok(())),
            Step::Failed(reason) => {
                self.finish(ops, place, connection, Err(CheckFailure::Answer(reason)));
            }
        }
    }

    /// The check on `connection` has a result.
    fn finish(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        connection: ConnectionId,
        result: Result<(), CheckFailure>,
    ) {
        let Some(target) = self.targets.get_mut(place) else { return };
        let State::Checking { connection: own, started, timer, .. } = target.state else { return };
        if own != connection {
            return;
        }
        if !timer.is_none() {
            ops.cancel_timer(timer);
        }
        ops.close(connection);
        self.under_way -= 1;
        let now = ops.now();
        let next = target.check.next(started, now);
        self.take_result(place, result, now);
        self.wait_until(ops, place, next);
        self.start_due(ops);
    }

    fn take_result(&mut self, place: u32, result: Result<(), CheckFailure>, now: Time) {
        let Some(target) = self.targets.get_mut(place) else { return };
        let Some(probed) = self.apps.get(target.app).and_then(Option::as_ref) else { return };
        let app = probed.state.name();
        let (backend, address) = (target.endpoint.name(), target.endpoint.address());
        if let Err(CheckFailure::Dial(failure)) = &result
            && !failure.is_the_endpoints()
        {
            let reason = failure.as_str();
            tracing::debug!(%app, %backend, %address, reason, "check could not be made");
            return;
        }
        let counter = if result.is_ok() { AppCounter::ChecksPassed } else { AppCounter::ChecksFailed };
        probed.counters.add(counter, 1);
        let reason = result.as_ref().err().map(CheckFailure::reason);
        if let Err(CheckFailure::Answer(what)) = &result {
            target.endpoint.note_bad_answer(what);
        }
        let Some(health) = target.check.handle_result(result.is_ok(), target.endpoint.health()) else {
            if let Some(reason) = reason {
                target.endpoint.restate_reason(reason);
            }
            return;
        };
        let rules = probed.state.model().health.ejection.as_ref();
        let (health, reason) = match outlier::is_held(&target.endpoint, rules, now) {
            // Its connections failed all the same: checks alone do not take it back before its time.
            true if health == Health::Up => (Health::Ejected, Some(DownReason::Failures)),
            true | false => (health, reason),
        };
        if target.endpoint.set_health(health, reason, now).is_none() {
            return;
        }
        match health {
            Health::Up => tracing::info!(%app, %backend, %address, "backend is up"),
            Health::Ejected => {
                tracing::info!(%app, %backend, %address, "backend is up, and its time is not over")
            }
            Health::Down => {
                let reason = target.endpoint.reason().unwrap_or_default();
                tracing::warn!(%app, %backend, %address, reason, "backend is down");
                if probed.state.model().health.on_down == OnDown::Close {
                    (self.on_down)(&probed.state, &target.endpoint);
                }
            }
        }
    }
}

impl EventHandler for ProbeHandler {
    type Mail = ProbeMail;

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        if let Some(first) = self.first.take() {
            self.adopt(ops, &first);
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
        self.send_header(ops, token.0, connection);
        let Some(target) = self.targets.get_mut(token.0) else { return };
        if let State::Checking { is_open, conversation, tls, .. } = &mut target.state {
            *is_open = true;
            let Some(app) = self.apps.get(target.app).and_then(Option::as_ref) else { return };
            match secured::begin(app.state.model(), &target.endpoint, &mut self.buffers) {
                None => {}
                Some(Ok(conversation)) => {
                    *tls = Some(Box::new(conversation));
                    ops.start_receive(connection);
                    return secured::say(ops, connection, self.buffers.answer.as_slice());
                }
                Some(Err(failure)) => {
                    let failure = CheckFailure::Answer(failure.to_string());
                    return self.finish(ops, token.0, connection, Err(failure));
                }
            }
            if !matches!(conversation, Conversation::Connect) {
                ops.start_receive(connection);
            }
        }
        self.converse(ops, token.0, connection, Conversation::handle_connected);
    }

    fn on_connect_failed(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        error: io::Error,
    ) {
        let failure = CheckFailure::Dial(DialFailure::from_error(&error));
        self.finish(ops, token.0, connection, Err(failure));
    }

    fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &mut [u8],
    ) {
        match self.tls_mut(token.0, connection) {
            Some(_) => self.read_secured(ops, token.0, connection, bytes),
            None => self.converse(ops, token.0, connection, |conversation| conversation.handle_bytes(bytes)),
        }
    }

    fn on_end(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        if self.tls_mut(token.0, connection).is_some_and(|(tls, _)| tls.is_handshaking()) {
            let failure = CheckFailure::Answer("the connection ended within the handshake of TLS".to_owned());
            return self.finish(ops, token.0, connection, Err(failure));
        }
        self.converse(ops, token.0, connection, Conversation::handle_end);
    }

    fn on_close(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token, _: CloseReason) {
        // Of a check that is under way still: it broke.
        self.finish(ops, token.0, connection, Err(CheckFailure::Dial(DialFailure::Reset)));
    }

    fn on_timer(&mut self, ops: &mut Operations<'_>, timer: TimerId, token: Token) {
        let Some(target) = self.targets.get_mut(token.0) else { return };
        match target.state {
            State::Sleeping(own) if own == timer => {
                target.state = State::Due;
                self.due.push_back((token.0, target.number));
                self.start_due(ops);
            }
            State::Checking {
                connection, timer: ref mut own, ref conversation, ref tls, is_open, ..
            } if *own == timer => {
                // It has fired: its number may be another's by now.
                *own = TimerId::NONE;
                let is_handshaking = tls.as_ref().is_some_and(|tls| tls.is_handshaking());
                let failure = match is_open {
                    true if is_handshaking => {
                        CheckFailure::Answer("no end of the handshake of TLS in time".to_owned())
                    }
                    true => CheckFailure::Answer(conversation.timed_out()),
                    false => CheckFailure::Dial(DialFailure::TimedOut),
                };
                self.finish(ops, token.0, connection, Err(failure));
            }
            State::Sleeping(_) | State::Due | State::Checking { .. } => {}
        }
    }

    fn on_mail(&mut self, ops: &mut Operations<'_>, mail: ProbeMail) {
        match mail {
            ProbeMail::Adopt(adoption) => {
                self.adopt(ops, adoption.snapshot());
                adoption.acknowledge();
            }
            ProbeMail::Endpoints { app } => self.refresh(ops, app),
            ProbeMail::Stop => self.is_stopped = true,
        }
    }

    fn is_finished(&self) -> bool {
        self.is_stopped
    }
}
