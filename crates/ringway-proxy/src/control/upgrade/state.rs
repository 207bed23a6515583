//! What a process knows beside its connections, as another process can take it in: health of the backends, what operators
//! said, open rates; and all that was counted.
//!
//! Everything goes by name: apps, backends, addresses, metrics with their labels. What the other process does not have is
//! left out, so that programs with other metrics or another configuration understand each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringway::{SocketAddress, Time};
use serde::{Deserialize, Serialize};

use super::Elder;
use crate::admission::Pacer;
use crate::control::drain::DrainRecord;
use crate::endpoint::{
    AppCore, AppState, DownReason, Duty, EjectionReport, Endpoint, Health, Steering, Tally,
};
use crate::metrics::{AppCounter, CloseLabels, Metrics, ProcessCounter, Row, WorkerCounter};
use crate::session::CloseReason;
use crate::snapshot::{Lineage, Snapshot};

/// No allowance that was not used is kept for longer.
const KEPT: Duration = Duration::from_secs(1);

/// What is known of the apps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub(super) apps: Vec<AppRecord>,
    /// The drains that have a time; none: those that were told of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) drains: Option<Vec<DrainRecord>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct AppRecord {
    name: String,
    /// Of the pool of a route: the name of that.
    route: Option<String>,
    is_drained: bool,
    /// When its bucket of new connections is full again, in nanoseconds of the process clock.
    rate_full_at: u64,
    /// What operators said of its backends.
    orders: Vec<OrderRecord>,
    endpoints: Vec<EndpointRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct OrderRecord {
    backend: String,
    weight: Option<u16>,
    duty: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct EndpointRecord {
    /// Place of its backend in the configuration.
    backend: usize,
    address: String,
    health: String,
    reason: Option<String>,
    /// What was wrong with the last bad answer.
    answer: Option<String>,
    /// Since when, in nanoseconds of the process clock.
    since: u64,
    /// How its connections went lately.
    outcomes: Option<Vec<u64>>,
    /// The last time that it was left out because too many of them failed.
    ejection: Option<EjectionRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct EjectionRecord {
    failed: u32,
    connections: u32,
    /// In nanoseconds of the process clock.
    until: u64,
    nanos: u64,
    in_a_row: u32,
}

impl EjectionRecord {
    fn of(report: &EjectionReport) -> Option<Self> {
        let EjectionReport { tally: Tally { failed, connections }, until, time, in_a_row } = *report;
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let record = Self { failed, connections, until: until.as_nanos(), nanos, in_a_row };
        (in_a_row > 0).then_some(record)
    }

    fn report(&self) -> EjectionReport {
        let Self { failed, connections, until, nanos, in_a_row } = *self;
        let (until, time) = (Time::from_nanos(until), Duration::from_nanos(nanos));
        EjectionReport { tally: Tally { failed, connections }, until, time, in_a_row }
    }
}

/// What an app has used of what it may take at a time, when its connections stand still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllowanceRecord {
    app: String,
    /// When its bucket of new connections is full again, in nanoseconds of the process clock.
    rate_full_at: u64,
    /// When what comes from clients and from backends may go on, likewise.
    bandwidth: [u64; 2],
}

/// Of all apps that may not take all at this moment.
pub fn allowances_of(snapshot: &Snapshot, now: Time) -> Vec<AllowanceRecord> {
    // What is over may still hold something back: what was not used is kept for a while.
    let since = (now - KEPT).as_nanos();
    let of_app = |app: &Arc<AppState>| {
        let counts = app.counts();
        let (rate_full_at, bandwidth) =
            (counts.rate_full_at(), counts.bandwidth().each_ref().map(Pacer::next));
        let is_used = rate_full_at > since || bandwidth.iter().any(|next| *next > since);
        is_used.then(|| AllowanceRecord { app: app.name().to_string(), rate_full_at, bandwidth })
    };
    snapshot.apps().filter_map(of_app).collect()
}

/// Has apps go on from what they have used in another process.
pub fn restore_allowances(records: &[AllowanceRecord], snapshot: &Snapshot) {
    if records.is_empty() {
        return;
    }
    let by_name: BTreeMap<&str, &AllowanceRecord> =
        records.iter().map(|record| (record.app.as_str(), record)).collect();
    for app in snapshot.apps() {
        let Some(record) = by_name.get(&**app.name()) else { continue };
        app.counts().set_rate_full_at(record.rate_full_at);
        for (pacer, next) in app.counts().bandwidth().iter().zip(record.bandwidth) {
            pacer.go_on(next);
        }
    }
}

/// The endpoints that are left out because too many of their connections failed, with the slot of their app or pool.
pub fn outliers_of(snapshot: &Snapshot) -> Vec<(usize, Arc<Endpoint>)> {
    let of_pool = |pool: &Arc<AppState>| {
        let (slot, set) = (pool.slot(), pool.endpoints());
        let outliers = set.endpoints().iter().filter(|endpoint| endpoint.is_outlier());
        outliers.map(|endpoint| (slot, Arc::clone(endpoint))).collect::<Vec<_>>()
    };
    snapshot.pools().flat_map(of_pool).collect()
}

impl State {
    /// Of a process that runs by this snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self { apps: snapshot.pools().map(|app| AppRecord::of(app)).collect(), drains: None }
    }

    /// And with these drains.
    pub(in crate::control) fn with_drains(self, drains: Vec<DrainRecord>) -> Self {
        Self { drains: Some(drains), ..self }
    }

    /// The apps of which something else is known than `before`, of the same snapshot; and the drains, if they are others.
    pub fn since(mut self, before: &Self) -> Self {
        let mut apps = before.apps.iter();
        self.apps.retain(|app| apps.next() != Some(app));
        self.drains = self.drains.filter(|drains| before.drains.as_ref() != Some(drains));
        self
    }

    /// Whether nothing is known of any app, or drain.
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty() && self.drains.is_none()
    }

    /// Has the apps of another snapshot go on from here; gives those apps and pools of which something is known.
    pub fn restore(&self, snapshot: &Snapshot) -> Vec<Arc<AppState>> {
        self.each(snapshot, |record, app| {
            record.restore_addresses(app);
            record.restore(app);
        })
    }

    /// The same when more is known of them. What names mean, this process looks up itself meanwhile.
    pub fn restore_again(&self, snapshot: &Snapshot) -> Vec<Arc<AppState>> {
        self.each(snapshot, AppRecord::restore)
    }

    fn each(&self, snapshot: &Snapshot, restore: impl Fn(&AppRecord, &AppState)) -> Vec<Arc<AppState>> {
        let by_name: BTreeMap<(&str, Option<&str>), &AppRecord> = self
            .apps
            .iter()
            .map(|record| ((record.name.as_str(), record.route.as_deref()), record))
            .collect();
        let mut known = Vec::new();
        for app in snapshot.pools() {
            if let Some(record) = by_name.get(&(&**app.name(), app.route().map(|route| &**route))) {
                restore(record, app);
                known.push(Arc::clone(app));
            }
        }
        known
    }
}

impl AppRecord {
    fn of(app: &AppState) -> Self {
        let orders = app.model().backends.iter().filter_map(|backend| {
            let steering = app.steering(backend);
            (steering != Steering::default()).then(|| OrderRecord {
                backend: backend.name.clone(),
                weight: steering.weight,
                duty: steering.duty.as_str().to_owned(),
            })
        });
        Self {
            name: app.name().to_string(),
            route: app.route().map(|route| route.to_string()),
            is_drained: app.core().is_drained(),
            rate_full_at: app.counts().rate_full_at(),
            orders: orders.collect(),
            endpoints: app
                .endpoints()
                .endpoints()
                .iter()
                .map(|endpoint| EndpointRecord::of(endpoint))
                .collect(),
        }
    }

    /// Names mean what they meant, until they are looked up anew.
    fn restore_addresses(&self, app: &AppState) {
        let mut addresses = vec![Vec::new(); app.model().backends.len()];
        for record in &self.endpoints {
            if let (Some(of_backend), Some(address)) =
                (addresses.get_mut(record.backend), read_address(&record.address))
            {
                of_backend.push(address);
            }
        }
        app.resolve(&addresses);
    }

    fn restore(&self, app: &AppState) {
        app.core().set_drained(self.is_drained);
        app.counts().set_rate_full_at(self.rate_full_at);
        let orders: BTreeMap<&str, Steering> =
            self.orders.iter().map(|order| (order.backend.as_str(), order.steering())).collect();
        for backend in &app.model().backends {
            // Also one that was taken back.
            let steering = orders.get(backend.name.as_str()).copied().unwrap_or_default();
            if app.steering(backend) != steering {
                app.steer(&backend.name, steering);
            }
        }
        let set = app.endpoints();
        let by_address: BTreeMap<(usize, &str), &EndpointRecord> =
            self.endpoints.iter().map(|record| ((record.backend, record.address.as_str()), record)).collect();
        for endpoint in set.endpoints() {
            let address = endpoint.address().to_string();
            if let Some(record) = by_address.get(&(endpoint.backend(), address.as_str())) {
                record.restore(endpoint);
            }
        }
    }
}

impl OrderRecord {
    fn steering(&self) -> Steering {
        let duty = [Duty::Ready, Duty::Maintenance, Duty::Draining];
        let duty = duty.into_iter().find(|duty| duty.as_str() == self.duty).unwrap_or_default();
        Steering { weight: self.weight, duty }
    }
}

impl EndpointRecord {
    fn of(endpoint: &Endpoint) -> Self {
        let (health, since, reason) = endpoint.health_report();
        Self {
            backend: endpoint.backend(),
            address: endpoint.address().to_string(),
            health: health.as_str().to_owned(),
            reason: reason.map(|reason| reason.as_str().to_owned()),
            answer: endpoint.bad_answer().map(|answer| answer.to_string()),
            since: since.as_nanos(),
            outcomes: endpoint.outcomes(),
            ejection: EjectionRecord::of(&endpoint.last_ejection()),
        }
    }

    fn restore(&self, endpoint: &Endpoint) {
        let all = [Health::Up, Health::Down, Health::Ejected];
        let Some(health) = all.into_iter().find(|health| health.as_str() == self.health) else { return };
        if let Some(answer) = &self.answer {
            endpoint.note_bad_answer(answer);
        }
        // Whoever sees the health has to see why.
        let last = self.ejection.as_ref().map(EjectionRecord::report).unwrap_or_default();
        endpoint.go_on(self.outcomes.as_deref().unwrap_or(&[]), &last);
        let reason = self.reason.as_deref().and_then(DownReason::from_word);
        endpoint.go_on_with_health(health, reason, Time::from_nanos(self.since));
    }
}

/// The address that is written so.
fn read_address(text: &str) -> Option<SocketAddress> {
    match text.strip_prefix("unix:") {
        Some(path) => Some(SocketAddress::unix(path)),
        None => text.parse().ok().map(SocketAddress::Inet),
    }
}

/// What was counted since the first process of the line started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// By metric and label.
    process: BTreeMap<String, u64>,
    workers: BTreeMap<String, u64>,
    /// Connections that ended, and of these that were cut.
    ended: [u64; 2],
    apps: BTreeMap<String, AppCounts>,
    /// Where the process that counted tells of connections that it finishes, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left: Option<Elder>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct AppCounts {
    counters: BTreeMap<String, u64>,
    /// By initiator, phase and reason.
    closed: BTreeMap<String, u64>,
    /// By route, backend and address: connections, failed dials.
    endpoints: BTreeMap<String, [u64; 2]>,
}

impl Counters {
    /// Of a process that runs by this snapshot.
    pub fn of(metrics: &Metrics, snapshot: &Snapshot) -> Self {
        let process = metrics.process();
        Self {
            process: counted(ProcessCounter::ALL, |counter| counter.row(), |counter| process.get(counter)),
            workers: counted(
                WorkerCounter::ALL,
                |counter| counter.row(),
                |counter| metrics.worker_total(counter),
            ),
            ended: metrics.ended().into(),
            apps: snapshot.apps().map(|app| (app.name().to_string(), AppCounts::of(app))).collect(),
            left: None,
        }
    }

    /// What was counted since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let apps = self.apps.iter().map(|(name, counts)| {
            let nothing = AppCounts::default();
            (name.clone(), counts.since(before.apps.get(name).unwrap_or(&nothing)))
        });
        Self {
            process: grown(&self.process, &before.process),
            workers: grown(&self.workers, &before.workers),
            ended: [0, 1].map(|index| self.ended[index].saturating_sub(before.ended[index])),
            apps: apps.collect(),
            left: None,
        }
    }

    /// Counts on from here in another process. An app that was removed counts, too, as long as it lives: it may come back.
    pub fn add_to(&self, metrics: &Metrics, lineage: &Lineage) {
        let process = metrics.process();
        for counter in ProcessCounter::ALL {
            process.add(*counter, found(&self.process, counter.row()));
        }
        let worker = metrics.worker(0);
        for counter in WorkerCounter::ALL {
            worker.add_worker(*counter, found(&self.workers, counter.row()));
        }
        worker.add_ended(self.ended);
        for core in lineage.living_pools() {
            if let Some(counts) = self.apps.get(&**core.name()) {
                counts.add_to(&core);
            }
        }
    }
}

/// The endpoints of an app and its pools, each with what it is counted by.
fn each_endpoint(app: &Arc<AppState>) -> impl Iterator<Item = (String, Arc<Endpoint>)> {
    app.with_pools().flat_map(|pool| {
        let set = pool.endpoints();
        let route = pool.route().map_or("", |route| &**route);
        let keyed = |endpoint: &Arc<Endpoint>| (endpoint_key(route, endpoint), Arc::clone(endpoint));
        set.endpoints().iter().map(keyed).collect::<Vec<_>>()
    })
}

fn endpoint_key(route: &str, endpoint: &Endpoint) -> String {
    format!("{route} {} {}", endpoint.name(), endpoint.address())
}

impl AppCounts {
    fn of(app: &Arc<AppState>) -> Self {
        let counters = app.counters();
        let closed = CloseReason::LABELS.iter().enumerate();
        let closed = closed.map(|(index, labels)| (close_key(labels), counters.closed_total(index)));
        Self {
            counters: counted(AppCounter::ALL, |counter| counter.row(), |counter| counters.total(counter)),
            closed: closed.filter(|(_, count)| *count > 0).collect(),
            endpoints: each_endpoint(app)
                .map(|(key, endpoint)| (key, [endpoint.total(), endpoint.connect_failures()]))
                .collect(),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let endpoints = self.endpoints.iter().map(|(address, now)| {
            let before = before.endpoints.get(address).copied().unwrap_or_default();
            (address.clone(), [0, 1].map(|index| now[index].saturating_sub(before[index])))
        });
        Self {
            counters: grown(&self.counters, &before.counters),
            closed: grown(&self.closed, &before.closed),
            endpoints: endpoints.collect(),
        }
    }

    /// What concerns `core`: an app, or the pool of a route, which has endpoints of its own and no more.
    fn add_to(&self, core: &AppCore) {
        if core.parent().is_none() {
            let block = core.counters().block();
            for counter in AppCounter::ALL {
                block.add(*counter, found(&self.counters, counter.row()));
            }
            for (index, labels) in CloseReason::LABELS.iter().enumerate() {
                if let Some(count) = self.closed.get(&close_key(labels)) {
                    block.add_closed(index, *count);
                }
            }
        }
        let route = core.route().map_or("", |route| &**route);
        for endpoint in core.living_endpoints() {
            if let Some([total, failures]) = self.endpoints.get(&endpoint_key(route, &endpoint)) {
                endpoint.add_counts(*total, *failures);
            }
        }
    }
}

fn counted<C: Copy>(
    all: &[C],
    row: impl Fn(C) -> &'static Row,
    count: impl Fn(C) -> u64,
) -> BTreeMap<String, u64> {
    all.iter().map(|counter| (key(row(*counter)), count(*counter))).collect()
}

fn grown(now: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let growth = |(key, count): (&String, &u64)| {
        (key.clone(), count.saturating_sub(before.get(key).copied().unwrap_or(0)))
    };
    now.iter().map(growth).collect()
}

fn found(counts: &BTreeMap<String, u64>, row: &Row) -> u64 {
    counts.get(&key(row)).copied().unwrap_or(0)
}

/// A counter by its name and what is fixed of its labels.
fn key(row: &Row) -> String {
    let labels = row.fixed.iter().map(|(label, value)| format!(" {label}={value}"));
    std::iter::once(row.name.to_owned()).chain(labels).collect()
}

fn close_key(labels: &CloseLabels) -> String {
    format!("{} {} {}", labels.initiator, labels.phase, labels.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::testing::app_of_hosts;
    use crate::endpoint::{DialFailure, Outcome};
    use crate::model;
    use crate::snapshot::Origin;

    fn lineage() -> Lineage {
        Lineage::of_apps(vec![app_of_hosts(&[(1, false), (2, false)])])
    }

    fn address(port: u16) -> SocketAddress {
        std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn app(lineage: &Lineage) -> Arc<AppState> {
        lineage.current().apps().next().cloned().expect("it has one")
    }

    #[test]
    fn another_process_knows_what_this_one_knew() {
        let old = lineage();
        let before = app(&old);
        before.resolve(&[vec![address(1), address(2)], vec![address(3)]]);
        let down = before.endpoints().endpoints()[1].clone();
        down.note_bad_answer("expected status 200, got 503");
        down.set_health(Health::Down, Some(DownReason::Answer), Time::from_nanos(6_400));
        before.endpoints().endpoints()[2].eject(DialFailure::Refused, Time::from_nanos(12_800));
        let name = before.model().backends[0].name.clone();
        before.steer(&name, Steering { weight: Some(7), duty: Duty::Maintenance });
        before.core().set_drained(true);
        before.counts().set_rate_full_at(5);
        let outlier = before.endpoints().endpoints()[0].clone();
        let (window, now) = (Duration::from_secs(8), Time::from_nanos(19_200_000_000));
        let tally = Tally { failed: 3, connections: 4 };
        let left_out = EjectionReport { tally, until: now + window, time: window, in_a_row: 2 };
        assert!(outlier.eject_outlier(&left_out, now));
        (0..5).for_each(|_| outlier.count_outcome(Outcome::NotOpened, window, now));

        let sent = serde_json::to_string(&State::of(&old.current())).expect("JSON");
        let new = lineage();
        let received: State = serde_json::from_str(&sent).expect("what was sent");
        received.restore(&new.current());
        assert_eq!(State::of(&new.current()), State::of(&old.current()));
        let after = app(&new);
        let report = after.endpoints().endpoints()[1].health_report();
        assert_eq!(report, (Health::Down, Time::from_nanos(6_400), Some(DownReason::Answer)));
        assert_eq!(after.endpoints().endpoints()[0].weight(), 0, "in maintenance");
        let outlier = after.endpoints().endpoints()[0].clone();
        assert!(outlier.is_outlier());
        assert_eq!(outlier.last_ejection(), left_out);
        assert_eq!(outlier.tally(window, now), Tally { failed: 5, connections: 5 });
        assert_eq!(outliers_of(&new.current()).len(), 1);
        assert!(after.core().is_drained());
    }

    #[test]
    fn what_changed_since_it_was_told_is_told_once_more_and_what_was_taken_back_too() {
        let (old, new) = (lineage(), lineage());
        let before = app(&old);
        before.resolve(&[vec![address(1), address(2), address(5), address(6)], vec![address(3)]]);
        let name = |index: usize| before.model().backends[index].name.clone();
        let out = Steering { weight: None, duty: Duty::Maintenance };
        before.steer(&name(0), out);
        let endpoint = |index: usize| Arc::clone(&before.endpoints().endpoints()[index]);
        let early = Time::from_nanos(6_400);
        endpoint(1).set_health(Health::Down, None, early);
        assert!(
            endpoint(2).eject(DialFailure::Refused, early) && endpoint(3).eject(DialFailure::Refused, early)
        );
        let (window, now) = (Duration::from_secs(8), Time::from_nanos(19_200_000_000));
        let tally = Tally { failed: 3, connections: 4 };
        let left_out = EjectionReport { tally, until: now + window, time: window, in_a_row: 2 };
        assert!(endpoint(4).eject_outlier(&left_out, now));
        let told = State::of(&old.current());
        told.restore(&new.current());
        assert!(State::of(&old.current()).since(&told).is_empty());

        before.steer(&name(0), Steering::default());
        before.steer(&name(1), out);
        before.core().set_drained(true);
        endpoint(1).set_health(Health::Up, None, now);
        // What is left out still may be so for another reason, or once more.
        assert!(endpoint(2).eject_outlier(&left_out, now));
        endpoint(3).set_health(Health::Up, None, now);
        assert!(endpoint(3).eject(DialFailure::Refused, now));
        assert!(endpoint(4).readmit_outlier(now));
        let after = app(&new);
        let first = vec![address(1), address(2), address(5), address(6)];
        after.resolve(&[first.clone(), vec![address(3), address(4)]]);
        let sent = serde_json::to_string(&State::of(&old.current()).since(&told)).expect("JSON");
        let received: State = serde_json::from_str(&sent).expect("what was sent");
        received.restore_again(&new.current());
        assert_eq!(after.endpoints().endpoints().len(), 6, "it has looked up a name meanwhile");
        let outliers = outliers_of(&new.current());
        assert_eq!(
            outliers.iter().map(|(_, endpoint)| endpoint.address()).collect::<Vec<_>>(),
            [&address(5)]
        );
        after.resolve(&[first, vec![address(3)]]);
        assert_eq!(State::of(&new.current()), State::of(&old.current()));
    }

    #[test]
    fn only_apps_of_which_something_else_is_known_are_gone_by_again() {
        let other = model::App { name: "other".to_owned(), ..app_of_hosts(&[(1, false)]) };
        let lineage = || Lineage::of_apps(vec![app_of_hosts(&[(1, false)]), other.clone()]);
        let (old, new) = (lineage(), lineage());
        let names =
            |apps: Vec<Arc<AppState>>| apps.iter().map(|app| app.name().to_string()).collect::<Vec<_>>();
        let told = State::of(&old.current());
        assert_eq!(names(told.restore(&new.current())), ["app", "other"]);
        app(&old).core().set_drained(true);
        let changes = State::of(&old.current()).since(&told);
        assert_eq!(names(changes.restore_again(&new.current())), ["app"]);
        assert!(app(&new).core().is_drained());
    }

    #[test]
    fn drains_are_told_again_when_they_are_others_and_also_when_there_are_none_any_more() {
        let lineage = lineage();
        let with = |drains: Vec<DrainRecord>| State::of(&lineage.current()).with_drains(drains);
        let told = with(vec![DrainRecord::default()]);
        assert!(with(vec![DrainRecord::default()]).since(&told).is_empty());
        let changes = with(Vec::new()).since(&told);
        assert_eq!(changes, State { apps: Vec::new(), drains: Some(Vec::new()) });
        assert!(!changes.is_empty());
    }

    #[test]
    fn what_is_used_of_rates_and_bandwidths_goes_on_and_what_is_free_is_not_told() {
        let (old, new) = (lineage(), lineage());
        let now = Time::from_nanos(20_000_000_000);
        assert_eq!(allowances_of(&old.current(), now), []);
        let counts = Arc::clone(app(&old).counts());
        let busy_until = counts.bandwidth()[1].reserve(now.as_nanos(), 3_000_000, 1_000_000);
        counts.set_rate_full_at(now.as_nanos() + 7);
        let sent = serde_json::to_string(&allowances_of(&old.current(), now)).expect("JSON");
        let received: Vec<AllowanceRecord> = serde_json::from_str(&sent).expect("what was sent");
        restore_allowances(&received, &new.current());
        let counts = Arc::clone(app(&new).counts());
        assert_eq!(counts.rate_full_at(), now.as_nanos() + 7);
        let [from_clients, from_backends] = counts.bandwidth();
        assert_eq!(from_backends.reserve(now.as_nanos(), 1, 1_000_000), busy_until + 3_000_000_000);
        assert!(from_clients.reserve(now.as_nanos(), 1, 1_000_000) <= now.as_nanos());
        assert_eq!(allowances_of(&new.current(), now + Duration::from_secs(9)), [], "it is free again");
    }

    #[test]
    fn counters_go_on_as_one_and_what_came_later_is_added() {
        let (old, new) = (lineage(), lineage());
        for lineage in [&old, &new] {
            app(lineage).resolve(&[vec![address(1)], vec![address(3)]]);
        }
        let (counted, counting) =
            (Metrics::new(2, CloseReason::LABELS), Metrics::new(1, CloseReason::LABELS));
        counted.worker(1).add_worker(WorkerCounter::AcceptPauses, 3);
        counted.worker(0).count_end(true);
        counted.process().add(ProcessCounter::LookupsFailed, 4);
        let block = app(&old).counters().block();
        block.add(AppCounter::BytesFromBackends, 1 << 40);
        block.add_closed(2, 5);
        app(&old).endpoints().endpoints()[0].count_connected();
        let first = Counters::of(&counted, &old.current());
        first.add_to(&counting, &new);
        assert_eq!(Counters::of(&counting, &new.current()), first);

        block.add_closed(2, 1);
        counted.worker(0).count_end(false);
        let last = Counters::of(&counted, &old.current());
        last.since(&first).add_to(&counting, &new);
        assert_eq!(Counters::of(&counting, &new.current()), last);
    }

    #[test]
    fn what_an_old_process_ends_counts_for_an_app_that_went_and_came_again_with_a_connection() {
        let (old, new) = (lineage(), lineage());
        for lineage in [&old, &new] {
            app(lineage).resolve(&[vec![address(1)], vec![address(3)]]);
        }
        let metrics = Metrics::new(1, CloseReason::LABELS);
        let block = app(&old).counters().block();
        block.add(AppCounter::ConnectionsAccepted, 2);
        let told = Counters::of(&metrics, &old.current());
        told.add_to(&metrics, &new);

        // A connection that is open holds its app.
        let held = app(&new);
        let config = new.current().config();
        new.advance(model::Config { apps: Vec::new(), ..config.clone() }, Origin::Signal);
        block.add_closed(2, 1);
        app(&old).endpoints().endpoints()[0].count_connected();
        Counters::of(&metrics, &old.current()).since(&told).add_to(&metrics, &new);
        new.advance(config, Origin::Signal);
        app(&new).resolve(&[vec![address(1)], vec![address(3)]]);
        drop(held);
        let counted = app(&new);
        assert_eq!(counted.counters().total(AppCounter::ConnectionsAccepted), 2);
        assert_eq!(counted.counters().closed_total(2), 1, "the end that was told of while it was removed");
        assert_eq!(counted.endpoints().endpoints()[0].total(), 1);
    }
}
