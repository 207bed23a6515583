//! Changes of the configuration while the process runs: one path for all of them, one at a time.
//!
//! A request is checked whole. If it has a fault nothing changes and every fault is told; else the next snapshot is
//! made, published to all threads, and the answer comes when each of them works by it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::discovery::{Discovery, SystemResolver};
use super::fleet::Crew;
use crate::config::{self, ConfigErrors, render_faults};
use crate::model::{Config, Server};
use crate::snapshot::{Lineage, Origin, Snapshot};

/// How long names that are new in a configuration may hold it up: a client that comes at once should find a backend.
pub(super) const FIRST_LOOKUPS: Duration = Duration::from_secs(1);
/// Workers adopt between two batches of events: one that takes longer is stuck.
const ADOPTION: Duration = Duration::from_secs(5);

/// What the command line says and the file does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--log-level`.
    pub log_level: Option<crate::model::LogLevel>,
    /// `--workers`.
    pub workers: Option<usize>,
    /// `--engine`.
    pub engine: Option<crate::model::EngineChoice>,
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

/// A change that was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The version that runs now.
    pub version: u64,
    /// Whether it is another one than before: no if the configuration is the same.
    pub is_new: bool,
    /// Apps that are new.
    pub added: Vec<String>,
    /// Apps that changed.
    pub changed: Vec<String>,
    /// Apps that are gone.
    pub removed: Vec<String>,
    /// What was not applied, or not at once, and why.
    pub warnings: Vec<String>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The configuration is faulty.
    Faults(ConfigErrors),
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
pub(super) struct Request {
    origin: Origin,
    answer: oneshot::Sender<Result<Applied, Refusal>>,
}

impl Requests {
    pub(super) fn channel() -> (Self, UnboundedReceiver<Request>) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Reads the configuration again and applies it.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn reload(&self, origin: Origin) -> Result<Applied, Refusal> {
        let (answer, answered) = oneshot::channel();
        let gone = || Refusal::Impossible("the process is ending".to_owned());
        self.sender.send(Request { origin, answer }).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// Applies changes.
pub(super) struct Reloader {
    /// None for the embedded demo.
    pub(super) file: Option<PathBuf>,
    pub(super) overrides: Overrides,
    /// What the process was started with: some of it stays whatever the file says.
    pub(super) started: Config,
    pub(super) lineage: Arc<Lineage>,
    pub(super) crew: Arc<Crew>,
    pub(super) discovery: Discovery<SystemResolver>,
    pub(super) is_draining: Arc<AtomicBool>,
}

impl Reloader {
    /// Serves requests until nobody can make one any more.
    pub(super) async fn run(mut self, mut requests: UnboundedReceiver<Request>) {
        while let Some(Request { origin, answer }) = requests.recv().await {
            let result = self.reload(origin).await;
            if let Err(refusal) = &result {
                tell_of(refusal, self.lineage.current().version());
            }
            // Whoever asked may have left.
            let _ = answer.send(result);
        }
    }

    async fn reload(&mut self, origin: Origin) -> Result<Applied, Refusal> {
        let Some(file) = self.file.clone() else {
            return Err(Refusal::Impossible("the embedded demo has no file to be read again".to_owned()));
        };
        // A large file takes a while, and look-ups and the admin interface should not wait for it.
        let loaded = tokio::task::spawn_blocking(move || config::load(&file)).await;
        let loaded = loaded.map_err(|error| Refusal::Impossible(error.to_string()))?;
        self.apply(loaded.map_err(Refusal::Faults)?.config, origin).await
    }

    async fn apply(&mut self, mut config: Config, origin: Origin) -> Result<Applied, Refusal> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Err(Refusal::Impossible("the process is draining".to_owned()));
        }
        self.overrides.apply(&mut config.server);
        let before = self.lineage.current();
        let mut applied = Applied { version: before.version(), ..Applied::default() };
        applied.warnings = needs_restart(&self.started, &config);
        if *before.config() == config {
            tracing::info!(version = before.version(), %origin, "configuration is the same: nothing changes");
            return Ok(applied);
        }
        let next = self.lineage.advance(config, origin);
        let mut all_asked = self.discovery.adopt(next.apps());
        // Closed, without a message, once the last first look-up is done.
        if timeout(FIRST_LOOKUPS, all_asked.recv()).await.is_err() {
            applied.warnings.push("names are still being looked up; their backends follow".to_owned());
        }
        let adopted = self.crew.adopt(&next);
        if timeout(ADOPTION, adopted).await.is_err() {
            tracing::error!(version = next.version(), "a thread does not take the new configuration in");
            applied.warnings.push("a thread does not take the new configuration in".to_owned());
        }
        describe(&mut applied, &before, &next);
        tracing::info!(
            version = next.version(),
            %origin,
            added = applied.added.len(),
            changed = applied.changed.len(),
            removed = applied.removed.len(),
            "configuration applied"
        );
        for warning in &applied.warnings {
            tracing::warn!(version = next.version(), "{warning}");
        }
        Ok(applied)
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
        Refusal::Impossible(reason) => {
            tracing::error!(reason, running = version, "configuration not changed");
        }
    }
}

/// The keys that differ from what the process was started with and stay as they were.
fn needs_restart(started: &Config, config: &Config) -> Vec<String> {
    let (old, new) = (&started.server, &config.server);
    let keys = [
        ("server.workers", old.workers != new.workers),
        ("server.engine", old.engine != new.engine),
        ("server.log_level", old.log_level != new.log_level),
        ("server.log_format", old.log_format != new.log_format),
        ("server.access_log", old.access_log != new.access_log),
        ("server.max_connections", old.max_connections != new.max_connections),
        ("server.spin", old.spin != new.spin),
        ("server.congestion", old.congestion != new.congestion),
        ("server.bulk_low_water", old.bulk_low_water != new.bulk_low_water),
        ("server.resolvers", old.resolvers != new.resolvers),
        ("server.resolve_timeout", old.resolve_timeout != new.resolve_timeout),
        ("admin.listen", started.admin != config.admin),
    ];
    let changed = keys.into_iter().filter(|(_, is_changed)| *is_changed);
    changed.map(|(key, _)| format!("{key} changes with a restart only")).collect()
}

fn describe(applied: &mut Applied, before: &Snapshot, next: &Snapshot) {
    (applied.version, applied.is_new) = (next.version(), true);
    for change in next.changes_since(Some(before)) {
        let (list, app) = match (change.before, change.after) {
            (None, Some(app)) => (&mut applied.added, app),
            (Some(app), None) => (&mut applied.removed, app),
            (Some(before), Some(app)) if before.name() == app.name() => (&mut applied.changed, app),
            (Some(before), Some(app)) => {
                applied.removed.push(before.name().to_string());
                (&mut applied.added, app)
            }
            (None, None) => continue,
        };
        list.push(app.name().to_string());
    }
}

/// A refusal as the admin interface sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalPage {
    /// In words, for a terminal: every fault with its line, as `ringway check` prints them.
    pub error: String,
    /// The faults; none if the configuration is not the reason.
    pub faults: Vec<FaultPage>,
}

/// A fault as the admin interface sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPage {
    /// The file; `null` for text that came from elsewhere.
    pub file: Option<String>,
    /// Line, from 1; 0 where the fault is about the whole.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The key path.
    pub key: String,
    /// All of it in one line.
    pub message: String,
}

impl From<&Refusal> for RefusalPage {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Impossible(reason) => Self { error: reason.clone(), faults: Vec::new() },
            Refusal::Faults(errors) => Self {
                error: render_faults(errors),
                faults: errors
                    .faults()
                    .iter()
                    .map(|fault| FaultPage {
                        file: fault.file.as_ref().map(|file| file.display().to_string()),
                        line: fault.line,
                        column: fault.column,
                        key: fault.key.clone(),
                        message: fault.to_string(),
                    })
                    .collect(),
            },
        }
    }
}
