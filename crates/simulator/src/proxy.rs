//! The proxy inside of a simulation: its workers, its prober, and what they share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ringway::simulated::{Random, SimulatedNetwork};
use ringway::{Engine, EngineConfig, EventHandler, Mailer, SocketAddress, Time, Worker};
use ringway_proxy::admission::Admission;
use ringway_proxy::balance::{self, Balancer};
use ringway_proxy::control::access_log::AccessRecord;
use ringway_proxy::endpoint::{AppCore, AppState};
use ringway_proxy::metrics::{AppCounter, Metrics};
use ringway_proxy::model;
use ringway_proxy::prober::{ProbeHandler, ProbeMail, ProbeSetup};
use ringway_proxy::session::CloseReason;
use ringway_proxy::snapshot::{Adoption, Lineage, Origin};
use ringway_proxy::worker::{ProxyHandler, Recorder, TakeOut, Which, WorkerMail, WorkerSetup};

use crate::client::number_of;
use crate::scenario::Scenario;

/// The whole proxy.
pub(crate) struct Proxy {
    lineage: Lineage,
    /// Of every app that ever was.
    cores: Vec<Weak<AppCore>>,
    /// How many threads have adopted each snapshot after the first.
    adopted: Vec<Arc<AtomicUsize>>,
    admission: Arc<Admission>,
    records: Arc<Mutex<Vec<AccessRecord>>>,
    /// None once it is finished.
    workers: Vec<Option<Worker<ProxyHandler>>>,
    /// What was left behind in engines of finished workers.
    left_behind: Vec<String>,
    mailers: Vec<Mailer<WorkerMail>>,
    prober: Option<Worker<ProbeHandler>>,
    probe_mailer: Mailer<ProbeMail>,
    is_draining: bool,
}

/// A limit of an app or of its backends that is passed. Reloads do not change them.
fn limit_passed(app: &AppState) -> Option<String> {
    let set = app.endpoints();
    let mut sum = 0;
    for endpoint in set.endpoints() {
        let active = endpoint.active().get();
        let max = app.model().backends.get(endpoint.backend()).and_then(|backend| backend.max_connections);
        if max.is_some_and(|max| active > max) {
            return Some(format!("{} has {active} connections, of {max:?}", endpoint.name()));
        }
        sum += active;
    }
    let (waiting, max) = (app.queue().waiting(), app.model().limits.queue);
    if max.is_some_and(|max| waiting > max) {
        return Some(format!("{waiting} connections of {} wait for room, of {max:?}", app.name()));
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
    pub(crate) fn new(scenario: &Scenario, network: &SimulatedNetwork) -> Self {
        let lineage = Lineage::of_apps(scenario.apps.clone());
        let snapshot = lineage.current();
        let metrics = Metrics::new(scenario.workers, CloseReason::LABELS);
        let admission = Arc::new(Admission::new(scenario.connections_max));
        let records = Arc::default();
        let config = EngineConfig::default();
        let workers: Vec<_> = (0..scenario.workers)
            .map(|index| {
                let setup = WorkerSetup {
                    worker: index as u32,
                    workers: scenario.workers as u32,
                    snapshot: Arc::clone(&snapshot),
                    admission: Arc::clone(&admission),
                    metrics: metrics.worker(index),
                    recorder: Box::new(Records(Arc::clone(&records))),
                    congestion: None,
                    // Unlike that of any other worker, and repeated with the scenario.
                    seed: scenario.probe_seed.wrapping_add(1 + index as u64),
                };
                Worker::with(Engine::simulated(network, &config), |mailer| ProxyHandler::new(setup, mailer))
            })
            .collect();
        let prober = ProbeHandler::new(ProbeSetup {
            on_down: Box::new(|_, _| {}),
            snapshot: Arc::clone(&snapshot),
            congestion: None,
            seed: scenario.probe_seed,
        });
        let prober = Worker::new(Engine::simulated(network, &config), prober);
        Self {
            mailers: workers.iter().map(Worker::mailer).collect(),
            left_behind: Vec::new(),
            probe_mailer: prober.mailer(),
            prober: Some(prober),
            is_draining: false,
            cores: lineage.living().iter().map(Arc::downgrade).collect(),
            lineage,
            adopted: Vec::new(),
            admission,
            records,
            workers: workers.into_iter().map(Some).collect(),
        }
    }

    /// Makes this the configuration of all threads.
    pub(crate) fn reload(&mut self, apps: &[model::App]) {
        let config = model::Config { apps: apps.to_vec(), ..self.lineage.current().config().clone() };
        let snapshot = self.lineage.advance(config, Origin::Signal);
        let living = self.lineage.living();
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
        self.probe_mailer.send(ProbeMail::Adopt(adoption));
    }

    /// Names mean some of these addresses from now on.
    pub(crate) fn resolve(&mut self, addresses: &[SocketAddress], random: &mut Random) {
        for app in self.lineage.current().apps() {
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
                self.probe_mailer.send(ProbeMail::Endpoints { app: app.slot() });
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
                if (connections, bytes) != (0, 0) {
                    self.left_behind.push(format!(
                        "worker {index} left {connections} connections and {bytes} pending bytes in its engine"
                    ));
                }
                // As at the end of `Worker::run`.
                *place = None;
            }
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
        self.probe_mailer.send(ProbeMail::Stop);
    }

    pub(crate) fn is_probing(&self) -> bool {
        self.prober.is_some()
    }

    /// What must hold at any moment.
    pub(crate) fn check_now(&self) -> Option<String> {
        let (open, max) = (self.admission.open(), self.admission.connections_max());
        if open > max {
            return Some(format!("{open} connections are admitted, {max} may be"));
        }
        self.lineage.current().apps().find_map(|app| limit_passed(app))
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
        let app = snapshot.apps().filter(|app| app.queue().waiting() > 0).find(has_room)?;
        Some(format!("{} clients of {} wait, and there is room", app.queue().waiting(), app.name()))
    }

    /// Endpoints that are left out, while nothing is wrong with them.
    pub(crate) fn check_health(&self) -> Option<String> {
        let snapshot = self.lineage.current();
        let sets = snapshot.apps().map(|app| app.endpoints());
        let out: Vec<_> = sets
            .flat_map(|set| set.endpoints().to_vec())
            .filter(|endpoint| endpoint.weight() > 0 && !endpoint.is_available())
            .map(|endpoint| format!("{} {:?}", endpoint.name(), endpoint.health_report()))
            .collect();
        (!out.is_empty()).then(|| format!("healthy backends are left out: {out:?}"))
    }

    /// What must hold once all workers are finished.
    pub(crate) fn check_end(&mut self) -> Vec<String> {
        let mut faults = std::mem::take(&mut self.left_behind);
        faults.extend(self.check_bandwidth());
        let mut zero = |what: String, count: u64| {
            if count != 0 {
                faults.push(format!("{what}: {count}, at the end"));
            }
        };
        zero("admitted connections".to_owned(), self.admission.open().into());
        let (mut accepted, snapshot) = (0, self.lineage.current());
        for app in snapshot.apps() {
            zero(format!("active connections of {}", app.name()), app.active().get().into());
            zero(format!("clients of {} that wait for room", app.name()), app.queue().waiting().into());
            for endpoint in app.endpoints().endpoints() {
                zero(format!("active connections of {}", endpoint.name()), endpoint.active().get().into());
            }
            let taken = app.counters().total(AppCounter::ConnectionsAccepted);
            let reasons = 0..CloseReason::ALL.len();
            let closed: u64 = reasons.map(|reason| app.counters().closed_total(reason)).sum();
            zero(format!("connections of {} without a reason", app.name()), taken.abs_diff(closed));
            accepted += taken;
        }
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        // What was counted of an app that was removed since is gone with it.
        if records < accepted || self.adopted.is_empty() && records != accepted {
            faults.push(format!("{accepted} connections were accepted and {records} recorded"));
        }
        let lives = |core: &&Arc<AppCore>| !snapshot.apps().any(|app| Arc::ptr_eq(app.core(), core));
        for core in self.cores.iter().filter_map(Weak::upgrade).collect::<Vec<_>>().iter().filter(lives) {
            faults.push(format!("{} was removed and is still there", core.name()));
        }
        faults
    }

    /// Bandwidths that were passed by connections that ended cleanly. Nothing is known of those that a reload changed.
    fn check_bandwidth(&self) -> Vec<String> {
        if !self.adopted.is_empty() {
            return Vec::new();
        }
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
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
                for direction in [0, 1] {
                    let bytes = clean.iter().map(|record| record.bytes[direction]).sum();
                    check(app.name(), bytes, limits.bandwidth, Duration::from_nanos(end - begin));
                }
            }
        }
        faults
    }

    /// The access log, by the number of the client.
    pub(crate) fn records(&self) -> BTreeMap<u32, Vec<AccessRecord>> {
        let mut by_number: BTreeMap<u32, Vec<AccessRecord>> = BTreeMap::new();
        for record in self.records.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            by_number.entry(number_of(&record.client).unwrap_or(u32::MAX)).or_default().push(record.clone());
        }
        by_number
    }
}
