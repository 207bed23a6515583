//! Development tasks of the workspace: `cargo xtask <task>`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod tidy;

/// Development tasks of the Ringway workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check the rules that the compiler cannot: import edges, headers, file lengths, links.
    Tidy,
    /// Measure Ringway against its peers on this machine.
    Bench(bench::Arguments),
    /// Change configurations under load, or many apps, and see what becomes of connections, time and memory.
    Soak(bench::soak::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().task {
        Task::Tidy => tidy::run(),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Soak(arguments) => bench::soak::run(&arguments),
    }
}
