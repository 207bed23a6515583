//! Upgrades under load: what connections that are busy, idle and new see of them, and what many of them leave.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::stats::median;
use super::footprint::Footprint;
use super::traffic::{Failures, Traffic, Window};

/// Between two connections of the visitor that measures how long they take.
const VISIT: Duration = Duration::from_millis(2);
/// An old process may take so long to be gone.
pub(super) const GONE_MAX: Duration = Duration::from_secs(5);
/// Upgrades after which memory is compared: by then every table has its size.
const FIRST: usize = 5;

/// What upgrades did.
#[derive(Clone, Debug, Default)]
pub(super) struct Upgrades {
    pub(super) idle: usize,
    /// Idle connections that were not open any more at the end.
    pub(super) idle_lost: usize,
    pub(super) with: Vec<Window>,
    pub(super) without: Vec<Window>,
    /// By the reports, in milliseconds: how long connections stood still, how long it took in all.
    pub(super) pauses_ms: Vec<f64>,
    pub(super) took_ms: Vec<f64>,
    /// Until the old process was gone, in milliseconds, after the new one served.
    pub(super) gone_ms: Vec<f64>,
    /// Connections that moved with one upgrade, at the least.
    pub(super) moved: u64,
    /// To connect, in milliseconds: without, with.
    pub(super) connects_ms: [Vec<f64>; 2],
    pub(super) refused: u64,
    pub(super) many: Option<Many>,
}

/// What very many upgrades left.
#[derive(Clone, Debug)]
pub(super) struct Many {
    pub(super) before: Footprint,
    pub(super) after: Footprint,
    /// Processes of the program, and files of upgrades, that are left beside the one that serves.
    pub(super) processes: usize,
    pub(super) files: usize,
    pub(super) window: Window,
}

/// The program under soak, wherever it is by now.
pub(super) struct Upgraded {
    program: PathBuf,
    admin: SocketAddr,
    pid: u32,
}

impl Upgraded {
    pub(super) fn new(program: &Path, admin: SocketAddr, pid: u32) -> Self {
        Self { program: program.to_owned(), admin, pid }
    }

    /// The process that serves.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs `ringway upgrade`; gives its report, and how long the old process was still there.
    pub(super) fn upgrade(&mut self) -> Result<(Value, Duration), String> {
        let mut command = Command::new(&self.program);
        command.args(["upgrade", "--json", "--admin", &self.admin.to_string()]);
        let output = command.output().map_err(|error| format!("{}: {error}", self.program.display()))?;
        let served = Instant::now();
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        let line: Value = serde_json::from_str(last).unwrap_or_default();
        let report = line["report"].clone();
        if !output.status.success() || report.is_null() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("ringway upgrade: {}: {last}{}", output.status, complaint.trim()));
        }
        while lives(self.pid) && served.elapsed() < 4 * GONE_MAX {
            thread::sleep(Duration::from_millis(5));
        }
        let new = report["new_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        self.pid = new.ok_or("a report without a process id")?;
        Ok((report, served.elapsed()))
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        // The process that was started first is gone, and with it whoever would end this one.
        let _ = Command::new("kill").args(["-9", &self.pid.to_string()]).status();
    }
}

/// Whether it is there, and not only waits to be buried.
pub(super) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

impl Upgrades {
    /// `count` windows without and as many with an upgrade, in turns, then `many` upgrades one after the other.
    pub(super) fn measure(
        ringway: &mut Upgraded,
        traffic: &mut Traffic,
        listen: SocketAddr,
        idle: usize,
        (count, length, many): (usize, Duration, usize),
    ) -> Result<Self, String> {
        let idle_ones = connect_all(listen, idle)?;
        let mut upgrades = Self { idle, ..Self::default() };
        let visitor = Visitor::start(listen);
        traffic.mark()?;
        for round in 1..=count {
            let quiet = traffic.window(length, || Ok(()))?;
            upgrades.connects_ms[0].extend(visitor.take());
            let mut told = None;
            let upgraded = traffic.window(length, || {
                told = Some(ringway.upgrade()?);
                Ok(())
            })?;
            upgrades.connects_ms[1].extend(visitor.take());
            let (report, gone) = told.ok_or("no upgrade")?;
            upgrades.note(&report, gone);
            let pause = upgrades.pauses_ms.last().copied().unwrap_or(0.0);
            eprintln!(
                "window {round}: longest wait {:.1} ms, with an upgrade {:.1} ms (paused for {pause:.1} ms)",
                quiet.longest_ms, upgraded.longest_ms
            );
            upgrades.without.push(quiet);
            upgrades.with.push(upgraded);
        }
        if many > 0 {
            upgrades.many = Some(upgrades.measure_many(ringway, traffic, many)?);
        }
        upgrades.refused = visitor.stop();
        upgrades.idle_lost = idle_ones.iter().filter(|stream| !is_open(stream)).count();
        Ok(upgrades)
    }

    fn measure_many(
        &mut self,
        ringway: &mut Upgraded,
        traffic: &mut Traffic,
        count: usize,
    ) -> Result<Many, String> {
        traffic.mark()?;
        let mut before = Footprint::default();
        for done in 1..=count {
            let (report, gone) = ringway.upgrade()?;
            self.note(&report, gone);
            if done == FIRST.min(count) {
                before = Footprint::settled(&[ringway.pid]);
            }
            if done % 20 == 0 {
                eprintln!("{done} of {count} upgrades");
            }
        }
        let after = Footprint::settled(&[ringway.pid]);
        let window = traffic.mark()?;
        Ok(Many { before, after, processes: others(ringway), files: files(), window })
    }

    fn note(&mut self, report: &Value, gone: Duration) {
        let millis = |value: &Value| value.as_f64().unwrap_or(0.0) * 1e3;
        let moved =
            report["moved"].as_object().map_or(0, |kinds| kinds.values().filter_map(Value::as_u64).sum());
        self.moved = if self.took_ms.is_empty() { moved } else { self.moved.min(moved) };
        self.pauses_ms.push(millis(&report["pause_seconds"]));
        self.took_ms.push(millis(&report["seconds"]));
        self.gone_ms.push(gone.as_secs_f64() * 1e3);
    }

    pub(super) fn failures(&self) -> Failures {
        let mut sum = Failures::default();
        let many = self.many.iter().map(|many| &many.window);
        self.with.iter().chain(&self.without).chain(many).for_each(|window| sum.add(&window.failures));
        sum
    }

    /// The longest that any busy connection waited in a window: the middle of the windows, and the most.
    pub(super) fn longest_ms(windows: &[Window]) -> (f64, f64) {
        let each = || windows.iter().map(|window| window.longest_ms);
        (median(each()).unwrap_or(0.0), each().fold(0.0, f64::max))
    }
}

/// The value that 99 of 100 do not pass.
pub(super) fn p99(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * 99 / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

pub(super) fn connect_all(listen: SocketAddr, count: usize) -> Result<Vec<TcpStream>, String> {
    let connect = |_| {
        let stream = TcpStream::connect(listen).map_err(|error| format!("an idle connection: {error}"))?;
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        Ok(stream)
    };
    (0..count).map(connect).collect()
}

pub(super) fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Processes of the program that live beside the one that serves.
fn others(ringway: &Upgraded) -> usize {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_other = |pid: &u32| {
        *pid != ringway.pid
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == ringway.program)
    };
    pids.filter(is_other).count()
}

/// Directories of upgrades that were not removed.
fn files() -> usize {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return 0 };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("ringway-upgrade-")).count()
}

/// How long each took in milliseconds, and how many were refused.
type Visits = (Vec<f64>, u64);

/// Connects again and again, and takes the time.
struct Visitor {
    stop: Arc<AtomicBool>,
    times: Arc<Mutex<Visits>>,
    thread: JoinHandle<()>,
}

impl Visitor {
    fn start(listen: SocketAddr) -> Self {
        let (stop, times) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::<Visits>::default()));
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&times));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                let connected = TcpStream::connect_timeout(&listen, Duration::from_secs(5));
                let took = began.elapsed().as_secs_f64() * 1e3;
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                match connected {
                    Ok(_) => noted.0.push(took),
                    Err(_) => noted.1 += 1,
                }
                drop(noted);
                thread::sleep(VISIT);
            }
        });
        Self { stop, times, thread }
    }

    fn take(&self) -> Vec<f64> {
        std::mem::take(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// How many were refused.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.times.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_hundred_may_pass_the_p99() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(p99(&values), 100.0);
        assert_eq!(p99(&[7.0]), 7.0);
        assert_eq!(p99(&[]), 0.0);
    }

    #[test]
    fn connections_that_ended_are_told_from_idle_ones() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let streams = connect_all(listener.local_addr().expect("an address"), 2).expect("it listens");
        let (accepted, _) = listener.accept().expect("two wait");
        assert!(streams.iter().all(is_open));
        drop(accepted);
        let deadline = Instant::now() + Duration::from_secs(10);
        while streams.iter().all(is_open) && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(streams.iter().filter(|stream| is_open(stream)).count(), 1);
    }
}
