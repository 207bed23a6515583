//! `--supervise`: a small parent that keeps one process id while the process that serves is another one from time to
//! time. It touches no traffic.
//!
//! It starts the server, hands signals on to it, starts it again with back-off when it crashes, and ends as it ends. An
//! upgrade's old process says by a datagram that the new one is the server now, and so does that one; when the old one has
//! gone it is a child of the supervisor, which is the reaper of all its descendants (PR_SET_CHILD_SUBREAPER) or process 1.
//! Until then the old one, whose child it is, says likewise how it ended.
//!
//! Sockets that a service manager passed stay in it, untouched and inherited, with the variables that announce them: every
//! server that it starts takes them anew as those of its parent. An upgrade hands them on by itself.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, WaitOptions, WaitStatus, kill_process,
    set_child_subreaper, wait, waitid, waitpid,
};
use tokio::net::UnixDatagram;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::exit::Exit;
use super::private_directory::PrivateDirectory;
use super::upgrade::Invocation;

/// Names the socket by which the supervisor hears who serves. Set for everything that it starts.
const VARIABLE: &str = "RINGWAY_SUPERVISOR";

/// Before a server that crashed is started again, at first; doubles up to the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A server that ran for so long did not crash because it was started.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// Whether this process is to be a supervisor: if that is asked for or it is process 1, and unless it has one.
pub(crate) fn is_wanted(asked: bool) -> bool {
    (asked || std::process::id() == 1) && std::env::var_os(VARIABLE).is_none()
}

/// Tells the supervisor, if there is one, that this process serves.
///
/// # Errors
/// When there is a supervisor and it cannot be told.
pub(super) fn announce() -> io::Result<()> {
    tell_who_serves(std::process::id(), &Invocation::of_this_process().program)
}

fn tell_who_serves(pid: u32, program: &Path) -> io::Result<()> {
    // Only whole paths are understood.
    let program = std::path::absolute(program)?;
    let mut message = pid.to_string().into_bytes();
    message.push(b' ');
    message.extend_from_slice(program.as_os_str().as_encoded_bytes());
    tell(&message)
}

/// Tells the supervisor, if there is one, that the process serves which this one has started to serve in its place, as that
/// may end before it has said so; and when it ends: as long as this one lives nobody else is told.
pub(super) fn watch_for_it(pid: u32, program: &Path) {
    if let Err(error) = tell_who_serves(pid, program) {
        tracing::error!(%error, "the supervisor does not know who serves, unless that process says so");
    }
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| is_supervised()) else {
        return;
    };
    let watch = move || {
        tell_of_end(pid, |word| {
            if let Err(error) = tell(word.as_bytes()) {
                tracing::error!(%error, "the supervisor does not know that the server has ended");
            }
        });
    };
    if let Err(error) = std::thread::Builder::new().name("new-process".to_owned()).spawn(watch) {
        tracing::error!(%error, "the supervisor hears of the server's end when this process ends");
    }
}

/// Waits for the end of a child and tells of it. It is there until then: if this process ends before it has told, whoever
/// reaps the child hears of it.
fn tell_of_end(child: Pid, tell: impl FnOnce(String)) {
    let seen = waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let Ok(Some(status)) = seen else { return };
    tell(match Ended::seen(&status) {
        Ended::Code(code) => format!("{child} code {code}"),
        Ended::Signal(signal) => format!("{child} signal {signal}"),
    });
    // It has ended: this does not wait, and cannot fail.
    let _ = waitpid(Some(child), WaitOptions::empty());
}

fn tell(message: &[u8]) -> io::Result<()> {
    let Some(path) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let socket = StdUnixDatagram::unbound()?;
    // A supervisor that does not read must not stop us.
    socket.set_nonblocking(true)?;
    socket.send_to(message, path).map(drop)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Code(i32),
    Signal(i32),
}

impl Ended {
    fn of(status: WaitStatus) -> Self {
        Self::by(status.exit_status(), status.terminating_signal())
    }

    /// Of one that is there still.
    fn seen(status: &WaitIdStatus) -> Self {
        Self::by(status.exit_status(), status.terminating_signal())
    }

    fn by(code: Option<i32>, signal: Option<i32>) -> Self {
        match (code, signal) {
            (Some(code), _) => Self::Code(code),
            // Nobody waits for those that only stop.
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }
}

/// Whether a supervisor started this process: then a service manager knows that one, and not us.
pub(crate) fn is_supervised() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Supervises until the server has ended for good.
pub(crate) fn run() -> Exit {
    let run = || -> io::Result<Exit> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(supervise())
    };
    run().unwrap_or_else(|error| {
        say(&format!("cannot supervise: {error}"));
        Exit::Failed
    })
}

/// The server, as far as its supervisor knows it.
struct Server {
    /// Its process; none while it is waited to start it again.
    pid: Option<Pid>,
    /// Processes that it followed and that have not ended: they finish connections, within `server.drain_timeout`.
    old: Vec<Pid>,
    /// How it ended for good, while old processes are waited for.
    end: Option<Exit>,
    program: PathBuf,
    started: Instant,
    /// It said that it serves, at least once.
    has_served: bool,
    /// A signal asked for the end.
    is_ending: bool,
    pause: Duration,
}

async fn supervise() -> io::Result<Exit> {
    let mut signals = signals()?;
    let mut children = signal(SignalKind::child())?;
    if std::process::id() != 1 {
        set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    let directory = PrivateDirectory::new("supervisor")?;
    let path = directory.path().join("socket");
    let announcements = UnixDatagram::bind(&path)?;
    let invocation = Invocation::of_this_process();
    let start = |program: &PathBuf| {
        // A process group of its own: a terminal's Ctrl-C reaches it once, by way of us.
        let mut command = Command::new(program);
        command.args(&invocation.arguments).env(VARIABLE, &path).process_group(0);
        command.spawn().map(|child| Pid::from_child(&child))
    };
    let mut server = Server {
        pid: Some(start(&invocation.program)?),
        old: Vec::new(),
        end: None,
        program: invocation.program.clone(),
        started: Instant::now(),
        has_served: false,
        is_ending: false,
        pause: PAUSE_MIN,
    };
    let mut restart = Instant::now();
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => {
                let is_end = matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT);
                server.is_ending |= is_end;
                match server.pid {
                    // The first signal let them finish.
                    None if let Some(exit) = server.end => match is_end {
                        true => return Ok(exit),
                        false => say(&format!("signal {} is the server's, which has ended", signal.as_raw())),
                    },
                    // It may just have ended: then its end is the next thing that is heard.
                    Some(pid) => drop(kill_process(pid, signal)),
                    None if server.is_ending => return Ok(Exit::Finished),
                    None => {}
                }
            }
            _ = children.recv() => {}
            ready = announcements.readable() => ready?,
            () = sleep_until(restart), if server.pid.is_none() && server.end.is_none() => {
                server.started = Instant::now();
                match start(&server.program) {
                    Ok(pid) => {
                        say(&format!("started {} as process {pid}", server.program.display()));
                        server.pid = Some(pid);
                    }
                    Err(error) => {
                        say(&format!("{} cannot be started: {error}", server.program.display()));
                        restart = Instant::now() + server.back_off();
                    }
                }
            }
        }
        // First who serves, then who ended: an old process ends only after it has said who follows.
        let told = server.hear(&announcements);
        for (pid, ended) in told.into_iter().chain(std::iter::from_fn(reap)) {
            server.old.retain(|old| *old != pid);
            if server.pid != Some(pid) {
                continue;
            }
            server.pid = None;
            server.end = server.verdict(ended);
            if server.end.is_some() {
                if !server.old.is_empty() {
                    say(&format!("process {pid} {}; connections finish in old ones", how(ended)));
                }
                continue;
            }
            let pause = server.back_off();
            restart = Instant::now() + pause;
            say(&format!("process {pid} {}; it is started again in {pause:?}", how(ended)));
        }
        if let Some(exit) = server.end.filter(|_| server.old.is_empty()) {
            return Ok(exit);
        }
    }
}

impl Server {
    /// Reads who says that it serves; gives those that others have seen end.
    fn hear(&mut self, announcements: &UnixDatagram) -> Vec<(Pid, Ended)> {
        let mut message = [0; 8 << 10];
        let mut ends = Vec::new();
        while let Ok(length) = announcements.try_recv(&mut message) {
            let Some((pid, word)) = parse(&message[..length]) else { continue };
            let program = match word {
                Word::Serves(program) => program,
                Word::Ended(ended) => {
                    ends.push((pid, ended));
                    continue;
                }
            };
            // Two tell of each: what one says late must not turn back what was said since.
            if self.old.contains(&pid) {
                continue;
            }
            if let Some(before) = self.pid.filter(|before| *before != pid) {
                self.old.push(before);
                say(&format!("process {pid} serves now: {}", program.display()));
                self.started = Instant::now();
            }
            (self.pid, self.program, self.has_served) = (Some(pid), program, true);
        }
        ends
    }

    /// How the supervisor ends because the server did; none if the server is to be started again.
    fn verdict(&self, ended: Ended) -> Option<Exit> {
        let is_known = |exit: &Exit| ended == Ended::Code(i32::from(exit.code()));
        let known = Exit::ALL.iter().copied().find(is_known);
        match known {
            Some(exit @ (Exit::Finished | Exit::Cut)) => Some(exit),
            // Started wrongly; once it has served, whoever broke the file since can mend it.
            Some(exit @ Exit::Misused) if !self.has_served => Some(exit),
            other if self.is_ending => Some(other.unwrap_or(Exit::Failed)),
            _ => None,
        }
    }

    /// How long to wait before the next start.
    fn back_off(&mut self) -> Duration {
        if self.started.elapsed() >= GOOD_RUN {
            self.pause = PAUSE_MIN;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// What is said of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Serves(PathBuf),
    Ended(Ended),
}

/// `PID PROGRAM`, as [`announce`] sends it, or `PID code CODE` or `PID signal SIGNAL`, as [`watch_for_it`] does.
fn parse(message: &[u8]) -> Option<(Pid, Word)> {
    let text = std::str::from_utf8(message).ok()?;
    let (pid, word) = text.split_once(' ')?;
    let pid = pid.parse().ok().filter(|pid: &i32| *pid > 0).and_then(Pid::from_raw)?;
    let word = match word.split_once(' ') {
        Some(("code", code)) => Word::Ended(Ended::Code(code.parse().ok()?)),
        Some(("signal", signal)) => Word::Ended(Ended::Signal(signal.parse().ok()?)),
        _ if word.starts_with('/') => Word::Serves(PathBuf::from(word)),
        _ => return None,
    };
    Some((pid, word))
}

/// A descendant that has ended and was not waited for.
fn reap() -> Option<(Pid, Ended)> {
    // The only error is that there are no children.
    wait(WaitOptions::NOHANG).ok().flatten().map(|(pid, status)| (pid, Ended::of(status)))
}

fn how(ended: Ended) -> String {
    match ended {
        Ended::Code(code) => format!("ended with exit code {code}"),
        Ended::Signal(signal) => format!("was ended by signal {signal}"),
    }
}

/// The signals that are the server's, from now on.
fn signals() -> io::Result<UnboundedReceiver<Signal>> {
    let (sender, receiver) = unbounded_channel();
    let forwarded = [
        (SignalKind::terminate(), Signal::TERM),
        (SignalKind::interrupt(), Signal::INT),
        (SignalKind::quit(), Signal::QUIT),
        (SignalKind::hangup(), Signal::HUP),
        (SignalKind::user_defined2(), Signal::USR2),
    ];
    for (kind, name) in forwarded {
        let mut stream = signal(kind)?;
        let sender = sender.clone();
        tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(name).is_ok() {} });
    }
    Ok(receiver)
}

/// A line on standard error, which may be gone. Written at once: servers write there, too, and no line of theirs is to come
/// into the midst of it.
fn say(text: &str) {
    let line = format!("ringway: supervisor: {text}\n");
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server {
            pid: None,
            old: Vec::new(),
            end: None,
            program: PathBuf::new(),
            started: Instant::now(),
            has_served: false,
            is_ending: false,
            pause: PAUSE_MIN,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_until_a_run_was_good() {
        let mut server = server();
        let seconds: Vec<u64> = (0..7).map(|_| server.back_off().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        tokio::time::advance(GOOD_RUN).await;
        assert_eq!(server.back_off(), PAUSE_MIN);
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "it is waited for by what is tested")]
    fn the_end_of_a_child_is_told_of_while_it_can_still_be_heard_of_otherwise() {
        for (script, word) in [("exit 3", "code 3"), ("kill -9 $$", "signal 9")] {
            let child = Command::new("sh").args(["-c", script]).spawn().expect("there is a shell");
            let pid = Pid::from_child(&child);
            let mut told = None;
            tell_of_end(pid, |said| {
                let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is not reaped");
                assert!(state.contains(") Z "), "{state}");
                told = Some(said);
            });
            assert_eq!(told, Some(format!("{pid} {word}")));
            assert_eq!(waitpid(Some(pid), WaitOptions::NOHANG).err(), Some(rustix::io::Errno::CHILD));
        }
    }

    #[test]
    fn only_what_names_a_process_and_its_program_is_taken() {
        let said = |text: &[u8]| parse(text).map(|(pid, word)| (pid.as_raw_pid(), word));
        assert_eq!(said(b"7 /bin/x y"), Some((7, Word::Serves("/bin/x y".into()))));
        assert_eq!(said(b"7 code 3"), Some((7, Word::Ended(Ended::Code(3)))));
        assert_eq!(said(b"7 signal 9"), Some((7, Word::Ended(Ended::Signal(9)))));
        for wrong in [&b""[..], b"7", b"7 x", b"0 /x", b"-1 /x", b"x /x", b"7 /\xff", b"7 code", b"7 code x"]
        {
            assert_eq!(parse(wrong), None);
        }
    }

    #[tokio::test]
    async fn what_is_told_late_of_a_process_that_another_one_follows_changes_nothing() {
        let (processes, announcements) = UnixDatagram::pair().expect("two sockets");
        let mut server = server();
        for told in ["5 /first", "6 /second", "7 /third", "6 /second"] {
            processes.send(told.as_bytes()).await.expect("it is heard");
        }
        announcements.readable().await.expect("it was told");
        assert_eq!(server.hear(&announcements), []);
        let old: Vec<i32> = server.old.iter().map(|pid| pid.as_raw_pid()).collect();
        let program = server.program.display().to_string();
        assert_eq!((server.pid.map(Pid::as_raw_pid), &old[..], &*program), (Some(7), &[5, 6][..], "/third"));
    }
}
