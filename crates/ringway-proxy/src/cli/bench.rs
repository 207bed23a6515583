//! `ringway bench`: the load generator, as a command of the program that operators have.

use loadgen::{LoadError, Options};

use crate::control::exit::Exit;

/// Runs the load and prints what came of it. Failed connections make it a failure.
pub(super) fn main(options: &Options) -> Exit {
    match loadgen::run(options) {
        Ok(report) => {
            if !options.json {
                super::print(&format!("{report}\n"));
            }
            if report.errors == 0 { Exit::Finished } else { Exit::Failed }
        }
        Err(error) => {
            super::complain(&format!("ringway: bench: {error}"));
            match error {
                LoadError::Options(_) => Exit::Misused,
                LoadError::Engine(_)
                | LoadError::Listen { .. }
                | LoadError::Setup { .. }
                | LoadError::Watch(_)
                | LoadError::Interrupted => Exit::Failed,
            }
        }
    }
}
