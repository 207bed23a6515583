//! Changes of the configuration while the process runs: one path for all of them, one at a time.
//!
//! A configuration is checked whole. If it has a fault nothing changes and every fault is told; else the next snapshot is
//! made, published to all threads, and the answer comes when each of them works by it.

mod history;
mod pages;
mod removed;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::admin::{self, Door};
use super::certificates::CertificateWatch;
use super::discovery::{Discovery, SystemResolver};
use super::fleet::Crew;
use super::lifecycle::Event;
use super::live::Live;
use super::notify::Notifier;
use super::operator::Operator;
use super::supervisor;
use super::upgrade::{BinaryRecord, Elders, Farewell, House, Invocation, Journal, JournalLine, Order};
use crate::admission::Admission;
use crate::config::{self, Baseline, ConfigErrors, Format, Fragment, Known, Listings, Loaded, Outline};
use crate::metrics::Metrics;
use crate::model::{Config, EngineChoice, LogLevel, Server};
use crate::plan::Difference;
use crate::snapshot::{Lineage, Origin, Settings, Snapshot};
pub(super) use history::{History, VersionRecord};
pub use pages::{BinaryPage, FaultPage, Outcome, RefusalPage, VersionPage, VersionsPage};
pub(super) use removed::{RemovalRecord, Removals};

/// How long names that are new in a configuration may hold it up: a client that comes at once should find a backend.
pub(super) const FIRST_LOOKUPS: Duration = Duration::from_secs(1);
/// Workers adopt between two batches of events: one that takes longer is stuck.
const ADOPTION: Duration = Duration::from_secs(5);

/// What the command line says and the file does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--log-level`.
    pub log_level: Option<LogLevel>,
    /// `--workers`.
    pub workers: Option<usize>,
    /// `--engine`.
    pub engine: Option<EngineChoice>,
    /// `--pprof`: where profiles are served.
    pub pprof: Option<std::net::SocketAddr>,
}

impl Overrides {
    /// The command line wins over the file.
    pub fn apply(&self, server: &mut Server) {
        server.log_level = self.log_level.unwrap_or(server.log_level);
        server.workers = self.workers.or(server.workers);
        server.engine = self.engine.unwrap_or(server.engine);
    }
}

/// A configuration as it was read or sent: all that is needed to read it again, in this process or in another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its text.
    pub text: String,
    /// Its language.
    pub format: Format,
    /// What faults call it; `None`: nothing.
    pub name: Option<PathBuf>,
    /// The files that it includes; `None`: it must not include any.
    pub fragments: Option<Vec<Fragment>>,
}

impl Document {
    /// The embedded demo's.
    pub fn demo() -> Self {
        Self { text: config::DEMO.to_owned(), format: Format::Toml, name: None, fragments: None }
    }

    /// What was loaded, and what it was loaded from.
    pub fn of(loaded: Loaded) -> (Config, Self) {
        let Loaded { config, path, format, text, fragments, .. } = loaded;
        (config, Self { text, format, name: Some(path), fragments })
    }

    /// Reads it in the place of the file at `path`, from which its relative paths count. `known`: what was read of the files that
    /// it names.
    ///
    /// # Errors
    /// Every fault of it.
    pub fn read(&self, path: &Path, known: &Known) -> Result<Config, ConfigErrors> {
        let (name, fragments) = (self.name.as_deref(), self.fragments.as_deref());
        config::load_text(&self.text, self.format, name, path, fragments, known)
    }

    /// What it takes to keep.
    fn bytes(&self) -> usize {
        let fragments = self.fragments.iter().flatten();
        self.text.len() + fragments.map(|fragment| fragment.text.len()).sum::<usize>()
    }
}

/// Which configuration is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The file that the process runs with, as it is now.
    File,
    /// The same, of which somebody has just seen what is in the directories that it names.
    Watched(Listings),
    /// This one.
    Document(Document),
    /// That of an earlier version; `None`: of the one before.
    Version(Option<u64>),
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The configuration is faulty.
    Faults(ConfigErrors),
    /// There is no such version.
    Unknown(String),
    /// It cannot be changed now, or never: in words.
    Impossible(String),
}

/// Takes requests for changes.
#[derive(Clone, Debug)]
pub struct Requests {
    sender: UnboundedSender<Request>,
}

/// What is asked for, and whom to answer.
#[derive(Debug)]
pub(super) enum Request {
    Apply(Wanted, Origin, oneshot::Sender<Result<Outcome, Refusal>>),
    Plan(Wanted, oneshot::Sender<Result<Outcome, Refusal>>),
    Versions(oneshot::Sender<VersionsPage>),
    Upgrade(Order, UnboundedSender<JournalLine>),
}

impl Requests {
    pub(super) fn channel() -> (Self, UnboundedReceiver<Request>) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Applies a configuration.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn apply(&self, wanted: Wanted, origin: Origin) -> Result<Outcome, Refusal> {
        self.ask(|answer| Request::Apply(wanted, origin, answer)).await?
    }

    /// What it would be to apply a configuration. Nothing changes.
    ///
    /// # Errors
    /// Why it could not be applied.
    pub async fn plan(&self, wanted: Wanted) -> Result<Outcome, Refusal> {
        self.ask(|answer| Request::Plan(wanted, answer)).await?
    }

    /// The versions so far.
    ///
    /// # Errors
    /// When the process ends.
    pub async fn versions(&self) -> Result<VersionsPage, Refusal> {
        self.ask(Request::Versions).await
    }

    /// Has another process take over, once what was asked for before is done. Ends with a report or a refusal; with
    /// neither if this process ends.
    pub fn upgrade(&self, order: Order) -> UnboundedReceiver<JournalLine> {
        let (sender, receiver) = unbounded_channel();
        // Without a reader there is nobody to hand over either.
        let _ = self.sender.send(Request::Upgrade(order, sender));
        receiver
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        let gone = || Refusal::Impossible("the process is ending".to_owned());
        self.sender.send(request(answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

/// Applies changes.
pub(super) struct Reloader {
    /// None for the embedded demo.
    pub(super) file: Option<PathBuf>,
    /// The file as it was when it was applied last, to read it again by.
    pub(super) baseline: Option<Arc<Baseline>>,
    pub(super) overrides: Overrides,
    /// What the process was started with: some of it stays whatever the file says.
    pub(super) started: Settings,
    /// What of it changes at once.
    pub(super) live: Live,
    pub(super) lineage: Arc<Lineage>,
    pub(super) history: History,
    pub(super) crew: Arc<Crew>,
    pub(super) discovery: Discovery<SystemResolver>,
    pub(super) removals: Removals,
    pub(super) certificates: CertificateWatch,
    pub(super) is_draining: Arc<AtomicBool>,
    pub(super) notifier: Notifier,
    pub(super) handover: HandoverParts,
}

/// What only an upgrade needs.
pub(super) struct HandoverParts {
    pub(super) metrics: Arc<Metrics>,
    pub(super) admission: Arc<Admission>,
    pub(super) door: Arc<Door>,
    pub(super) invocation: Arc<Invocation>,
    /// The processes until now, this one last.
    pub(super) binaries: Vec<BinaryRecord>,
    /// Those of them that have connections to finish.
    pub(super) elders: Arc<Elders>,
    /// Looks at connections that are left here, once another process has followed.
    pub(super) operator: Operator,
    pub(super) events: UnboundedSender<Event>,
    /// What is left to say at the end, once another process has followed.
    pub(super) farewell: Arc<Mutex<Option<Farewell>>>,
}

/// The configuration that is meant.
struct Found {
    config: Config,
    /// The number of an earlier version, if it is one.
    version: Option<u64>,
    /// What it was read from.
    document: Arc<Document>,
    /// Of the file, if it can be said in one.
    outline: Option<Outline>,
}

/// Reads a configuration beside the control plane: a large one takes a while, and look-ups and the admin interface
/// should not wait for it.
async fn load(read: impl FnOnce() -> Result<Found, ConfigErrors> + Send + 'static) -> Result<Found, Refusal> {
    let loaded = tokio::task::spawn_blocking(read).await;
    loaded.map_err(|error| Refusal::Impossible(error.to_string()))?.map_err(Refusal::Faults)
}

impl Reloader {
    /// Serves requests until nobody can make one any more.
    pub(super) async fn run(mut self, mut requests: UnboundedReceiver<Request>) {
        while let Some(request) = requests.recv().await {
            // Whoever asked may have left before the answer.
            match request {
                Request::Apply(wanted, origin, answer) => {
                    self.notifier.reloading();
                    let result = self.apply(wanted, origin).await;
                    self.tell_manager(result.is_ok());
                    if let Err(refusal) = &result {
                        tell_of(refusal, self.lineage.current().version());
                    }
                    let _ = answer.send(result);
                }
                Request::Plan(wanted, answer) => drop(answer.send(self.plan(wanted).await)),
                Request::Versions(answer) => {
                    let running = self.lineage.current().version();
                    let binaries = self.handover.binaries.iter().map(BinaryPage::from).collect();
                    let page = VersionsPage { binaries, ..self.history.page(running) };
                    drop(answer.send(page));
                }
                Request::Upgrade(order, reader) => self.upgrade(order, Journal::new(reader)).await,
            }
        }
    }

    /// Ends what the manager was told of a change.
    fn tell_manager(&self, is_applied: bool) {
        // It was told of the end meanwhile.
        if !self.is_draining.load(Ordering::Relaxed) {
            let version = self.lineage.current().version();
            let outcome = if is_applied { "" } else { "; the configuration read last was refused" };
            self.notifier.ready(&format!("serving version {version}{outcome}"));
        }
    }

    async fn upgrade(&mut self, order: Order, journal: Journal) {
        let result = self.try_upgrade(order, journal).await;
        let (journal, mut farewell) = match result {
            Ok(handed_over) => handed_over,
            Err((journal, error)) => {
                tracing::error!(error, "upgrade called off: this process serves on");
                return journal.tell(JournalLine::Refused { error });
            }
        };
        self.is_draining.store(true, Ordering::Relaxed);
        let report = farewell.report.clone();
        if let Some(left) = farewell.take_left() {
            tokio::spawn(admin::left::serve(left, self.handover.operator.clone()));
        }
        // The end may come at once.
        *self.handover.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some(farewell);
        // Nobody reads any more when the process ends.
        let _ = self.handover.events.send(Event::HandedOver);
        if !supervisor::is_supervised() {
            self.notifier.main_process(report.new_pid);
        }
        tracing::info!(pid = report.new_pid, binary = %report.binary.display(), "handed over");
        journal.tell(JournalLine::Report(report));
    }

    async fn try_upgrade(
        &self,
        order: Order,
        journal: Journal,
    ) -> Result<(Journal, Farewell), (Journal, String)> {
        let Some(file) = self.file.clone() else {
            let reason = "the embedded demo cannot be upgraded: its backends live in this very process";
            return Err((journal, reason.to_owned()));
        };
        if self.is_draining.load(Ordering::Relaxed) {
            return Err((journal, "the process is draining".to_owned()));
        }
        let HandoverParts { metrics, admission, door, invocation, binaries, elders, operator, .. } =
            &self.handover;
        let house = House {
            crew: Arc::clone(&self.crew),
            lineage: Arc::clone(&self.lineage),
            metrics: Arc::clone(metrics),
            door: Arc::clone(door),
            invocation: Arc::clone(invocation),
            file,
            versions: self.history.records(),
            binaries: binaries.clone(),
            elders: Arc::clone(elders),
            gate: operator.gate(),
            drains: operator.drains(),
            removals: self.removals.records(),
            is_draining: Arc::clone(&self.is_draining),
            admission: Arc::clone(admission),
        };
        let handed_over = tokio::task::spawn_blocking(move || {
            let result = house.hand_over(&order, &journal);
            match result {
                Ok(farewell) => Ok((journal, farewell)),
                Err(error) => Err((journal, error)),
            }
        });
        handed_over.await.expect("a panic ends the process")
    }

    async fn plan(&self, wanted: Wanted) -> Result<Outcome, Refusal> {
        let config = self.find(wanted).await?.config;
        let current = self.lineage.current();
        Ok(Outcome {
            version: current.version(),
            is_new: !current.is_made_from(&config),
            difference: Difference::between(&current, &config),
            warnings: self.warnings(&config),
        })
    }

    /// The configuration that is meant.
    async fn find(&self, wanted: Wanted) -> Result<Found, Refusal> {
        let is_rollback = matches!(wanted, Wanted::Version(_));
        let file = match (&self.file, is_rollback) {
            (Some(file), _) => file.clone(),
            (None, true) => PathBuf::new(),
            (None, false) => {
                let reason = "the process runs the embedded demo, which has no file";
                return Err(Refusal::Impossible(reason.to_owned()));
            }
        };
        let current = self.lineage.current();
        let mut known = Known::of(current.apps().map(|app| &**app.model()));
        let mut found = match wanted {
            Wanted::File | Wanted::Watched(_) => {
                if let Wanted::Watched(listings) = wanted {
                    known = known.with_listings(listings);
                }
                let baseline = self.baseline.clone();
                load(move || {
                    let loaded = config::load_again(&file, baseline.as_deref(), &known)?;
                    let outline = Outline::of(&loaded);
                    let (config, document) = Document::of(loaded);
                    Ok(Found { config, version: None, document: Arc::new(document), outline })
                })
                .await?
            }
            Wanted::Document(document) => {
                load(move || {
                    let config = document.read(&file, &known)?;
                    Ok(Found { config, version: None, document: Arc::new(document), outline: None })
                })
                .await?
            }
            Wanted::Version(version) => {
                let entry = self.history.find(version, self.lineage.current().version())?;
                let (version, document) = (Some(entry.version()), Arc::clone(entry.document()));
                match entry.config() {
                    Some(config) => Found { config, version, document, outline: None },
                    None => {
                        load(move || {
                            let config = document.read(&file, &known)?;
                            Ok(Found { config, version, document, outline: None })
                        })
                        .await?
                    }
                }
            }
        };
        self.overrides.apply(&mut found.config.server);
        Ok(found)
    }

    /// What of a configuration does not come into effect, or leaves something behind.
    fn warnings(&self, config: &Config) -> Vec<String> {
        let mut warnings = needs_restart(&self.started, config);
        let left_alone = |socket| {
            format!("the passed socket {socket} serves nothing: whoever connects to it waits in vain")
        };
        warnings.extend(self.lineage.passed().assign(config).unused().map(left_alone));
        warnings
    }

    async fn apply(&mut self, wanted: Wanted, origin: Origin) -> Result<Outcome, Refusal> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Err(Refusal::Impossible("the process is draining".to_owned()));
        }
        let Found { config, version, document, outline } = self.find(wanted).await?;
        let origin = version.map_or(origin, Origin::Rollback);
        let before = self.lineage.current();
        let mut outcome =
            Outcome { version: before.version(), warnings: self.warnings(&config), ..Outcome::default() };
        if before.is_made_from(&config) {
            outcome.difference.unchanged = config.apps.len();
            self.remember(outline, &before);
            tracing::info!(version = before.version(), %origin, "configuration is the same: nothing changes");
            return Ok(outcome);
        }
        outcome.difference = Difference::between(&before, &config);
        outcome.is_new = true;
        outcome.warnings.extend(self.live.apply(&config));
        let next = self.lineage.advance(config, origin);
        outcome.version = next.version();
        self.history.push(&next, outcome.difference.summary(), document);
        self.remember(outline, &next);
        self.publish(&next, &mut outcome.warnings).await;
        self.removals.follow(&before, &next);
        self.certificates.follow(&next);
        let summary = outcome.difference.summary();
        tracing::info!(version = next.version(), %origin, summary, "configuration applied");
        for warning in &outcome.warnings {
            tracing::warn!(version = next.version(), "{warning}");
        }
        Ok(outcome)
    }

    /// The file says what a snapshot was made from.
    fn remember(&mut self, outline: Option<Outline>, snapshot: &Snapshot) {
        if let Some(outline) = outline {
            self.baseline = Baseline::new(outline, snapshot.models()).map(Arc::new);
        }
    }

    /// Has all threads go on by a snapshot, and says what did not work.
    async fn publish(&mut self, next: &Arc<Snapshot>, warnings: &mut Vec<String>) {
        let mut all_asked = self.discovery.adopt(next.pools());
        // Closed, without a message, once the last first look-up is done.
        if timeout(FIRST_LOOKUPS, all_asked.recv()).await.is_err() {
            warnings.push("names are still being looked up; their backends follow".to_owned());
        }
        if timeout(ADOPTION, self.crew.adopt(next)).await.is_err() {
            tracing::error!(version = next.version(), "a thread does not take the new configuration in");
            warnings.push("a thread does not take the new configuration in".to_owned());
        }
        for app in next.apps() {
            for frontend in app.frontends() {
                if let Some(error) = frontend.listening().error {
                    let name = frontend.name();
                    warnings.push(format!("{}: {name} cannot be listened at yet: {error}", app.name()));
                }
            }
        }
    }
}

fn tell_of(refusal: &Refusal, version: u64) {
    match refusal {
        Refusal::Faults(faults) => {
            for fault in faults.faults() {
                tracing::error!("{fault}");
            }
            let faults = faults.faults().len();
            tracing::error!(faults, running = version, "configuration refused: nothing changes");
        }
        Refusal::Impossible(reason) | Refusal::Unknown(reason) => {
            tracing::error!(reason, running = version, "configuration not changed");
        }
    }
}

/// The keys that differ from what the process was started with and stay as they were.
fn needs_restart(started: &Settings, config: &Config) -> Vec<String> {
    // Every key has its place here: in the list below, or among those that hold at once.
    let Server {
        workers,
        engine,
        log_level: _,
        log_format,
        drain_timeout: _,
        access_log: _,
        watch,
        max_connections: _,
        spin,
        congestion,
        bulk_low_water,
        even_workers: _,
        resolvers,
        resolve_timeout,
        user,
        group,
        binary: _,
    } = &config.server;
    let old = &started.server;
    let keys = [
        ("server.workers", old.workers != *workers),
        ("server.engine", old.engine != *engine),
        ("server.log_format", old.log_format != *log_format),
        ("server.watch", old.watch != *watch),
        ("server.spin", old.spin != *spin),
        ("server.congestion", old.congestion != *congestion),
        ("server.bulk_low_water", old.bulk_low_water != *bulk_low_water),
        ("server.resolvers", old.resolvers != *resolvers),
        ("server.resolve_timeout", old.resolve_timeout != *resolve_timeout),
        ("server.user", old.user != *user),
        ("server.group", old.group != *group),
        ("admin.listen", started.admin != config.admin),
    ];
    let changed = keys.into_iter().filter(|(_, is_changed)| *is_changed);
    changed.map(|(key, _)| format!("{key} changes with a restart only")).collect()
}
