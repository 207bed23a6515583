//! From a checked configuration to a serving process, and to its end.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ringway::{EngineConfig, EngineKind, Listener, PassedDescriptor, SocketAddress};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::access_log::AccessLog;
use super::admin::{self, Admin, Door};
use super::certificates::CertificateWatch;
use super::discovery::{Discovery, SystemResolver};
use super::evening_out::EveningOut;
use super::exit::Exit;
use super::fleet::{Crew, Parts};
use super::lifecycle::{self, Event};
use super::live::Live;
use super::notify::{self, Notifier};
use super::operator::Operator;
use super::privileges::Privileges;
use super::process_log::LevelSwitch;
use super::reload::{
    Document, FIRST_LOOKUPS, HandoverParts, History, Overrides, Reloader, Removals, Requests,
};
use super::status::Process;
use super::upgrade::{Estate, Farewell, Heir, HouseParts, Invocation};
use super::{engine_choice, limits, panic, pprof, process_log, rebalance, signals, supervisor, watch};
use crate::admission::Admission;
use crate::config::{Baseline, Outline};
use crate::demo::Demo;
use crate::endpoint::{AppState, PassedSocket, PassedSockets};
use crate::inspection::Selection;
use crate::metrics::Metrics;
use crate::model::{Config, Server, Target};
use crate::session::{CloseReason, Ending};
use crate::snapshot::{Lineage, Settings};

/// How long the logs may take to be written out at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// How long answers of the admin interface may take to be read, when another process has taken over.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long an old process may take to say what it had counted. Nobody is shown smaller numbers before.
const COUNTERS: Duration = Duration::from_secs(5);

/// Where the configuration is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file; none for the demo inside the program.
    pub file: Option<PathBuf>,
    /// What it was read from.
    pub document: Arc<Document>,
}

/// Runs the load balancer until a signal, or a failure, ends it. Call it once in a process, from its main thread: it
/// installs handlers for signals and panics, and takes standard output and standard error for its logs.
///
/// `overrides` are applied to it, and to what is read at a reload.
pub(crate) fn run(mut config: Config, source: &Source, overrides: Overrides, beginning: Beginning) -> Exit {
    panic::end_process_on_panic();
    overrides.apply(&mut config.server);
    let workers = config.server.workers.unwrap_or_else(processors);
    let metrics = Arc::new(Metrics::new(workers, CloseReason::LABELS));
    match logged(config, source, overrides, beginning, workers, &metrics) {
        Ok(exit) => exit,
        Err(error) => {
            // Before there is a log.
            eprintln!("ringway: cannot start: {error}");
            Exit::Failed
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a process begins with.
pub(crate) struct Beginning {
    /// Sockets that it was started with.
    pub(crate) passed: Vec<PassedDescriptor>,
    /// What another process offers, which this one is to follow.
    pub(crate) heir: Option<Heir>,
    /// The file as it was read, if that can be said in one.
    pub(crate) outline: Option<Outline>,
}

/// Runs with both logs, and writes them out at the end.
fn logged(
    config: Config,
    source: &Source,
    overrides: Overrides,
    beginning: Beginning,
    workers: usize,
    metrics: &Arc<Metrics>,
) -> io::Result<Exit> {
    let server = &config.server;
    // Files and not the handles of the standard library: those have locks that a blocked writer would hold.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (subscriber, level, process_log) =
        process_log::subscriber(stderr, server.log_level, server.log_format, metrics.process())?;
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    // Switched off it waits, for a reload that switches it on.
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (access_log, access_log_writer) = AccessLog::start(stdout, server.log_format, metrics.process())?;
    access_log.set_on(server.access_log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serving =
        serve(config, source, overrides, beginning, workers, Arc::clone(metrics), Logs { level, access_log });
    let exit = runtime.block_on(serving);
    let exit = exit.unwrap_or_else(|error| {
        tracing::error!(%error, "cannot serve");
        Exit::Failed
    });
    access_log_writer.finish(LOG_PATIENCE);
    process_log.finish(LOG_PATIENCE);
    Ok(exit)
}

/// What the logs are changed by, and written to.
struct Logs {
    level: LevelSwitch,
    access_log: AccessLog,
}

async fn serve(
    mut config: Config,
    source: &Source,
    overrides: Overrides,
    Beginning { passed, heir, outline }: Beginning,
    workers: usize,
    metrics: Arc<Metrics>,
    logs: Logs,
) -> io::Result<Exit> {
    let started = Instant::now();
    let invocation = Arc::new(Invocation::of_this_process());
    let (events, mut receiver) = unbounded_channel();
    // First of all: a signal during the start must not kill the process half-way.
    let (requests, asked) = Requests::channel();
    signals::forward(events.clone(), requests.clone())?;
    match &source.file {
        Some(path) => {
            tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %path.display(), "starting");
        }
        None => {
            let version = env!("CARGO_PKG_VERSION");
            tracing::info!(version, "starting the embedded demo: no ringway.toml or config.json is here");
        }
    }
    let limits = limits::derive(&config, workers, ringway::raise_descriptor_limit()?.1)?;
    if config.server.max_connections.is_some_and(|wanted| wanted > limits.connections as usize) {
        tracing::warn!(
            limit = limits.connections,
            "server.max_connections does not fit the descriptor limit"
        );
    }
    let chosen = engine_choice::choose(config.server.engine, EngineKind::probe);
    let engine_name = engine_choice::name(chosen.kind);
    if chosen.is_fallback {
        tracing::warn!(engine = engine_name, reason = chosen.reason, workers, "engine chosen");
    } else {
        tracing::info!(engine = engine_name, reason = chosen.reason, workers, "engine chosen");
    }
    tracing::info!(connections = limits.connections, descriptors = limits.descriptors, "connection limit");
    let engine = EngineConfig {
        kind: chosen.kind,
        spin: config.server.spin,
        bulk_low_water: config.server.bulk_low_water,
        pipes_max: limits.pipes,
        ..EngineConfig::default()
    };
    let demo = if config.demo { Some(start_demo(&mut config)?) } else { None };
    let passed = take_sockets(passed);
    let lineage = Arc::new(match &heir {
        Some(heir) => heir.lineage(config.clone(), passed),
        None => Lineage::with_sockets(config.clone(), passed),
    });
    tell_of_passed(lineage.passed(), &config);
    let mut admin_socket = lineage.passed().assign(&config).of_admin();
    // Whoever follows another process is the user that that one was, and gets what that one had bound.
    if heir.is_none()
        && let Some(privileges) = Privileges::wanted(&config.server)?
    {
        // Before any thread serves, and before rings are made, which keep the rights that they were made with.
        let bound = privileges.give_up(&lineage.current(), workers, source.file.as_deref())?;
        admin_socket = admin_socket.or(bound);
    }
    let mut discovery = discover(&config.server, &metrics, &events);
    let mut all_asked = discovery.adopt(lineage.current().pools());
    // Closed, without a message, once the last first look-up is done. Whoever follows another process knows its answers.
    if heir.is_none() && timeout(FIRST_LOOKUPS, all_asked.recv()).await.is_err() {
        tracing::info!("names are still being looked up; starting without them");
    }
    let admission = Arc::new(Admission::new(limits.connections));
    let process = Arc::new(Process {
        started,
        engine: engine_name,
        engine_reason: chosen.reason,
        workers,
        admission: Arc::clone(&admission),
        lineage: Arc::clone(&lineage),
        metrics: Arc::clone(&metrics),
    });
    let Logs { level, access_log } = logs;
    let live = Live {
        level,
        access_log: access_log.clone(),
        admission: Arc::clone(&admission),
        workers,
        descriptors: limits.descriptors,
    };
    let is_draining = Arc::new(AtomicBool::new(false));
    let door = Arc::new(Door::new());
    let snapshot = lineage.current();
    let (down, downs) = unbounded_channel();
    let parts = Parts {
        server: config.server.clone(),
        snapshot,
        admission,
        metrics: Arc::clone(&metrics),
        access_log,
        down,
    };
    let crew = Arc::new(Crew::start(parts, workers, &engine, &events, heir.is_some())?);
    let admission = Arc::clone(&process.admission);
    let mut estate = match heir {
        Some(heir) => {
            let house = HouseParts {
                crew: Arc::clone(&crew),
                lineage: Arc::clone(&lineage),
                metrics: Arc::clone(&metrics),
                engine: engine_name,
                workers,
                admission: Arc::clone(&process.admission),
            };
            match take_over(heir, house).await {
                Ok(estate) => estate,
                Err(reason) => {
                    tracing::error!(reason, "this process does not serve");
                    return Ok(Exit::Failed);
                }
            }
        }
        None => Estate::first(),
    };
    crew.start_checks(&lineage.current());
    let operator = Operator::new(Arc::clone(&process), crew.mailers().to_vec(), events.clone());
    operator.go_on_with(std::mem::take(&mut estate.drains));
    tokio::spawn(close_those_of_backends_that_are_down(operator.clone(), downs));
    let evening_out = EveningOut {
        workers: crew.mailers().to_vec(),
        metrics: Arc::clone(&process.metrics),
        lineage: Arc::clone(&lineage),
        gate: operator.gate(),
    };
    tokio::spawn(evening_out.run());
    // Processes that watch the same backends should not act together.
    let seed = RandomState::new().hash_one(std::process::id());
    tokio::spawn(rebalance::run(operator.clone(), seed));
    let mut removals = Removals::new(operator.clone());
    removals.go_on_with(std::mem::take(&mut estate.removals));
    let certificates = CertificateWatch::default();
    tokio::spawn(certificates.clone().run(Arc::clone(&lineage)));
    if let Some(admin) = &config.admin {
        let requests = requests.clone();
        let pages = Admin {
            process,
            operator: operator.clone(),
            is_draining: Arc::clone(&is_draining),
            requests,
            elders: Arc::clone(&estate.elders),
        };
        start_admin(pages, admin.listen.clone(), admin_socket, estate.admin.take(), Arc::clone(&door)).await;
    }
    if let Some(listen) = overrides.pprof {
        tokio::spawn(pprof::serve(listen));
    }
    let notifier = Notifier::from_environment();
    let farewell = Arc::new(Mutex::default());
    tokio::spawn(say_ready(Arc::clone(&lineage), workers, config.demo, notifier.clone()));
    tokio::spawn(notify::watch(notifier.clone(), Arc::clone(&crew)));
    let watched = source.file.clone().filter(|_| config.server.watch);
    let reloader = Reloader {
        file: source.file.clone(),
        baseline: outline
            .and_then(|outline| Baseline::new(outline, lineage.current().models()))
            .map(Arc::new),
        overrides,
        started: Settings { server: config.server, admin: config.admin },
        live,
        history: match estate.versions.take() {
            Some(versions) => History::resumed(versions, &lineage.current()),
            None => History::new(&lineage.current(), Arc::clone(&source.document)),
        },
        lineage: Arc::clone(&lineage),
        crew: Arc::clone(&crew),
        discovery,
        removals,
        certificates,
        is_draining: Arc::clone(&is_draining),
        notifier: notifier.clone(),
        handover: HandoverParts {
            metrics,
            admission,
            door: Arc::clone(&door),
            invocation,
            binaries: estate.binaries,
            elders: estate.elders,
            operator,
            events: events.clone(),
            farewell: Arc::clone(&farewell),
        },
    };
    tokio::spawn(reloader.run(asked));
    if let Some(file) = watched {
        tokio::spawn(watch::run(file, requests));
    }
    let drain_timeout = || lineage.current().settings().server.drain_timeout;
    let on_drain = || {
        is_draining.store(true, Ordering::Relaxed);
        notifier.stopping("draining: open connections may finish");
    };
    let exit = lifecycle::run(&*crew, &mut receiver, drain_timeout, on_drain).await;
    if let Some(demo) = demo {
        demo.stop()?;
    }
    let farewell = farewell.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(farewell) = farewell {
        // A panic ends the process.
        let _ = tokio::task::spawn_blocking(move || Farewell::say(farewell)).await;
        door.until_empty(LAST_ANSWERS).await;
    }
    Ok(exit)
}

/// Takes over from another process. When this is done its counters are known, too.
async fn take_over(heir: Heir, house: HouseParts) -> Result<Estate, String> {
    let (counted, hear_of_counters) = tokio::sync::oneshot::channel();
    let taken = tokio::task::spawn_blocking(move || {
        let mut estate = heir.take_over(&house)?;
        estate.follow_counters(&house, || {
            // Nobody waits any more if it took too long.
            let _ = counted.send(());
        });
        Ok::<_, String>(estate)
    });
    let estate = taken.await.map_err(|error| error.to_string())??;
    if let Err(error) = supervisor::announce() {
        tracing::error!(%error, "the supervisor does not know that this process serves");
    }
    if timeout(COUNTERS, hear_of_counters).await.is_err() {
        tracing::warn!("the old process has not said what it counted: counters begin anew");
    }
    Ok(estate)
}

/// The sockets among what was passed; the rest is closed, and told of.
fn take_sockets(passed: Vec<PassedDescriptor>) -> PassedSockets {
    let take = |PassedDescriptor { name, descriptor }| match Listener::from_descriptor(descriptor) {
        Ok(listener) => Some(PassedSocket::new(name, listener)),
        Err(error) => {
            tracing::warn!(name, %error, "passed descriptor cannot be used: closed");
            None
        }
    };
    passed.into_iter().filter_map(take).collect()
}

fn tell_of_passed(passed: &PassedSockets, config: &Config) {
    for (socket, purpose) in passed.assign(config).uses() {
        match purpose {
            Some(serves) => tracing::info!(%socket, serves, "socket was passed"),
            None => {
                tracing::warn!(%socket, "passed socket serves nothing: whoever connects to it waits in vain");
            }
        }
    }
}

/// Starts the demo's backends and puts their addresses in the place of their names.
fn start_demo(config: &mut Config) -> io::Result<Demo> {
    let backends = || config.apps.iter().flat_map(|app| &app.backends);
    let names: Vec<String> =
        backends().map(|backend| backend.name.split(':').next().unwrap_or_default().to_owned()).collect();
    let demo = Demo::start(&names, &EngineConfig::default())?;
    let backends = config.apps.iter_mut().flat_map(|app| &mut app.backends);
    for ((backend, name), address) in backends.zip(names).zip(demo.addresses()) {
        backend.name = name;
        backend.target = Target::Address(address.clone());
    }
    Ok(demo)
}

/// Keeps names resolved from now on, and tells of every change.
fn discover(
    server: &Server,
    metrics: &Metrics,
    events: &UnboundedSender<Event>,
) -> Discovery<SystemResolver> {
    let events = events.clone();
    let publish = move |app| {
        // Nobody reads any more when the process ends.
        let _ = events.send(Event::Endpoints { app });
    };
    let resolver = SystemResolver::new(server.resolvers.clone(), server.resolve_timeout);
    Discovery::new(Arc::new(resolver), metrics.process(), publish)
}

/// Ends the connections of backends that went down, where the configuration says so.
async fn close_those_of_backends_that_are_down(operator: Operator, mut downs: UnboundedReceiver<Selection>) {
    while let Some(selection) = downs.recv().await {
        let (app, address) = (selection.app.clone(), selection.backend.clone());
        let closed = operator.close(selection, Ending::BackendDown).await;
        if closed > 0 {
            let (app, address) = (app.unwrap_or_default(), address.unwrap_or_default());
            tracing::info!(app, address, closed, "connections of a backend that is down closed");
        }
    }
}

/// Serves the admin pages from now on; returns when the first attempt to listen was made.
async fn start_admin(
    pages: Admin,
    listen: SocketAddress,
    made: Option<Listener>,
    inherited: Option<OwnedFd>,
    door: Arc<Door>,
) {
    let (tried, first) = tokio::sync::oneshot::channel();
    tokio::spawn(admin::serve(pages, listen, made, inherited, door, tried));
    // An error means that the attempt is over as well.
    let _ = first.await;
}

/// Waits until every worker has tried to listen on every frontend, and says what listens where.
async fn say_ready(lineage: Arc<Lineage>, workers: usize, is_demo: bool, notifier: Notifier) {
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    let settled = |app: &Arc<AppState>| {
        let states = app.frontends().iter().map(|frontend| frontend.listening());
        states.into_iter().all(|listening| listening.workers == workers || listening.error.is_some())
    };
    // A reload may come in between.
    while !lineage.current().apps().all(settled) {
        poll.tick().await;
    }
    let snapshot = lineage.current();
    let apps: Vec<_> = snapshot.apps().collect();
    let mut waiting = 0;
    for (app, frontend) in
        apps.iter().flat_map(|app| app.frontends().iter().map(move |frontend| (app, frontend)))
    {
        let listening = frontend.listening();
        match (&listening.address, &listening.error) {
            (Some(address), None) => {
                tracing::info!(app = %app.name(), %address, "listening");
            }
            (_, error) => {
                waiting += 1;
                let error = error.as_deref().unwrap_or("unknown");
                tracing::warn!(app = %app.name(), frontend = %frontend.name(), error, "not listening yet");
            }
        }
    }
    tracing::info!(apps = apps.len(), frontends_waiting = waiting, "ready");
    notifier.ready(&format!("serving {} apps", apps.len()));
    if is_demo && let Some(address) = apps.iter().find_map(|app| app.frontends()[0].listening().address) {
        tracing::info!("try it: curl http://{address}/");
    }
}
