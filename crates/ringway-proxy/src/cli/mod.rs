//! The command line: what each command does.

mod arguments;
mod ask;
mod backend;
mod bench;
mod check;
mod connections;
mod drain;
mod explain;
mod generated;
pub mod reference;
mod reload;
mod run;
mod selftest;
mod status;
mod table;
mod units;
mod upgrade;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::control::exit::Exit;
use arguments::{Arguments, Command};

/// Does what the arguments say. The first is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments::translate(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output, faults to standard error; neither may be there any more.
            let _ = error.print();
            return if error.use_stderr() { Exit::Misused.into() } else { Exit::Finished.into() };
        }
    };
    let exit = match arguments.command {
        Command::Run(run) => run::main(run),
        Command::Check(check) => check::main(&check),
        Command::Status(status) => status::main(&status),
        Command::Reload(reload) => reload::reload(&reload),
        Command::Plan(plan) => reload::plan(&plan),
        Command::Versions(versions) => reload::versions(&versions),
        Command::Rollback(rollback) => reload::rollback(&rollback),
        Command::Upgrade(upgrade) => upgrade::main(&upgrade),
        Command::Backend(backend) => backend::main(&backend),
        Command::Drain(drain) => drain::drain(&drain),
        Command::Undrain(undrain) => drain::undrain(&undrain),
        Command::Connections(connections) => connections::list(&connections),
        Command::Kill(kill) => connections::kill(&kill),
        Command::Schema => generated::schema(),
        Command::Completions(completions) => generated::completions(&completions),
        Command::Man(man) => generated::man(&man),
        Command::Explain(explain) => explain::main(&explain),
        Command::Selftest => selftest::main(),
        Command::Bench(options) => bench::main(&options),
    };
    exit.into()
}

/// Prints a result. A reader that left early (`ringway status | head -1`) is no fault.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says why there is no result.
fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}
