//! What the process that serves does in a hand-over: carries out the actions of its [`OldSide`], on the thread that asked.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use ringway_engine::sys::open_descriptors;
use ringway_engine::{Clock, Listener};

use super::carrier::{CarrierMail, Frozen};
use super::protocol::{OldAction, OldEvent, OldSide, OldWork, Outcome, Step};
use super::record::{self, ConnectionRecord, Hello, PROTOCOL, Welcome};
use super::{
    ChannelListener, CommitWord, Decision, HandoverError, HandoverReport, Interest, Line, ProcessHandle,
    Progress, VARIABLE, wait,
};
use crate::Mailer;

/// From the freeze on, for each step: whoever is connected waits.
const PATIENCE_FROZEN: Duration = Duration::from_secs(2);
/// For a process that has hung up to be gone.
const BURIAL: Duration = Duration::from_secs(1);

/// What a hand-over needs of the server.
pub(super) struct House<'a, M> {
    pub(super) mailers: &'a [Mailer<CarrierMail<M>>],
    /// A handle to each listening socket, with its place.
    pub(super) listeners: &'a [(u32, Listener)],
    pub(super) addresses: usize,
    pub(super) state_version: u32,
    pub(super) patience: Duration,
    pub(super) observe: &'a dyn Fn(Progress),
}

/// A hand-over under way.
struct Run<'a, M> {
    house: House<'a, M>,
    side: OldSide,
    line: Line,
    child: Child,
    handle: ProcessHandle,
    word: CommitWord,
    frozen: Vec<Frozen>,
    /// Workers that have not come to rest, if some were told to.
    resting: Option<Receiver<Frozen>>,
    /// What is to be sent of the connections.
    state: Vec<u8>,
    refused: Vec<(u64, String)>,
    moved: usize,
    reason: Option<HandoverError>,
    begun: Instant,
    frozen_at: Option<Instant>,
    /// From then until the new process said that it serves.
    paused: Duration,
}

/// Starts `command` and hands over to it.
pub(super) fn hand_over<M: Send + 'static>(
    house: House<'_, M>,
    mut command: Command,
) -> Result<HandoverReport, HandoverError> {
    let begun = Instant::now();
    let deadline = begun + house.patience;
    let local = HandoverError::Local;
    let word = CommitWord::new().map_err(local)?;
    let directory = PrivateDirectory::new().map_err(local)?;
    let path = directory.0.join("socket");
    let listener = ChannelListener::bind(&path).map_err(local)?;
    let mut child = command.env(VARIABLE, &path).spawn().map_err(HandoverError::Start)?;
    let met = ProcessHandle::open(child.id())
        .map_err(local)
        .and_then(|handle| meet(&listener, &handle, deadline).map(|line| (handle, line)));
    let (handle, line) = match met {
        Ok(met) => met,
        Err(error) => {
            end(&mut child);
            return Err(error);
        }
    };
    let run = Run {
        house,
        side: OldSide::new(),
        line,
        child,
        handle,
        word,
        frozen: Vec::new(),
        resting: None,
        state: Vec::new(),
        refused: Vec::new(),
        moved: 0,
        reason: None,
        begun,
        frozen_at: None,
        paused: Duration::ZERO,
    };
    run.conduct()
}

fn end(child: &mut Child) {
    // Both fail only if it is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until the new process, and nobody else, has dialled.
fn meet(listener: &ChannelListener, new: &ProcessHandle, deadline: Instant) -> Result<Line, HandoverError> {
    loop {
        match listener.accept() {
            Ok(channel) => {
                let peer = channel.peer().map_err(HandoverError::Local)?;
                if peer.is_this_user() && peer.pid == new.pid() {
                    return Ok(Line::new(channel));
                }
                // Somebody else of this user; it hears nothing and is hung up on.
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(HandoverError::Local(error)),
        }
        if new.has_ended() {
            return Err(HandoverError::PeerEnded);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HandoverError::Silent);
        }
        // Comes back at once while somebody waits to be met.
        let both = [(listener.as_fd(), Interest::Read), (new.as_fd(), Interest::Read)];
        wait(both, Some(left)).map_err(HandoverError::Local)?;
    }
}

impl<M: Send + 'static> Run<'_, M> {
    fn conduct(mut self) -> Result<HandoverReport, HandoverError> {
        let mut events = VecDeque::new();
        loop {
            let event = events.pop_front().unwrap_or_else(|| self.listen());
            for action in self.side.handle(event) {
                events.extend(self.act(action));
                (self.house.observe)(Progress::Old(action));
            }
            match self.side.outcome() {
                None => {}
                Some(Outcome::HandedOver) => return Ok(self.report()),
                Some(Outcome::TakenBack) => return Err(HandoverError::TakenBack),
                Some(_) => return Err(self.reason.unwrap_or(HandoverError::PeerEnded)),
            }
        }
    }

    fn report(&self) -> HandoverReport {
        HandoverReport {
            pid: self.child.id(),
            moved: self.moved,
            refused: self.refused.iter().map(|(_, reason)| reason.clone()).collect(),
            took: self.begun.elapsed(),
            paused: self.paused,
        }
    }

    fn fail(&mut self, reason: HandoverError) -> OldEvent {
        self.reason.get_or_insert(reason);
        OldEvent::Failed
    }

    /// Waits for a word of the new process.
    fn listen(&mut self) -> OldEvent {
        let deadline = match self.frozen_at {
            Some(_) => Instant::now() + PATIENCE_FROZEN,
            None => self.begun + self.house.patience,
        };
        let packet = match self.line.receive(deadline) {
            Ok(packet) => packet,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return self.fail(HandoverError::Local(error));
            }
            Err(error) => return self.silence(&error),
        };
        let understood = match Step::of(packet.kind) {
            Some(Step::Hello) => {
                Hello::read(&packet.body).map_err(|error| error.to_string()).and_then(|hello| {
                    match hello.protocol {
                        PROTOCOL => Ok(Step::Hello),
                        other => Err(format!("it speaks protocol {other}, and this process {PROTOCOL}")),
                    }
                })
            }
            Some(Step::Prepared) => record::read_refused(&packet.body)
                .map(|refused| {
                    self.refused = refused;
                    Step::Prepared
                })
                .map_err(|error| error.to_string()),
            Some(Step::Refuse) => Err(String::from_utf8_lossy(&packet.body).into_owned()),
            Some(step) => Ok(step),
            None => Err(format!("a message of the unknown kind {}", packet.kind)),
        };
        match understood {
            Ok(step) => {
                if step == Step::Serving {
                    self.paused = self.frozen_at.map_or(Duration::ZERO, |at| at.elapsed());
                }
                OldEvent::Said(step)
            }
            Err(reason) => self.fail(HandoverError::Refused(reason)),
        }
    }

    fn silence(&mut self, error: &io::Error) -> OldEvent {
        if error.kind() != io::ErrorKind::TimedOut {
            // It hung up, most likely because it ends.
            let _ = wait([(self.handle.as_fd(), Interest::Read)], Some(BURIAL));
        }
        if self.handle.has_ended() {
            self.reason.get_or_insert(HandoverError::PeerEnded);
            return OldEvent::PeerEnded;
        }
        self.reason.get_or_insert(HandoverError::Silent);
        OldEvent::Silent
    }

    fn act(&mut self, action: OldAction) -> Option<OldEvent> {
        match action {
            OldAction::Say(step) => self.say(step),
            // Only listening sockets go ahead, with the word itself.
            OldAction::Do(OldWork::SendAhead) => Some(OldEvent::Done(OldWork::SendAhead)),
            OldAction::Do(OldWork::Freeze) => Some(self.freeze()),
            OldAction::Do(OldWork::SendState) => {
                self.write_state();
                Some(OldEvent::Done(OldWork::SendState))
            }
            OldAction::Decide => Some(OldEvent::Decided(self.word.decide(Decision::Old))),
            OldAction::Kill => {
                end(&mut self.child);
                None
            }
            OldAction::Resume => {
                self.give_back(CarrierMail::Thaw);
                None
            }
            OldAction::TakeBack => {
                end(&mut self.child);
                self.give_back(CarrierMail::TakeBack);
                None
            }
            OldAction::LetGo => {
                self.let_go();
                None
            }
        }
    }

    fn say(&mut self, step: Step) -> Option<OldEvent> {
        let (body, descriptors) = match step {
            Step::Welcome => {
                let welcome = Welcome {
                    protocol: PROTOCOL,
                    clock_origin: Clock::process().origin(),
                    addresses: u32::try_from(self.house.addresses).unwrap_or(u32::MAX),
                    descriptors: open_descriptors(),
                };
                (welcome.write(), vec![self.word.as_fd()])
            }
            Step::Ahead => {
                let lent = self.house.listeners.iter();
                let (places, sockets): (Vec<u32>, Vec<_>) =
                    lent.filter_map(|(place, listener)| Some((*place, listener.descriptor()?))).unzip();
                (record::write_places(&places), sockets)
            }
            Step::State => {
                let connections = self.frozen.iter().flat_map(|frozen| &frozen.connections);
                let sockets = connections.filter_map(|departure| departure.exported.descriptor()).collect();
                (std::mem::take(&mut self.state), sockets)
            }
            _ => (Vec::new(), Vec::new()),
        };
        let deadline = Instant::now() + PATIENCE_FROZEN;
        let sent = self.line.send(step as u16, &body, &descriptors, deadline);
        sent.err().map(|error| self.silence(&error))
    }

    fn freeze(&mut self) -> OldEvent {
        let begun = *self.frozen_at.insert(Instant::now());
        let (reply, replies) = mpsc::channel();
        for mailer in self.house.mailers {
            mailer.send(CarrierMail::Freeze(reply.clone()));
        }
        drop(reply);
        let mut missing = self.house.mailers.len();
        while missing > 0 {
            let left = (begun + PATIENCE_FROZEN).saturating_duration_since(Instant::now());
            match replies.recv_timeout(left) {
                Ok(frozen) => self.frozen.push(frozen),
                Err(_) => {
                    self.resting = Some(replies);
                    return self.fail(HandoverError::Local(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "a worker does not come to rest",
                    )));
                }
            }
            missing -= 1;
        }
        OldEvent::Done(OldWork::Freeze)
    }

    /// What is to be said of the connections; their descriptors come along when it is.
    fn write_state(&mut self) {
        let mut records = Vec::new();
        for frozen in &self.frozen {
            for (place, departure) in frozen.connections.iter().enumerate() {
                records.push(ConnectionRecord {
                    number: number(frozen.worker, place),
                    state_version: self.house.state_version,
                    ended: departure.exported.ended,
                    shut: departure.exported.shut,
                    received: departure.exported.received.clone(),
                    queued: departure.exported.queued.clone(),
                    state: departure.state.clone(),
                });
            }
        }
        self.state = ConnectionRecord::write_all(&records);
    }

    /// Gives every worker back what it held, those included that come to rest only now.
    fn give_back(&mut self, mail: fn(Box<Frozen>) -> CarrierMail<M>) {
        for frozen in self.frozen.drain(..) {
            let worker = frozen.worker;
            self.house.mailers[worker].send(mail(Box::new(frozen)));
        }
        // Their sockets are in nobody's hands: whoever is stuck gets them back when it no longer is.
        for frozen in self.resting.take().into_iter().flatten() {
            let worker = frozen.worker;
            self.house.mailers[worker].send(mail(Box::new(frozen)));
        }
    }

    /// The new process serves: drops what it took, and goes on with what it did not.
    fn let_go(&mut self) {
        let refused: BTreeSet<u64> = self.refused.iter().map(|(number, _)| *number).collect();
        for frozen in &mut self.frozen {
            let worker = frozen.worker;
            let (mut left, mut gone) = (Vec::new(), Vec::new());
            for (place, departure) in std::mem::take(&mut frozen.connections).into_iter().enumerate() {
                match refused.contains(&number(worker, place)) {
                    true => left.push(departure),
                    false => gone.push(departure.token),
                }
            }
            self.moved += gone.len();
            let left = Frozen { worker, listeners: Vec::new(), connections: left };
            let mailer = &self.house.mailers[worker];
            mailer.send(CarrierMail::Thaw(Box::new(left)));
            mailer.send(CarrierMail::Forget(gone));
            frozen.listeners.clear();
        }
    }
}

/// The number of the connection at a place of what a worker held.
fn number(worker: usize, place: usize) -> u64 {
    (worker as u64) << 32 | place as u64
}

/// A directory that only this user may enter; removed at the end.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let base: &Path = &std::env::temp_dir();
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("ringway-{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                // Left behind by an earlier process of this number, or made by somebody who guessed: not this one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1 << 16 => {}
                made => return made.map(|()| Self(path)),
            }
        }
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // What cannot be removed is an empty directory in the place for such things.
        let _ = fs::remove_dir_all(&self.0);
    }
}
