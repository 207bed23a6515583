//! What a few reloads, or exchanges of the binary, do to connections and memory of Ringway, HAProxy and nginx.
//!
//! Either starts processes of a peer anew; the old ones stay for the connections that they have.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::process::{self, Proxy};
use super::super::procfs;
use super::super::variants::{Launch, Setup, Variant};
use super::footprint::{Footprint, relayed_connections};
use super::ringway::Ringway;
use super::traffic::{Traffic, Window};
use super::upgrades::{Upgraded, connect_all, is_open, lives};

/// Changes of each, and the time after each in which new processes start.
pub(super) const CHANGES: usize = 3;
const BETWEEN: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// For another master of nginx to be there.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// For what was started to end.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It reads its configuration again.
    Reload,
    /// Another binary takes over.
    Upgrade,
}

/// Who is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A process without a master, followed by one that is started with `-sf`.
    HaproxyAlone,
    /// With a master, which starts itself and its workers anew: for both changes it is the same.
    Haproxy,
    Nginx,
}

/// What became of one of them.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) name: String,
    pub(super) changes: usize,
    pub(super) window: Window,
    /// Idle connections that were not open any more at the end.
    pub(super) idle_lost: usize,
    pub(super) before: Footprint,
    pub(super) after: Footprint,
    pub(super) old: Old,
}

/// Processes from before the last change.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Old {
    /// How many were still there at the end, with how many connections.
    pub(super) processes: usize,
    pub(super) connections: usize,
    /// When the last of them went, in seconds after the last change.
    pub(super) gone_after: Option<f64>,
}

/// Where and how peers are measured.
pub(super) struct Course<'a> {
    pub(super) change: Change,
    pub(super) directory: &'a Path,
    pub(super) cpus: &'a str,
    /// Idle connections beside those of the traffic.
    pub(super) idle: usize,
    /// For how long old processes are watched after the last change.
    pub(super) patience: Duration,
}

impl Peer {
    /// Those that can be changed in this way.
    pub(super) fn all(change: Change) -> &'static [Self] {
        match change {
            Change::Reload => &[Self::Haproxy, Self::Nginx],
            Change::Upgrade => &[Self::HaproxyAlone, Self::Haproxy, Self::Nginx],
        }
    }

    pub(super) fn variant(self) -> Variant {
        match self {
            Self::HaproxyAlone | Self::Haproxy => Variant::Haproxy,
            Self::Nginx => Variant::Nginx,
        }
    }

    fn name(self, program: &Path, change: Change) -> String {
        let version = self.variant().version(program);
        match (self, change) {
            (Self::HaproxyAlone, _) => format!("{version}, -sf"),
            (Self::Haproxy, Change::Upgrade) => format!("{version}, master-worker"),
            (Self::Haproxy, Change::Reload) | (Self::Nginx, _) => version,
        }
    }

    /// nginx ignores the signal for another binary while an old master lives.
    fn changes(self, change: Change) -> usize {
        if self == Self::Nginx && change == Change::Upgrade { 1 } else { CHANGES }
    }

    /// Changes it under load, and looks after what stays.
    pub(super) fn measure(
        self,
        program: PathBuf,
        course: &Course<'_>,
        setup: &Setup,
        traffic: &mut Traffic,
    ) -> Result<Changed, String> {
        let name = self.name(&program, course.change);
        let mut running = Running::start(self, program, course, setup)?;
        traffic.flow(setup.listen)?;
        let idle = connect_all(setup.listen, course.idle)?;
        let before = Footprint::settled(&running.pids());
        let changes = self.changes(course.change);
        let mut old_pids = Vec::new();
        let mut last = Instant::now();
        for _ in 0..changes {
            let master = running.lasting_master();
            old_pids = running.pids();
            old_pids.retain(|&pid| Some(pid) != master);
            last = Instant::now();
            running.change()?;
            thread::sleep(BETWEEN);
        }
        let mut gone_after = None;
        while last.elapsed() < course.patience {
            if gone_after.is_none() && remaining(&old_pids, &running.pids()).is_empty() {
                gone_after = Some(last.elapsed().as_secs_f64());
            }
            thread::sleep(LOOK_INTERVAL);
        }
        let alive = running.pids();
        let left = remaining(&old_pids, &alive);
        let connections = left.iter().map(|&pid| relayed_connections(pid)).sum();
        let old = Old { processes: left.len(), connections, gone_after };
        let after = Footprint::settled(&alive);
        let idle_lost = idle.iter().filter(|stream| !is_open(stream)).count();
        Ok(Changed { name, changes, window: traffic.mark()?, idle_lost, before, after, old })
    }
}

/// A peer with all its processes, those of before included; ended when dropped.
struct Running<'a> {
    peer: Peer,
    course: &'a Course<'a>,
    setup: &'a Setup,
    launch: Launch,
    /// Those that are children of this process.
    proxies: Vec<Proxy>,
    /// Masters of nginx that are nobody's children.
    masters: Vec<u32>,
}

impl<'a> Running<'a> {
    /// Starts it as a service manager does.
    fn start(peer: Peer, program: PathBuf, course: &'a Course<'a>, setup: &'a Setup) -> Result<Self, String> {
        let prepared = peer.variant().prepare(program, course.directory, setup);
        let mut launch = prepared.map_err(|error| error.to_string())?;
        if peer == Peer::Haproxy {
            launch.arguments.insert(0, "-W".into());
            launch.processes = 2;
        }
        let mut running = Self { peer, course, setup, launch, proxies: Vec::new(), masters: Vec::new() };
        match (peer, course.change) {
            (Peer::Nginx, Change::Upgrade) => running.start_daemon()?,
            _ => running.start_child(&[])?,
        }
        Ok(running)
    }

    fn log(&self) -> PathBuf {
        self.course.directory.join(format!("{}-{}.log", self.peer.variant().name(), self.proxies.len()))
    }

    fn start_child(&mut self, more: &[String]) -> Result<(), String> {
        let Launch { program, arguments, processes } = &self.launch;
        let arguments = [&arguments[..], more].concat();
        let launch = Launch { program: program.clone(), arguments, processes: *processes };
        let proxy = Proxy::start(&launch, self.course.cpus, self.setup.listen, &self.log())?;
        self.proxies.push(proxy);
        Ok(())
    }

    /// nginx takes another binary only once who started it has left it alone.
    fn start_daemon(&mut self) -> Result<(), String> {
        let fail = |error: std::io::Error| format!("nginx: {error}");
        let file = self.course.directory.join("nginx.conf");
        let text = fs::read_to_string(&file).map_err(fail)?;
        fs::write(&file, text.replace("daemon off;", "daemon on;")).map_err(fail)?;
        // One of before would be taken for its own.
        let _ = fs::remove_file(self.pid_file());
        let log = File::create(self.log()).map_err(fail)?;
        let mut command = process::pinned(&self.launch.program, self.course.cpus);
        command.args(&self.launch.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let status = command.status().map_err(fail)?;
        let listen = self.setup.listen;
        let master = wait_for(|| self.newest_master().filter(|_| TcpStream::connect(listen).is_ok()));
        self.masters.push(master.ok_or_else(|| format!("nginx does not serve: {status}"))?);
        Ok(())
    }

    fn pid_file(&self) -> PathBuf {
        self.course.directory.join("nginx.pid")
    }

    /// The master that has written its id last, with its workers.
    fn newest_master(&self) -> Option<u32> {
        let pid = fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        (procfs::family(pid).ok()?.len() >= self.launch.processes).then_some(pid)
    }

    /// All its processes that live.
    fn pids(&self) -> Vec<u32> {
        let roots = self.proxies.iter().map(Proxy::first).chain(self.masters.iter().copied());
        let all: BTreeSet<u32> = roots.flat_map(|root| procfs::family(root).unwrap_or_default()).collect();
        all.into_iter().filter(|&pid| lives(pid)).collect()
    }

    /// The master that stays through a change.
    fn lasting_master(&self) -> Option<u32> {
        match (self.peer, self.course.change) {
            (Peer::Haproxy, _) | (Peer::Nginx, Change::Reload) => self.proxies.first().map(Proxy::first),
            (Peer::HaproxyAlone, _) | (Peer::Nginx, Change::Upgrade) => None,
        }
    }

    /// Changes it as its manual says.
    fn change(&mut self) -> Result<(), String> {
        match (self.peer, self.course.change) {
            (Peer::HaproxyAlone, _) => {
                let old = self.pids().into_iter().map(|pid| pid.to_string());
                self.start_child(&std::iter::once("-sf".to_owned()).chain(old).collect::<Vec<_>>())
            }
            (Peer::Nginx, Change::Upgrade) => {
                let old = self.masters.last().copied().ok_or("there is no master")?;
                process::signal(old, Signal::USR2);
                let new = wait_for(|| self.newest_master().filter(|&pid| pid != old));
                self.masters.push(new.ok_or("the new nginx does not come")?);
                process::signal(old, Signal::QUIT);
                Ok(())
            }
            (peer @ (Peer::Haproxy | Peer::Nginx), _) => {
                let signal = if peer == Peer::Nginx { Signal::HUP } else { Signal::USR2 };
                self.lasting_master().into_iter().for_each(|master| process::signal(master, signal));
                Ok(())
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Children end with their `Proxy`, but for those that took themselves out of its family.
        let all = self.pids();
        all.iter().for_each(|&pid| process::signal(pid, Signal::TERM));
        let deadline = Instant::now() + STOP_PATIENCE;
        while all.iter().any(|&pid| lives(pid)) && Instant::now() < deadline {
            thread::sleep(LOOK_INTERVAL);
        }
        all.into_iter().filter(|&pid| lives(pid)).for_each(|pid| process::signal(pid, Signal::KILL));
    }
}

/// Ringway, reloaded; it runs and is loaded already.
pub(super) fn reload_ringway(
    ringway: &mut Ringway,
    name: String,
    traffic: &mut Traffic,
    patience: Duration,
) -> Result<Changed, String> {
    traffic.mark()?;
    let before = Footprint::settled(ringway.proxy().look_again()?);
    for _ in 0..CHANGES {
        ringway.reload()?;
        thread::sleep(BETWEEN);
    }
    thread::sleep(patience.saturating_sub(BETWEEN));
    let after = Footprint::settled(ringway.proxy().look_again()?);
    let (changes, old) = (CHANGES, Old::default());
    Ok(Changed { name, changes, window: traffic.mark()?, idle_lost: 0, before, after, old })
}

/// Ringway, upgraded; it runs and is loaded already.
pub(super) fn upgrade_ringway(
    ringway: &mut Upgraded,
    name: String,
    setup: &Setup,
    course: &Course<'_>,
    traffic: &mut Traffic,
) -> Result<Changed, String> {
    let idle = connect_all(setup.listen, course.idle)?;
    traffic.mark()?;
    let before = Footprint::settled(&[ringway.pid()]);
    let mut old = Old::default();
    for _ in 0..CHANGES {
        let pid = ringway.pid();
        let (report, gone) = ringway.upgrade()?;
        // Counted from the order, as with the others.
        let took = report["seconds"].as_f64().unwrap_or(0.0) + gone.as_secs_f64();
        old = match lives(pid) {
            true => Old { processes: 1, connections: relayed_connections(pid), gone_after: None },
            false => Old { gone_after: Some(took), ..Old::default() },
        };
        thread::sleep(BETWEEN);
    }
    let after = Footprint::settled(&[ringway.pid()]);
    let idle_lost = idle.iter().filter(|stream| !is_open(stream)).count();
    Ok(Changed { name, changes: CHANGES, window: traffic.mark()?, idle_lost, before, after, old })
}

fn remaining(old: &[u32], alive: &[u32]) -> Vec<u32> {
    old.iter().copied().filter(|pid| alive.contains(pid)).collect()
}

/// What `look` finds, as soon as it does; none if that takes too long.
fn wait_for<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        match look() {
            None if Instant::now() < deadline => thread::sleep(LOOK_INTERVAL),
            found => return found,
        }
    }
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
