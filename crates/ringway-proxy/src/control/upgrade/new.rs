//! The new process's part of an upgrade.
//!
//! It meets the old one before anything else is started, as that one's clock and configuration are its own. Then it starts
//! its workers, which touch no socket, and takes in what is sent. It begins to serve when the commit word says `New`:
//! because the old process told it to decide so, or because that process is gone.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use ringway::handover::{Channel, CommitWord, Decision, Interest, Line, Packet, ProcessHandle, wait};
use ringway::{Clock, ExportedConnection, Listener, PassedDescriptor};
use zeroize::Zeroizing;

use super::state::{Counters, State, outliers_of, restore_allowances};
use super::tickets::Tickets;
use super::wire::{
    self, AheadEnd, BinaryRecord, Configure, End, FrontendKey, Hello, Kind, Listeners, PROTOCOL, Prepared,
    Ready, Refuse, Serving,
};
use super::{Elder, Elders, Invocation, ends_within, fault};
use crate::admission::Admission;
use crate::config::{Known, render_faults};
use crate::control::Source;
use crate::control::drain::DrainRecord;
use crate::control::fleet::Crew;
use crate::control::reload::{Overrides, RemovalRecord, VersionRecord};
use crate::endpoint::{AppState, Endpoint, PassedSockets};
use crate::metrics::Metrics;
use crate::model::Config;
use crate::session::SessionFacts;
use crate::session::progress::{self, Progress};
use crate::session::record::{self, Allowance, EndState, Routed};
use crate::snapshot::{Lineage, Origin, Snapshot};
use crate::worker::{Homes, Legacy, LentListener, MovedSession, Parcel, WorkerMail};

/// What a process has open beside what comes: its workers' engines, and whoever comes next.
const DESCRIPTORS_SPARE: u32 = 1024;
/// For each thing that the old process has to say; it gives up much earlier.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nobody may notice that another process hears what old ones say.
const LOOK: Duration = Duration::from_millis(250);
/// For the end of an old process that has fallen silent: whoever dies takes its time to be buried.
const BURIAL: Duration = Duration::from_secs(5);

/// The new process, once it has met the old one.
#[derive(Debug)]
pub(crate) struct Heir {
    line: Line,
    old: ProcessHandle,
    word: CommitWord,
    versions: Vec<VersionRecord>,
    running: Running,
    binaries: Vec<BinaryRecord>,
    /// Each with its line.
    elders: Vec<(Elder, Option<OwnedFd>)>,
    /// Connections that are to be ended later.
    removals: Vec<RemovalRecord>,
    /// Connections come ahead.
    comes_ahead: bool,
    /// Keys of session tickets come.
    comes_with_tickets: bool,
}

/// The version that runs.
#[derive(Clone, Copy, Debug)]
struct Running {
    version: u64,
    origin: Origin,
    time: SystemTime,
}

/// What comes of the first words.
#[derive(Debug)]
pub(crate) struct Meeting {
    pub(crate) heir: Heir,
    pub(crate) config: Config,
    pub(crate) source: Source,
    /// Sockets that a service manager passed to the first process.
    pub(crate) passed: Vec<PassedDescriptor>,
}

/// Why two processes part.
#[derive(Debug)]
pub(crate) enum Parted {
    /// The old one has ended before it said what is to be served.
    Gone(String),
    /// There will be no upgrade.
    CalledOff(String),
}

/// The running process, as far as an inheritance goes.
pub(in crate::control) struct HouseParts {
    pub(in crate::control) crew: Arc<Crew>,
    pub(in crate::control) lineage: Arc<Lineage>,
    pub(in crate::control) metrics: Arc<Metrics>,
    pub(in crate::control) engine: &'static str,
    pub(in crate::control) workers: usize,
    pub(in crate::control) admission: Arc<Admission>,
}

/// What the new process has inherited beside sockets and connections.
pub(in crate::control) struct Estate {
    /// Those of the configuration; none in the first process.
    pub(in crate::control) versions: Option<Vec<VersionRecord>>,
    /// The processes until now, this one last.
    pub(in crate::control) binaries: Vec<BinaryRecord>,
    /// Those of them that have connections to finish.
    pub(in crate::control) elders: Arc<Elders>,
    /// The drains that have a time.
    pub(in crate::control) drains: Vec<DrainRecord>,
    /// Connections that are to be ended later, since reloads removed their backends.
    pub(in crate::control) removals: Vec<RemovalRecord>,
    /// The admin interface's socket.
    pub(in crate::control) admin: Option<OwnedFd>,
    /// Where the old process tells what it had counted; none if it is gone.
    line: Option<Line>,
    /// Where those before it tell it, by their process ids.
    lines: Vec<(u32, Line)>,
}

impl Heir {
    /// Meets the process that started this one, and reads its configuration.
    ///
    /// # Errors
    /// Why there will be no upgrade. The other process has been told.
    pub(crate) fn meet(path: &Path, overrides: &Overrides) -> Result<Meeting, Parted> {
        let words = |error: io::Error| Parted::CalledOff(format!("cannot take over: {error}"));
        let channel = Channel::connect(path).map_err(words)?;
        let peer = channel.peer().map_err(words)?;
        if !peer.is_this_user() {
            let reason = format!("cannot take over from a process of user {}", peer.uid);
            return Err(Parted::CalledOff(reason));
        }
        let old = channel.peer_process().map_err(words)?;
        let mut line = Line::new(channel);
        let hello = Hello {
            protocol: PROTOCOL,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            sessions: record::VERSIONS.to_vec(),
            progress: progress::VERSIONS.to_vec(),
            state_again: true,
            tickets: true,
        };
        fault::point("new", "start");
        let heard = say(&mut line, Kind::Hello, &hello).and_then(|()| hear(&mut line, Kind::Configure));
        let packet = heard.map_err(|error| match ends_within(&old, BURIAL) {
            true => Parted::Gone("the process that was to be followed is gone".to_owned()),
            false => words(error),
        })?;
        let refuse = |line: &mut Line, reason: String| {
            // It notices in any case.
            let _ = say(line, Kind::Refuse, &Refuse { reason: reason.clone() });
            Err(Parted::CalledOff(reason))
        };
        let configure: Configure = match wire::read(&packet.body) {
            Ok(configure) => configure,
            Err(error) => return refuse(&mut line, format!("its configuration is not understood: {error}")),
        };
        let mut descriptors = packet.descriptors.into_iter();
        let word = descriptors.next().ok_or_else(|| words(io::ErrorKind::InvalidData.into()))?;
        let word = CommitWord::from_descriptor(word).map_err(words)?;
        fault::point("new", "configured");
        if !Clock::continue_from(configure.clock_origin) {
            return refuse(&mut line, "it has a clock of its own already".to_owned());
        }
        // While this process has one thread; without it, everything takes longer.
        let _ = ringway::reserve_descriptors(configure.descriptors.saturating_add(DESCRIPTORS_SPARE));
        let Configure { file, running, versions, binaries, passed, elders, removals, .. } = configure;
        let (comes_ahead, comes_with_tickets) = (configure.sends_ahead, configure.sends_tickets);
        let passed = passed.into_iter().zip(descriptors.by_ref());
        let passed = passed.map(|(name, descriptor)| PassedDescriptor { name, descriptor }).collect();
        let Some(record) = versions.iter().find(|record| record.version == running) else {
            return refuse(&mut line, "the configuration that runs was not sent".to_owned());
        };
        let mut config = match record.document.read(&file, &Known::default()) {
            Ok(config) => config,
            Err(errors) => return refuse(&mut line, render_faults(&errors)),
        };
        overrides.apply(&mut config.server);
        let document = Arc::new(record.document.clone());
        let running = Running { version: running, origin: record.origin, time: record.time };
        let with_line = |elder: Elder| {
            let line = if elder.has_line { descriptors.next() } else { None };
            (elder, line)
        };
        let elders = elders.into_iter().map(with_line).collect();
        let heir = Self {
            line,
            old,
            word,
            versions,
            running,
            binaries,
            elders,
            removals,
            comes_ahead,
            comes_with_tickets,
        };
        Ok(Meeting { heir, config, source: Source { file: Some(file), document }, passed })
    }

    /// The first snapshot: the old process's, with its version.
    pub(in crate::control) fn lineage(&self, config: Config, passed: PassedSockets) -> Lineage {
        let Running { version, origin, time } = self.running;
        Lineage::resumed(config, passed, (version, origin, time))
    }

    /// Takes over. The workers sleep until it is decided that this process serves; then they serve.
    ///
    /// # Errors
    /// Why it is not this process that serves.
    pub(in crate::control) fn take_over(mut self, house: &HouseParts) -> Result<Estate, String> {
        let snapshot = house.lineage.current();
        let mut inheritance = Inheritance::default();
        let has_line = match self.listen(house, &snapshot, &mut inheritance) {
            Ok(()) => true,
            // The old one lives, and goes on once it hears why.
            Err(error) if error.kind() == io::ErrorKind::InvalidData && !self.old.has_ended() => {
                let reason = error.to_string();
                let _ = say(&mut self.line, Kind::Refuse, &Refuse { reason: reason.clone() });
                return Err(format!("the upgrade was called off: {reason}"));
            }
            Err(error) => {
                self.decide_without_the_old(&error)?;
                false
            }
        };
        let decided = Instant::now();
        let pid = self.old.pid();
        tracing::info!(old = pid, "this process serves from now on");
        wake(house, &snapshot, &mut inheritance);
        if !has_line {
            house.crew.look_again();
        }
        fault::point("new", "serving");
        let serving = Serving { micros: u64::try_from(decided.elapsed().as_micros()).unwrap_or(u64::MAX) };
        let is_told = has_line && say(&mut self.line, Kind::Serving, &serving).is_ok();
        fault::point("new", "served");
        let mut binaries = self.binaries;
        let generation = binaries.last().map_or(1, |before| before.generation + 1);
        binaries.push(BinaryRecord::of_this_process(generation));
        Ok(Estate {
            versions: Some(self.versions),
            binaries,
            lines: self.elders.iter().filter_map(|(elder, line)| Some((elder.pid, line_of(line)?))).collect(),
            elders: Arc::new(Elders::new(self.elders)),
            drains: inheritance.drains,
            removals: self.removals,
            admin: inheritance.admin,
            line: is_told.then_some(self.line),
        })
    }

    /// Takes in all that the old process says, until it is decided that this one serves.
    fn listen(
        &mut self,
        house: &HouseParts,
        snapshot: &Snapshot,
        inheritance: &mut Inheritance,
    ) -> io::Result<()> {
        let ready = Ready { workers: house.workers, engine: house.engine.to_owned() };
        fault::point("new", "ready");
        say(&mut self.line, Kind::Ready, &ready)?;
        let packet = hear(&mut self.line, Kind::Listeners)?;
        inheritance.take_listeners(packet, snapshot)?;
        let packet = hear(&mut self.line, Kind::State)?;
        let state = wire::read::<State>(&packet.body)?;
        let known = state.restore(snapshot);
        inheritance.go_by(state, &known, snapshot, house);
        if self.comes_with_tickets {
            let packet = hear(&mut self.line, Kind::Tickets)?;
            self.take_tickets(packet, snapshot)?;
        }
        let mut homes = Homes::new(snapshot, Arc::clone(&house.admission));
        if self.comes_ahead {
            self.stand_ready(house, inheritance, &mut homes)?;
        }
        fault::point("new", "armed");
        say(&mut self.line, Kind::Armed, &())?;
        fault::point("new", "armed-and-waiting");
        let end: End = loop {
            let packet = self.line.receive(Instant::now() + PATIENCE)?;
            match Kind::of(packet.kind)? {
                Kind::Sessions => inheritance.take_sessions(packet, &mut homes)?,
                Kind::Progress => inheritance.take_progress(&packet)?,
                Kind::State => {
                    let state = wire::read::<State>(&packet.body)?;
                    let changed = state.restore_again(snapshot);
                    inheritance.go_by(state, &changed, snapshot, house);
                }
                Kind::Tickets => self.take_tickets(packet, snapshot)?,
                Kind::End => break wire::read(&packet.body)?,
                found => {
                    let problem = format!("the old process said {found:?} in the midst of its connections");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
                }
            }
        };
        inheritance.next_number = end.next_number;
        restore_allowances(&end.allowances, snapshot);
        fault::point("new", "prepared");
        let (sessions, refused) =
            (inheritance.sessions.len() as u64, std::mem::take(&mut inheritance.refused));
        let progress = inheritance.progress.iter().map(|of_worker| of_worker.len() as u64).sum::<u64>();
        let refused_ahead = std::mem::take(&mut inheritance.refused_ahead);
        if sessions + refused.len() as u64 != end.sessions
            || progress + refused_ahead.len() as u64 != end.progress
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not as many connections as were named"));
        }
        inheritance.is_whole = true;
        let taken = sessions + progress;
        say(&mut self.line, Kind::Prepared, &Prepared { taken, refused, refused_ahead })?;
        hear(&mut self.line, Kind::Go)?;
        fault::point("new", "go");
        match self.word.decide(Decision::New) {
            Decision::New => {
                fault::point("new", "decided");
                Ok(())
            }
            Decision::Old | Decision::Undecided => Err(io::Error::other("it was called off")),
        }
    }

    /// Goes on with its keys of session tickets, and leaves nothing of the message behind.
    fn take_tickets(&mut self, packet: Packet, snapshot: &Snapshot) -> io::Result<()> {
        let body = Zeroizing::new(packet.body);
        self.line.wipe();
        wire::read::<Tickets>(&body)?.restore(snapshot);
        Ok(())
    }

    /// Takes in connections that the old process still serves, until it has sent all; the workers stand ready for them.
    fn stand_ready(
        &mut self,
        house: &HouseParts,
        inheritance: &mut Inheritance,
        homes: &mut Homes,
    ) -> io::Result<()> {
        inheritance.progress.resize_with(house.workers, Vec::new);
        let (done, ready) = mpsc::channel();
        let AheadEnd { connections } = loop {
            let packet = self.line.receive(Instant::now() + PATIENCE)?;
            match Kind::of(packet.kind)? {
                Kind::Ahead => house.crew.expect(inheritance.take_ahead(packet, homes)?, &done),
                Kind::AheadEnd => break wire::read(&packet.body)?,
                found => {
                    let problem = format!("the old process said {found:?} in the midst of what goes ahead");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
                }
            }
        };
        if connections != inheritance.came_ahead {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not as many connections as were named"));
        }
        fault::point("new", "copied");
        drop(done);
        // Ends when the last worker is ready, or is gone.
        while ready.recv().is_ok() {}
        Ok(())
    }

    /// The old process says no more: decides, if it is dead.
    fn decide_without_the_old(&self, error: &io::Error) -> Result<(), String> {
        let until = Instant::now() + BURIAL;
        while self.word.decision() == Decision::Undecided && !self.old.has_ended() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("the upgrade was called off: {error}"));
            }
            let _ = wait([(self.old.as_fd(), Interest::Read)], Some(left));
        }
        match self.word.decide(Decision::New) {
            Decision::New => {
                tracing::warn!(old = self.old.pid(), %error, "the old process is gone");
                Ok(())
            }
            Decision::Old | Decision::Undecided => Err(format!("the upgrade was called off: {error}")),
        }
    }
}

/// What was taken in.
#[derive(Default)]
struct Inheritance {
    /// By app, and place among its frontends.
    listeners: HashMap<(String, usize), Vec<Listener>>,
    admin: Option<OwnedFd>,
    sessions: Vec<MovedSession>,
    /// Connections that cannot be carried on: the place of each among all, and why.
    refused: Vec<(u64, String)>,
    /// By the numbers of connections that came ahead: which worker stands ready, or why none does. Each leaves when it is
    /// said how far it has come.
    ahead: HashMap<u64, Result<usize, &'static str>>,
    came_ahead: u64,
    /// How far they have come, by worker.
    progress: Vec<Vec<Progress>>,
    /// Those of them that cannot be carried on, by their numbers, and why.
    refused_ahead: Vec<(u64, String)>,
    /// It was said how far all have come.
    is_whole: bool,
    next_number: u64,
    /// The drains that have a time.
    drains: Vec<DrainRecord>,
    /// Endpoints that are left out because too many of their connections failed, with the slot of their app.
    outliers: Vec<(usize, Arc<Endpoint>)>,
}

/// A connection as it came.
struct Arrived {
    facts: SessionFacts,
    routed: Routed,
    allowance: Option<[Allowance; 2]>,
    ends: (ExportedConnection, Option<ExportedConnection>),
}

impl Inheritance {
    /// What is known of these apps and pools is known to all workers.
    fn go_by(&mut self, state: State, known: &[Arc<AppState>], snapshot: &Snapshot, house: &HouseParts) {
        if let Some(drains) = state.drains {
            self.drains = drains;
        }
        self.outliers = outliers_of(snapshot);
        for pool in known {
            house.crew.tell_workers(&WorkerMail::Endpoints { app: pool.slot() });
        }
        // They bind nothing yet, and nothing for those that are drained.
        for app in known.iter().filter(|pool| pool.route().is_none()) {
            house.crew.tell_workers(&WorkerMail::Serve { app: app.slot() });
        }
    }

    /// Takes connections in, each with its one or two descriptors.
    fn take_sessions(&mut self, packet: Packet, homes: &mut Homes) -> io::Result<()> {
        for Arrived { facts, routed, allowance, ends } in read_connections(packet)? {
            let place = (self.sessions.len() + self.refused.len()) as u64;
            match MovedSession::arrive(facts, &routed, allowance, ends, homes) {
                Ok(session) => self.sessions.push(session),
                Err(why) => self.refused.push((place, why.to_owned())),
            }
        }
        Ok(())
    }

    /// Takes connections in that go on in the old process; gives the share of each worker.
    fn take_ahead(&mut self, packet: Packet, homes: &mut Homes) -> io::Result<Vec<Vec<MovedSession>>> {
        let workers = self.progress.len();
        let mut shares: Vec<Vec<MovedSession>> = (0..workers).map(|_| Vec::new()).collect();
        for Arrived { facts, routed, allowance, ends } in read_connections(packet)? {
            self.came_ahead += 1;
            let number = facts.number;
            // One that moved from worker to worker meanwhile may come twice.
            if self.ahead.contains_key(&number) {
                continue;
            }
            let place = MovedSession::arrive(facts, &routed, allowance, ends, homes).map(|session| {
                let worker = self.ahead.len() % workers;
                shares[worker].push(session);
                worker
            });
            self.ahead.insert(number, place);
        }
        Ok(shares)
    }

    /// Takes in how far those have come that were sent ahead.
    fn take_progress(&mut self, packet: &Packet) -> io::Result<()> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "progress that cannot be read");
        for progress in progress::read_all(&packet.body).ok_or_else(invalid)? {
            match self.ahead.remove(&progress.number) {
                Some(Ok(worker)) => self.progress[worker].push(progress),
                Some(Err(why)) => self.refused_ahead.push((progress.number, why.to_owned())),
                None => self.refused_ahead.push((progress.number, "it did not come ahead".to_owned())),
            }
        }
        Ok(())
    }

    fn take_listeners(&mut self, packet: Packet, snapshot: &Snapshot) -> io::Result<()> {
        let message: Listeners = wire::read(&packet.body)?;
        let expected = message.frontends.len() + usize::from(message.admin);
        let mut descriptors = packet.descriptors;
        if descriptors.len() != expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not as many sockets as were named"));
        }
        if message.admin {
            self.admin = descriptors.pop();
        }
        let frontends: HashMap<&str, usize> =
            snapshot.apps().map(|app| (&**app.name(), app.frontends().len())).collect();
        for (key, descriptor) in message.frontends.into_iter().zip(descriptors) {
            let FrontendKey { app, index, is_passed } = key;
            if frontends.get(&*app).is_none_or(|count| index >= *count) {
                continue;
            }
            let listener = Listener::from_descriptor(descriptor)?;
            let listener = if is_passed { listener.held_elsewhere() } else { listener };
            self.listeners.entry((app, index)).or_default().push(listener);
        }
        Ok(())
    }
}

/// Reads the connections of a message, each with its one or two descriptors.
fn read_connections(packet: Packet) -> io::Result<Vec<Arrived>> {
    let invalid = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut descriptors = packet.descriptors.into_iter();
    let mut end = |state: EndState| -> io::Result<ExportedConnection> {
        let descriptor = descriptors.next().ok_or_else(|| invalid("a connection without its sockets"))?;
        let mut exported = ExportedConnection::from_descriptor(descriptor)?;
        (exported.received, exported.queued) = (state.received, state.queued);
        (exported.ended, exported.shut) = (state.ended, state.shut);
        Ok(exported)
    };
    let mut all = Vec::new();
    let mut rest = &packet.body[..];
    while !rest.is_empty() {
        let (found, following) = record::read(rest).ok_or_else(|| invalid("half a connection"))?;
        rest = following;
        // Which sockets are whose is not known any more. The old process offers versions that this one knows.
        let found = found.map_err(|_| invalid("a connection that cannot be read"))?;
        let ends = (end(found.client)?, found.backend.map(&mut end).transpose()?);
        let (facts, routed, allowance) = (found.facts, found.routed, found.allowance);
        all.push(Arrived { facts, routed, allowance, ends });
    }
    Ok(all)
}

/// Has the workers serve, each with its share.
fn wake(house: &HouseParts, snapshot: &Snapshot, inheritance: &mut Inheritance) {
    let mut shares: Vec<Vec<LentListener>> = (0..house.workers).map(|_| Vec::new()).collect();
    for app in snapshot.apps() {
        // One may be drained since its sockets were copied, which are closed then.
        for (index, frontend) in app.open_frontends().iter().enumerate() {
            let Some(mut listeners) = inheritance.listeners.remove(&(app.name().to_string(), index)) else {
                continue;
            };
            if let Some(listener) = listeners.first()
                && let Err(error) = frontend.inherit(listener)
            {
                tracing::warn!(frontend = %frontend.name(), %error, "its socket is used by one worker only");
            }
            // One queue for all workers, or one or more for each.
            if let [listener] = &listeners[..]
                && listener.address().inet().is_none()
            {
                let more = (1..house.workers).filter_map(|_| listener.try_clone().ok()).collect::<Vec<_>>();
                listeners.extend(more);
            }
            for (turn, listener) in listeners.into_iter().enumerate() {
                shares[turn % house.workers].push(LentListener { frontend: Arc::clone(frontend), listener });
            }
        }
    }
    let (awake, woken) = mpsc::channel();
    let mut sessions: Vec<Vec<MovedSession>> = (0..house.workers).map(|_| Vec::new()).collect();
    for (turn, session) in inheritance.sessions.drain(..).enumerate() {
        sessions[turn % house.workers].push(session);
    }
    inheritance.progress.resize_with(house.workers, Vec::new);
    let progress = std::mem::take(&mut inheritance.progress);
    let is_whole = inheritance.is_whole;
    let each = shares.into_iter().zip(sessions).zip(progress);
    for (mailer, ((listeners, sessions), progress)) in house.crew.mailers().iter().zip(each) {
        let next_number = inheritance.next_number;
        // One worker takes them back when their time is over.
        let outliers = std::mem::take(&mut inheritance.outliers);
        let awake = awake.clone();
        let legacy = Legacy { listeners, sessions, progress, is_whole, next_number, outliers, awake };
        mailer.send(WorkerMail::Wake(Parcel::new(legacy)));
    }
    drop(awake);
    // Ends when the last worker has gone on, or is gone.
    while woken.recv().is_ok() {}
}

impl Estate {
    /// Of a process that follows nobody.
    pub(in crate::control) fn first() -> Self {
        let binaries = vec![BinaryRecord::of_this_process(1)];
        Self {
            versions: None,
            binaries,
            elders: Arc::default(),
            drains: Vec::new(),
            removals: Vec::new(),
            admin: None,
            line: None,
            lines: Vec::new(),
        }
    }

    /// Takes in what old processes counted: of the last one now, and of each when it ends. `counted` is told the first time,
    /// or that there is none.
    pub(in crate::control) fn follow_counters(
        &mut self,
        house: &HouseParts,
        counted: impl FnOnce() + Send + 'static,
    ) {
        for (pid, line) in std::mem::take(&mut self.lines) {
            self.follow(house, line, Some(pid), None::<fn()>);
        }
        match self.line.take() {
            Some(line) => self.follow(house, line, None, Some(counted)),
            None => counted(),
        }
    }

    /// `pid`: of a process that is known to have connections to finish.
    fn follow(
        &self,
        house: &HouseParts,
        line: Line,
        pid: Option<u32>,
        counted: Option<impl FnOnce() + Send + 'static>,
    ) {
        let (metrics, lineage) = (Arc::clone(&house.metrics), Arc::clone(&house.lineage));
        let elders = Arc::clone(&self.elders);
        let follow = move || {
            let (mut line, mut counted, mut pid) = (line, counted, pid);
            while let Some(packet) = hear_of(&mut line, &elders) {
                if packet.kind == Kind::Counters as u16
                    && let Ok(counters) = wire::read::<Counters>(&packet.body)
                {
                    counters.add_to(&metrics, &lineage);
                    if let Some(elder) = counters.left {
                        pid = Some(elder.pid);
                        elders.add(elder, line.as_fd().try_clone_to_owned().ok());
                    }
                }
                if let Some(counted) = counted.take() {
                    counted();
                }
            }
            if let Some(counted) = counted.take() {
                counted();
            }
            if let Some(pid) = pid {
                elders.forget(pid);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("old-process".to_owned()).spawn(follow) {
            tracing::warn!(%error, "what an old process counted is not known");
        }
    }
}

/// What an old process says next; none if it is gone, or another process hears it from now on.
fn hear_of(line: &mut Line, elders: &Elders) -> Option<Packet> {
    loop {
        let found = wait([(line.as_fd(), Interest::Read)], Some(LOOK));
        if elders.are_passed_on() {
            return None;
        }
        match found {
            Ok([false]) => {}
            // All of it follows at once.
            Ok([true]) => return line.receive(Instant::now() + PATIENCE).ok(),
            Err(_) => return None,
        }
    }
}

impl BinaryRecord {
    /// This process, which serves from now on.
    pub(in crate::control) fn of_this_process(generation: u64) -> Self {
        Self {
            generation,
            pid: std::process::id(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            path: std::env::current_exe().unwrap_or_else(|_| Invocation::of_this_process().program),
            time: SystemTime::now(),
        }
    }
}

/// The line that this is a handle of.
fn line_of(handle: &Option<OwnedFd>) -> Option<Line> {
    let handle = handle.as_ref()?.try_clone().ok()?;
    Channel::from_descriptor(handle).ok().map(Line::new)
}

fn say(line: &mut Line, kind: Kind, message: &impl serde::Serialize) -> io::Result<()> {
    line.send(kind as u16, &wire::write(message), &[], Instant::now() + PATIENCE)
}

/// Receives a message, which must be of this kind.
fn hear(line: &mut Line, kind: Kind) -> io::Result<Packet> {
    let packet = line.receive(Instant::now() + PATIENCE)?;
    match Kind::of(packet.kind)? {
        found if found == kind => Ok(packet),
        found => {
            let problem = format!("the old process said {found:?} in the place of {kind:?}");
            Err(io::Error::new(io::ErrorKind::InvalidData, problem))
        }
    }
}
