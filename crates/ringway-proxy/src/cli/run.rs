//! `ringway run`: finds the configuration and hands over to the control plane.

use std::path::Path;
use std::sync::Arc;

use ringway::PassedDescriptor;

use super::arguments::RunArguments;
use super::complain;
use crate::config::{self, Outline, render_faults};
use crate::control::exit::Exit;
use crate::control::reload::{Document, Overrides};
use crate::control::upgrade::{self, Heir, Meeting, Parted};
use crate::control::{self, Beginning, Source, supervisor};
use crate::model::Config;

/// Runs until a signal ends it.
pub(super) fn main(arguments: RunArguments) -> Exit {
    if supervisor::is_wanted(arguments.supervise) {
        return supervisor::run();
    }
    // Before anything else opens a descriptor or starts a thread.
    let taken = match supervisor::is_supervised() {
        true => ringway::take_descriptors_of_parent(),
        false => ringway::take_passed_descriptors(),
    };
    let passed = match taken {
        Ok(passed) => passed,
        Err(error) => {
            complain(&format!("ringway: cannot start: {error}"));
            return Exit::Failed;
        }
    };
    let overrides = Overrides {
        log_level: arguments.log_level,
        workers: arguments.workers.map(usize::from),
        engine: arguments.engine.map(Into::into),
        pprof: arguments.pprof,
    };
    if let Some(socket) = std::env::var_os(upgrade::VARIABLE) {
        return match Heir::meet(Path::new(&socket), &overrides) {
            Ok(Meeting { heir, config, source, passed }) => control::run(
                config,
                &source,
                overrides,
                Beginning { passed, heir: Some(heir), outline: None },
            ),
            // As if nobody had been there.
            Err(Parted::Gone(reason)) => {
                complain(&format!("{reason}; this process starts by itself"));
                start(&arguments, overrides, passed)
            }
            Err(Parted::CalledOff(reason)) => {
                complain(&reason);
                Exit::Misused
            }
        };
    }
    start(&arguments, overrides, passed)
}

fn start(arguments: &RunArguments, overrides: Overrides, passed: Vec<PassedDescriptor>) -> Exit {
    match find(arguments) {
        Ok((config, source, outline)) => {
            control::run(config, &source, overrides, Beginning { passed, heir: None, outline })
        }
        Err(faults) => {
            complain(&faults);
            Exit::Misused
        }
    }
}

fn find(arguments: &RunArguments) -> Result<(Config, Source, Option<Outline>), String> {
    match arguments.config.clone().or_else(|| config::find(Path::new(""))) {
        Some(path) => {
            let loaded = config::load(&path).map_err(|errors| render_faults(&errors))?;
            let outline = Outline::of(&loaded);
            let (config, document) = Document::of(loaded);
            Ok((config, Source { file: Some(path), document: Arc::new(document) }, outline))
        }
        None => Ok((config::demo(), Source { file: None, document: Arc::new(Document::demo()) }, None)),
    }
}
