//! What a few reloads do to connections and memory of Ringway, HAProxy and nginx.
//!
//! A peer's reload starts processes anew; the old ones stay for the connections that they have.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::process::{self, Proxy};
use super::super::variants::{Setup, Variant};
use super::footprint::{Footprint, relayed_connections};
use super::ringway::Ringway;
use super::traffic::{Traffic, Window};

/// Reloads of each, and the time after each in which new processes start.
pub(super) const RELOADS: usize = 3;
const BETWEEN: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Who is reloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Haproxy,
    Nginx,
}

/// What became of one of them.
#[derive(Clone, Debug)]
pub(super) struct Reloaded {
    pub(super) name: String,
    pub(super) window: Window,
    pub(super) before: Footprint,
    pub(super) after: Footprint,
    pub(super) old: Old,
}

/// Processes from before the last reload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Old {
    /// How many were still there at the end, with how many connections.
    pub(super) processes: usize,
    pub(super) connections: usize,
    /// When the last of them went, in seconds after the last reload.
    pub(super) gone_after: Option<f64>,
}

impl Peer {
    pub(super) const ALL: [Self; 2] = [Self::Haproxy, Self::Nginx];

    pub(super) fn variant(self) -> Variant {
        match self {
            Self::Haproxy => Variant::Haproxy,
            Self::Nginx => Variant::Nginx,
        }
    }

    /// Starts it as a service manager does: with a master that can be told to reload.
    fn start(self, program: PathBuf, directory: &Path, cpus: &str, setup: &Setup) -> Result<Proxy, String> {
        let prepared = self.variant().prepare(program, directory, setup);
        let mut launch = prepared.map_err(|error| error.to_string())?;
        if self == Self::Haproxy {
            launch.arguments.insert(0, "-W".into());
            launch.processes = 2;
        }
        let log = directory.join(format!("{}.log", self.variant().name()));
        Proxy::start(&launch, cpus, setup.listen, &log)
    }

    /// What a reload of it is, as its manual says.
    fn reload(self, proxy: &Proxy) {
        let signal = match self {
            Self::Haproxy => Signal::USR2,
            Self::Nginx => Signal::HUP,
        };
        process::signal(proxy.first(), signal);
    }

    /// Reloads under load, and looks for `patience` after what stays.
    pub(super) fn measure(
        self,
        program: PathBuf,
        directory: &Path,
        cpus: &str,
        setup: &Setup,
        traffic: &mut Traffic,
        patience: Duration,
    ) -> Result<Reloaded, String> {
        let name = self.variant().version(&program);
        let mut proxy = self.start(program, directory, cpus, setup)?;
        traffic.flow(setup.listen)?;
        let before = Footprint::settled(proxy.look_again()?);
        let first = proxy.first();
        let mut old_pids = Vec::new();
        let mut last = Instant::now();
        for _ in 0..RELOADS {
            old_pids = proxy.look_again()?.iter().copied().filter(|&pid| pid != first).collect();
            last = Instant::now();
            self.reload(&proxy);
            thread::sleep(BETWEEN);
        }
        let mut gone_after = None;
        while last.elapsed() < patience {
            if gone_after.is_none() && remaining(&old_pids, proxy.look_again()?).is_empty() {
                gone_after = Some(last.elapsed().as_secs_f64());
            }
            thread::sleep(LOOK_INTERVAL);
        }
        let alive = proxy.look_again()?.to_vec();
        let left = remaining(&old_pids, &alive);
        let connections = left.iter().map(|&pid| relayed_connections(pid)).sum();
        let old = Old { processes: left.len(), connections, gone_after };
        let after = Footprint::settled(&alive);
        Ok(Reloaded { name, window: traffic.mark()?, before, after, old })
    }
}

/// The same with Ringway, which runs and is loaded already.
pub(super) fn measure_ringway(
    ringway: &mut Ringway,
    name: String,
    traffic: &mut Traffic,
    patience: Duration,
) -> Result<Reloaded, String> {
    traffic.mark()?;
    let before = Footprint::settled(ringway.proxy().look_again()?);
    for _ in 0..RELOADS {
        ringway.reload()?;
        thread::sleep(BETWEEN);
    }
    thread::sleep(patience.saturating_sub(BETWEEN));
    let after = Footprint::settled(ringway.proxy().look_again()?);
    Ok(Reloaded { name, window: traffic.mark()?, before, after, old: Old::default() })
}

fn remaining(old: &[u32], alive: &[u32]) -> Vec<u32> {
    old.iter().copied().filter(|pid| alive.contains(pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_processes_are_those_that_are_still_there() {
        assert_eq!(remaining(&[1, 2, 3], &[2, 3, 4, 5]), [2, 3]);
        assert!(remaining(&[1], &[2]).is_empty());
    }
}
