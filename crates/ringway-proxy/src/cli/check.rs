//! `ringway check`: every fault of a configuration at once.

use std::path::Path;

use super::arguments::CheckArguments;
use super::{complain, print};
use crate::config::{self, render_faults};
use crate::control::certificates::seconds_now;
use crate::control::exit::Exit;
use crate::model::{App, Config};

/// Prints the faults, or that there are none.
pub(super) fn main(arguments: &CheckArguments) -> Exit {
    let Some(path) = arguments.config.clone().or_else(|| config::find(Path::new(""))) else {
        complain(
            "ringway check: there is neither ringway.toml nor config.json here; name a file with --config",
        );
        return Exit::Misused;
    };
    match summary(&path) {
        Ok(text) => {
            print(&text);
            Exit::Finished
        }
        Err(faults) => {
            complain(&faults);
            Exit::Misused
        }
    }
}

fn summary(path: &Path) -> Result<String, String> {
    let loaded = config::verify(path, seconds_now()).map_err(|errors| render_faults(&errors))?;
    let Config { apps, .. } = &loaded.config;
    let frontends = apps.iter().map(|app| app.frontends.len()).sum();
    let routes: usize = apps.iter().map(|app| app.routes.len()).sum();
    let of_pools = |app: &App| -> usize { app.pools().map(|(_, pool)| pool.backends.len()).sum() };
    let backends = apps.iter().map(|app| app.backends.len() + of_pools(app)).sum();
    let routes = if routes == 0 { String::new() } else { format!(", {}", count(routes, "route")) };
    let files = loaded.fragments.map(|fragments| format!(", from {}", count(1 + fragments.len(), "file")));
    Ok(format!(
        "{}: configuration is valid: {}, {}{routes}, {}{}\n",
        path.display(),
        count(apps.len(), "app"),
        count(frontends, "frontend"),
        count(backends, "backend"),
        files.unwrap_or_default()
    ))
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
