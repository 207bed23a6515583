//! Ten thousand apps: how long `ringway check` takes, and `ringway reload` of a file in which one has changed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::process::Proxy;
use super::super::stats::median;
use super::configuration::{address_of, many_apps};
use super::footprint::Footprint;
use super::ringway;

/// The targets.
pub(super) const CHECK_MAX: Duration = Duration::from_secs(1);
pub(super) const RELOAD_MAX: Duration = Duration::from_millis(100);

/// What was measured; times in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct ManyApps {
    pub(super) count: usize,
    pub(super) file_bytes: usize,
    pub(super) checks_ms: Vec<f64>,
    pub(super) start_ms: f64,
    pub(super) reloads_ms: Vec<f64>,
    pub(super) footprint: Footprint,
}

impl ManyApps {
    pub(super) fn measure(
        program: &Path,
        directory: &Path,
        count: usize,
        rounds: usize,
        (engine, admin): (&str, SocketAddr),
        cpus: &str,
    ) -> Result<Self, String> {
        let file = directory.join("apps.toml");
        let text =
            |round: usize| many_apps(count, engine, admin, if round.is_multiple_of(2) { 1 } else { 2 });
        ringway::write(&file, &text(0))?;
        let checks_ms = (0..rounds).map(|_| check(program, &file)).collect::<Result<_, _>>()?;
        let began = Instant::now();
        let listen = address_of(count.saturating_sub(1));
        let log = directory.join("apps.log");
        let mut proxy = Proxy::start(&ringway::launch(program, &file), cpus, listen, &log)?;
        let start_ms = began.elapsed().as_secs_f64() * 1e3;
        let mut reloads_ms = Vec::new();
        for round in 1..=rounds {
            ringway::write(&file, &text(round))?;
            let took = ringway::reload(program, admin)?.as_secs_f64() * 1e3;
            eprintln!("reload {round}: {took:.1} ms");
            reloads_ms.push(took);
        }
        let footprint = Footprint::settled(proxy.look_again()?);
        Ok(Self { count, file_bytes: text(0).len(), checks_ms, start_ms, reloads_ms, footprint })
    }

    pub(super) fn check_ms(&self) -> f64 {
        median(self.checks_ms.iter().copied()).unwrap_or(0.0)
    }

    pub(super) fn reload_ms(&self) -> f64 {
        median(self.reloads_ms.iter().copied()).unwrap_or(0.0)
    }
}

fn check(program: &Path, file: &Path) -> Result<f64, String> {
    let began = Instant::now();
    let output = Command::new(program).arg("check").arg("--config").arg(file).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    if output.status.success() {
        eprintln!("check: {took:.0} ms");
        return Ok(took);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("ringway check: {}", complaint.lines().next().unwrap_or("failed")))
}
