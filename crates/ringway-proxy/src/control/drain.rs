//! Draining while the process runs: no new connections for an app or a backend, those that are open may finish.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway::{Clock, Time};
use serde::{Deserialize, Serialize};

use super::lifecycle::Event;
use super::operator::{Operator, Refusal};
use super::status::whole_milliseconds;
use crate::config;
use crate::endpoint::{AppState, Duty, Steering};
use crate::inspection::Selection;
use crate::session::Ending;
use crate::worker::WorkerMail;

/// How long the connections of a backend may take to finish when nobody says how long.
const BACKEND_TIMEOUT: Duration = Duration::from_secs(30);

/// The query of `/drain`: an app, a backend of it, or, with neither, the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainQuery {
    /// Name of an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Name of one of its backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// For how long connections may finish, as `30s`; what is open then is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

impl DrainQuery {
    /// Whether it is about the process as a whole.
    fn is_of_process(&self) -> bool {
        self.app.is_none() && self.backend.is_none()
    }
}

/// How a drain goes. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// `ready`: nothing drains; `draining`: connections are open; `drained`: none is.
    pub state: String,
    /// Connections that are open.
    pub connections: u32,
    /// Until those that are open are ended; `null` if they may take as long as they like.
    pub seconds_left: Option<f64>,
    /// Connections that were ended because the time was over.
    pub cut: u64,
}

/// The drains that have a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Drains(Arc<Mutex<HashMap<Target, Drain>>>);

/// Name of an app, and of a backend of it.
type Target = (String, Option<String>);

/// An app, or pools of one that have a backend: at least one.
type Pools = Vec<Arc<AppState>>;

#[derive(Clone, Copy, Debug)]
struct Drain {
    /// By the process clock, which another process goes on with.
    until: Time,
    /// Its time is over, and so many connections were ended.
    cut: Option<u64>,
}

/// A drain that has a time, as another process goes on with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DrainRecord {
    app: String,
    backend: Option<String>,
    /// In nanoseconds of the process clock.
    until: u64,
    /// Connections that were ended because the time was over, if it is.
    cut: Option<u64>,
}

impl Drains {
    /// All of them, in an order that depends on nothing else.
    pub(super) fn records(&self) -> Vec<DrainRecord> {
        let record = |((app, backend), drain): (&Target, &Drain)| DrainRecord {
            app: app.clone(),
            backend: backend.clone(),
            until: drain.until.as_nanos(),
            cut: drain.cut,
        };
        let mut records: Vec<_> = self.lock().iter().map(record).collect();
        records.sort();
        records
    }

    /// What was to be ended in a while stays.
    pub(super) fn forget(&self, app: &str, backend: Option<&str>) {
        self.lock().remove(&(app.to_owned(), backend.map(str::to_owned)));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Target, Drain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operator {
    /// How a drain goes.
    ///
    /// # Errors
    /// When the query names what is not there.
    pub fn drain_status(&self, query: &DrainQuery) -> Result<DrainStatus, Refusal> {
        if query.is_of_process() {
            let connections = self.process.admission.open();
            return Ok(DrainStatus { state: "ready".to_owned(), connections, seconds_left: None, cut: 0 });
        }
        let (app, pools) = self.drain_target(query)?;
        let (connections, drains) = match &query.backend {
            None => (pools[0].active().get(), pools[0].core().is_drained()),
            Some(backend) => {
                let sets: Vec<_> = pools.iter().map(|pool| pool.endpoints()).collect();
                let all = sets.iter().flat_map(|set| set.endpoints());
                let own = all.filter(|endpoint| **endpoint.name() == **backend);
                let drains = |pool| self.steering_of(pool, backend).duty == Duty::Draining;
                (own.map(|endpoint| endpoint.active().get()).sum(), pools.iter().all(|pool| drains(pool)))
            }
        };
        let drain = self.drains.lock().get(&(app, query.backend.clone())).copied();
        // What waits in the queue of a listener that is being closed comes still; what is being ended is counted first.
        let listens = query.backend.is_none()
            && pools[0].frontends().iter().any(|frontend| frontend.listening().workers > 0);
        let is_ending =
            drain.is_some_and(|drain| drain.cut.is_none() && Clock::process().now() >= drain.until);
        let is_done = connections == 0 && !listens && !is_ending;
        Ok(DrainStatus {
            state: match (drains, is_done) {
                (false, _) => "ready",
                (true, true) => "drained",
                (true, false) => "draining",
            }
            .to_owned(),
            connections,
            seconds_left: drain.map(|drain| whole_milliseconds(drain.until.since(Clock::process().now()))),
            cut: drain.and_then(|drain| drain.cut).unwrap_or(0),
        })
    }

    /// Begins a drain. When this is done, all workers go by it.
    ///
    /// # Errors
    /// When the query names what is not there, or makes no sense, or another process serves.
    pub async fn drain(&self, query: &DrainQuery) -> Result<DrainStatus, Refusal> {
        let timeout = match &query.timeout {
            Some(text) => Some(config::duration(text).ok_or_else(|| {
                Refusal::Wrong(format!("timeout: \"{text}\"; expected a duration as 30s or 5m"))
            })?),
            None => query.backend.as_ref().map(|_| BACKEND_TIMEOUT),
        };
        if query.is_of_process() {
            if timeout.is_some() {
                let why = "timeout: the process drains for server.drain_timeout";
                return Err(Refusal::Wrong(why.to_owned()));
            }
            // Nobody reads any more when the process ends.
            let _ = self.events.send(Event::Drain);
            let status = self.drain_status(query)?;
            return Ok(DrainStatus { state: "draining".to_owned(), ..status });
        }
        let _turn = self.turn().await?;
        let (app, pools) = self.drain_target(query)?;
        for pool in &pools {
            self.set_draining(pool, query.backend.as_deref(), true).await;
        }
        self.drains.forget(&app, query.backend.as_deref());
        if let Some(timeout) = timeout {
            let until = Clock::process().now() + timeout;
            self.begin((app, query.backend.clone()), Drain { until, cut: None });
        }
        self.drain_status(query)
    }

    fn begin(&self, target: Target, drain: Drain) {
        self.drains.lock().insert(target.clone(), drain);
        if drain.cut.is_none() {
            tokio::spawn(self.clone().end_at(target, drain.until));
        }
    }

    /// Goes on with drains of the process before, for the time that is left of each.
    pub(super) fn go_on_with(&self, drains: Vec<DrainRecord>) {
        for DrainRecord { app, backend, until, cut } in drains {
            self.begin((app, backend), Drain { until: Time::from_nanos(until), cut });
        }
    }

    /// Ends a drain: new connections may come again.
    ///
    /// # Errors
    /// When the query names what is not there, or the process, or another process serves.
    pub async fn undrain(&self, query: &DrainQuery) -> Result<DrainStatus, Refusal> {
        if query.is_of_process() {
            let why = "a process that drains cannot be told to go on; name an app or a backend";
            return Err(Refusal::Wrong(why.to_owned()));
        }
        let _turn = self.turn().await?;
        let (app, pools) = self.drain_target(query)?;
        self.drains.forget(&app, query.backend.as_deref());
        for pool in &pools {
            self.set_draining(pool, query.backend.as_deref(), false).await;
        }
        self.drain_status(query)
    }

    /// The name of the app that is meant, and the app; or the pools of it that have the backend that is meant.
    fn drain_target(&self, query: &DrainQuery) -> Result<(String, Pools), Refusal> {
        let Some(app) = &query.app else {
            return Err(Refusal::Wrong("a backend is named, and not its app".to_owned()));
        };
        let pools = match &query.backend {
            None => vec![self.find_app(app)?],
            Some(backend) => self.find_backend(app, backend)?,
        };
        Ok((app.clone(), pools))
    }

    async fn set_draining(&self, app: &Arc<AppState>, backend: Option<&str>, drain: bool) {
        let Some(backend) = backend else {
            if app.core().set_drained(drain) {
                tracing::info!(app = %app.name(), drain, connections = app.active().get(), "an operator drains an app");
                for worker in &self.workers {
                    worker.send(WorkerMail::Serve { app: app.slot() });
                }
                self.wait_for_workers().await;
            }
            return;
        };
        let duty = if drain { Duty::Draining } else { Duty::Ready };
        let steering = Steering { duty, ..self.steering_of(app, backend) };
        self.steer(app, backend, steering).await;
    }

    /// Ends what is open at that time, unless the drain was ended or begun anew before.
    async fn end_at(self, target: Target, until: Time) {
        tokio::time::sleep(until.since(Clock::process().now())).await;
        // An order that came before this has its turn before.
        let gate = self.gate();
        let gate = gate.lock().await;
        let is_this = |drain: &Drain| drain.until == until;
        if !self.drains.lock().get(&target).is_some_and(is_this) {
            return;
        }
        let (app, backend) = target.clone();
        let selection = Selection { app: Some(app), backend, ..Selection::default() };
        let cut = self.close_under(&gate, selection, Ending::Drained).await;
        if cut > 0 {
            tracing::warn!(app = %target.0, backend = target.1, cut, "the time of a drain is over: connections were cut");
        }
        if let Some(drain) = self.drains.lock().get_mut(&target) {
            drain.cut = Some(cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use ringway::{ConnectionId, EngineConfig, EventHandler, ListenerId, Operations, SocketAddress, Token};
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::control::status::testing;
    use crate::control::threads;
    use crate::inspection::{Piece, Verb};
    use crate::snapshot::Origin;

    /// A worker without connections that tells when it is to close some.
    struct Stub {
        closes: mpsc::Sender<Ending>,
        has_left: bool,
    }

    impl EventHandler for Stub {
        type Mail = WorkerMail;

        fn on_accept(
            &mut self,
            _: &mut Operations<'_>,
            _: ListenerId,
            _: Token,
            _: ConnectionId,
            _: SocketAddress,
        ) {
        }

        fn on_read(&mut self, _: &mut Operations<'_>, _: ConnectionId, _: Token, _: &mut [u8]) {}

        fn on_mail(&mut self, _: &mut Operations<'_>, mail: WorkerMail) {
            match mail {
                WorkerMail::Inspect(inquiry) => {
                    if let Verb::Close(ending) = inquiry.verb {
                        self.closes.send(ending).expect("the test listens");
                    }
                    let nothing = Piece { matched: 0, rows: Vec::new(), next: None };
                    inquiry.reply.send(nothing).expect("the operator waits");
                }
                WorkerMail::Leave => self.has_left = true,
                _ => {}
            }
        }

        fn is_finished(&self) -> bool {
            self.has_left
        }
    }

    fn query(text: &str) -> DrainQuery {
        serde_urlencoded::from_str(text).expect("a query")
    }

    #[tokio::test(start_paused = true)]
    async fn a_backend_drains_until_it_is_told_otherwise() {
        let process = Arc::new(testing::process());
        let operator = Operator::new(Arc::clone(&process), Vec::new(), unbounded_channel().0);
        let app = operator.find_app("app").expect("it is there");
        let endpoint = Arc::clone(&app.endpoints().endpoints()[0]);
        endpoint.active().acquire();
        let wanted = query("app=app&backend=b0:80&timeout=10s");
        let status = operator.drain(&wanted).await.expect("it drains");
        assert_eq!((status.state.as_str(), status.connections), ("draining", 1));
        assert!(status.seconds_left.is_some_and(|left| left <= 10.0), "{:?}", status.seconds_left);
        assert_eq!(endpoint.weight(), 0);
        endpoint.release();
        assert_eq!(operator.drain_status(&wanted).expect("it is there").state, "drained");
        let status = operator.undrain(&wanted).await.expect("it ends");
        assert_eq!((status.state.as_str(), status.seconds_left), ("ready", None));
        assert_eq!(endpoint.weight(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_cut_by_a_drain_that_is_taken_back_before_its_end_has_its_turn() {
        let (closes, closed) = mpsc::channel();
        let stub = Stub { closes, has_left: false };
        let worker =
            threads::spawn("stub", &EngineConfig::default(), move |_| stub, drop).expect("an engine");
        let operator =
            Operator::new(Arc::new(testing::process()), vec![worker.clone()], unbounded_channel().0);
        let wanted = query("app=app&backend=b0:80&timeout=10s");
        operator.drain(&wanted).await.expect("it drains");
        let gate = operator.gate().lock_owned().await;
        let order = async {
            assert_eq!(operator.undrain(&wanted).await.map(|status| status.state), Ok("ready".to_owned()));
        };
        let time_goes_on = async {
            tokio::time::sleep(Duration::from_secs(11)).await;
            drop(gate);
        };
        tokio::join!(order, time_goes_on);
        // Whoever came before has had its turn.
        drop(operator.gate().lock().await);
        assert_eq!(closed.try_iter().collect::<Vec<_>>(), []);

        operator.drain(&wanted).await.expect("it drains");
        tokio::time::sleep(Duration::from_secs(11)).await;
        drop(operator.gate().lock().await);
        assert_eq!(closed.try_iter().collect::<Vec<_>>(), [Ending::Drained]);
        worker.send(WorkerMail::Leave);
    }

    #[tokio::test]
    async fn a_drain_that_waits_for_its_turn_goes_by_the_configuration_of_then() {
        let process = Arc::new(testing::process());
        let operator = Operator::new(Arc::clone(&process), Vec::new(), unbounded_channel().0);
        let (gone, new) = (query("app=app&backend=b1:80"), query("app=app&backend=b2:80"));
        let gate = operator.gate().lock_owned().await;
        let orders =
            async { tokio::join!(operator.drain(&gone), operator.undrain(&gone), operator.drain(&new)) };
        let reload = async {
            tokio::task::yield_now().await;
            let mut config = process.lineage.current().config();
            config.apps[0].backends[1].name = "b2:80".to_owned();
            process.lineage.advance(config, Origin::Admin);
            drop(gate);
        };
        let ((drained, undrained, new), ()) = tokio::join!(orders, reload);
        assert!(matches!(drained, Err(Refusal::Unknown(_))), "{drained:?}");
        assert!(matches!(undrained, Err(Refusal::Unknown(_))), "{undrained:?}");
        assert_eq!(new.map(|status| status.state), Ok("drained".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn another_process_goes_on_with_a_drain_for_the_time_that_is_left() {
        let start = || Operator::new(Arc::new(testing::process()), Vec::new(), unbounded_channel().0);
        let (old, wanted) = (start(), query("app=app&backend=b0:80&timeout=1h"));
        old.drain(&wanted).await.expect("it drains");
        old.drain(&query("app=app&timeout=1ms")).await.expect("it drains");
        tokio::time::sleep(Duration::from_millis(2)).await;
        let records = old.drains.records();
        assert_eq!(records.iter().map(|record| record.cut).collect::<Vec<_>>(), [Some(0), None]);

        let told = serde_json::to_string(&records).expect("JSON");
        let new = start();
        new.go_on_with(serde_json::from_str(&told).expect("what was told"));
        assert_eq!(new.drains.records(), records);
        let left = |operator: &Operator| {
            operator.drain_status(&wanted).expect("it is there").seconds_left.expect("it has a time")
        };
        // Their clock has gone on meanwhile.
        assert!((3_000.0..=3_600.0).contains(&left(&new)), "{}", left(&new));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        tokio::task::yield_now().await;
        assert!(
            new.drains.records().iter().all(|record| record.cut == Some(0)),
            "{:?}",
            new.drains.records()
        );

        new.go_on_with(vec![DrainRecord { until: u64::MAX, ..DrainRecord::default() }]);
    }

    #[tokio::test]
    async fn a_drain_that_makes_no_sense_is_refused() {
        let operator = Operator::new(Arc::new(testing::process()), Vec::new(), unbounded_channel().0);
        for text in ["backend=b0:80", "app=ap", "app=app&backend=x", "app=app&timeout=5", "timeout=5s"] {
            assert!(operator.drain(&query(text)).await.is_err(), "{text}");
        }
        assert!(operator.undrain(&query("")).await.is_err());
    }

    #[tokio::test]
    async fn an_app_drains_and_goes_on() {
        let operator = Operator::new(Arc::new(testing::process()), Vec::new(), unbounded_channel().0);
        let state = |status: Result<DrainStatus, Refusal>| status.expect("it is there").state;
        assert_eq!(state(operator.drain(&query("app=app")).await), "drained");
        assert!(operator.find_app("app").expect("it is there").open_frontends().is_empty());
        assert_eq!(state(operator.undrain(&query("app=app")).await), "ready");
    }
}
