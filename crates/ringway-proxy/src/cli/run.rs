//! `ringway run`: finds the configuration and hands over to the control plane.

use std::path::Path;
use std::sync::Arc;

use super::arguments::RunArguments;
use super::complain;
use crate::config::{self, render_faults};
use crate::control::exit::Exit;
use crate::control::reload::{Document, Overrides};
use crate::control::{self, Source};
use crate::model::Config;

/// Runs until a signal ends it.
pub(super) fn main(arguments: RunArguments) -> Exit {
    // Before anything else opens a descriptor or starts a thread.
    let passed = match ringway::take_passed_descriptors() {
        Ok(passed) => passed,
        Err(error) => {
            complain(&format!("ringway: cannot start: {error}"));
            return Exit::Failed;
        }
    };
    let (config, source) = match find(&arguments) {
        Ok(found) => found,
        Err(faults) => {
            complain(&faults);
            return Exit::Misused;
        }
    };
    let RunArguments { log_level, workers, engine, pprof, .. } = arguments;
    let overrides =
        Overrides { log_level, workers: workers.map(usize::from), engine: engine.map(Into::into), pprof };
    control::run(config, &source, overrides, passed)
}

fn find(arguments: &RunArguments) -> Result<(Config, Source), String> {
    match arguments.config.clone().or_else(|| config::find(Path::new(""))) {
        Some(path) => {
            let loaded = config::load(&path).map_err(|errors| render_faults(&errors))?;
            let (config, document) = Document::of(loaded);
            Ok((config, Source { file: Some(path), document: Arc::new(document) }))
        }
        None => Ok((config::demo(), Source { file: None, document: Arc::new(Document::demo()) })),
    }
}
