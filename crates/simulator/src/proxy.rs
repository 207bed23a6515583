//! A process of the proxy inside of a simulation: its workers, its prober, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ringway::simulated::{Random, SimulatedNetwork};
use ringway::{Engine, EngineConfig, EventHandler, Mailer, SocketAddress, Time, Worker};
use ringway_proxy::admission::Admission;
use ringway_proxy::balance::{self, Balancer};
use ringway_proxy::control::access_log::AccessRecord;
use ringway_proxy::control::upgrade::Counters;
use ringway_proxy::endpoint::{AppCore, AppState, PassedSockets};
use ringway_proxy::metrics::{AppCounter, Metrics};
use ringway_proxy::model;
use ringway_proxy::prober::{ProbeHandler, ProbeMail, ProbeSetup};
use ringway_proxy::session::CloseReason;
use ringway_proxy::snapshot::{Adoption, Lineage, Origin, Snapshot};
use ringway_proxy::worker::{Loader, ProxyHandler, Recorder, TakeOut, Which, WorkerMail, WorkerSetup};

use crate::client::number_of;
use crate::scenario::Scenario;

/// What every process of a simulation has.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) network: SimulatedNetwork,
    pub(crate) connections_max: u32,
    /// The access log.
    pub(crate) records: SharedRecords,
}

/// The access log of all processes.
pub(crate) type SharedRecords = Arc<Mutex<Vec<AccessRecord>>>;

/// One process.
pub(crate) struct Proxy {
    surroundings: Surroundings,
    lineage: Lineage,
    metrics: Arc<Metrics>,
    /// Of every app that ever was.
    cores: Vec<Weak<AppCore>>,
    /// How many threads have adopted each snapshot after the first.
    adopted: Vec<Arc<AtomicUsize>>,
    admission: Arc<Admission>,
    /// None once it is finished.
    workers: Vec<Option<Worker<ProxyHandler>>>,
    /// What was left behind in engines of finished workers.
    left_behind: Vec<String>,
    mailers: Vec<Mailer<WorkerMail>>,
    /// None until it serves, and once it is finished.
    prober: Option<Worker<ProbeHandler>>,
    probe_seed: u64,
    is_draining: bool,
    /// Nobody asks it for more than to end.
    is_followed: bool,
    is_dead: bool,
    /// So many processes served before it.
    generation: u32,
    /// A process before it was reloaded.
    was_reloaded: bool,
    /// Names of apps that a reload left out, in this process or in one before it.
    removed: BTreeSet<String>,
    /// It was killed, or a process before it that it did not hear to the end: counters tell only a part.
    has_lost_counts: bool,
}

/// A limit of an app or of its backends that is passed. Reloads do not change them.
fn limit_passed(app: &Arc<AppState>) -> Option<String> {
    let mut sum = 0;
    for pool in app.with_pools() {
        for endpoint in pool.endpoints().endpoints() {
            let active = endpoint.active().get();
            let backend = pool.model().backends.get(endpoint.backend());
            let max = backend.and_then(|backend| backend.max_connections);
            if max.is_some_and(|max| active > max) {
                return Some(format!("{} has {active} connections, of {max:?}", endpoint.name()));
            }
            sum += active;
        }
        let (waiting, max) = (pool.queue().waiting(), pool.model().limits.queue);
        if max.is_some_and(|max| waiting > max) {
            return Some(format!("{waiting} connections of {} wait for room, of {max:?}", pool.name()));
        }
    }
    let (handshakes, max) = (app.counts().handshakes().get(), app.model().limits.handshakes);
    if max.is_some_and(|max| handshakes > max) {
        return Some(format!(
            "{handshakes} clients of {} have not said where they go, of {max:?}",
            app.name()
        ));
    }
    let max = app.model().limits.connections;
    max.is_some_and(|max| sum > max)
        .then(|| format!("{} has {sum} connections to its backends, of {max:?}", app.name()))
}

/// Keeps every record.
struct Records(Arc<Mutex<Vec<AccessRecord>>>);

impl Recorder for Records {
    fn is_on(&self) -> bool {
        true
    }

    fn record(&mut self, record: AccessRecord) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

impl Proxy {
    /// The first process.
    pub(crate) fn new(scenario: &Scenario, surroundings: Surroundings) -> Self {
        let lineage = Lineage::of_apps(scenario.apps.clone());
        let mut proxy =
            Self::start(surroundings, lineage, scenario.workers, scenario.probe_seed, ProxyHandler::new);
        proxy.start_checks();
        proxy
    }

    /// A process that is to follow this one: it knows the same apps, and touches no socket.
    pub(crate) fn heir(&self, workers: usize, seed: u64) -> Self {
        let snapshot = self.lineage.current();
        let running = (snapshot.version(), snapshot.origin(), snapshot.time());
        let lineage = Lineage::resumed(snapshot.config(), PassedSockets::default(), running);
        let heir = Self::start(self.surroundings.clone(), lineage, workers, seed, ProxyHandler::dormant);
        let was_reloaded = self.was_reloaded || !self.adopted.is_empty();
        let removed = self.removed.clone();
        let generation = self.generation + 1;
        Self { generation, was_reloaded, removed, has_lost_counts: self.has_lost_counts, ..heir }
    }

    fn start(
        surroundings: Surroundings,
        lineage: Lineage,
        workers: usize,
        seed: u64,
        make: impl Fn(WorkerSetup, Mailer<WorkerMail>) -> ProxyHandler,
    ) -> Self {
        let snapshot = lineage.current();
        let metrics = Metrics::new(workers, CloseReason::LABELS);
        let admission = Arc::new(Admission::new(surroundings.connections_max));
        let config = EngineConfig::default();
        let workers: Vec<_> = (0..workers)
            .map(|index| {
                let setup = WorkerSetup {
                    worker: index as u32,
                    workers: workers as u32,
                    snapshot: Arc::clone(&snapshot),
                    admission: Arc::clone(&admission),
                    metrics: metrics.worker(index),
                    recorder: Box::new(Records(Arc::clone(&surroundings.records))),
                    loader: Loader::default(),
                    congestion: None,
                    // Unlike that of any other worker, and repeated with the scenario.
                    seed: seed.wrapping_add(1 + index as u64),
                };
                Worker::with(Engine::simulated(&surroundings.network, &config), |mailer| make(setup, mailer))
            })
            .collect();
        Self {
            mailers: workers.iter().map(Worker::mailer).collect(),
            left_behind: Vec::new(),
            prober: None,
            probe_seed: seed,
            is_draining: false,
            is_followed: false,
            is_dead: false,
            generation: 0,
            was_reloaded: false,
            removed: BTreeSet::new(),
            has_lost_counts: false,
            cores: lineage.living_pools().iter().map(Arc::downgrade).collect(),
            surroundings,
            lineage,
            metrics: Arc::new(metrics),
            adopted: Vec::new(),
            admission,
            workers: workers.into_iter().map(Some).collect(),
        }
    }

    /// Checks backends from now on.
    pub(crate) fn start_checks(&mut self) {
        let prober = ProbeHandler::new(ProbeSetup {
            on_down: Box::new(|_, _| {}),
            snapshot: self.lineage.current(),
            congestion: None,
            seed: self.probe_seed,
        });
        let engine = Engine::simulated(&self.surroundings.network, &EngineConfig::default());
        self.prober = Some(Worker::new(engine, prober));
    }

    /// Its end without a word: the kernel closes what it had open, unless somebody else has it, too.
    pub(crate) fn kill(&mut self) {
        self.is_dead = true;
        self.workers.iter_mut().for_each(|worker| *worker = None);
        self.prober = None;
    }

    /// Whether it was killed.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.lineage.current()
    }

    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    pub(crate) fn mailers(&self) -> &[Mailer<WorkerMail>] {
        &self.mailers
    }

    /// What was counted until now.
    pub(crate) fn counters(&self) -> Counters {
        Counters::of(&self.metrics, &self.lineage.current())
    }

    /// Counts on from what another process had counted.
    pub(crate) fn add_counters(&mut self, counters: &Counters) {
        counters.add_to(&self.metrics, &self.lineage);
    }

    /// What another process had counted is not known.
    pub(crate) fn miss_counters(&mut self) {
        self.has_lost_counts = true;
    }

    /// Whether it has nothing left, after another process has followed it.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_finished() && !self.is_probing()
    }

    /// Another process follows it: it ends with the last connection that it has.
    pub(crate) fn leave(&mut self) {
        self.is_draining = true;
        self.is_followed = true;
        self.tell(&WorkerMail::Leave);
    }

    /// Names of apps whose endpoints changed: workers and the prober look anew.
    pub(crate) fn refresh(&mut self) {
        for app in self.lineage.current().pools() {
            self.tell(&WorkerMail::Endpoints { app: app.slot() });
        }
    }

    fn tell_prober(&self, mail: ProbeMail) {
        if let Some(prober) = &self.prober {
            prober.mailer().send(mail);
        }
    }

    /// Makes this the configuration of all threads.
    pub(crate) fn reload(&mut self, apps: &[model::App]) {
        let is_kept = |name: &str| apps.iter().any(|app| app.name == name);
        let names = self.lineage.current().apps().map(|app| app.name().to_string()).collect::<Vec<_>>();
        self.removed.extend(names.into_iter().filter(|name| !is_kept(name)));
        let config = model::Config { apps: apps.to_vec(), ..self.lineage.current().config().clone() };
        let snapshot = self.lineage.advance(config, Origin::Signal);
        let living = self.lineage.living_pools();
        self.cores.retain(|core| core.strong_count() > 0);
        for core in &living {
            if !self.cores.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(core))) {
                self.cores.push(Arc::downgrade(core));
            }
        }
        let count = Arc::new(AtomicUsize::new(0));
        self.adopted.push(Arc::clone(&count));
        let adoption = Adoption::new(snapshot, move || {
            count.fetch_add(1, Relaxed);
        });
        self.tell(&WorkerMail::Adopt(adoption.clone()));
        self.tell_prober(ProbeMail::Adopt(adoption));
    }

    /// Names mean some of these addresses from now on.
    pub(crate) fn resolve(&mut self, addresses: &[SocketAddress], random: &mut Random) {
        for app in self.lineage.current().pools() {
            let resolved: Vec<Vec<SocketAddress>> = app
                .model()
                .backends
                .iter()
                .map(|backend| match &backend.target {
                    model::Target::Address(address) => vec![address.clone()],
                    model::Target::Host { .. } | model::Target::Service { .. } => {
                        addresses.iter().filter(|_| random.chance(0.6)).cloned().collect()
                    }
                })
                .collect();
            if app.resolve(&resolved).is_some() {
                self.tell(&WorkerMail::Endpoints { app: app.slot() });
                self.tell_prober(ProbeMail::Endpoints { app: app.slot() });
            }
        }
    }

    /// A worker gives some of its connections, or all, to another, or has them out and in again.
    pub(crate) fn move_some(&self, random: &mut Random) {
        let [from, to] = [0, 0].map(|_: u8| &self.mailers[random.index(self.mailers.len())]);
        let which = match random.chance(0.3) {
            true => Which::All,
            false => Which::Idle { count_max: random.between(1, 5) as u32, silence: Duration::ZERO },
        };
        from.send(WorkerMail::TakeOut(TakeOut::to_worker(which, to.clone(), ())));
    }

    /// What must hold once every thread had time to read its mail.
    pub(crate) fn check_adopted(&self) -> Option<String> {
        let threads = self.workers.iter().flatten().count() + usize::from(self.prober.is_some());
        let missed = self.adopted.iter().position(|count| count.load(Relaxed) != threads)?;
        let count = self.adopted[missed].load(Relaxed);
        Some(format!("{count} of {threads} threads adopted the snapshot of reload {}", missed + 1))
    }

    /// Turns everything once.
    pub(crate) fn turn(&mut self) -> std::io::Result<()> {
        for (index, place) in self.workers.iter_mut().enumerate() {
            let Some(worker) = place else { continue };
            worker.turn(None)?;
            if worker.end() {
                // What it told to close a moment ago is closed by the engine in its own time.
                worker.turn(None)?;
                let (_, ops) = worker.parts();
                let (connections, bytes) = (ops.connection_count(), ops.pending_bytes());
                // What TLS still had to say to whom it refused is lost with the process; each of these is owed some of it.
                let ends_tls = |app: &Arc<AppState>| app.terms().is_some();
                let may_owe = self.lineage.current().apps().any(ends_tls);
                let is_owed = may_owe && (1..=bytes).contains(&connections);
                if (connections, bytes) != (0, 0) && !is_owed {
                    self.left_behind.push(format!(
                        "worker {index} left {connections} connections and {bytes} pending bytes in its engine"
                    ));
                }
                // As at the end of `Worker::run`.
                *place = None;
            }
        }
        if self.is_followed && self.is_finished() {
            self.is_followed = false;
            self.stop_probing();
        }
        if let Some(prober) = &mut self.prober {
            prober.turn(None)?;
            if prober.handler().is_finished() {
                self.prober = None;
            }
        }
        Ok(())
    }

    pub(crate) fn tell(&mut self, mail: &WorkerMail) {
        self.is_draining |= matches!(mail, WorkerMail::Drain | WorkerMail::CloseNow);
        for mailer in &self.mailers {
            mailer.send(mail.clone());
        }
    }

    /// Whether all workers are; the prober ends after them.
    pub(crate) fn is_finished(&self) -> bool {
        self.workers.iter().all(Option::is_none)
    }

    pub(crate) fn stop_probing(&self) {
        self.tell_prober(ProbeMail::Stop);
    }

    pub(crate) fn is_probing(&self) -> bool {
        self.prober.is_some()
    }

    /// What it has, in words.
    pub(crate) fn picture(&self) -> String {
        let held =
            self.workers.iter().map(|worker| worker.as_ref().map(|it| it.handler().connection_count()));
        let held: Vec<Option<usize>> = held.collect();
        let (open, waiting) = (self.admission.open(), self.admission.waiting());
        format!("workers hold {held:?}, {open} are admitted, {waiting} wait to be")
    }

    /// What must hold at any moment.
    pub(crate) fn check_now(&self) -> Option<String> {
        let (open, max) = (self.admission.open(), self.admission.connections_max());
        if open > max {
            return Some(format!("{open} connections are admitted, {max} may be"));
        }
        self.lineage.current().apps().find_map(limit_passed)
    }

    /// Clients that wait for a backend, while one has room and everybody is at rest: a call that was lost.
    pub(crate) fn check_queues(&self, now: Time) -> Option<String> {
        if self.is_draining {
            // Workers do not take other configurations in any more.
            return None;
        }
        let snapshot = self.lineage.current();
        let has_room = |app: &&Arc<AppState>| {
            let balance = app.model().balance;
            Balancer::new(balance, app.endpoints(), balance::Random::new(0)).has_room(now)
        };
        let app = snapshot.pools().filter(|app| app.queue().waiting() > 0).find(has_room)?;
        Some(format!("{} clients of {} wait, and there is room", app.queue().waiting(), app.name()))
    }

    /// Endpoints that are left out, while nothing is wrong with them.
    pub(crate) fn check_health(&self) -> Option<String> {
        let snapshot = self.lineage.current();
        let sets = snapshot.pools().map(|app| app.endpoints());
        let out: Vec<_> = sets
            .flat_map(|set| set.endpoints().to_vec())
            .filter(|endpoint| endpoint.weight() > 0 && !endpoint.is_available())
            .map(|endpoint| format!("{} {:?}", endpoint.name(), endpoint.health_report()))
            .collect();
        (!out.is_empty()).then(|| format!("healthy backends are left out: {out:?}"))
    }

    /// What must hold of a process once all its workers are finished.
    pub(crate) fn check_left(&mut self) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.left_behind);
        let mut zero = |what: String, count: u64| {
            if count != 0 {
                faults.push(format!("{what}: {count}, at the end"));
            }
        };
        zero("admitted connections".to_owned(), self.admission.open().into());
        let snapshot = self.lineage.current();
        for app in snapshot.apps() {
            let waited_for = app.counts().handshakes().get();
            zero(format!("clients of {} that have not said where they go", app.name()), waited_for.into());
        }
        for app in snapshot.pools() {
            zero(format!("active connections of {}", app.name()), app.active().get().into());
            zero(format!("clients of {} that wait for room", app.name()), app.queue().waiting().into());
            for endpoint in app.endpoints().endpoints() {
                zero(format!("active connections of {}", endpoint.name()), endpoint.active().get().into());
            }
        }
        let lives = |core: &&Arc<AppCore>| !snapshot.pools().any(|app| Arc::ptr_eq(app.core(), core));
        for core in self.cores.iter().filter_map(Weak::upgrade).collect::<Vec<_>>().iter().filter(lives) {
            faults.push(format!("{} was removed and is still there", core.name()));
        }
        faults
    }

    /// What must hold of the process that served last once all are finished.
    pub(crate) fn check_end(&mut self) -> Vec<String> {
        let mut faults = self.check_left();
        faults.extend(self.check_bandwidth());
        if self.has_lost_counts {
            return faults;
        }
        let was_reloaded = self.was_reloaded || !self.adopted.is_empty();
        let mut accepted = 0;
        for app in self.lineage.current().apps() {
            let taken = app.counters().total(AppCounter::ConnectionsAccepted);
            let reasons = 0..CloseReason::ALL.len();
            let closed: u64 = reasons.map(|reason| app.counters().closed_total(reason)).sum();
            // An app that went, and came again after its last connection here had ended, has new counters: what an old process
            // ends of the first is counted there.
            let is_of_earlier = closed > taken && self.generation > 0 && self.removed.contains(&**app.name());
            if taken != closed && !is_of_earlier {
                faults
                    .push(format!("{taken} connections of {} were accepted and {closed} ended", app.name()));
            }
            accepted += taken;
        }
        let records = self.surroundings.records.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        // What was counted of an app that was removed since is gone with it.
        if records < accepted || !was_reloaded && records != accepted {
            faults.push(format!("{accepted} connections were accepted and {records} recorded"));
        }
        faults
    }

    /// Bandwidths that were passed by connections that ended cleanly. Nothing is known of those that a reload changed.
    fn check_bandwidth(&self) -> Vec<String> {
        if self.was_reloaded || self.has_lost_counts || !self.adopted.is_empty() {
            return Vec::new();
        }
        let records = self.surroundings.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = Vec::new();
        for app in self.lineage.current().apps() {
            let limits = &app.model().limits;
            let is_clean = |record: &&AccessRecord| record.app == *app.name() && record.reason == "finished";
            let clean: Vec<&AccessRecord> = records.iter().filter(is_clean).collect();
            let mut check = |of: &str, bytes: u64, rate: Option<u64>, time: Duration| {
                // A tenth of a second's worth is kept, and each worker may be a slice ahead.
                let most = |rate: u64| {
                    let slices = rate / 64 * self.mailers.len() as u64;
                    (rate as f64 * (time.as_secs_f64() + 0.1)) as u64 + slices + 64
                };
                if let Some(rate) = rate.filter(|rate| bytes > most(*rate)) {
                    faults.push(format!("{of} moved {bytes} bytes in {time:?}, at {rate} a second"));
                }
            };
            for record in &clean {
                let rate = limits.bandwidth_per_connection;
                record.bytes.iter().for_each(|bytes| check("a connection", *bytes, rate, record.total));
            }
            let begin =
                clean.iter().map(|record| record.ended.as_nanos() - record.total.as_nanos() as u64).min();
            let end = clean.iter().map(|record| record.ended.as_nanos()).max();
            if let (Some(begin), Some(end)) = (begin, end) {
                // What a process leaves to finish in the one before has the rate there once more.
                let processes = if app.terms().is_some() { 1 + u64::from(self.generation) } else { 1 };
                let rate = limits.bandwidth.map(|rate| rate * processes);
                for direction in [0, 1] {
                    let bytes = clean.iter().map(|record| record.bytes[direction]).sum();
                    check(app.name(), bytes, rate, Duration::from_nanos(end - begin));
                }
            }
        }
        faults
    }

    /// The access log, by the number of the client.
    pub(crate) fn records(&self) -> BTreeMap<u32, Vec<AccessRecord>> {
        let mut by_number: BTreeMap<u32, Vec<AccessRecord>> = BTreeMap::new();
        for record in self.surroundings.records.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            by_number.entry(number_of(&record.client).unwrap_or(u32::MAX)).or_default().push(record.clone());
        }
        by_number
    }
}
