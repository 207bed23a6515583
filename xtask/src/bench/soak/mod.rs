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
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::cell::free_address;
use super::variants::{Places, Setup, Variant};
use apps::ManyApps;
use configuration::Relay;
use many::ManyReloads;
use page::{APPS_MARKS, RELOAD_MARKS, ReloadPage, UPGRADE_MARKS, apps_markdown, upgrades_markdown};
use peers::{Peer, Reloaded, measure_ringway};
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
    /// Upgrade under thousands of busy and idle connections
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
    /// Windows with a reload, and as many without
    #[arg(long, default_value_t = 10)]
    windows: usize,
    /// Seconds of a window
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Reloads one after the other, to see what they leave
    #[arg(long, default_value_t = 136)]
    reloads: usize,
    /// Minutes in which they are spread [default: one in 150 ms]
    #[arg(long)]
    minutes: Option<f64>,
    /// Seconds after the last reload of a peer in which its old processes are watched
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
    /// Workers of each proxy
    #[arg(long, default_value_t = 2)]
    workers: usize,
    #[command(flatten)]
    common: Common,
    /// The load generator [default: target/release/loadgen]
    #[arg(long, value_name = "PATH")]
    loadgen: Option<PathBuf>,
    /// Processor of the load
    #[arg(long, default_value_t = 0)]
    load_cpu: usize,
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
    /// Windows with an upgrade, and as many without
    #[arg(long, default_value_t = 10)]
    windows: usize,
    /// Seconds of a window
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Upgrades one after the other, to see what they leave
    #[arg(long, default_value_t = 100)]
    upgrades: usize,
    /// Workers
    #[arg(long, default_value_t = 2)]
    workers: usize,
    #[command(flatten)]
    common: Common,
    /// The load generator [default: target/release/loadgen]
    #[arg(long, value_name = "PATH")]
    loadgen: Option<PathBuf>,
    /// Processor of the load
    #[arg(long, default_value_t = 0)]
    load_cpu: usize,
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
    let (places, program, directory) = arguments.common.places()?;
    let duration = |number: f64| Duration::try_from_secs_f64(number).map_err(|error| error.to_string());
    let (seconds, patience) = (duration(arguments.seconds)?, duration(arguments.patience)?);
    let interval = match arguments.minutes {
        Some(minutes) => {
            duration(minutes * 60.0)? / u32::try_from(arguments.reloads.max(1)).unwrap_or(u32::MAX)
        }
        None => Duration::from_millis(150),
    };
    let shape = Shape {
        loadgen: arguments
            .loadgen
            .clone()
            .unwrap_or_else(|| super::target_directory().join("release/loadgen")),
        cpu: arguments.load_cpu,
        connections: arguments.connections,
        pace: Duration::from_millis(arguments.pace),
        churn: arguments.churn,
    };
    let _alone = super::alone()?;
    let descriptors = super::raise_descriptor_limit();
    let cpus = processors();
    let mut rows: Vec<Reloaded> = Vec::new();
    let (windows, many) = {
        let mut traffic = Traffic::start(&shape)?;
        let relay = Relay {
            engine: arguments.common.engine.clone(),
            workers: arguments.workers,
            admin: free_address()?,
            listen: free_address()?,
            extra: free_address()?,
            backends: traffic.backends().to_vec(),
        };
        let log = directory.join("ringway.log");
        let mut ringway = Ringway::start(&program, &directory, &cpus, relay, &log)?;
        traffic.flow(ringway.listen())?;
        let windows = Windows::measure(&mut ringway, &mut traffic, arguments.windows, seconds)?;
        let many = ManyReloads::measure(&mut ringway, &mut traffic, arguments.reloads, interval)?;
        let version = Variant::IoUring.version(&program);
        rows.push(measure_ringway(&mut ringway, version, &mut traffic, patience)?);
        (windows, many)
    };
    let mut skipped = Vec::new();
    for peer in Peer::ALL {
        match peer.variant().find(&places) {
            Err(reason) => skipped.push(reason),
            Ok(program) => {
                eprintln!("{}", peer.variant().name());
                let mut traffic = Traffic::start(&shape)?;
                let setup = Setup {
                    listen: free_address()?,
                    backends: traffic.backends().to_vec(),
                    workers: arguments.workers,
                    descriptors,
                };
                match peer.measure(program, &directory, &cpus, &setup, &mut traffic, patience) {
                    Ok(row) => rows.push(row),
                    Err(error) => skipped.push(format!("{}: {error}", peer.variant().name())),
                }
            }
        }
    }
    let first_failures = [&windows.failures(), &many.window.failures].map(|failures| failures.first.clone());
    let text = ReloadPage {
        shape: &shape,
        engine: &arguments.common.engine,
        workers: arguments.workers,
        seconds: arguments.seconds,
        patience: arguments.patience,
        windows: &windows,
        many: &many,
        rows: &rows,
        skipped: &skipped,
    }
    .markdown();
    println!("{text}");
    first_failures.into_iter().flatten().for_each(|first| println!("first failure: {first}"));
    match &arguments.common.write {
        Some(path) => RELOAD_MARKS.write(path, &text),
        None => Ok(()),
    }
}

fn upgrade(arguments: &UpgradeArguments) -> Result<(), String> {
    let (_, program, directory) = arguments.common.places()?;
    let seconds = Duration::try_from_secs_f64(arguments.seconds).map_err(|error| error.to_string())?;
    let loadgen = arguments.loadgen.clone();
    let shape = Shape {
        loadgen: loadgen.unwrap_or_else(|| super::target_directory().join("release/loadgen")),
        cpu: arguments.load_cpu,
        connections: arguments.busy,
        pace: Duration::from_millis(arguments.pace),
        churn: 0,
    };
    let _alone = super::alone()?;
    super::raise_descriptor_limit();
    let mut traffic = Traffic::start(&shape)?;
    let relay = Relay {
        engine: arguments.common.engine.clone(),
        workers: arguments.workers,
        admin: free_address()?,
        listen: free_address()?,
        extra: free_address()?,
        backends: traffic.backends().to_vec(),
    };
    let (admin, listen) = (relay.admin, relay.listen);
    let log = directory.join("ringway.log");
    let mut ringway = Ringway::start(&program, &directory, &processors(), relay, &log)?;
    let mut upgraded = Upgraded::new(&program, admin, ringway.proxy().first());
    traffic.flow(listen)?;
    let plan = (arguments.windows, seconds, arguments.upgrades);
    let upgrades = Upgrades::measure(&mut upgraded, &mut traffic, listen, arguments.idle, plan)?;
    let text = upgrades_markdown(&upgrades, &shape, &arguments.common.engine, arguments.workers);
    println!("{text}");
    if let Some(first) = upgrades.failures().first {
        println!("first failure: {first}");
    }
    match &arguments.common.write {
        Some(path) => UPGRADE_MARKS.write(path, &text),
        None => Ok(()),
    }
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
    match &arguments.common.write {
        Some(path) => APPS_MARKS.write(path, &text),
        None => Ok(()),
    }
}

/// All processors, as `taskset` takes them.
fn processors() -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("0-{}", count - 1)
}
