//! What an operator can do to a running process: look at its connections, and end some.
//!
//! Workers are asked in pieces, one at a time: see [`inspection`](crate::inspection).

use std::fmt;
use std::sync::Arc;

use ringway::{Clock, Mailer};
use serde::{Deserialize, Serialize};
use tokio::sync::MutexGuard;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::access_log::Asked;
use super::drain::Drains;
use super::explain::{ExplainQuery, Explanation, explain};
use super::lifecycle::Event;
use super::status::{BackendStatus, Process, backends_status, whole_milliseconds};
use crate::config;
use crate::endpoint::{AppState, Duty, Steering};
use crate::inspection::{Inquiry, Piece, Selection, Sighting, Verb};
use crate::model::{Backend, Network, NetworkError};
use crate::session::Ending;
use crate::worker::WorkerMail;

/// Connections that are listed when nobody says how many.
pub const ROWS_DEFAULT: usize = 1_000;
/// The most that are listed: some 30 MB of JSON.
pub const ROWS_MAX: usize = 100_000;

/// The wire form of a [`Selection`]: the query of `/connections`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionsQuery {
    /// Name of an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Name of a route of the app; empty: those that took none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Name of a backend, or address of an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// A network, or one address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// A duration as `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Number of one connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// How many are listed; not for ending them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Ends all connections if nothing else is named; not for listing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// `old`, or the number of a generation: those that finish in processes that the asked one follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
}

/// Why an operator's wish is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What is named is not there.
    Unknown(String),
    /// What is asked for makes no sense.
    Wrong(String),
    /// Another process serves, and goes by what it is told itself.
    Followed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(why) | Self::Wrong(why) => f.write_str(why),
            Self::Followed => f.write_str("another process has taken over; tell that one"),
        }
    }
}

/// The answer to a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectionList {
    /// How many connections fit, listed or not.
    pub matched: u64,
    /// Those that are listed, by their numbers.
    pub connections: Vec<ConnectionStatus>,
    /// Where old processes are asked: these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<OldProcess>,
}

/// A process that another one follows, and that has connections to finish.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OldProcess {
    /// 1 for the first process, one more for each upgrade.
    pub generation: u64,
    /// Its process id.
    pub pid: u32,
    /// What is left in it is cut then.
    pub seconds_left: Option<f64>,
    /// Why it cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One connection in a list. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Its number, as in the access log.
    pub id: u64,
    /// The worker that serves it.
    pub worker: u32,
    /// Name of its app.
    pub app: String,
    /// Name of the route that it took, if it took one.
    #[serde(default)]
    pub route: Option<String>,
    /// What the client speaks, where its first bytes were looked at.
    #[serde(default)]
    pub protocol: Option<String>,
    /// The server name that it asked for in TLS.
    #[serde(default)]
    pub sni: Option<String>,
    /// The host that its HTTP/1 request asked for.
    #[serde(default)]
    pub host: Option<String>,
    /// The application protocols that it offered in TLS.
    #[serde(default)]
    pub alpn: Option<String>,
    /// Name of its frontend.
    pub frontend: String,
    /// The client's address.
    pub client: String,
    /// Name of its backend, if one was chosen.
    pub backend: Option<String>,
    /// The backend's address.
    pub endpoint: Option<String>,
    /// `waiting`, `queued`, `connecting`, `relaying`, `half_closed` or `closing`.
    pub phase: String,
    /// Since it was accepted.
    pub age_seconds: f64,
    /// Since the last byte; `null` before bytes can flow.
    pub idle_seconds: Option<f64>,
    /// Bytes handed on from client to backend.
    pub bytes_sent: u64,
    /// Bytes handed on from backend to client.
    pub bytes_received: u64,
    /// Of an old process: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Of an old process: why it has not moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<Sighting> for ConnectionStatus {
    fn from(seen: Sighting) -> Self {
        let [bytes_sent, bytes_received] = seen.bytes;
        let asked = seen.asked.as_deref();
        Self {
            id: seen.connection,
            worker: seen.worker,
            app: seen.app.to_string(),
            route: seen.route.map(|name| name.to_string()),
            protocol: asked.map(|asked| asked.protocol.as_str().to_owned()),
            sni: asked.and_then(Asked::sni).map(str::to_owned),
            host: asked.and_then(Asked::host).map(str::to_owned),
            alpn: asked.and_then(|asked| asked.alpn.as_deref()).map(str::to_owned),
            frontend: seen.frontend.to_string(),
            client: seen.client.to_string(),
            backend: seen.backend.map(|name| name.to_string()),
            endpoint: seen.endpoint.map(|address| address.to_string()),
            phase: seen.stage.as_str().to_owned(),
            age_seconds: whole_milliseconds(seen.age),
            idle_seconds: seen.idle.map(whole_milliseconds),
            bytes_sent,
            bytes_received,
            generation: None,
            why: None,
        }
    }
}

/// The answer to an order to end connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// How many were ended.
    pub killed: u64,
}

/// The query of `PUT /backend`: what is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendOrder {
    /// Name of an app.
    pub app: String,
    /// Name of one of its backends.
    pub backend: String,
    /// A number, or `configured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// `ready` or `maintenance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duty: Option<String>,
}

/// Does what operators ask.
#[derive(Clone)]
pub struct Operator {
    pub(super) process: Arc<Process>,
    pub(super) workers: Vec<Mailer<WorkerMail>>,
    pub(super) events: UnboundedSender<Event>,
    pub(super) drains: Drains,
    /// Whoever looks through the connections of all workers holds it: none is between two of them then. Orders are given
    /// under it, too, so that an upgrade knows all of them.
    gate: Arc<tokio::sync::Mutex<Gate>>,
}

/// What is decided under the lock that connections go between workers under.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Another process serves.
    pub(super) is_followed: bool,
}

impl Operator {
    /// Acts on this process, with these workers; what concerns all threads goes by `events`.
    pub(super) fn new(
        process: Arc<Process>,
        workers: Vec<Mailer<WorkerMail>>,
        events: UnboundedSender<Event>,
    ) -> Self {
        Self { process, workers, events, drains: Drains::default(), gate: Arc::default() }
    }

    /// The process it acts on.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Held while connections go from one worker to another.
    pub(super) fn gate(&self) -> Arc<tokio::sync::Mutex<Gate>> {
        Arc::clone(&self.gate)
    }

    /// The drains that have a time.
    pub(super) fn drains(&self) -> Drains {
        self.drains.clone()
    }

    /// Waits until an order can be given that is not lost: not while an upgrade has told what was ordered, and nobody knows yet
    /// which process is to go by it.
    ///
    /// # Errors
    /// `Followed` when that is another one.
    pub(super) async fn turn(&self) -> Result<MutexGuard<'_, Gate>, Refusal> {
        let gate = self.gate.lock().await;
        if gate.is_followed { Err(Refusal::Followed) } else { Ok(gate) }
    }

    /// Lists connections.
    ///
    /// # Errors
    /// When the query names what is not there, or makes no sense.
    pub async fn list(&self, query: &ConnectionsQuery) -> Result<ConnectionList, Refusal> {
        if query.all.is_some() {
            return Err(Refusal::Wrong("`all` is for ending connections".to_owned()));
        }
        let limit = query.limit.unwrap_or(ROWS_DEFAULT);
        if limit > ROWS_MAX {
            return Err(Refusal::Wrong(format!("limit: {limit}; expected at most {ROWS_MAX}")));
        }
        let selection = Arc::new(self.selection(query)?);
        let _none_moves = self.gate.lock().await;
        let mut list = ConnectionList::default();
        for worker in &self.workers {
            let mut from = Some(0);
            while let Some(start) = from {
                let verb = Verb::List { rows_max: limit - list.connections.len() };
                let Some(piece) = ask(worker, &selection, verb, start).await else { break };
                list.matched += piece.matched;
                list.connections.extend(piece.rows.into_iter().map(ConnectionStatus::from));
                from = piece.next;
            }
        }
        list.connections.sort_by_key(|connection| connection.id);
        Ok(list)
    }

    /// Ends connections because an operator says so.
    ///
    /// # Errors
    /// When the query names what is not there, or makes no sense, or names nothing and does not say `all`.
    pub async fn kill(&self, query: &ConnectionsQuery) -> Result<Killed, Refusal> {
        if query.limit.is_some() {
            return Err(Refusal::Wrong("`limit` is for listing connections".to_owned()));
        }
        let selection = self.selection(query)?;
        if selection.is_everything() && query.all != Some(true) {
            return Err(Refusal::Wrong("nothing says which connections; `all` ends all of them".to_owned()));
        }
        let killed = self.close(selection, Ending::Killed).await;
        tracing::info!(killed, selection = ?query, "connections killed by an operator");
        Ok(Killed { killed })
    }

    /// Where a client would go now.
    ///
    /// # Errors
    /// When the query names what is not there, or says what no client can.
    pub fn explain(&self, query: &ExplainQuery) -> Result<Explanation, Refusal> {
        explain(&*self.find_app(&query.app)?, query, Clock::process().now())
    }

    /// What a backend is and does.
    ///
    /// # Errors
    /// When there is no such app or backend.
    pub fn backend(&self, app: &str, backend: &str) -> Result<BackendStatus, Refusal> {
        let pools = self.find_backend(app, backend)?;
        let status =
            |pool: &Arc<AppState>| backends_status(pool).into_iter().find(|status| status.name == backend);
        // One that several routes share is the sum of what it is to each.
        let merged = pools.iter().filter_map(status).reduce(|mut all, one| {
            all.endpoints.extend(one.endpoints);
            all
        });
        merged.ok_or_else(|| Refusal::Unknown("it is gone".to_owned()))
    }

    /// Gives a backend another weight, or takes it out of duty, or back in. When this is done all workers go by it.
    ///
    /// # Errors
    /// When the order names what is not there, or makes no sense, or another process serves.
    pub async fn order_backend(&self, order: &BackendOrder) -> Result<BackendStatus, Refusal> {
        let _turn = self.turn().await?;
        let pools = self.find_backend(&order.app, &order.backend)?;
        let wrong = |key: &str, found: &str, expected: &str| {
            Refusal::Wrong(format!("{key}: \"{found}\"; expected {expected}"))
        };
        let weight = match order.weight.as_deref() {
            None => None,
            Some("configured") => Some(None),
            Some(text) => {
                let weight = text.parse().ok().filter(|weight| *weight <= Backend::WEIGHT_MAX);
                let expected = "a number from 0 to 256, or configured";
                Some(Some(weight.ok_or_else(|| wrong("weight", text, expected))?))
            }
        };
        let duty = match order.duty.as_deref() {
            None => None,
            Some("ready") => Some(Duty::Ready),
            Some("maintenance") => Some(Duty::Maintenance),
            Some(text) => return Err(wrong("duty", text, "ready or maintenance")),
        };
        if duty.is_some() {
            self.drains.forget(&order.app, Some(&order.backend));
        }
        for pool in pools {
            let said = self.steering_of(&pool, &order.backend);
            let steering =
                Steering { weight: weight.unwrap_or(said.weight), duty: duty.unwrap_or(said.duty) };
            self.steer(&pool, &order.backend, steering).await;
        }
        self.backend(&order.app, &order.backend)
    }

    /// Has all threads go by what an operator said of a backend. Under the gate.
    pub(super) async fn steer(&self, app: &AppState, backend: &str, steering: Steering) {
        if app.steer(backend, steering).is_some() {
            let duty = steering.duty.as_str();
            let weight = steering.weight.map_or_else(|| "configured".to_owned(), |weight| weight.to_string());
            let route = app.route().map(|route| &**route);
            tracing::info!(app = %app.name(), route, backend, duty, weight, "an operator changed a backend");
            for worker in &self.workers {
                worker.send(WorkerMail::Endpoints { app: app.slot() });
            }
            // For the prober. Nobody reads any more when the process ends.
            let _ = self.events.send(Event::Endpoints { app: app.slot() });
            self.wait_for_workers().await;
        }
    }

    /// Waits until all workers have read what was sent to them before.
    pub(super) async fn wait_for_workers(&self) {
        let nobody = Arc::new(Selection::default());
        for worker in &self.workers {
            ask(worker, &nobody, Verb::List { rows_max: 0 }, u32::MAX).await;
        }
    }

    pub(super) fn steering_of(&self, app: &AppState, backend: &str) -> Steering {
        let entry = app.model().backends.iter().find(|entry| entry.name == backend);
        entry.map(|entry| app.steering(entry)).unwrap_or_default()
    }

    /// An app of the configuration.
    pub(super) fn find_app(&self, name: &str) -> Result<Arc<AppState>, Refusal> {
        let snapshot = self.process.lineage.current();
        let names: Vec<&str> = snapshot.apps().map(|app| &**app.name()).collect();
        let found = snapshot.apps().find(|app| &**app.name() == name).cloned();
        found.ok_or_else(|| unknown("app", name, &names))
    }

    /// The app and the pools of it that have such a backend: at least one.
    pub(super) fn find_backend(&self, app: &str, backend: &str) -> Result<Vec<Arc<AppState>>, Refusal> {
        let state = self.find_app(app)?;
        let has_it = |pool: &&Arc<AppState>| pool.model().backends.iter().any(|entry| entry.name == backend);
        let found: Vec<Arc<AppState>> = state.with_pools().filter(has_it).cloned().collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let entries = state.with_pools().flat_map(|pool| &pool.model().backends);
        let names: Vec<&str> = entries.map(|entry| entry.name.as_str()).collect();
        Err(unknown("backend", backend, &names))
    }

    /// Ends connections; says how many.
    pub async fn close(&self, selection: Selection, ending: Ending) -> u64 {
        let gate = self.gate.lock().await;
        self.close_under(&gate, selection, ending).await
    }

    /// The same for whoever holds the gate: no connection moves.
    pub(super) async fn close_under(&self, _gate: &Gate, selection: Selection, ending: Ending) -> u64 {
        let selection = Arc::new(selection);
        let mut closed = 0;
        for worker in &self.workers {
            let mut from = Some(0);
            while let Some(start) = from {
                let Some(piece) = ask(worker, &selection, Verb::Close(ending), start).await else { break };
                closed += piece.matched;
                from = piece.next;
            }
        }
        closed
    }

    /// Ends at most so many connections, of each worker about as many; says how many.
    pub async fn close_some(&self, selection: Selection, ending: Ending, most: u64) -> u64 {
        let selection = Arc::new(selection);
        let _none_moves = self.gate.lock().await;
        let mut closed = 0;
        for (index, worker) in self.workers.iter().enumerate() {
            // Rounded up: what one worker does not have another one may.
            let mut left = (most - closed).div_ceil((self.workers.len() - index) as u64);
            let mut from = Some(0);
            while let Some(start) = from.filter(|_| left > 0) {
                let verb = Verb::CloseSome { ending, most: left };
                let Some(piece) = ask(worker, &selection, verb, start).await else { break };
                closed += piece.matched;
                left = left.saturating_sub(piece.matched);
                from = piece.next;
            }
        }
        closed
    }

    fn selection(&self, query: &ConnectionsQuery) -> Result<Selection, Refusal> {
        if let Some(name) = &query.app {
            self.check_app(name)?;
        }
        if let Some(route) = &query.route {
            self.check_route(query.app.as_deref(), route)?;
        }
        if let Some(name) = &query.backend {
            self.check_backend(query.app.as_deref(), name)?;
        }
        let source = match &query.source {
            Some(text) => Some(network(text)?),
            None => None,
        };
        let older_than = match &query.older_than {
            Some(text) => Some(config::duration(text).ok_or_else(|| {
                Refusal::Wrong(format!("older_than: \"{text}\"; expected a duration as 30s or 5m"))
            })?),
            None => None,
        };
        Ok(Selection {
            app: query.app.clone(),
            route: query.route.clone(),
            backend: query.backend.clone(),
            source,
            older_than,
            connection: query.id,
        })
    }

    fn check_app(&self, name: &str) -> Result<(), Refusal> {
        // Those that were removed as well, as long as they have connections.
        let living = self.process.lineage.living();
        let names: Vec<&str> = living.iter().map(|app| &**app.name()).collect();
        if names.contains(&name) { Ok(()) } else { Err(unknown("app", name, &names)) }
    }

    fn check_route(&self, app: Option<&str>, name: &str) -> Result<(), Refusal> {
        let Some(app) = app else {
            return Err(Refusal::Wrong("a route is named, and not its app".to_owned()));
        };
        let living = self.process.lineage.living_pools();
        let of_app = living.iter().filter(|core| &**core.name() == app).filter_map(|core| core.route());
        let names: Vec<&str> = of_app.map(|route| &**route).collect();
        match name.is_empty() || names.contains(&name) {
            true => Ok(()),
            false => Err(unknown("route", name, &names)),
        }
    }

    /// A backend of the app, or of any, by its name or by the address of an endpoint.
    fn check_backend(&self, app: Option<&str>, name: &str) -> Result<(), Refusal> {
        let snapshot = self.process.lineage.current();
        let apps = || snapshot.pools().filter(|state| app.is_none_or(|app| app == &**state.name()));
        let names: Vec<&str> =
            apps().flat_map(|app| &app.model().backends).map(|backend| backend.name.as_str()).collect();
        let is_address = |state: &AppState| {
            state.endpoints().endpoints().iter().any(|endpoint| endpoint.address().to_string() == name)
        };
        if names.contains(&name) || apps().any(|state| is_address(state)) {
            return Ok(());
        }
        Err(unknown("backend", name, &names))
    }
}

/// One piece; none if the worker has ended.
async fn ask(
    worker: &Mailer<WorkerMail>,
    selection: &Arc<Selection>,
    verb: Verb,
    from: u32,
) -> Option<Piece> {
    let (reply, mut answer) = unbounded_channel();
    worker.send(WorkerMail::Inspect(Inquiry { selection: Arc::clone(selection), verb, from, reply }));
    answer.recv().await
}

fn unknown(what: &str, name: &str, names: &[&str]) -> Refusal {
    let hint = config::nearest_name(name, names).map(|near| format!("; did you mean \"{near}\"?"));
    Refusal::Unknown(format!("no {what} is called \"{name}\"{}", hint.unwrap_or_default()))
}

fn network(text: &str) -> Result<Network, Refusal> {
    Network::parse(text).map_err(|error| {
        Refusal::Wrong(match error {
            NetworkError::Malformed => {
                format!("source: \"{text}\"; expected a network as 10.0.0.0/8 or an address")
            }
            NetworkError::HostBits(meant) => {
                format!("source: \"{text}\"; the network of that address is \"{meant}\"")
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::testing;

    fn operator() -> Operator {
        Operator::new(Arc::new(testing::process()), Vec::new(), unbounded_channel().0)
    }

    fn query(text: &str) -> ConnectionsQuery {
        serde_urlencoded::from_str(text).expect("a query")
    }

    #[tokio::test]
    async fn a_wish_that_makes_no_sense_is_refused_in_words() {
        for (text, wanted) in [
            ("app=ap", "no app is called \"ap\"; did you mean \"app\"?"),
            ("app=app&backend=b0:81", "no backend is called \"b0:81\"; did you mean \"b0:80\"?"),
            ("source=here", "source: \"here\"; expected a network as 10.0.0.0/8 or an address"),
            ("source=10.1.2.3/8", "source: \"10.1.2.3/8\"; the network of that address is \"10.0.0.0/8\""),
            ("older_than=5", "older_than: \"5\"; expected a duration as 30s or 5m"),
            ("limit=100001", "limit: 100001; expected at most 100000"),
            ("all=true", "`all` is for ending connections"),
        ] {
            let refusal = operator().list(&query(text)).await.expect_err(text);
            assert_eq!(refusal.to_string(), wanted);
        }
        assert!(serde_urlencoded::from_str::<ConnectionsQuery>("apps=x").is_err());
    }

    #[tokio::test]
    async fn nothing_is_killed_by_an_order_that_names_nothing() {
        assert!(operator().kill(&query("")).await.is_err());
        assert!(operator().kill(&query("limit=3")).await.is_err());
        assert_eq!(operator().kill(&query("all=true")).await, Ok(Killed { killed: 0 }));
        assert_eq!(operator().kill(&query("backend=127.0.0.1:3000")).await, Ok(Killed { killed: 0 }));
    }

    #[tokio::test]
    async fn a_backend_takes_orders_one_by_one() {
        let operator = operator();
        let order = async |text: &str| {
            let order =
                serde_urlencoded::from_str(&format!("app=app&backend=b0:80&{text}")).expect("a query");
            operator.order_backend(&order).await.map(|status| (status.weight_override, status.duty))
        };
        assert_eq!(order("weight=9").await, Ok((Some(9), "ready".to_owned())));
        assert_eq!(order("duty=maintenance").await, Ok((Some(9), "maintenance".to_owned())));
        assert_eq!(order("weight=configured").await, Ok((None, "maintenance".to_owned())));
        assert_eq!(order("duty=ready").await, Ok((None, "ready".to_owned())));
        for (text, wanted) in [
            ("weight=257", "weight: \"257\"; expected a number from 0 to 256, or configured"),
            ("duty=gone", "duty: \"gone\"; expected ready or maintenance"),
        ] {
            assert_eq!(order(text).await.expect_err(text).to_string(), wanted);
        }
        assert!(operator.backend("app", "b2:80").is_err());
    }

    #[tokio::test]
    async fn order_waits_while_an_upgrade_decides_and_is_refused_by_a_process_that_is_followed() {
        for is_followed in [false, true] {
            let operator = operator();
            let text = "app=app&backend=b0:80&duty=maintenance";
            let order = serde_urlencoded::from_str(text).expect("a query");
            let drain = serde_urlencoded::from_str("app=app").expect("a query");
            let mut gate = operator.gate().lock_owned().await;
            let app = operator.find_app("app").expect("it is there");
            let orders = async { tokio::join!(operator.order_backend(&order), operator.drain(&drain)) };
            let open_gate = async {
                tokio::task::yield_now().await;
                assert_eq!(operator.steering_of(&app, "b0:80"), Steering::default());
                assert!(!app.core().is_drained());
                gate.is_followed = is_followed;
                drop(gate);
            };
            let ((ordered, drained), ()) = tokio::join!(orders, open_gate);
            assert_eq!(
                ordered.map(|status| status.duty).ok().as_deref(),
                (!is_followed).then_some("maintenance")
            );
            assert_eq!(app.core().is_drained(), !is_followed);
            assert_eq!(drained.err(), is_followed.then_some(Refusal::Followed));
        }
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        assert_eq!(network("10.0.0.1"), network("10.0.0.1/32"));
        assert_eq!(network("::1"), network("::1/128"));
        assert!(network("10.0.0.1/33").is_err());
    }
}
