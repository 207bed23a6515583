//! The old process's part of an upgrade.
//!
//! Until the commit word says `New` nothing that was done here is final: listening sockets and connections are out of the
//! engines and in nobody's hands, and go back where they were. Once it says so, they are the other process's, and all
//! that is left to do here is to let go of them. Runs on a thread of its own, and waits for nothing without a deadline.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringway::handover::{
    Channel, ChannelListener, CommitWord, Decision, Interest, Line, Packet, ProcessHandle, wait,
};
use ringway::{Clock, ExportedConnection, Listener};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::binary::why_not_executable;
use super::state::{Counters, State, allowances_of};
use super::tickets::Tickets;
use super::wire::{
    self, AheadEnd, BinaryRecord, Configure, End, FrontendKey, Hello, Kind, Listeners, PROTOCOL, Prepared,
    Ready, Refuse, Serving,
};
use super::{Elders, Invocation, Journal, Left, Order, ReportPage, TIMEOUT, VARIABLE, ends_within, fault};
use crate::admission::Admission;
use crate::control::admin::Door;
use crate::control::drain::Drains;
use crate::control::fleet::Crew;
use crate::control::operator::Gate;
use crate::control::private_directory::PrivateDirectory;
use crate::control::reload::{RemovalRecord, VersionRecord};
use crate::control::supervisor;
use crate::metrics::Metrics;
use crate::session::progress;
use crate::session::record::{self, RecordParts};
use crate::session::tcp::Stage;
use crate::snapshot::{Lineage, Snapshot};
use crate::worker::{Held, MESSAGE_BYTES, MESSAGE_DESCRIPTORS, MovedSession, Rested, Stayed};

/// Workers come to rest between two batches of events: one that takes longer is stuck.
const REST: Duration = Duration::from_secs(2);
/// From the last connection sent to the new process being prepared: it only fills tables meanwhile.
const PREPARE: Duration = Duration::from_secs(2);
/// From the word to go to the decision: one atomic operation.
const DECIDE: Duration = Duration::from_secs(1);
/// Whoever dies takes its time to be buried.
const BURIAL: Duration = Duration::from_secs(1);
/// For what is said after the decision, when nobody waits for it.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// The process that serves, as far as an upgrade goes.
pub(in crate::control) struct House {
    pub(in crate::control) crew: Arc<Crew>,
    pub(in crate::control) lineage: Arc<Lineage>,
    pub(in crate::control) metrics: Arc<Metrics>,
    pub(in crate::control) door: Arc<Door>,
    pub(in crate::control) invocation: Arc<Invocation>,
    /// The file that is read at a reload.
    pub(in crate::control) file: PathBuf,
    pub(in crate::control) versions: Vec<VersionRecord>,
    pub(in crate::control) binaries: Vec<BinaryRecord>,
    pub(in crate::control) elders: Arc<Elders>,
    /// Held while connections go from one worker to another, or an order is given.
    pub(in crate::control) gate: Arc<Mutex<Gate>>,
    pub(in crate::control) drains: Drains,
    /// What is to be ended of what reloads removed; none is done while it hands over.
    pub(in crate::control) removals: Vec<RemovalRecord>,
    pub(in crate::control) is_draining: Arc<AtomicBool>,
    pub(in crate::control) admission: Arc<Admission>,
}

/// What is left to do at the end of a process that another one follows.
pub(in crate::control) struct Farewell {
    line: Line,
    /// What the new process knows of what was counted.
    told: Counters,
    lineage: Arc<Lineage>,
    metrics: Arc<Metrics>,
    /// None if nothing is left here.
    left: Option<Left>,
    pub(in crate::control) report: ReportPage,
}

impl Farewell {
    /// What is left here, to be told of; once.
    pub(in crate::control) fn take_left(&mut self) -> Option<Left> {
        self.left.take()
    }

    /// Tells the new process what was counted since.
    pub(in crate::control) fn say(mut self) {
        let now = Counters::of(&self.metrics, &self.lineage.current());
        let body = wire::write(&now.since(&self.told));
        // If it is gone, it counts no more.
        let _ = self.line.send(Kind::Counters as u16, &body, &[], Instant::now() + AFTERWARDS);
    }
}

/// The new process. Unless it serves, it is ended when this is dropped.
struct NewProcess {
    child: Child,
    handle: ProcessHandle,
    serves: bool,
}

impl Drop for NewProcess {
    fn drop(&mut self) {
        if !self.serves {
            // Both fail only if it is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Copies of listening sockets, and whose they are.
#[derive(Default)]
struct Lent {
    keys: Vec<FrontendKey>,
    listeners: Vec<Listener>,
    admin: Option<OwnedFd>,
}

impl House {
    /// Hands over to a new process.
    ///
    /// # Errors
    /// Why that was called off; then all is as before.
    pub(in crate::control) fn hand_over(&self, order: &Order, journal: &Journal) -> Result<Farewell, String> {
        let snapshot = self.lineage.current();
        let deadline = journal.begun() + order.timeout.unwrap_or(TIMEOUT);
        let configured = snapshot.settings().server.binary.clone();
        let binary = order.binary.clone().or(configured).unwrap_or_else(|| self.invocation.program.clone());
        if let Some(why) = why_not_executable(&binary) {
            return Err(format!("{}: {why}", binary.display()));
        }
        let word = CommitWord::new().map_err(|error| format!("no commit word: {error}"))?;
        let directory = PrivateDirectory::new("upgrade").map_err(|error| format!("no socket: {error}"))?;
        let path = directory.path().join("socket");
        let listener = ChannelListener::bind(&path).map_err(|error| format!("no socket: {error}"))?;
        let mut new = self.start(&binary, &path)?;
        journal.step("started", format!("{} is process {}", binary.display(), new.child.id()));
        let mut line = Line::new(accept(&listener, &mut new, deadline)?);
        // It has served, and whoever is killed from here on leaves nothing behind.
        drop((listener, directory));
        let mut report = ReportPage {
            old_pid: std::process::id(),
            new_pid: new.child.id(),
            binary,
            ..ReportPage::default()
        };
        let mut frozen = Frozen::default();
        let said = self.converse(&mut line, &mut new, &word, deadline, journal, &mut report, &mut frozen);
        if let Err(reason) = said {
            let is_undone = word.decide(Decision::Old) != Decision::New;
            let has_ended = !is_undone && ends_within(&new.handle, BURIAL);
            if is_undone || has_ended {
                let ended = new.child.try_wait().ok().flatten();
                let reason = ended.map_or(reason.clone(), |status| format!("{reason} ({status})"));
                if is_undone {
                    self.crew.resume(frozen.sessions);
                    return Err(reason);
                }
                let lost = frozen.count();
                self.crew.cut(frozen.sessions);
                self.crew.resume(Vec::new());
                self.crew.look_again();
                return Err(format!(
                    "{reason}, right after it was decided that it serves: {lost} connections are lost with it"
                ));
            }
            journal.step("silent", format!("{reason}, after it was decided that it serves"));
        }
        new.serves = true;
        supervisor::watch_for_it(new.child.id(), &report.binary);
        self.elders.pass_on();
        self.door.shut();
        if let Some(gate) = &mut frozen.gate {
            gate.is_followed = true;
        }
        report.moved = frozen.kinds();
        report.left = frozen.left();
        let left = self.let_go(frozen, &mut report);
        let left = self.tell_of_left(left, &mut report);
        report.seconds = journal.seconds();
        let mut counters = Counters::of(&self.metrics, &self.lineage.current());
        counters.left = left.as_ref().map(Left::elder);
        let sent =
            line.send(Kind::Counters as u16, &wire::write(&counters), &[], Instant::now() + AFTERWARDS);
        if let Err(error) = sent {
            tracing::warn!(%error, "the new process was not told what was counted until now");
        }
        let (lineage, metrics) = (Arc::clone(&self.lineage), Arc::clone(&self.metrics));
        Ok(Farewell { line, told: counters, lineage, metrics, left, report })
    }

    fn start(&self, binary: &std::path::Path, socket: &std::path::Path) -> Result<NewProcess, String> {
        let mut command = Command::new(binary);
        command.args(&self.invocation.arguments).env(VARIABLE, socket).stdin(Stdio::null());
        // It names this process; whoever is to be watched is told anew.
        command.env_remove("WATCHDOG_PID");
        let mut start = || -> io::Result<NewProcess> {
            let mut child = command.spawn()?;
            match ProcessHandle::open(child.id()) {
                Ok(handle) => Ok(NewProcess { child, handle, serves: false }),
                Err(error) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    Err(error)
                }
            }
        };
        start().map_err(|error| format!("{}: cannot be started: {error}", binary.display()))
    }

    /// All that is said until the new process serves.
    #[allow(clippy::too_many_arguments, reason = "it is one conversation, about all of these")]
    fn converse(
        &self,
        line: &mut Line,
        new: &mut NewProcess,
        word: &CommitWord,
        deadline: Instant,
        journal: &Journal,
        report: &mut ReportPage,
        frozen: &mut Frozen,
    ) -> Result<(), String> {
        let snapshot = self.lineage.current();
        let hello: Hello = hear(line, Kind::Hello, deadline)?;
        if hello.protocol != PROTOCOL {
            let theirs = hello.protocol;
            return Err(format!("it speaks version {theirs} of the protocol, and this process {PROTOCOL}"));
        }
        report.program = hello.program.clone();
        let version = record::common_version(&hello.sessions);
        let ahead = version.filter(|_| hello.progress.contains(&progress::VERSION));
        fault::point("old", "hello");
        let (passed, sockets): (Vec<&str>, Vec<BorrowedFd<'_>>) = self.lineage.passed().descriptors().unzip();
        let (elders, lines) = self.elders.for_heir();
        let configure = Configure {
            passed: passed.into_iter().map(str::to_owned).collect(),
            clock_origin: Clock::process().origin(),
            descriptors: ringway::open_descriptors(),
            file: self.file.clone(),
            running: snapshot.version(),
            versions: self.versions.clone(),
            binaries: self.binaries.clone(),
            elders,
            removals: self.removals.clone(),
            sends_ahead: ahead.is_some(),
            sends_tickets: hello.tickets,
        };
        let lines: Vec<BorrowedFd<'_>> = lines.iter().map(AsFd::as_fd).collect();
        let descriptors = [&[word.as_fd()], &sockets[..], &lines].concat();
        say(line, Kind::Configure, &configure, &descriptors, deadline)?;
        let ready: Ready = hear(line, Kind::Ready, deadline)?;
        let Ready { workers, engine } = ready;
        let running = snapshot.version();
        journal.step(
            "ready",
            format!(
                "version {} runs {workers} workers on {engine} with configuration {running}",
                hello.program
            ),
        );
        fault::point("old", "ready");

        let lent = self.lend(&snapshot, deadline)?;
        self.send_listeners(line, &lent, deadline)?;
        let state = State::of(&snapshot).with_drains(self.drains.records());
        say(line, Kind::State, &state, &[], deadline)?;
        let tickets = Tickets::of(&snapshot);
        if hello.tickets {
            say_tickets(line, &tickets, deadline)?;
        }
        fault::point("old", "sent-ahead");
        if let Some(version) = ahead {
            report.copied_ahead = self.copy_ahead(line, version, deadline)?;
        }
        fault::point("old", "copied");
        let _: serde::de::IgnoredAny = hear(line, Kind::Armed, deadline)?;
        let (listeners, copied) = (lent.listeners.len(), report.copied_ahead);
        journal.step(
            "armed",
            format!("it holds {listeners} listening sockets, and copies of {copied} connections"),
        );
        drop(lent);
        fault::point("old", "armed");
        if self.is_draining.load(Ordering::Relaxed) {
            return Err("the process drains".to_owned());
        }

        frozen.gate = Some(self.shut_gate()?);
        // No order is given from now on. While copies were made, everybody went on.
        let changes = State::of(&snapshot).with_drains(self.drains.records()).since(&state);
        if hello.state_again && !changes.is_empty() {
            say(line, Kind::State, &changes, &[], deadline)?;
        }
        let stopped = Instant::now();
        let next_number = self.freeze(frozen)?;
        journal.step("frozen", format!("{} connections stand still", frozen.count()));
        fault::point("old", "frozen");
        let deadline = Instant::now() + PREPARE;
        let sent = frozen.send(line, version, deadline)?;
        fault::point("old", "sending");
        // Another key may have been made while copies were.
        let now = Tickets::of(&snapshot);
        if hello.tickets && now != tickets {
            say_tickets(line, &now, deadline)?;
        }
        let allowances = allowances_of(&snapshot, Clock::process().now());
        let progress = frozen.held_count();
        say(line, Kind::End, &End { sessions: sent, progress, next_number, allowances }, &[], deadline)?;
        fault::point("old", "sent");
        let prepared: Prepared = hear(line, Kind::Prepared, deadline)?;
        frozen.refused = prepared.refused.into_iter().collect();
        frozen.refused_ahead = prepared.refused_ahead.into_iter().collect();
        journal.step("prepared", format!("it has taken in {} of them", prepared.taken));
        fault::point("old", "prepared");
        if self.is_draining.load(Ordering::Relaxed) {
            return Err("the process drains".to_owned());
        }
        let deadline = Instant::now() + DECIDE;
        say(line, Kind::Go, &(), &[], deadline)?;
        fault::point("old", "go");
        let _: Serving = hear(line, Kind::Serving, deadline)?;
        report.pause_seconds = stopped.elapsed().as_micros() as f64 / 1e6;
        journal.step("serving", format!("process {} serves", new.handle.pid()));
        fault::point("old", "serving");
        Ok(())
    }

    /// Sends connections ahead, which go on meanwhile; says how many.
    fn copy_ahead(&self, line: &mut Line, version: u16, deadline: Instant) -> Result<u64, String> {
        let mut connections = 0;
        let copied = self.crew.copy_ahead(version, deadline, |piece| {
            if piece.count == 0 {
                return Ok(());
            }
            connections += piece.count;
            let descriptors: Vec<BorrowedFd<'_>> = piece.descriptors.iter().map(AsFd::as_fd).collect();
            line.send(Kind::Ahead as u16, &piece.records, &descriptors, deadline)
        });
        copied.map_err(|error| in_words(&error))?;
        say(line, Kind::AheadEnd, &AheadEnd { connections }, &[], deadline)?;
        Ok(connections)
    }

    /// Copies of all sockets that are listened at.
    fn lend(&self, snapshot: &Snapshot, deadline: Instant) -> Result<Lent, String> {
        let mut lent = Lent::default();
        let mut places = std::collections::HashMap::new();
        for app in snapshot.apps() {
            for (index, frontend) in app.frontends().iter().enumerate() {
                places.insert(Arc::as_ptr(frontend), (app.name(), index));
            }
        }
        for of_worker in
            self.crew.lend(deadline).map_err(|error| format!("cannot copy its sockets: {error}"))?
        {
            // Whatever is of no app any more is being closed.
            let Some((app, index)) = places.get(&Arc::as_ptr(&of_worker.frontend)) else { continue };
            let is_unix = of_worker.listener.address().inet().is_none();
            let is_passed = of_worker.listener.is_held_elsewhere();
            let key = FrontendKey { app: app.to_string(), index: *index, is_passed };
            // All workers accept from the one socket.
            if is_unix && lent.keys.contains(&key) {
                continue;
            }
            lent.keys.push(key);
            lent.listeners.push(of_worker.listener);
        }
        lent.admin = self.door.copy();
        Ok(lent)
    }

    fn send_listeners(&self, line: &mut Line, lent: &Lent, deadline: Instant) -> Result<(), String> {
        let message = Listeners { frontends: lent.keys.clone(), admin: lent.admin.is_some() };
        let sockets = lent.listeners.iter().filter_map(Listener::descriptor);
        let descriptors: Vec<BorrowedFd<'_>> = sockets.chain(lent.admin.as_ref().map(AsFd::as_fd)).collect();
        say(line, Kind::Listeners, &message, &descriptors, deadline)
    }

    /// Brings all workers to rest; gives the smallest number that no connection has had.
    fn freeze(&self, frozen: &mut Frozen) -> Result<u64, String> {
        let rested = self.crew.rest(Instant::now() + REST);
        let is_whole = rested.len() == self.crew.mailers().len();
        let mut next_number = 0;
        for Rested { worker, next_number: of_worker, taken } in rested {
            next_number = next_number.max(of_worker);
            frozen.staying.extend(taken.staying);
            frozen.sessions.push((worker, taken.sessions));
            frozen.held.push(taken.held);
        }
        if is_whole { Ok(next_number) } else { Err("a worker does not come to rest".to_owned()) }
    }

    /// No connection goes from one worker to another from now on: one that is between them would be nobody's. And no operator
    /// orders anything: the new process would not hear of it.
    fn shut_gate(&self) -> Result<OwnedMutexGuard<Gate>, String> {
        let gate = Arc::clone(&self.gate);
        let shut = Handle::current().block_on(async { timeout(REST, gate.lock_owned()).await });
        shut.map_err(|_| "its connections are being gone through".to_owned())
    }

    /// Makes it known what is left here, if anything is.
    fn tell_of_left(&self, why: HashMap<u64, Arc<str>>, report: &mut ReportPage) -> Option<Left> {
        if why.is_empty() {
            return None;
        }
        let drain_timeout = self.lineage.current().settings().server.drain_timeout;
        report.drain_seconds = Some(drain_timeout.as_secs_f64());
        let generation = self.binaries.last().map_or(1, |this| this.generation);
        match Left::new(generation, why, drain_timeout) {
            Ok(left) => Some(left),
            Err(error) => {
                tracing::warn!(%error, "nobody can ask which connections are left here");
                None
            }
        }
    }

    /// What crossed is another process's. What that one refused goes on here, and the report says why; so does what is given
    /// back, by the numbers of connections.
    fn let_go(&self, frozen: Frozen, report: &mut ReportPage) -> HashMap<u64, Arc<str>> {
        let Frozen { sessions, version, refused, staying, gate, held, refused_ahead } = frozen;
        let mut left: HashMap<u64, Arc<str>> =
            staying.iter().map(|stayed| (stayed.number, stayed.why.as_str().into())).collect();
        let half_closed = if refused_ahead.is_empty() { BTreeSet::new() } else { half_closed_of(&held) };
        for (number, why) in &refused_ahead {
            let kind = stage_of_held(half_closed.contains(number));
            *report.refused.entry(format!("{kind}: {why}")).or_default() += 1;
            if let Some(moved) = report.moved.get_mut(kind) {
                *moved -= 1;
            }
            left.insert(*number, why.as_str().into());
        }
        self.crew.let_go(refused_ahead.into_keys().collect());
        let mut sent = 0;
        let mut kept = Vec::new();
        for (worker, sessions) in sessions {
            let mut of_worker = Vec::new();
            for session in sessions {
                let refused = match can_be_sent(&session, version) {
                    true => {
                        sent += 1;
                        refused.get(&(sent - 1)).map(String::as_str)
                    }
                    false => Some("its program does not know such connections"),
                };
                match refused {
                    Some(why) => {
                        left.insert(session.facts().number, why.into());
                        let kind = format!("{}: {why}", kind_of(&session));
                        *report.refused.entry(kind).or_default() += 1;
                        if let Some(moved) = report.moved.get_mut(kind_of(&session)) {
                            *moved -= 1;
                        }
                        of_worker.push(session);
                    }
                    None => session.let_go(&self.admission),
                }
            }
            kept.push((worker, of_worker));
        }
        report.moved.retain(|_, count| *count > 0);
        self.crew.put_in(kept);
        drop(gate);
        left
    }
}

/// What is out of the engines, until it is decided whose it is.
#[derive(Default)]
struct Frozen {
    /// By worker.
    sessions: Vec<(u32, Vec<MovedSession>)>,
    /// Connections that cannot be moved.
    staying: Vec<Stayed>,
    /// Those that stand still in their workers.
    held: Vec<Held>,
    /// The version of records that the new process reads; `None`: it reads none of ours.
    version: Option<u16>,
    /// What the new process cannot take: why, by the place among those that were sent.
    refused: BTreeMap<u64, String>,
    /// The same of those that stand still, by their numbers in the process.
    refused_ahead: BTreeMap<u64, String>,
    /// Held as long as connections stand still.
    gate: Option<OwnedMutexGuard<Gate>>,
}

impl Frozen {
    fn all(&mut self) -> impl Iterator<Item = &mut MovedSession> {
        self.sessions.iter_mut().flat_map(|(_, sessions)| sessions)
    }

    fn count(&self) -> u64 {
        self.sessions.iter().map(|(_, sessions)| sessions.len() as u64).sum::<u64>() + self.held_count()
    }

    fn held_count(&self) -> u64 {
        self.held.iter().map(|held| held.relaying + held.half_closed).sum()
    }

    /// How many there are of each kind.
    fn kinds(&self) -> BTreeMap<String, u64> {
        let mut kinds = BTreeMap::new();
        for session in self.sessions.iter().flat_map(|(_, sessions)| sessions) {
            *kinds.entry(kind_of(session).to_owned()).or_default() += 1;
        }
        for held in &self.held {
            for (count, half_closed) in [(held.relaying, false), (held.half_closed, true)] {
                if count > 0 {
                    *kinds.entry(stage_of_held(half_closed).to_owned()).or_default() += count;
                }
            }
        }
        kinds
    }

    fn left(&self) -> BTreeMap<String, u64> {
        let mut left = BTreeMap::new();
        for stayed in &self.staying {
            *left.entry(stayed.why.as_str().to_owned()).or_default() += 1;
        }
        left
    }

    /// Sends all that the new process can read, in their order; says how many.
    fn send(&mut self, line: &mut Line, version: Option<u16>, deadline: Instant) -> Result<u64, String> {
        self.version = version;
        let Some(version) = version else { return Ok(0) };
        for records in self.held.iter().flat_map(|held| &held.records) {
            let sent = line.send(Kind::Progress as u16, records, &[], deadline);
            sent.map_err(|error| in_words(&error))?;
        }
        for session in self.all() {
            session.share();
        }
        let mut sent = 0;
        let mut body = Vec::with_capacity(MESSAGE_BYTES);
        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::with_capacity(MESSAGE_DESCRIPTORS);
        let sessions = self.sessions.iter().flat_map(|(_, sessions)| sessions);
        for session in sessions.filter(|session| can_be_sent(session, Some(version))) {
            let (backend, routed) = (session.backend(), session.routed());
            let parts = RecordParts {
                facts: session.facts(),
                routed: &routed,
                client: end_of(session.client()),
                backend: backend.map(end_of),
                allowance: session.allowance(),
            };
            record::write(version, parts, &mut body);
            sent += 1;
            descriptors.extend(session.client().descriptor());
            descriptors.extend(backend.and_then(ExportedConnection::descriptor));
            if descriptors.len() + 2 > MESSAGE_DESCRIPTORS || body.len() >= MESSAGE_BYTES {
                let sent = line.send(Kind::Sessions as u16, &body, &descriptors, deadline);
                sent.map_err(|error| in_words(&error))?;
                body.clear();
                descriptors.clear();
            }
        }
        if !body.is_empty() {
            let sent = line.send(Kind::Sessions as u16, &body, &descriptors, deadline);
            sent.map_err(|error| in_words(&error))?;
        }
        Ok(sent)
    }
}

/// Whether a process that reads records of this version can be told of a connection.
fn can_be_sent(session: &MovedSession, version: Option<u16>) -> bool {
    version.is_some_and(|version| record::has_phase(version, session.facts().session.phase))
}

fn end_of(end: &ExportedConnection) -> record::End<'_> {
    record::End { received: &end.received, queued: &end.queued, ended: end.ended, shut: end.shut }
}

/// What a connection was doing, in a word.
fn kind_of(session: &MovedSession) -> &'static str {
    session.facts().session.phase.stage().as_str()
}

/// The same of one that stands still.
fn stage_of_held(half_closed: bool) -> &'static str {
    let stage = if half_closed { Stage::HalfClosed } else { Stage::Relaying };
    stage.as_str()
}

/// The numbers of those that stand still of which one side has finished sending.
fn half_closed_of(held: &[Held]) -> BTreeSet<u64> {
    let records = held.iter().flat_map(|held| &held.records);
    let all = records.filter_map(|records| progress::read_all(records)).flatten();
    all.filter(|progress| progress.half_closed).map(|progress| progress.number).collect()
}

/// Waits until the new process, and nobody else, has dialled.
fn accept(listener: &ChannelListener, new: &mut NewProcess, deadline: Instant) -> Result<Channel, String> {
    loop {
        match listener.accept() {
            Ok(channel) => {
                let peer = channel.peer().map_err(|error| error.to_string())?;
                if peer.is_this_user() && peer.pid == new.handle.pid() {
                    return Ok(channel);
                }
                tracing::warn!(pid = peer.pid, uid = peer.uid, "a stranger dialled the upgrade's socket");
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("no channel: {error}")),
        }
        if let Ok(Some(status)) = new.child.try_wait() {
            return Err(format!(
                "it ended before it said anything ({status}); its own messages are in the log"
            ));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("it said nothing in time".to_owned());
        }
        let both = [(listener.as_fd(), Interest::Read), (new.handle.as_fd(), Interest::Read)];
        wait(both, Some(left)).map_err(|error| error.to_string())?;
    }
}

/// Sends a message.
fn say(
    line: &mut Line,
    kind: Kind,
    message: &impl serde::Serialize,
    descriptors: &[BorrowedFd<'_>],
    deadline: Instant,
) -> Result<(), String> {
    line.send(kind as u16, &wire::write(message), descriptors, deadline).map_err(|error| in_words(&error))
}

/// They are nobody else's business: no copy of the message is left.
fn say_tickets(line: &mut Line, tickets: &Tickets, deadline: Instant) -> Result<(), String> {
    line.send_secret(Kind::Tickets as u16, &tickets.body(), deadline).map_err(|error| in_words(&error))
}

/// Receives a message of this kind.
fn hear<T: serde::de::DeserializeOwned>(line: &mut Line, kind: Kind, deadline: Instant) -> Result<T, String> {
    let Packet { kind: found, body, .. } = line.receive(deadline).map_err(|error| in_words(&error))?;
    match Kind::of(found).map_err(|error| error.to_string())? {
        Kind::Refuse => {
            let refuse: Refuse = wire::read(&body).map_err(|error| error.to_string())?;
            Err(refuse.reason)
        }
        found if found == kind => wire::read(&body).map_err(|error| format!("{kind:?}: {error}")),
        found => Err(format!("it said {found:?} in the place of {kind:?}")),
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "it did not answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            "it ended".to_owned()
        }
        _ => error.to_string(),
    }
}
