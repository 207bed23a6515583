//! `cargo xtask bench`: Ringway against its peers, workload by workload, on this machine.
//!
//! Each cell is a fresh proxy with one worker pinned to one processor and a fresh load pinned to another; variants
//! are interleaved round by round, so that a slow minute of the machine hits all of them. CPU time is the
//! scheduler's own count for all threads of the proxy, read by the load at the very edges of its window.

mod cell;
mod edge;
mod page;
mod process;
mod procfs;
mod rows;
pub(crate) mod soak;
mod stats;
mod variants;

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use cell::Method;
use page::{Family, Page};
use rows::{Measure, ROWS, Row};
use stats::{Sample, Samples};
use variants::{Places, VARIANTS, Variant};

/// What to measure, and how long.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Only these rows (see --list)
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// Only these variants; those of Ringway start with "ringway" (see --list)
    #[arg(long, value_name = "VARIANT", value_delimiter = ',')]
    peers: Vec<String>,
    /// Samples of each cell
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of the measured window
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds of traffic before it
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// One round of short windows: shows that all runs, proves nothing
    #[arg(long)]
    quick: bool,
    /// Start from the samples of the last run and replace what is measured now
    #[arg(long)]
    keep: bool,
    /// Write the page's results into this Markdown file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Render the samples of the last run, measure nothing
    #[arg(long)]
    render: bool,
    /// The load balancer to measure, instead of building it
    #[arg(long, value_name = "PATH")]
    ringway: Option<PathBuf>,
    /// The load generator, instead of building it; `bare` is looked for beside it
    #[arg(long, value_name = "PATH")]
    loadgen: Option<PathBuf>,
    /// Processor of the proxy
    #[arg(long, default_value_t = 1)]
    proxy_cpu: usize,
    /// Processor of the load
    #[arg(long, default_value_t = 0)]
    load_cpu: usize,
    /// Measure what a choice among 10 and among 10,000 backends costs, and nothing else
    #[arg(long, group = "alone")]
    balance: bool,
    /// Measure what it costs to find the route of a client among 10,000, and nothing else
    #[arg(long, group = "alone")]
    routing: bool,
    /// Measure what it costs to move thousands of connections from one engine to another, and nothing else
    #[arg(long, group = "alone")]
    handover: bool,
    /// Name the rows and variants, and what is missing
    #[arg(long)]
    list: bool,
}

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let alone = [
        (arguments.balance, "ringway-proxy", "balance"),
        (arguments.routing, "ringway-proxy", "routing"),
        (arguments.handover, "ringway-engine", "handover"),
    ];
    let result = match alone.into_iter().find(|(is_wanted, ..)| *is_wanted) {
        Some((_, package, name)) => cargo_bench(package, name),
        None => bench(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a measurement that needs no other program.
fn cargo_bench(package: &str, name: &str) -> Result<(), String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "--package", package, "--bench", name]);
    let status = command.status().map_err(|error| format!("cargo bench: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo bench: {status}")) }
}

fn bench(arguments: &Arguments) -> Result<(), String> {
    let target = target_directory();
    let loadgen = arguments.loadgen.clone().unwrap_or_else(|| target.join("release/loadgen"));
    let places = Places {
        ringway: arguments.ringway.clone().unwrap_or_else(|| target.join("release/ringway")),
        bare: loadgen.with_file_name("bare"),
        bench: target.join("bench"),
    };
    let rows = chosen(ROWS.iter(), |row| row.name, &arguments.only)?;
    let wanted = chosen(VARIANTS.into_iter(), |variant| variant.name(), &arguments.peers)?;
    if arguments.list {
        list(&places);
        return Ok(());
    }
    let saved = places.bench.join("samples.json");
    let mut samples =
        if arguments.keep || arguments.render { load_samples(&saved)? } else { Samples::default() };
    if !arguments.render {
        build(arguments, wanted.iter().any(|variant| variant.is_ours()))?;
    }
    let mut skipped = Vec::new();
    let mut runnable = Vec::new();
    for variant in wanted {
        match variant.find(&places) {
            Ok(program) => runnable.push((variant, program)),
            Err(reason) => skipped.push(reason),
        }
    }
    let unable = unable(&rows, &runnable);
    for reason in skipped.iter().chain(&unable) {
        eprintln!("skipped: {reason}");
    }
    if !arguments.render {
        let _alone = alone()?;
        let method = method(arguments, loadgen, &places)?;
        let rounds = if arguments.quick { 1 } else { arguments.rounds };
        measure(&method, rounds, &rows, &runnable, &mut samples, &saved);
    }
    let versions: Vec<_> =
        runnable.iter().map(|(variant, program)| (*variant, variant.version(program))).collect();
    for family in [Family::Relay, Family::Tls] {
        let page =
            Page { family, samples: &samples, versions: &versions, skipped: &skipped, unable: &unable };
        if page.is_empty() {
            continue;
        }
        println!("{}", page.terminal());
        if let Some(path) = &arguments.write {
            page.write(path)?;
        }
    }
    Ok(())
}

/// Rows that a program is there for and cannot run, and why: a line for each variant and reason.
fn unable(rows: &[&Row], variants: &[(Variant, PathBuf)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (variant, program) in variants {
        let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
        for row in rows {
            let Some(reason) = variant.cannot(row.edge, program) else { continue };
            match reasons.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, names)) => names.push(row.name),
                None => reasons.push((reason, vec![row.name])),
            }
        }
        let line = |(reason, names): (String, Vec<&str>)| {
            format!("{} in {}: {reason}", variant.name(), names.join(", "))
        };
        lines.extend(reasons.into_iter().map(line));
    }
    lines
}

/// All cells, round by round; saved after each round.
fn measure(
    method: &Method,
    rounds: usize,
    rows: &[&Row],
    variants: &[(Variant, PathBuf)],
    samples: &mut Samples,
    saved: &Path,
) {
    for row in rows {
        for (variant, _) in variants {
            samples.clear(row.name, variant.name());
        }
        let able = variants.iter().filter(|(variant, program)| variant.cannot(row.edge, program).is_none());
        let able: Vec<_> = able.collect();
        for round in 1..=rounds {
            for (variant, program) in &able {
                match method.measure(row, *variant, program.clone()) {
                    Ok(sample) => {
                        eprintln!("{}", progress(row, *variant, round, &sample));
                        samples.push(row.name, variant.name(), sample);
                    }
                    Err(error) => eprintln!("{:15} {:17} round {round}: {error}", row.name, variant.name()),
                }
            }
        }
        let text = serde_json::to_string_pretty(samples).expect("samples are plain data");
        if let Err(error) = fs::write(saved, text) {
            eprintln!("bench: cannot save the samples: {error}");
        }
    }
}

fn progress(row: &Row, variant: Variant, round: usize, sample: &Sample) -> String {
    let value = row.measure.format(sample.value);
    let mut line =
        format!("{:15} {:17} round {round}: {value:>9} {}", row.name, variant.name(), row.measure.unit());
    if let Some((plain, edge)) = sample.over_plain {
        line += &format!("  ({edge:.2} less {plain:.2})");
    }
    if matches!(row.measure, Measure::CpuPerGigabyte | Measure::CpuPerUnit | Measure::Latency) {
        line += &format!(
            "  ({:.4} /s, proxy {:.0} %, load {:.0} %)",
            sample.rate,
            100.0 * sample.proxy_share,
            100.0 * sample.load_share
        );
    }
    if sample.errors > 0 {
        line += &format!("  {} ERRORS: {}", sample.errors, sample.first_error.as_deref().unwrap_or("?"));
    }
    line
}

fn method(arguments: &Arguments, loadgen: PathBuf, places: &Places) -> Result<Method, String> {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let (proxy_cpu, load_cpu) = (arguments.proxy_cpu, arguments.load_cpu);
    if proxy_cpu == load_cpu || proxy_cpu.max(load_cpu) >= count {
        return Err(format!("proxy and load need a processor each; this machine offers {count}"));
    }
    let (warmup, seconds) = if arguments.quick { (0.2, 0.4) } else { (arguments.warmup, arguments.seconds) };
    let duration = |number: f64| Duration::try_from_secs_f64(number).map_err(|error| error.to_string());
    Ok(Method {
        loadgen,
        directory: places.bench.join("run"),
        proxy_cpu,
        load_cpu,
        warmup: duration(warmup)?,
        seconds: duration(seconds)?,
        descriptors: raise_descriptor_limit(),
    })
}

/// Waits until no other bench runs on this machine: two would measure each other. Held until dropped.
fn alone() -> Result<File, String> {
    let path = env::temp_dir().join("ringway-bench.lock");
    let fail = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::options().create(true).append(true).open(&path).map_err(fail)?;
    if file.try_lock().is_err() {
        eprintln!("another bench runs on this machine; waiting for its end");
        file.lock().map_err(fail)?;
    }
    Ok(file)
}

/// What the load and all proxies inherit.
fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A million is more than any row needs; unlimited would make HAProxy size its tables by it.
    let most = limit.maximum.unwrap_or(1 << 20).min(1 << 20);
    let wish = Rlimit { current: Some(most), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, wish) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(most),
    }
}

/// Builds what is measured, as it is shipped.
fn build(arguments: &Arguments, is_ours_wanted: bool) -> Result<(), String> {
    let mut packages = Vec::new();
    if arguments.ringway.is_none() && is_ours_wanted {
        packages.push("ringway-proxy");
    }
    if arguments.loadgen.is_none() {
        packages.push("loadgen");
    }
    if packages.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--release"]).args(packages.iter().flat_map(|name| ["-p", name]));
    let status = command.status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err("the build failed".into()) }
}

/// Where this very program was built: `target/debug/xtask` and the like.
fn target_directory() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
}

fn load_samples(path: &Path) -> Result<Samples, String> {
    let fail = |error: String| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| fail(error.to_string()))
}

/// The items that are named, all if none is.
fn chosen<T>(
    all: impl Iterator<Item = T>,
    name: impl Fn(&T) -> &'static str,
    named: &[String],
) -> Result<Vec<T>, String> {
    let all: Vec<T> = all.collect();
    if let Some(unknown) = named.iter().find(|wish| all.iter().all(|item| name(item) != wish.as_str())) {
        let known: Vec<_> = all.iter().map(&name).collect();
        return Err(format!("`{unknown}` is unknown; there are {}", known.join(", ")));
    }
    Ok(all
        .into_iter()
        .filter(|item| named.is_empty() || named.iter().any(|wish| wish == name(item)))
        .collect())
}

fn list(places: &Places) {
    println!("rows:");
    for row in ROWS {
        println!("  {:15} {}", row.name, row.title);
    }
    println!("variants:");
    for variant in VARIANTS {
        match variant.find(places) {
            Ok(program) => println!("  {:17} {}", variant.name(), variant.version(&program)),
            Err(reason) => println!("  {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_unknown_is_an_error_that_says_what_is_known() {
        let error = chosen(ROWS.iter(), |row| row.name, &["bulk".into()]).expect_err("it is bulk-1");
        assert!(error.contains("bulk-1"), "{error}");
    }

    #[test]
    fn no_name_means_all() {
        assert_eq!(chosen(VARIANTS.into_iter(), |variant| variant.name(), &[]).map(|all| all.len()), Ok(10));
    }
}
