//! `loadgen`: the load as a program of its own.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use loadgen::Options;

/// Drives connections at a proxy and measures it. Exits with 1 if the run failed, 2 if connections did.
#[derive(Parser)]
#[command(name = "loadgen", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    match loadgen::run(&options) {
        Ok(report) => {
            if !options.json {
                println!("{report}");
            }
            if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) }
        }
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}
