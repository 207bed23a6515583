//! Child processes of a cell: the pinned proxy, and the pinned load that is led over its standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::procfs;
use super::variants::Launch;

/// How long a proxy may take to serve, and to end after SIGTERM.
const START_PATIENCE: Duration = Duration::from_secs(10);
const STOP_PATIENCE: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running proxy; ended, with its whole family, when dropped.
pub(super) struct Proxy {
    child: Child,
    family: Vec<u32>,
}

impl Proxy {
    /// Starts it on the processors `cpus` (a list as `taskset` takes it) and waits until it serves.
    pub(super) fn start(launch: &Launch, cpus: &str, listen: SocketAddr, log: &Path) -> Result<Self, String> {
        let fail = |error: io::Error| format!("{}: {error}", launch.program.display());
        let output = File::create(log).map_err(fail)?;
        let child = pinned(&launch.program, cpus)
            .args(&launch.arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(fail)?)
            .stderr(output)
            .spawn()
            .map_err(fail)?;
        let mut proxy = Self { family: vec![child.id()], child };
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = proxy.child.try_wait().map_err(fail)? {
                return Err(format!("it ended at once, with {status}: {}", last_lines(log)));
            }
            // A connection may wait in the queue of a listener whose workers are not there yet.
            proxy.family = procfs::family(proxy.child.id()).map_err(fail)?;
            if proxy.family.len() >= launch.processes && TcpStream::connect(listen).is_ok() {
                return Ok(proxy);
            }
            if Instant::now() > deadline {
                return Err(format!("it does not serve {listen}: {}", last_lines(log)));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Its processes as they are now: what it has started since, too.
    pub(super) fn look_again(&mut self) -> Result<&[u32], String> {
        self.family = procfs::family(self.child.id()).map_err(|error| error.to_string())?;
        Ok(&self.family)
    }

    /// The one that was started: the master, where there is one.
    pub(super) fn first(&self) -> u32 {
        self.child.id()
    }

    /// All its processes.
    pub(super) fn pids(&self) -> &[u32] {
        &self.family
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        signal(self.child.id(), Signal::TERM);
        let deadline = Instant::now() + STOP_PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            // A master that is killed leaves its workers behind.
            self.family.iter().for_each(|&pid| signal(pid, Signal::KILL));
            let _ = self.child.wait();
        }
    }
}

pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It is gone already: just what was wanted.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A running load; killed when dropped.
pub(super) struct Load {
    child: Child,
    stdin: ChildStdin,
    events: Receiver<Value>,
}

impl Load {
    /// Starts it on the processor `cpu`.
    pub(super) fn start(program: &Path, cpu: usize, arguments: &[String]) -> Result<Self, String> {
        let fail = |error: io::Error| format!("{}: {error}", program.display());
        let mut child = pinned(program, &cpu.to_string())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the load has no pipes".into());
        };
        let (sender, events) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if serde_json::from_str(&line).is_ok_and(|event| sender.send(event).is_err()) {
                    break;
                }
            }
        });
        Ok(Self { child, stdin, events })
    }

    /// Sends it a line.
    pub(super) fn tell(&mut self, line: &str) -> Result<(), String> {
        writeln!(self.stdin, "{line}").map_err(|error| format!("the load does not listen: {error}"))
    }

    /// Waits for the event called `name`; others on the way are passed over.
    pub(super) fn wait_for(&self, name: &str, patience: Duration) -> Result<Value, String> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if event["event"] == name => return Ok(event),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("the load said no `{name}` within {} s", patience.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the load ended before its `{name}`"));
                }
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, to be started on these processors only: `taskset` becomes it, so its process id stays.
pub(super) fn pinned(program: &Path, cpus: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cpus]).arg(program);
    command
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
