//! `cargo xtask soak`: what reloads and upgrades do under load, and what very many apps cost.
//!
//! One program of `loadgen` is clients and backends; Ringway runs as it is shipped, with a worker for each processor.

mod apps;
mod configuration;
mod footprint;
mod many;
mod page;
mod peers;
mod ringway;
mod traffic;
mod upgrades;
mod windows;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::cell::free_address;
use super::edge::{Certificate, Edge};
use super::page::Marks;
use super::variants::{Places, Setup, Variant};
use apps::ManyApps;
use configuration::Relay;
use many::ManyReloads;
use page::{
    APPS_MARKS, RELOAD_MARKS, ReloadPage, UPGRADE_MARKS, UPGRADED_PEERS_MARKS, apps_markdown,
    upgraded_peers_markdown, upgrades_markdown,
};
use peers::{Change, Changed, Course, Peer, reload_ringway, upgrade_ringway};
use ringway::Ringway;
use traffic::{Shape, Traffic};
use upgrades::{Upgraded, Upgrades};
use windows::Windows;

/// What to soak.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand, Debug)]
enum Task {
    /// Reload under thousands of busy connections, beside HAProxy and nginx
    Reload(ReloadArguments),
    /// Upgrade under thousands of busy and idle connections, beside HAProxy and nginx
    Upgrade(UpgradeArguments),
    /// Check and reload a configuration of thousands of apps
    Apps(AppsArguments),
}

#[derive(clap::Args, Debug)]
struct ReloadArguments {
    /// Connections that are busy all the time
    #[arg(long, default_value_t = 9000)]
    connections: usize,
    /// Milliseconds in which each connection has one round trip
    #[arg(long, default_value_t = 1000)]
    pace: u64,
    /// One in so many connections is new for each round trip; 0: none
    #[arg(long, default_value_t = 10)]
    churn: usize,
    /// Reloads one after the other, to see what they leave
    #[arg(long, default_value_t = 136)]
    reloads: usize,
    /// Minutes in which they are spread [default: one in 150 ms]
    #[arg(long)]
    minutes: Option<f64>,
    #[command(flatten)]
    load: LoadArguments,
}

#[derive(clap::Args, Debug)]
struct UpgradeArguments {
    /// Connections that are busy all the time
    #[arg(long, default_value_t = 4000)]
    busy: usize,
    /// Connections that are idle
    #[arg(long, default_value_t = 4000)]
    idle: usize,
    /// Milliseconds in which each busy connection has one round trip
    #[arg(long, default_value_t = 500)]
    pace: u64,
    /// Upgrades one after the other, to see what they leave
    #[arg(long, default_value_t = 100)]
    upgrades: usize,
    /// Only compares Ringway with HAProxy and nginx
    #[arg(long)]
    only_peers: bool,
    #[command(flatten)]
    load: LoadArguments,
}

/// What both changes under load are told.
#[derive(clap::Args, Debug)]
struct LoadArguments {
    /// Windows with a change, and as many without
    #[arg(long, default_value_t = 10)]
    windows: usize,
    /// Seconds of a window
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds after the last change of a peer in which its old processes are watched
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
    /// Workers of each proxy
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// The load generator [default: target/release/loadgen]
    #[arg(long, value_name = "PATH")]
    loadgen: Option<PathBuf>,
    /// Processor of the load
    #[arg(long, default_value_t = 0)]
    load_cpu: usize,
    #[command(flatten)]
    common: Common,
}

impl LoadArguments {
    /// The load of so many connections, each with a round trip in `pace` milliseconds, one in `churn` of them new for that.
    fn shape(&self, connections: usize, pace: u64, churn: usize) -> Shape {
        let loadgen = self.loadgen.clone();
        Shape {
            loadgen: loadgen.unwrap_or_else(|| super::target_directory().join("release/loadgen")),
            cpu: self.load_cpu,
            connections,
            pace: Duration::from_millis(pace),
            churn,
        }
    }

    /// Starts Ringway, and has the traffic flow through it; and how it was set up.
    fn start_ringway(
        &self,
        program: &Path,
        directory: &Path,
        traffic: &mut Traffic,
    ) -> Result<(Ringway, Relay), String> {
        let relay = Relay {
            engine: self.common.engine.clone(),
            workers: self.workers,
            admin: free_address()?,
            listen: free_address()?,
            extra: free_address()?,
            backends: traffic.backends().to_vec(),
        };
        let log = directory.join("ringway.log");
        let ringway = Ringway::start(program, directory, &processors(), relay.clone(), &log)?;
        Ok((ringway, relay))
    }

    /// Changes each peer under a load of its own; what became of them, and why some were left out.
    fn measure_peers(
        &self,
        places: &Places,
        shape: &Shape,
        course: &Course<'_>,
        descriptors: u64,
    ) -> Result<(Vec<Changed>, Vec<String>), String> {
        let (mut rows, mut skipped) = (Vec::new(), Vec::new());
        for peer in Peer::all(course.change) {
            let program = match peer.variant().find(places) {
                Ok(program) => program,
                Err(reason) => {
                    skipped.push(reason);
                    continue;
                }
            };
            eprintln!("{}", peer.variant().name());
            let mut traffic = Traffic::start(shape)?;
            let setup = self.setup(course.directory, &traffic, free_address()?, descriptors);
            match peer.measure(program, course, &setup, &mut traffic) {
                Ok(row) => rows.push(row),
                Err(error) => skipped.push(format!("{}: {error}", peer.variant().name())),
            }
        }
        Ok((rows, skipped))
    }

    fn setup(&self, directory: &Path, traffic: &Traffic, listen: SocketAddr, descriptors: u64) -> Setup {
        Setup {
            listen,
            backends: traffic.backends().to_vec(),
            workers: self.workers,
            descriptors,
            edge: Edge::Plain,
            certificate: Certificate::within(directory),
        }
    }
}

#[derive(clap::Args, Debug)]
struct AppsArguments {
    /// How many apps
    #[arg(long, default_value_t = 10_000)]
    apps: usize,
    /// Checks and reloads
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args, Debug)]
struct Common {
    /// The load balancer [default: target/release/ringway]
    #[arg(long, value_name = "PATH")]
    ringway: Option<PathBuf>,
    /// Its engine
    #[arg(long, default_value = "io_uring")]
    engine: String,
    /// Write the results into this Markdown file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

impl Common {
    /// Where programs are found and files are put; and Ringway itself.
    fn places(&self) -> Result<(Places, PathBuf, PathBuf), String> {
        let target = super::target_directory();
        let ringway = self.ringway.clone().unwrap_or_else(|| target.join("release/ringway"));
        let places = Places { ringway, bare: target.join("release/bare"), bench: target.join("bench") };
        let directory = places.bench.join("soak");
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let program = Variant::IoUring.find(&places)?;
        Ok((places, program, directory))
    }

    /// Writes a result between its marks, if it is to be written.
    fn write(&self, marks: &Marks, text: &str) -> Result<(), String> {
        match &self.write {
            Some(path) => marks.write(path, text),
            None => Ok(()),
        }
    }
}

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let outcome = match &arguments.task {
        Task::Reload(arguments) => reload(arguments),
        Task::Upgrade(arguments) => upgrade(arguments),
        Task::Apps(arguments) => apps(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn reload(arguments: &ReloadArguments) -> Result<(), String> {
    let load = &arguments.load;
    let (places, program, directory) = load.common.places()?;
    let (seconds, patience) = (duration(load.seconds)?, duration(load.patience)?);
    let interval = match arguments.minutes {
        Some(minutes) => {
            duration(minutes * 60.0)? / u32::try_from(arguments.reloads.max(1)).unwrap_or(u32::MAX)
        }
        None => Duration::from_millis(150),
    };
    let shape = load.shape(arguments.connections, arguments.pace, arguments.churn);
    let _alone = super::alone()?;
    let descriptors = super::raise_descriptor_limit();
    let (windows, many, row) = {
        let mut traffic = Traffic::start(&shape)?;
        let (mut ringway, _) = load.start_ringway(&program, &directory, &mut traffic)?;
        traffic.flow(ringway.listen())?;
        let windows = Windows::measure(&mut ringway, &mut traffic, load.windows, seconds)?;
        let many = ManyReloads::measure(&mut ringway, &mut traffic, arguments.reloads, interval)?;
        let version = Variant::IoUring.version(&program);
        (windows, many, reload_ringway(&mut ringway, version, &mut traffic, patience)?)
    };
    let course =
        Course { change: Change::Reload, directory: &directory, cpus: &processors(), idle: 0, patience };
    let (peers, skipped) = load.measure_peers(&places, &shape, &course, descriptors)?;
    let rows = [&[row], &peers[..]].concat();
    let first_failures = [&windows.failures(), &many.window.failures].map(|failures| failures.first.clone());
    let text = ReloadPage {
        shape: &shape,
        engine: &load.common.engine,
        workers: load.workers,
        seconds: load.seconds,
        patience: load.patience,
        windows: &windows,
        many: &many,
        rows: &rows,
        skipped: &skipped,
    }
    .markdown();
    println!("{text}");
    first_failures.into_iter().flatten().for_each(|first| println!("first failure: {first}"));
    load.common.write(&RELOAD_MARKS, &text)
}

fn upgrade(arguments: &UpgradeArguments) -> Result<(), String> {
    let load = &arguments.load;
    let (places, program, directory) = load.common.places()?;
    let (seconds, patience) = (duration(load.seconds)?, duration(load.patience)?);
    let shape = load.shape(arguments.busy, arguments.pace, 0);
    let _alone = super::alone()?;
    let descriptors = super::raise_descriptor_limit();
    if !arguments.only_peers {
        let mut traffic = Traffic::start(&shape)?;
        let (mut ringway, relay) = load.start_ringway(&program, &directory, &mut traffic)?;
        let mut upgraded = Upgraded::new(&program, relay.admin, ringway.proxy().first());
        traffic.flow(relay.listen)?;
        let plan = (load.windows, seconds, arguments.upgrades);
        let upgrades = Upgrades::measure(&mut upgraded, &mut traffic, relay.listen, arguments.idle, plan)?;
        let text = upgrades_markdown(&upgrades, &shape, &load.common.engine, load.workers);
        println!("{text}");
        if let Some(first) = upgrades.failures().first {
            println!("first failure: {first}");
        }
        load.common.write(&UPGRADE_MARKS, &text)?;
    }
    let cpus = processors();
    let idle = arguments.idle;
    let course = Course { change: Change::Upgrade, directory: &directory, cpus: &cpus, idle, patience };
    let row = {
        let mut traffic = Traffic::start(&shape)?;
        let (mut ringway, relay) = load.start_ringway(&program, &directory, &mut traffic)?;
        let mut upgraded = Upgraded::new(&program, relay.admin, ringway.proxy().first());
        traffic.flow(relay.listen)?;
        let version = Variant::IoUring.version(&program);
        let setup = load.setup(&directory, &traffic, relay.listen, descriptors);
        upgrade_ringway(&mut upgraded, version, &setup, &course, &mut traffic)?
    };
    let (peers, skipped) = load.measure_peers(&places, &shape, &course, descriptors)?;
    let rows = [&[row], &peers[..]].concat();
    let text = upgraded_peers_markdown(&rows, &shape, (idle, load.patience), &skipped);
    println!("{text}");
    load.common.write(&UPGRADED_PEERS_MARKS, &text)
}

fn duration(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn apps(arguments: &AppsArguments) -> Result<(), String> {
    let (_, program, directory) = arguments.common.places()?;
    let _alone = super::alone()?;
    super::raise_descriptor_limit();
    let engine = &arguments.common.engine;
    let admin = free_address()?;
    let apps = ManyApps::measure(
        &program,
        &directory,
        arguments.apps,
        arguments.rounds.max(1),
        (engine, admin),
        &processors(),
    )?;
    let text = apps_markdown(&apps, engine);
    println!("{text}");
    arguments.common.write(&APPS_MARKS, &text)
}

/// All processors, as `taskset` takes them.
fn processors() -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("0-{}", count - 1)
}
