//! A child process whose output can be waited for, and that never outlives its test.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process, kill_process_group, pidfd_open, prlimit,
};

/// How much of the output is shown when something went wrong.
const LINES_SHOWN: usize = 60;

/// The first descriptor behind the standard streams, and the first number that no descriptor which is to be passed is
/// given.
const PASSED: i32 = 3;
const KEPT: i32 = 100;

/// Written while some descriptors are for one child only.
static FORKS: RwLock<()> = RwLock::new(());

/// A running child. Killed when dropped, with whatever it has started.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    /// Readable once the child has ended.
    ended: OwnedFd,
    output: Arc<Output>,
}

/// The lines that a child has printed, both streams in the order of their arrival.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct OutputState {
    lines: Vec<String>,
    /// Streams that are not at their end yet.
    open: usize,
}

impl Process {
    /// Starts `command` with captured output.
    ///
    /// # Errors
    ///
    /// When the system cannot start it.
    pub fn spawn(command: Command) -> io::Result<Self> {
        Self::spawn_with(command, |command| command.spawn())
    }

    /// Starts `command` as a service manager starts a service whose sockets it holds: with these descriptors behind its
    /// standard streams, and LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID in its environment.
    ///
    /// # Errors
    ///
    /// When the system cannot start it, or there is no bash, which puts the descriptors where they belong.
    pub fn spawn_with_descriptors(command: Command, passed: &[(&str, OwnedFd)]) -> io::Result<Self> {
        let copies = passed.iter().map(|(_, fd)| fcntl_dupfd_cloexec(fd, KEPT));
        let copies = copies.collect::<Result<Vec<OwnedFd>, _>>()?;
        let mut script = String::new();
        for (number, copy) in (PASSED..).zip(&copies) {
            script += &format!("exec {number}<&{0} {0}<&-; ", copy.as_raw_fd());
        }
        script += "export LISTEN_PID=$$; exec \"$@\"";
        let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, "bash"]).arg(command.get_program()).args(command.get_args());
        shell.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = command.get_current_dir() {
            shell.current_dir(directory);
        }
        let _alone = FORKS.write().unwrap_or_else(PoisonError::into_inner);
        for copy in &copies {
            fcntl_setfd(copy.as_fd(), FdFlags::empty())?;
        }
        Self::start(shell, |shell| shell.spawn())
    }

    /// Starts `command` by way of `start`, which may prepare the thread that forks.
    ///
    /// # Errors
    ///
    /// When the system cannot start it.
    pub fn spawn_with(
        command: Command,
        start: impl FnOnce(&mut Command) -> io::Result<Child>,
    ) -> io::Result<Self> {
        let _together = FORKS.read().unwrap_or_else(PoisonError::into_inner);
        Self::start(command, start)
    }

    fn start(
        mut command: Command,
        start: impl FnOnce(&mut Command) -> io::Result<Child>,
    ) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Whatever it starts that outlives it ends with the test as well.
        command.process_group(0);
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = start(&mut command)?;
        let pid = Pid::from_child(&child);
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        let output = Arc::new(Output::default());
        if let Some(stream) = child.stdout.take() {
            Output::follow(&output, stream);
        }
        if let Some(stream) = child.stderr.take() {
            Output::follow(&output, stream);
        }
        Ok(Self { name, child, pid, ended, output })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// Waits for a line that `is_wanted`, among those of before as well, and returns it.
    ///
    /// # Panics
    ///
    /// When there is none after `limit`, or the child ends without it; the output is in the message.
    pub fn wait_for_line(&self, what: &str, limit: Duration, is_wanted: impl Fn(&str) -> bool) -> String {
        self.wait_for_line_after(0, what, limit, is_wanted)
    }

    /// As [`wait_for_line`](Self::wait_for_line), but the first `skip` lines do not count.
    ///
    /// # Panics
    ///
    /// When there is none after `limit`, or the child ends without it; the output is in the message.
    pub fn wait_for_line_after(
        &self,
        skip: usize,
        what: &str,
        limit: Duration,
        is_wanted: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + limit;
        let mut state = self.output.lock();
        loop {
            if let Some(line) = state.lines.iter().skip(skip).find(|line| is_wanted(line)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.open == 0 {
                let shown = shown(&state.lines);
                drop(state);
                panic!("{}: no line with {what} (limit {limit:?}); its output:\n{shown}", self.name);
            }
            state = self.output.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// When the process is gone already.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the process is still there");
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        self.wait_until_ended(Duration::ZERO)
    }

    /// Waits for the end of the process and of its output.
    ///
    /// # Panics
    ///
    /// When it runs on after `limit`; the output is in the message.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let has_ended = self.wait_until_ended(limit);
        assert!(
            has_ended,
            "{} still runs after {limit:?}; its output:\n{}",
            self.name,
            shown(&self.output.lock().lines)
        );
        let status = self.child.wait().expect("a child that ended can be waited for");
        let mut state = self.output.lock();
        while state.open > 0 {
            let (next, timeout) =
                self.output.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner);
            state = next;
            // A grandchild may hold the pipe open: what was printed until now is all there is.
            if timeout.timed_out() {
                break;
            }
        }
        status
    }

    fn wait_until_ended(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut descriptors = [PollFd::new(&self.ended, PollFlags::IN)];
            match poll(&mut descriptors, timeout.as_ref()) {
                Ok(count) if count > 0 => return true,
                Ok(_) => return false,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll: {error}"),
            }
        }
    }

    /// Resident memory in bytes, as the kernel counts it.
    ///
    /// # Panics
    ///
    /// When the process is gone.
    pub fn resident_bytes(&self) -> u64 {
        self.status_field("VmRSS:") * 1024
    }

    /// Open descriptors.
    ///
    /// # Panics
    ///
    /// When the process is gone.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.id());
        fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}")).count()
    }

    /// Lowers its RLIMIT_NOFILE to where every new descriptor is refused. One that it closes can be opened again.
    ///
    /// # Panics
    ///
    /// When the process is gone.
    pub fn forbid_more_descriptors(&self) {
        let path = format!("/proc/{}/fd", self.id());
        let open: BTreeSet<u64> = fs::read_dir(&path)
            .unwrap_or_else(|error| panic!("{path}: {error}"))
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        // The kernel gives the lowest number that is free, and only numbers below the limit.
        let lowest_free =
            (0..).find(|number| !open.contains(number)).expect("a process has not all numbers open");
        let limit = Rlimit { current: Some(lowest_free), maximum: Some(lowest_free) };
        prlimit(Some(self.pid), Resource::Nofile, limit).unwrap_or_else(|error| panic!("prlimit: {error}"));
    }

    /// CPU time that the process has used until now.
    ///
    /// # Panics
    ///
    /// When the process is gone.
    pub fn cpu_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.id());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // Behind the name in brackets; `man 5 proc`: utime and stime are fields 14 and 15, in ticks of 10 ms.
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    fn status_field(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|value| value.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {path}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // All fail only when nobody is left.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- output of {}:\n{}", self.name, shown(&self.output.lock().lines));
        }
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, OutputState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(output: &Arc<Self>, stream: impl Read + Send + 'static) {
        output.lock().open += 1;
        let output = Arc::clone(output);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(count) if count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                output.lock().lines.push(text);
                output.changed.notify_all();
            }
            output.lock().open -= 1;
            output.changed.notify_all();
        });
    }
}

fn shown(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::PATIENCE;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn(command).expect("there is a shell")
    }

    #[test]
    fn lines_of_both_streams_are_captured() {
        let mut process = shell("echo one; echo two >&2; exit 3");
        assert_eq!(process.wait(PATIENCE).code(), Some(3));
        let mut lines = process.lines();
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_line_is_waited_for() {
        let process = shell("read x < /dev/null; echo ready; exec sleep 60");
        assert_eq!(process.wait_for_line("ready", PATIENCE, |line| line.contains("ready")), "ready");
        assert!(!process.has_ended());
    }

    #[test]
    #[should_panic(expected = "no line with")]
    fn the_end_of_the_output_ends_the_wait() {
        shell("echo other").wait_for_line("ready", PATIENCE, |line| line.contains("ready"));
    }

    #[test]
    fn passed_descriptors_come_behind_the_standard_streams() {
        let (one, two) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
        (&one).write_all(b"first").expect("it can be written to");
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "test $LISTEN_PID = $$ && echo $LISTEN_FDS $LISTEN_FDNAMES; cat /dev/fd/3; echo second >&4",
        ]);
        let mut process = Process::spawn_with_descriptors(
            command,
            &[("a", one.into()), ("b", two.try_clone().expect("a copy").into())],
        )
        .expect("there is bash");
        assert!(process.wait(PATIENCE).success());
        assert_eq!(process.lines(), ["2 a:b", "first"]);
        assert_eq!(two.metadata().expect("it is open").len(), 7);
    }

    #[test]
    fn a_signal_ends_the_process() {
        let mut process = shell("exec sleep 60");
        process.signal(Signal::TERM);
        assert!(!process.wait(PATIENCE).success());
    }
}
