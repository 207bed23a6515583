//! `ringway run`: finds the configuration and hands over to the control plane.

use std::path::Path;

use super::arguments::RunArguments;
use super::complain;
use crate::config::{self, render_faults};
use crate::control::exit::Exit;
use crate::control::{self, Origin};
use crate::model::Config;

/// Runs until a signal ends it.
pub(super) fn main(arguments: RunArguments) -> Exit {
    if arguments.pprof.is_some() {
        complain(
            "ringway run: --pprof is not supported yet; `perf record -p PID` profiles a running ringway",
        );
        return Exit::Misused;
    }
    let (mut config, origin) = match find(&arguments) {
        Ok(found) => found,
        Err(faults) => {
            complain(&faults);
            return Exit::Misused;
        }
    };
    let RunArguments { log_level, workers, engine, .. } = arguments;
    // The command line wins over the file.
    if let Some(level) = log_level {
        config.server.log_level = level;
    }
    if let Some(workers) = workers {
        config.server.workers = Some(usize::from(workers));
    }
    if let Some(engine) = engine {
        config.server.engine = engine.into();
    }
    control::run(config, &origin)
}

fn find(arguments: &RunArguments) -> Result<(Config, Origin), String> {
    match arguments.config.clone().or_else(|| config::find(Path::new(""))) {
        Some(path) => {
            let loaded = config::load(&path).map_err(|errors| render_faults(&errors))?;
            Ok((loaded.config, Origin::File(path)))
        }
        None => Ok((config::demo(), Origin::Demo)),
    }
}
