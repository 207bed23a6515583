//! Runs simulations of the proxy, and tells which seeds fail.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use simulator::Workload;

/// Runs the real proxy in a seeded, simulated world and checks what must hold.
#[derive(Parser)]
struct Arguments {
    /// Runs this seed alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Runs so many seeds.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Plays an operator's whole day instead of the usual quarter of a minute.
    #[arg(long)]
    day: bool,
    /// Plays clients that speak TLS with the proxy.
    #[arg(long, conflicts_with = "day")]
    tls: bool,
    /// Prints everything that happens (with --seed).
    #[arg(long, requires = "seed")]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let workload = match (arguments.day, arguments.tls) {
        (true, _) => Workload::Day,
        (false, true) => Workload::Tls,
        (false, false) => Workload::Usual,
    };
    match arguments.seed {
        Some(seed) => run_one(workload, seed, arguments.trace),
        None => run_many(workload, arguments.from, arguments.seeds),
    }
}

fn run_one(workload: Workload, seed: u64, trace: bool) -> ExitCode {
    let outcome = simulator::play(workload, seed, trace);
    if let Some(lines) = &outcome.lines {
        print!("{lines}");
    }
    println!("{outcome}");
    match outcome.faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn run_many(workload: Workload, from: u64, count: u64) -> ExitCode {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {elapsed} ({eta} left) {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(count).with_style(style);
    let mut failed = Vec::new();
    for seed in from..from.saturating_add(count) {
        let outcome = simulator::play(workload, seed, false);
        if !outcome.faults.is_empty() {
            failed.push(seed);
            bar.suspend(|| println!("{outcome}"));
            bar.set_message(format!("{} failed", failed.len()));
        }
        bar.inc(1);
    }
    bar.finish();
    if failed.is_empty() {
        println!("{count} seeds hold");
        return ExitCode::SUCCESS;
    }
    println!("{} of {count} seeds failed: {failed:?}", failed.len());
    let argument = workload.argument();
    println!("replay one with: cargo run -p simulator -- --seed {}{argument} --trace", failed[0]);
    ExitCode::FAILURE
}
