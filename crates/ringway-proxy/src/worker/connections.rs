//! The sessions of one worker, and the doing of what they decide.

mod ahead;
mod entry_limits;
mod handshaking;
mod headers;
mod inspect;
pub(super) mod moving;
mod outliers;
mod pacing;
mod queue;
mod routing;
mod securing;
mod transforming;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ringway::layer::Buffers;
use ringway::{ConnectionId, Mailer, Operations, Side, SocketAddress, SocketOptions, Time, TimerId};
use ringway_proto::proxy_protocol::HEADER_BYTES_MAX;
use ringway_proto::sniff::SNIFF_BYTES_MAX;

use self::ahead::Ahead;
use self::handshaking::Handshakes;
use self::moving::Moves;
use self::routing::FirstBytes;
use super::app_table::AppTable;
use super::endpoint_table::{EndpointTable, NO_ENDPOINT};
use super::mail::MailBell;
use super::preface::{Preface, Prefaces};
use super::routes::Routes;
use super::token::Owner;
use super::{Loader, Recorder, WorkerMail, WorkerSetup, WorkerSummary};
use crate::admission::{Bell, Seat, SourcePermit, WaitingLine};
use crate::balance::{Random, Request};
use crate::control::access_log::AccessRecord;
use crate::endpoint::{AppState, DialFailure, EndpointId, FrontendState, Outcome};
use crate::health::passive;
use crate::metrics::{AppCounter, WorkerMetrics};
use crate::session::tcp::{Action, Actions, Event, Identity, RelayOutcome, Session};
use crate::session::{CloseReason, Ending, PeerTable, Phase, Slab};
use outliers::Ejections;
pub(super) use pacing::{AppGate, OwnPace};
use transforming::Transformed;

/// How often a worker looks whether another one has made room below the limit.
const LIMIT_PAUSE: Duration = Duration::from_millis(10);

/// All connections of clients of one worker, with their backends.
pub(super) struct Connections {
    worker: u32,
    workers: u32,
    /// Chosen at random: makes names of connections unique among processes.
    seed: u64,
    apps: AppTable,
    routes: Routes,
    entries: Slab<Entry>,
    peers: PeerTable,
    endpoints: EndpointTable,
    /// Endpoints that failed, of the sessions for which another one is being dialled.
    tried: HashMap<u32, Vec<EndpointId>>,
    prefaces: Prefaces,
    first_bytes: FirstBytes,
    /// What counts a connection at its source, where that is limited, by the place of its session.
    permits: HashMap<u32, SourcePermit>,
    /// Conversations in TLS of those whose relay has not begun.
    handshakes: Handshakes,
    /// What all relays and handshakes of this worker write into.
    buffers: Buffers,
    /// Of the sessions whose bytes pass through here, by their places.
    transformed: HashMap<u32, Transformed>,
    /// Of the sessions that wait for a backend with room, by their places.
    seats: HashMap<u32, Seat>,
    bell: Arc<dyn Bell>,
    /// To this worker.
    mailer: Mailer<WorkerMail>,
    loader: Loader,
    /// Place and number of sessions that wait to be admitted.
    line: WaitingLine<(u32, u32)>,
    limit_timer: TimerId,
    ejections: Ejections,
    metrics: Arc<WorkerMetrics>,
    recorder: Box<dyn Recorder>,
    next_number: u32,
    /// Numbers in the process of those that came from elsewhere, by their number here.
    numbers: HashMap<u32, u64>,
    moves: Moves,
    ahead: Ahead,
    /// Sessions that wait for descriptors: nobody is accepted meanwhile.
    starved: usize,
    /// Whoever comes is closed at once.
    is_closing: bool,
    summary: WorkerSummary,
}

/// A session and what it owns in the engine.
#[derive(Debug)]
struct Entry {
    session: Session,
    client: ConnectionId,
    backend: ConnectionId,
    timer: TimerId,
    /// Place of the endpoint that was chosen last; held until another is chosen or the session ends.
    endpoint: u32,
}

// With the engine's two entries and a timer, 80 bytes together, this is what an idle relayed connection costs.
const _: () = assert!(Slab::<Entry>::SLOT_SIZE <= 72);

impl Connections {
    pub(super) fn new(setup: WorkerSetup, mailer: Mailer<WorkerMail>) -> Self {
        Self {
            worker: setup.worker,
            workers: setup.workers.max(1),
            seed: setup.seed,
            apps: AppTable::new(setup.congestion, Random::new(setup.seed)),
            routes: Routes::default(),
            entries: Slab::new(),
            peers: PeerTable::default(),
            endpoints: EndpointTable::default(),
            tried: HashMap::new(),
            prefaces: Prefaces::default(),
            first_bytes: FirstBytes::default(),
            permits: HashMap::new(),
            handshakes: Handshakes::default(),
            buffers: Buffers::default(),
            transformed: HashMap::new(),
            seats: HashMap::new(),
            bell: Arc::new(MailBell(mailer.clone())),
            mailer,
            loader: setup.loader,
            line: WaitingLine::new(setup.admission),
            limit_timer: TimerId::NONE,
            ejections: Ejections::default(),
            metrics: setup.metrics,
            recorder: setup.recorder,
            next_number: 0,
            numbers: HashMap::new(),
            moves: Moves::default(),
            ahead: Ahead::default(),
            starved: 0,
            is_closing: false,
            summary: WorkerSummary::default(),
        }
    }

    /// Options of the sockets of the app in a slot.
    pub(super) fn socket_options(&self, app: usize) -> &SocketOptions {
        self.apps[app].socket_options()
    }

    /// The app or pool in its slot is this one from now on.
    pub(super) fn put_app(&mut self, ops: &mut Operations<'_>, state: &Arc<AppState>) {
        let slot = state.slot();
        let was_paced = self.apps.get_mut(slot).map(|app| app.is_paced());
        self.apps.put(state, &mut self.endpoints);
        if was_paced.is_some_and(|was_paced| was_paced != self.apps[slot].is_paced()) {
            self.change_relays(ops, slot);
        }
    }

    /// The app in this slot is gone from the configuration; what is open of it goes on.
    pub(super) fn retire_app(&mut self, slot: usize) {
        self.apps.retire(slot, &mut self.endpoints);
    }

    /// Connections of a frontend may come; gives the number by which they name it.
    pub(super) fn open_route(&mut self, app: usize, frontend: &Arc<FrontendState>) -> u32 {
        self.apps[app].routes += 1;
        self.routes.open(app, Arc::clone(frontend))
    }

    /// No connection will come from a frontend any more, or one that did has ended.
    pub(super) fn let_go_of_route(&mut self, place: u32) {
        self.routes.let_go(place, &mut |slot| self.apps.let_go(slot, &mut self.endpoints));
    }

    pub(super) fn worker(&self) -> u32 {
        self.worker
    }

    /// The smallest number that no connection has had.
    pub(super) fn next_number(&self) -> u64 {
        u64::from(self.next_number) * u64::from(self.workers)
    }

    /// Numbers connections from here on, or later if some had such numbers already.
    pub(super) fn continue_numbers(&mut self, next: u64) {
        let next = u32::try_from(next.div_ceil(u64::from(self.workers))).unwrap_or(0);
        self.next_number = self.next_number.max(next);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn summary(&self) -> WorkerSummary {
        self.summary
    }

    /// The endpoints of an app may have changed.
    pub(super) fn refresh(&mut self, app: usize) {
        if let Some(app) = self.apps.get_mut(app) {
            app.refresh(&mut self.endpoints);
        }
    }

    /// Takes a client in, and serves it if the limit allows.
    pub(super) fn accept(
        &mut self,
        ops: &mut Operations<'_>,
        frontend: u32,
        client: ConnectionId,
        peer: SocketAddress,
    ) {
        self.routes.hold(frontend);
        let app = &self.apps[self.routes.app_of(frontend)];
        app.counters.add(AppCounter::ConnectionsAccepted, 1);
        app.state.active().acquire();
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        let identity = Identity { peer: self.peers.store(peer), frontend, number };
        let place = self.entries.insert(Entry {
            session: Session::new(identity, ops.now()),
            client,
            backend: ConnectionId::NONE,
            timer: TimerId::NONE,
            endpoint: NO_ENDPOINT,
        });
        self.note_count();
        ops.set_token(client, Owner::Session(place).token());
        // Nobody overtakes those that wait.
        if !self.is_closing && self.line.first().is_none() && self.line.try_admit() {
            return self.handle(ops, place, Event::Admitted);
        }
        self.line.push((place, number));
        let event = if self.is_closing { Event::Close(Ending::Shutdown) } else { Event::MustWait };
        self.handle(ops, place, event);
    }

    /// Serves those that wait, as far as the limit allows.
    pub(super) fn admit_waiting(&mut self, ops: &mut Operations<'_>) {
        while let Some((place, number)) = self.line.first() {
            let waits = |entry: &Entry| {
                entry.session.is_waiting()
                    && !entry.session.is_frozen()
                    && entry.session.identity().number == number
            };
            let is_there = self.entries.get(place).is_some_and(waits);
            if is_there && !self.line.try_admit() {
                return;
            }
            self.line.pop();
            if is_there {
                self.line.forget();
                self.handle(ops, place, Event::Admitted);
            }
        }
    }

    /// Whether some wait for descriptors or memory of this process.
    pub(super) fn are_starved(&self) -> bool {
        self.starved > 0
    }

    /// Whether the limit is reached: the next client would have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.line.must_wait()
    }

    /// Looks again soon: another worker's connection may end.
    pub(super) fn watch_limit(&mut self, ops: &mut Operations<'_>) {
        if self.limit_timer.is_none() {
            self.limit_timer = ops.set_timer(ops.now() + LIMIT_PAUSE, Owner::Admission.token());
        }
    }

    pub(super) fn handle_limit_timer(&mut self, timer: TimerId) {
        if self.limit_timer == timer {
            self.limit_timer = TimerId::NONE;
            self.line.tick();
        }
    }

    /// Which side of the session at `place` a connection is: A the client, B the backend.
    pub(super) fn side(&self, place: u32, connection: ConnectionId) -> Option<Side> {
        let entry = self.entries.get(place)?;
        if entry.client == connection {
            Some(Side::A)
        } else if entry.backend == connection {
            Some(Side::B)
        } else {
            None
        }
    }

    /// The timer of a session fired.
    pub(super) fn handle_timer(&mut self, ops: &mut Operations<'_>, place: u32, timer: TimerId) {
        let Some(entry) = self.entries.get_mut(place).filter(|entry| entry.timer == timer) else {
            return self.handle_transformed_timer(ops, place, timer);
        };
        entry.timer = TimerId::NONE;
        let client = entry.client;
        let progress = self.relay_progress(ops, place, client);
        self.handle(ops, place, Event::TimerFired(progress));
    }

    /// The relay of a session ended.
    pub(super) fn handle_end(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        outcome: RelayOutcome,
        bytes: [u64; 2],
    ) {
        self.drive(ops, place, Event::RelayEnded(outcome), bytes);
    }

    /// Closes everything, and whatever is accepted from now on.
    pub(super) fn close_all(&mut self, ops: &mut Operations<'_>) {
        self.is_closing = true;
        for place in 0..self.entries.places() {
            self.handle(ops, place, Event::Close(Ending::Shutdown));
        }
    }

    /// Tells the session at `place` what happened, and does what it answers.
    pub(super) fn handle(&mut self, ops: &mut Operations<'_>, place: u32, event: Event) {
        self.drive(ops, place, event, [0, 0]);
    }

    /// A choice is answered at once: by another event, as long as endpoints and attempts last.
    fn drive(&mut self, ops: &mut Operations<'_>, place: u32, event: Event, mut bytes: [u64; 2]) {
        if let Event::Close(ending) = event
            && (self.close_when_out(place, ending) || self.close_when_decided(place, ending))
        {
            return;
        }
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let Some(entry) = self.entries.get_mut(place) else { return };
            let frontend = entry.session.identity().frontend;
            let (app, pool) = (self.routes.app_of(frontend), self.routes.pool_of(frontend));
            let was_admitted = !entry.session.is_waiting();
            self.starved -= usize::from(entry.session.is_starved());
            let had_entered = entry.session.has_entered();
            let actions = entry.session.handle(event, &self.apps[pool].limits, ops.now());
            if entry.session.has_entered() && !had_entered && event != Event::Entered {
                // Nothing was to be checked; it counts all the same, for a limit may be set while it is open.
                self.apps[app].state.counts().open().acquire();
            }
            self.starved += usize::from(entry.session.is_starved());
            next = self.act(ops, place, (app, pool), &actions, was_admitted, &mut bytes);
        }
    }

    /// Does what a session decided; gives the answer if it asked for one.
    fn act(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        (app, pool): (usize, usize),
        actions: &Actions,
        was_admitted: bool,
        bytes: &mut [u64; 2],
    ) -> Option<Event> {
        let mut next = None;
        for action in actions.as_slice() {
            match *action {
                Action::Choose => next = Some(self.choose(place, pool, ops.now())),
                Action::Enter => next = Some(self.enter(place, app, ops.now())),
                Action::JoinQueue => next = Some(self.join_queue(place, pool, ops.now())),
                Action::StayQueued => self.stay_queued(place, pool, ops.now()),
                Action::Inspect => next = Some(self.look_for_header(place, app)),
                Action::EndPreface => next = Some(self.end_preface(ops, place, app)),
                Action::CutRelay if self.is_transformed(place) => {
                    (next, *bytes) = self.cut_transformed(ops, place);
                }
                Action::Route => next = Some(self.route(ops, place, app)),
                Action::SecureBackend => next = self.secure_backend(ops, place, pool),
                Action::EndSilence => next = Some(self.end_silence(ops, place)),
                Action::End(reason) => self.end(ops, place, (app, pool), reason, was_admitted, *bytes),
                action => self.perform(ops, place, pool, action),
            }
        }
        next
    }

    fn choose(&mut self, place: u32, app: usize, now: Time) -> Event {
        let Some(entry) = self.entries.get_mut(place) else { return Event::NoneAvailable };
        if entry.session.is_newcomer()
            && let Some(answer) = self.apps[app].answer_of_the_line(now)
        {
            return answer;
        }
        let source = self.peers.address(entry.session.identity().peer).inet().map(|address| address.ip());
        let tried = self.tried.get(&place).map_or(&[][..], Vec::as_slice);
        let Some(chosen) = self.apps[app].choose(&Request { source, tried, now }) else {
            return match self.apps[app].only_lacks_room(tried) {
                true => Event::AllFull,
                false => Event::NoneAvailable,
            };
        };
        if self.apps[app].is_panicking() {
            self.apps[app].counters.add(AppCounter::PanicChoices, 1);
        }
        self.endpoints.hold(chosen);
        self.endpoints.let_go(std::mem::replace(&mut entry.endpoint, chosen));
        if let Some(seat) = self.seats.remove(&place) {
            seat.leave_for_place(self.apps[app].has_room(now));
        }
        let endpoint = self.endpoints.get(chosen).expect("it is held");
        Event::Chosen { sources: self.apps[app].source_count(endpoint) }
    }

    fn perform(&mut self, ops: &mut Operations<'_>, place: u32, app: usize, action: Action) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        let endpoint = self.endpoints.get(entry.endpoint);
        match action {
            Action::WatchClient => ops.watch(entry.client),
            Action::Dial => {
                let endpoint = endpoint.expect("what is dialled was chosen, and is held");
                self.apps[app].counters.add(AppCounter::ConnectAttempts, 1);
                if self.tried.contains_key(&place) {
                    self.apps[app].counters.add(AppCounter::ConnectRetries, 1);
                }
                let options = self.apps[app].connect_options(endpoint);
                entry.backend = ops.connect(endpoint.address(), options, Owner::Session(place).token());
            }
            Action::NoteFailure(failure) => self.note_failure(ops, place, app, failure),
            Action::CloseBackend => {
                ops.close(std::mem::replace(&mut entry.backend, ConnectionId::NONE));
                self.handshakes.forget_backend(place);
            }
            Action::Release => endpoint.expect("what is released was chosen, and is held").release(),
            Action::StartPreface => {
                self.prefaces.set(place, Preface::Awaited { has_bytes: false });
                ops.start_peek(entry.client, HEADER_BYTES_MAX);
            }
            Action::StartSniff => ops.start_peek(entry.client, SNIFF_BYTES_MAX),
            Action::StartRelay => {
                let endpoint = endpoint.expect("what is connected was chosen, and is held");
                endpoint.count_connected();
                if let Some(rules) = &self.apps[app].ejection {
                    endpoint.count_outcome(Outcome::Opened, rules.window, ops.now());
                }
                let (client, backend) = (entry.client, entry.backend);
                // Before TLS with the backend it was sent already.
                if !self.handshakes.has_backend(place) {
                    self.send_header(ops, place, app);
                }
                self.join(ops, place, app, client, backend);
                self.tried.remove(&place);
            }
            Action::SetTimer(due) => {
                if !entry.timer.is_none() {
                    ops.cancel_timer(entry.timer);
                }
                entry.timer = ops.set_timer(due, Owner::Session(place).token());
            }
            Action::CutRelay => ops.cut_relay(entry.client),
            Action::CloseClient => ops.close(entry.client),
            Action::Choose
            | Action::JoinQueue
            | Action::StayQueued
            | Action::Inspect
            | Action::Enter
            | Action::EndPreface
            | Action::Route
            | Action::SecureBackend
            | Action::EndSilence
            | Action::End(_) => unreachable!("done by the caller"),
        }
    }

    fn note_failure(&mut self, ops: &mut Operations<'_>, place: u32, app: usize, failure: DialFailure) {
        self.handshakes.forget_backend(place);
        let Some(entry) = self.entries.get_mut(place) else { return };
        entry.backend = ConnectionId::NONE;
        let endpoint = entry.endpoint;
        if failure.is_the_endpoints() {
            self.judge(ops, app, endpoint, Outcome::NotOpened);
        }
        let endpoint = self.endpoints.get(endpoint).expect("what was dialled was chosen, and is held");
        let app = &self.apps[app];
        app.counters.add(AppCounter::ConnectFailures, 1);
        endpoint.count_connect_failure();
        if failure != DialFailure::Exhausted {
            self.tried.entry(place).or_default().push(endpoint.id());
        }
        let state = &app.state;
        let (backend, address, reason) = (endpoint.name(), endpoint.address(), failure.as_str());
        tracing::debug!(app = %state.name(), %backend, %address, reason, "dial failed");
        if passive::note_dial_failure(endpoint, &state.model().health.check, failure, ops.now()) {
            app.counters.add(AppCounter::BackendEjections, 1);
            tracing::warn!(
                app = %state.name(), %backend, %address, reason, "backend left out until its next good check"
            );
        }
    }

    fn end(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        (app, pool): (usize, usize),
        reason: CloseReason,
        was_admitted: bool,
        bytes: [u64; 2],
    ) {
        let Some(entry) = self.entries.remove(place) else { return };
        self.tried.remove(&place);
        let via = self.prefaces.remove(place).map(|carried| carried.via);
        self.leave_no_more(ops, place);
        let asked = self.first_bytes.remove(place);
        drop(self.handshakes.take(place));
        if !self.permits.is_empty() {
            self.permits.remove(&place);
        }
        if !self.seats.is_empty() {
            self.seats.remove(&place);
        }
        if entry.session.has_entered() {
            self.apps[app].state.counts().open().release();
        }
        if !entry.timer.is_none() {
            ops.cancel_timer(entry.timer);
        }
        match was_admitted {
            true => self.line.release(),
            false => self.line.forget(),
        }
        let counters = &self.apps[app].counters;
        self.apps[app].state.active().release();
        if pool != app {
            self.apps[pool].state.active().release();
        }
        self.metrics.count_end(reason.is_shutdown());
        self.summary.ended += 1;
        self.summary.cut += u64::from(reason.is_shutdown());
        counters.add_closed(reason.index(), 1);
        for (counter, bytes) in
            [AppCounter::BytesFromClients, AppCounter::BytesFromBackends].iter().zip(bytes)
        {
            if bytes > 0 {
                counters.add(*counter, bytes);
            }
        }
        if self.is_early_close(pool, reason, bytes) {
            self.judge(ops, pool, entry.endpoint, Outcome::FailedLater);
        }
        // Taken even if nobody wants to know: some addresses have a place in the table.
        let client = self.peers.take(entry.session.identity().peer);
        if self.recorder.is_on() {
            let record = self.record(ops, &entry, pool, client, reason, bytes);
            let record = AccessRecord { via, asked, ..record };
            self.recorder.record(record);
        }
        self.numbers.remove(&entry.session.identity().number);
        self.endpoints.let_go(entry.endpoint);
        self.let_go_of_route(entry.session.identity().frontend);
        self.note_count();
    }

    /// Tells how many there are.
    fn note_count(&self) {
        self.metrics.note_open(self.entries.len());
    }

    fn record(
        &self,
        ops: &Operations<'_>,
        entry: &Entry,
        pool: usize,
        client: SocketAddress,
        reason: CloseReason,
        bytes: [u64; 2],
    ) -> AccessRecord {
        let (session, identity) = (&entry.session, entry.session.identity());
        let endpoint = self.endpoints.get(entry.endpoint);
        AccessRecord {
            ended: ops.now(),
            connection: self.number_of(entry),
            worker: self.worker,
            app: Arc::clone(self.apps[pool].state.name()),
            route: self.apps[pool].state.route().cloned(),
            asked: None,
            frontend: Arc::clone(self.routes.frontend(identity.frontend).name()),
            client,
            via: None,
            backend: endpoint.map(|endpoint| Arc::clone(endpoint.name())),
            endpoint: endpoint.map(|endpoint| endpoint.address().clone()),
            bytes,
            queue: session.queue_duration(),
            connect: (reason.phase() == Phase::Relay).then(|| session.connect_duration()),
            total: ops.now().since(session.accepted()),
            initiator: reason.initiator().as_str(),
            phase: reason.phase().as_str(),
            reason: reason.cause(),
        }
    }
}
