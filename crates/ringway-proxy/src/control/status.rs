//! What the process does at this moment: the data behind `/status` and the readings of `/metrics`.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ringway::Clock;
use ringway::tls::{CertificateProblem, CertificateReport, CertificateStore};
use serde::{Deserialize, Serialize};

use super::certificates::seconds_now;
use super::timestamp::Timestamp;
use crate::admission::Admission;
use crate::endpoint::{AppState, Endpoint};
use crate::metrics::page::{self, Sample};
use crate::metrics::{Metrics, Reading};
use crate::model;
use crate::snapshot::{Lineage, Snapshot};

/// Certificates of an app on the status page and among the metrics: whoever has more looks at those that expire first.
const CERTIFICATES_SHOWN_MAX: usize = 100;

/// The parts of a running process that can be looked at.
pub struct Process {
    /// When it started.
    pub started: Instant,
    /// The engine of its workers: `epoll` or `io_uring`.
    pub engine: &'static str,
    /// Why it is that one.
    pub engine_reason: String,
    /// Worker threads.
    pub workers: usize,
    /// The limit on connections.
    pub admission: Arc<Admission>,
    /// The configuration, and the apps.
    pub lineage: Arc<Lineage>,
    /// All counters.
    pub metrics: Arc<Metrics>,
}

/// The status page. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Since the start.
    pub uptime_seconds: f64,
    /// The engine of the workers.
    pub engine: String,
    /// Why it is that one.
    pub engine_reason: String,
    /// Worker threads.
    pub workers: usize,
    /// Connections of clients that are open in each worker, those included that wait.
    #[serde(default)]
    pub worker_connections: Vec<u64>,
    /// Connections of clients that are open.
    pub connections: u32,
    /// The most connections of clients at once.
    pub connection_limit: u32,
    /// The configuration that runs.
    pub config: ConfigStatus,
    /// The apps, in the order of the configuration.
    pub apps: Vec<AppStatus>,
}

/// The configuration on the status page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Its version: 1 at the start, one more with each change.
    pub version: u64,
    /// What brought it about: `start`, `SIGHUP`, `admin` …
    pub origin: String,
    /// When, in RFC 3339.
    pub time: String,
}

/// An app on the status page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub name: String,
    /// Connections of clients that are open.
    pub connections: u32,
    /// Of these, how many wait for a backend with room.
    #[serde(default)]
    pub queued: u32,
    /// What an operator said: `ready` or `draining`.
    #[serde(default)]
    pub duty: String,
    /// So few backends are healthy that health is not asked for.
    #[serde(default)]
    pub panic: bool,
    /// Its frontends, in the order of the configuration.
    pub frontends: Vec<FrontendStatus>,
    /// How many certificates it ends TLS with.
    #[serde(default)]
    pub certificates_total: usize,
    /// Those that expire first, at most 100.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Its backends, in the order of the configuration.
    pub backends: Vec<BackendStatus>,
    /// Its routes, in the order of the configuration.
    #[serde(default)]
    pub routes: Vec<RouteStatus>,
}

/// A route on the status page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// Connections of clients that took it and are open.
    pub connections: u32,
    /// So few of its backends are healthy that health is not asked for.
    pub panic: bool,
    /// Its backends, in the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// A frontend on the status page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontendStatus {
    /// As written in the configuration.
    pub name: String,
    /// What it is bound to; `null` while it is not.
    pub address: Option<String>,
    /// Workers that listen on it.
    pub workers: usize,
    /// Why it could not be bound, while that is being tried again.
    pub error: Option<String>,
}

/// A certificate on the status page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// The file of its chain.
    pub file: String,
    /// The first of its names.
    pub name: Option<String>,
    /// How many names it has.
    pub names: usize,
    /// When it expires, in RFC 3339.
    pub expires: String,
    /// Whole days until then; negative if it has.
    pub days_left: i64,
    /// Why it cannot be served, as far as that is known.
    pub problem: Option<String>,
}

/// A backend on the status page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// As written in the configuration.
    pub name: String,
    /// Share relative to the others, as configured.
    pub weight: u16,
    /// What an operator put in its place.
    pub weight_override: Option<u16>,
    /// What an operator said: `ready`, `maintenance` or `draining`.
    pub duty: String,
    /// Used only while no other backend is available.
    pub backup: bool,
    /// Its addresses; none while its name is not resolved.
    pub endpoints: Vec<EndpointStatus>,
}

/// An endpoint on the status page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Its address.
    pub address: String,
    /// Share relative to the others, as it is now; for a service by its record.
    #[serde(default)]
    pub weight: u16,
    /// Used only while no other is available.
    #[serde(default)]
    pub backup: bool,
    /// `up`, `down` or `ejected`.
    pub health: String,
    /// For how long it has been so.
    pub since_seconds: f64,
    /// Why it is not up.
    pub reason: Option<String>,
    /// Until it is taken back, if too many of its connections failed; zero if a check has to be good first.
    #[serde(default)]
    pub ejected_seconds_left: Option<f64>,
    /// Connections open to it, dials included.
    pub connections: u32,
    /// Connections opened to it since it became an endpoint.
    pub connections_total: u64,
    /// Dials to it that failed.
    pub connect_failures: u64,
}

impl Process {
    /// The status page.
    pub fn status(&self) -> Status {
        let snapshot = self.lineage.current();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: whole_milliseconds(self.started.elapsed()),
            engine: self.engine.to_owned(),
            engine_reason: self.engine_reason.clone(),
            workers: self.workers,
            worker_connections: self.metrics.open_by_worker(),
            connections: self.admission.open(),
            connection_limit: self.admission.connections_max(),
            config: config_status(&snapshot),
            apps: snapshot.apps().map(|app| app_status(app)).collect(),
        }
    }

    /// The metrics page. An app that was removed is on it until its last connection has ended.
    pub fn metrics_page(&self) -> String {
        let apps = self.lineage.living();
        let counters = apps.iter().map(|app| (&**app.name(), app.counters()));
        page::write_page(&self.metrics, counters, &self.samples())
    }

    /// The readings of the metrics page.
    pub fn samples(&self) -> Vec<Sample> {
        let version = env!("CARGO_PKG_VERSION");
        let mut samples = vec![
            Sample::new(Reading::BuildInfo, [version], 1u32),
            Sample::new(Reading::UptimeSeconds, [""; 0], self.started.elapsed().as_secs_f64()),
            // Threads are few: no precision is lost.
            Sample::new(Reading::Workers, [self.engine], self.workers as f64),
            Sample::new(Reading::ConnectionLimit, [""; 0], self.admission.connections_max()),
        ];
        for (worker, open) in self.metrics.open_by_worker().into_iter().enumerate() {
            // Exact up to 2^53.
            samples.push(Sample::new(Reading::WorkerConnections, [&worker.to_string()], open as f64));
        }
        for app in self.lineage.living() {
            samples.push(Sample::new(Reading::Connections, [&**app.name()], app.active().get()));
            samples.push(Sample::new(Reading::QueuedConnections, [&**app.name()], app.queue().waiting()));
        }
        for app in self.lineage.current().apps() {
            for frontend in app.frontends() {
                let workers = frontend.listening().workers as f64;
                let labels = [&**app.name(), &**frontend.name()];
                samples.push(Sample::new(Reading::FrontendListening, labels, workers));
            }
        }
        for app in self.lineage.current().apps() {
            let Some(store) = app.certificates() else { continue };
            // Exact up to 2^53.
            samples.push(Sample::new(Reading::Certificates, [&**app.name()], store.len() as f64));
            for certificate in certificates_status(store, seconds_now()) {
                let labels = [&**app.name(), &*certificate.file];
                let days = certificate.days_left as f64;
                samples.push(Sample::new(Reading::CertificateDaysLeft, labels, days));
            }
        }
        for pool in self.lineage.current().pools() {
            let (app, route) = (&**pool.name(), pool.route().map_or("", |route| route));
            let panic = u32::from(pool.endpoints().is_panicking());
            samples.push(Sample::new(Reading::AppPanic, [app, route], panic));
            if !route.is_empty() {
                samples.push(Sample::new(Reading::RouteConnections, [app, route], pool.active().get()));
            }
            for backend in &pool.model().backends {
                let weight = pool.steering(backend).weight(backend.weight);
                samples.push(Sample::new(Reading::BackendWeight, [app, route, &backend.name], weight));
            }
            for endpoint in pool.endpoints().endpoints() {
                let address = endpoint.address().to_string();
                let labels = [app, route, &**endpoint.name(), &address];
                let is_up = u32::from(endpoint.is_available());
                let active = endpoint.active().get();
                samples.push(Sample::new(Reading::EndpointUp, labels, is_up));
                samples.push(Sample::new(Reading::EndpointConnections, labels, active));
                // Exact up to 2^53.
                let total = endpoint.total() as f64;
                samples.push(Sample::new(Reading::EndpointConnectionsTotal, labels, total));
            }
        }
        samples
    }
}

fn config_status(snapshot: &Snapshot) -> ConfigStatus {
    ConfigStatus {
        version: snapshot.version(),
        origin: snapshot.origin().to_string(),
        time: Timestamp(snapshot.time()).to_string(),
    }
}

pub(super) fn app_status(app: &AppState) -> AppStatus {
    AppStatus {
        name: app.name().to_string(),
        connections: app.active().get(),
        queued: app.core().queue().waiting(),
        duty: if app.core().is_drained() { "draining" } else { "ready" }.to_owned(),
        panic: app.endpoints().is_panicking(),
        frontends: app
            .frontends()
            .iter()
            .map(|frontend| {
                let listening = frontend.listening();
                FrontendStatus {
                    name: frontend.name().to_string(),
                    address: listening.address.map(|address| address.to_string()),
                    workers: listening.workers,
                    error: listening.error,
                }
            })
            .collect(),
        certificates_total: app.certificates().map_or(0, |store| store.len()),
        certificates: app
            .certificates()
            .map(|store| certificates_status(store, seconds_now()))
            .unwrap_or_default(),
        backends: backends_status(app),
        routes: app.pools().iter().map(|pool| route_status(pool)).collect(),
    }
}

/// The certificates that expire first.
fn certificates_status(store: &CertificateStore, now: i64) -> Vec<CertificateStatus> {
    let mut first: Vec<CertificateReport<'_>> = store.reports().collect();
    if first.len() > CERTIFICATES_SHOWN_MAX {
        first.select_nth_unstable_by_key(CERTIFICATES_SHOWN_MAX, |report| report.not_after);
        first.truncate(CERTIFICATES_SHOWN_MAX);
    }
    first.sort_by_key(|report| report.not_after);
    let status = |report: CertificateReport<'_>| CertificateStatus {
        file: report.chain.display().to_string(),
        name: report.name.map(str::to_owned),
        names: report.names,
        expires: Timestamp(time_of(report.not_after)).to_string(),
        days_left: (report.not_after - now).div_euclid(86_400),
        problem: report.problem.map(CertificateProblem::to_string),
    };
    first.into_iter().map(status).collect()
}

/// A second, counted from the beginning of 1970; before that it is 1970.
fn time_of(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn route_status(pool: &AppState) -> RouteStatus {
    RouteStatus {
        name: pool.route().map(|route| route.to_string()).unwrap_or_default(),
        connections: pool.active().get(),
        panic: pool.endpoints().is_panicking(),
        backends: backends_status(pool),
    }
}

/// The backends of an app or pool.
pub(super) fn backends_status(pool: &AppState) -> Vec<BackendStatus> {
    let set = pool.endpoints();
    let endpoints_of = |index| set.endpoints().iter().filter(move |endpoint| endpoint.backend() == index);
    let status = |(index, backend): (usize, &model::Backend)| {
        let steering = pool.steering(backend);
        BackendStatus {
            name: backend.name.clone(),
            weight: backend.weight,
            weight_override: steering.weight,
            duty: steering.duty.as_str().to_owned(),
            backup: backend.backup,
            endpoints: endpoints_of(index).map(|endpoint| endpoint_status(endpoint)).collect(),
        }
    };
    pool.model().backends.iter().enumerate().map(status).collect()
}

fn endpoint_status(endpoint: &Endpoint) -> EndpointStatus {
    let (health, since, _) = endpoint.health_report();
    let now = Clock::process().now();
    let left = endpoint.is_outlier().then(|| endpoint.last_ejection().until.since(now));
    EndpointStatus {
        address: endpoint.address().to_string(),
        weight: endpoint.weight(),
        backup: endpoint.is_backup(),
        health: health.as_str().to_owned(),
        since_seconds: whole_milliseconds(now.since(since)),
        reason: endpoint.reason(),
        ejected_seconds_left: left.map(whole_milliseconds),
        connections: endpoint.active().get(),
        connections_total: endpoint.total(),
        connect_failures: endpoint.connect_failures(),
    }
}

pub(super) fn whole_milliseconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::endpoint::testing::app_of_hosts;

    /// A process with one app, one backend at 127.0.0.1:3000 that is down, and nothing listening.
    pub(crate) fn process() -> Process {
        let lineage = Arc::new(Lineage::of_apps(vec![app_of_hosts(&[(1, false), (2, true)])]));
        let app = Arc::clone(lineage.current().app(0).expect("there is one"));
        let address: std::net::SocketAddr = ([127, 0, 0, 1], 3000).into();
        let set = app.resolve(&[vec![address.into()], vec![]]).expect("an address is new");
        let refused = crate::endpoint::DialFailure::Refused;
        set.endpoints()[0].eject(refused, Clock::process().now());
        set.endpoints()[0].count_connect_failure();
        let metrics = Arc::new(Metrics::new(1, &[]));
        Process {
            started: Instant::now(),
            engine: "epoll",
            engine_reason: "chosen by the test".to_owned(),
            workers: 2,
            admission: Arc::new(Admission::new(100)),
            lineage,
            metrics,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_names_every_backend_even_one_without_an_address() {
        let status = testing::process().status();
        assert_eq!((status.connections, status.connection_limit, status.workers), (0, 100, 2));
        let app = &status.apps[0];
        assert_eq!(app.frontends[0].address, None);
        let [first, second] = &app.backends[..] else { panic!("two backends") };
        let endpoint = &first.endpoints[0];
        assert_eq!((endpoint.health.as_str(), endpoint.reason.as_deref()), ("ejected", Some("refused")));
        assert_eq!(endpoint.connect_failures, 1);
        assert!(second.endpoints.is_empty() && second.backup);
    }

    #[test]
    fn reference_page_names_every_field() {
        fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                    found.push(key.clone());
                    keys(value, found);
                }),
                serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
                _ => {}
            }
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/admin.md");
        let page = std::fs::read_to_string(path).expect("the page exists");
        let table = page.split("```console").next().expect("a table comes first");
        let mut found = Vec::new();
        keys(&serde_json::to_value(testing::process().status()).expect("it is data"), &mut found);
        for key in found {
            let is_named = [format!("`{key}`"), format!(".{key}`"), format!("`{key}["), format!(".{key}[")];
            assert!(is_named.iter().any(|form| table.contains(form)), "docs/reference/admin.md lacks {key}");
        }
    }

    #[test]
    fn readings_cover_frontends_and_endpoints() {
        let process = testing::process();
        let page = process.metrics_page();
        for line in [
            "ringway_workers{engine=\"epoll\"} 2",
            "ringway_connection_limit 100",
            "ringway_frontend_listening{app=\"app\",frontend=\"127.0.0.1:0\"} 0",
            "ringway_backend_weight{app=\"app\",backend=\"b1:80\"} 2",
            "ringway_endpoint_up{app=\"app\",backend=\"b0:80\",endpoint=\"127.0.0.1:3000\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "no line {line} in\n{page}");
        }
    }
}
