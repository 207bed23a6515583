//! What a process does that another one started to be followed by it: carries out the actions of its [`NewSide`].

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ringway_engine::sys::reserve_descriptors;
use ringway_engine::{Clock, Listener, SocketAddress};

use super::carrier::{Arrival, Carrier, CarrierMail, Wake, Woken};
use super::protocol::{NewAction, NewEvent, NewSide, NewWork, Outcome, Step};
use super::record::{self, ConnectionRecord, Hello, PROTOCOL, Welcome};
use super::{Channel, CommitWord, Decision, Handover, Interest, Line, ProcessHandle, Progress, wait};
use crate::server::RunningServer;
use crate::{Mailer, Server};

/// For each word of the old process, which gives up much earlier.
const PATIENCE: Duration = Duration::from_secs(60);
/// For an old process that has hung up to be gone.
const BURIAL: Duration = Duration::from_secs(5);

/// What a process has open beside what comes: its workers' engines, and whoever comes next.
const DESCRIPTORS_SPARE: u32 = 1024;

/// The workers of the new process, by what they are told.
type Workers<H> = RunningServer<CarrierMail<<H as crate::EventHandler>::Mail>>;

/// A server that took over: its workers, and a handle to each listening socket with its place.
pub(super) type Taken<H> = (Workers<H>, Vec<(u32, Listener)>);

struct Run<'a, H: Handover, F> {
    server: &'a Server,
    make: F,
    observe: &'a dyn Fn(Progress),
    side: NewSide,
    line: Line,
    old: ProcessHandle,
    word: Option<CommitWord>,
    workers: Option<Workers<H>>,
    listeners: Vec<(u32, Listener)>,
    arrivals: Vec<Arrival>,
    refused: Vec<(u64, String)>,
    reason: Option<String>,
    taken: Vec<(u32, Listener)>,
}

/// Dials the process that started this one; none if that is over or dead: then this one is like any other.
pub(super) fn reach(path: &Path) -> io::Result<Option<Channel>> {
    match Channel::connect(path) {
        Ok(channel) => {
            if !channel.peer()?.is_this_user() {
                let error = "the old process is of another user";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
            }
            // It has served; the old process would remove it too, unless it dies before.
            let _ = fs::remove_file(path);
            if let Some(directory) = path.parent() {
                // Only if nothing else is in it.
                let _ = fs::remove_dir(directory);
            }
            Ok(Some(channel))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Takes over from the process at the other end of `channel`.
pub(super) fn take_over<H, F>(
    server: &Server,
    channel: Channel,
    make: F,
    observe: &dyn Fn(Progress),
) -> io::Result<Taken<H>>
where
    H: Handover + 'static,
    F: Fn(usize) -> H + Clone + Send + 'static,
{
    let old = channel.peer_process()?;
    let (side, actions) = NewSide::new();
    let run = Run {
        server,
        make,
        observe,
        side,
        line: Line::new(channel),
        old,
        word: None,
        workers: None,
        listeners: Vec::new(),
        arrivals: Vec::new(),
        refused: Vec::new(),
        reason: None,
        taken: Vec::new(),
    };
    run.conduct(actions)
}

impl<H, F> Run<'_, H, F>
where
    H: Handover + 'static,
    F: Fn(usize) -> H + Clone + Send + 'static,
{
    fn conduct(mut self, actions: Vec<NewAction>) -> io::Result<Taken<H>> {
        let mut events = VecDeque::new();
        let mut actions = actions;
        loop {
            for action in actions {
                events.extend(self.act(action)?);
                (self.observe)(Progress::New(action));
            }
            match self.side.outcome() {
                None => {}
                Some(Outcome::Serves | Outcome::ServesAfresh) => {
                    let workers = self.workers.ok_or_else(|| io::Error::other("no worker was started"))?;
                    return Ok((workers, self.taken));
                }
                Some(_) => {
                    let reason = self.reason.unwrap_or_else(|| "the hand-over was called off".to_owned());
                    return Err(io::Error::other(reason));
                }
            }
            let event = events.pop_front().unwrap_or_else(|| self.listen());
            actions = self.side.handle(event);
        }
    }

    fn fail(&mut self, reason: impl ToString) -> NewEvent {
        self.reason.get_or_insert(reason.to_string());
        NewEvent::Failed
    }

    /// Waits for a word of the old process.
    fn listen(&mut self) -> NewEvent {
        let packet = match self.line.receive(Instant::now() + PATIENCE) {
            Ok(packet) => packet,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return self.fail(error),
            Err(error) => return self.silence(&error),
        };
        let step = Step::of(packet.kind);
        let mut descriptors = packet.descriptors;
        let understood = match step {
            Some(Step::Welcome) => Welcome::read(&packet.body)
                .map_err(|error| error.to_string())
                .and_then(|welcome| self.welcome(&welcome, descriptors.pop())),
            Some(Step::Ahead) => record::read_places(&packet.body)
                .map_err(|error| error.to_string())
                .and_then(|places| match places.len() == descriptors.len() {
                    true => {
                        for (place, descriptor) in places.into_iter().zip(descriptors) {
                            let listener = Listener::from_descriptor(descriptor);
                            self.listeners.push((place, listener.map_err(|error| error.to_string())?));
                        }
                        Ok(())
                    }
                    false => Err("not as many sockets as were named".to_owned()),
                }),
            Some(Step::State) => ConnectionRecord::read_all(&packet.body)
                .map_err(|error| error.to_string())
                .and_then(|records| {
                    if records.len() != descriptors.len() {
                        return Err("not as many connections as were named".to_owned());
                    }
                    for (record, descriptor) in records.into_iter().zip(descriptors) {
                        self.arrivals.push(Arrival { record, descriptor });
                    }
                    Ok(())
                }),
            Some(_) => Ok(()),
            None => Err(format!("a message of the unknown kind {}", packet.kind)),
        };
        match (step, understood) {
            (Some(step), Ok(())) => NewEvent::Said(step),
            (_, Err(reason)) => self.fail(reason),
            (None, Ok(())) => unreachable!("an unknown kind is not understood"),
        }
    }

    fn welcome(&mut self, welcome: &Welcome, word: Option<std::os::fd::OwnedFd>) -> Result<(), String> {
        if welcome.protocol != PROTOCOL {
            return Err(format!("the old process speaks protocol {}, this one {PROTOCOL}", welcome.protocol));
        }
        let word = word.ok_or("no commit word came")?;
        self.word = Some(CommitWord::from_descriptor(word).map_err(|error| error.to_string())?);
        let (theirs, ours) = (welcome.addresses as usize, self.server.addresses.len());
        if theirs > ours {
            return Err(format!("the old process listens at {theirs} addresses, this one knows {ours}"));
        }
        // While this process has one thread, and nobody waits. Without it, everything takes longer.
        let _ = reserve_descriptors(welcome.descriptors.saturating_add(DESCRIPTORS_SPARE));
        if !Clock::continue_from(welcome.clock_origin) {
            return Err("this process has asked for the time already".to_owned());
        }
        Ok(())
    }

    fn silence(&mut self, error: &io::Error) -> NewEvent {
        if error.kind() != io::ErrorKind::TimedOut {
            // It hung up, most likely because it ends. It is dead only when the kernel says so.
            let _ = wait([(self.old.as_fd(), Interest::Read)], Some(BURIAL));
        }
        if self.old.has_ended() {
            return NewEvent::PeerEnded;
        }
        self.reason.get_or_insert(format!("the old process fell silent: {error}"));
        NewEvent::Silent
    }

    fn act(&mut self, action: NewAction) -> io::Result<Option<NewEvent>> {
        Ok(match action {
            NewAction::Say(step) => {
                let body = match step {
                    Step::Hello => Hello { protocol: PROTOCOL, state_version: H::STATE_VERSION }.write(),
                    Step::Prepared => record::write_refused(&self.refused),
                    Step::Refuse => self.reason.clone().unwrap_or_default().into_bytes(),
                    _ => Vec::new(),
                };
                // If it hears nothing any more, that is noticed where its answer is waited for.
                let _ = self.line.send(step as u16, &body, &[], Instant::now() + PATIENCE);
                None
            }
            NewAction::Do(NewWork::Start) => Some(match self.start() {
                Ok(()) => NewEvent::Done(NewWork::Start),
                Err(error) => self.fail(error),
            }),
            NewAction::Do(NewWork::Rebuild) => Some(self.rebuild()),
            NewAction::Decide => {
                let decision = self.word.as_ref().map_or(Decision::Old, |word| word.decide(Decision::New));
                Some(NewEvent::Decided(decision))
            }
            NewAction::Serve => {
                self.serve(false)?;
                None
            }
            NewAction::ServeAfresh => {
                if self.workers.is_none() {
                    self.start()?;
                }
                self.serve(true)?;
                None
            }
            NewAction::Withdraw => None,
        })
    }

    /// Starts the workers, which listen nowhere.
    fn start(&mut self) -> io::Result<()> {
        let make = self.make.clone();
        let (workers, _) = self.server.spawn(&[], move |index, _| Carrier::dormant(make(index), index))?;
        self.workers = Some(workers);
        Ok(())
    }

    fn mailers(&self) -> &[Mailer<CarrierMail<H::Mail>>] {
        self.workers.as_ref().map_or(&[], RunningServer::mailers)
    }

    /// Deals the connections out, and has the handlers rebuild them.
    fn rebuild(&mut self) -> NewEvent {
        let arrivals = std::mem::take(&mut self.arrivals);
        let workers = self.mailers().len();
        let mut shares: Vec<Vec<Arrival>> = (0..workers).map(|_| Vec::new()).collect();
        for (turn, arrival) in arrivals.into_iter().enumerate() {
            shares[turn % workers].push(arrival);
        }
        let (reply, replies) = mpsc::channel();
        for (mailer, share) in self.mailers().iter().zip(shares) {
            mailer.send(CarrierMail::Prepare(share, reply.clone()));
        }
        drop(reply);
        let answers: Vec<_> = replies.into_iter().collect();
        if answers.len() != workers {
            return self.fail("a worker ended");
        }
        self.refused = answers.into_iter().flatten().collect();
        NewEvent::Done(NewWork::Rebuild)
    }

    /// Has the workers serve: with what came, and with listening sockets of their own where none came.
    fn serve(&mut self, is_afresh: bool) -> io::Result<()> {
        let count = self.mailers().len();
        let mut shares: Vec<Vec<(u32, Listener)>> = (0..count).map(|_| Vec::new()).collect();
        let mut missing: Vec<Vec<(u32, SocketAddress)>> = vec![Vec::new(); count];
        let mut unknown = false;
        for (place, address) in self.server.addresses.iter().enumerate() {
            let place = place as u32;
            let (came, rest) =
                std::mem::take(&mut self.listeners).into_iter().partition(|(p, _)| *p == place);
            self.listeners = rest;
            let mut came: Vec<(u32, Listener)> = came;
            let has_own = self.server.options.reuse_port && address.inet().is_some();
            unknown |= came.is_empty();
            for worker in came.len()..count {
                match came.first() {
                    Some((_, first)) if !has_own => came.push((place, first.try_clone()?)),
                    Some((_, first)) => missing[worker].push((place, first.address().clone())),
                    None => missing[worker].push((place, address.clone())),
                }
            }
            for (turn, listener) in came.into_iter().enumerate() {
                shares[turn % count].push(listener);
            }
        }
        let cut: Vec<_> =
            std::mem::take(&mut self.arrivals).into_iter().map(|arrival| arrival.descriptor).collect();
        let mut cut = Some(cut);
        let (done, all_done) = mpsc::channel::<Woken>();
        let mut error = None;
        for (worker, listeners) in shares.into_iter().enumerate() {
            let missing = std::mem::take(&mut missing[worker])
                .into_iter()
                // A port that the first worker was given is the others', too.
                .map(|(place, address)| (place, self.bound_at(place).unwrap_or(address)))
                .collect();
            let (options, cut) = (self.server.options.clone(), cut.take().unwrap_or_default());
            let done = done.clone();
            let wake = Wake { listeners, missing, options, cut, is_afresh, done };
            self.mailers()[worker].send(CarrierMail::Wake(Box::new(wake)));
            if unknown && worker == 0 {
                // The others need the ports that it is given.
                self.taken_in(all_done.recv().ok(), &mut error);
            }
        }
        drop(done);
        for woken in all_done {
            self.taken_in(Some(woken), &mut error);
        }
        let is_complete = (0..self.server.addresses.len()).all(|place| self.bound_at(place as u32).is_some());
        match error {
            // Where one socket listens, another that could not be made costs evenness and nothing else.
            Some(error) if !is_complete => Err(error),
            _ => Ok(()),
        }
    }

    fn taken_in(&mut self, woken: Option<Woken>, error: &mut Option<io::Error>) {
        let Some(woken) = woken else { return };
        self.taken.extend(woken.listeners);
        *error = error.take().or(woken.error);
    }

    fn bound_at(&self, place: u32) -> Option<SocketAddress> {
        self.taken.iter().find(|(p, _)| *p == place).map(|(_, listener)| listener.address().clone())
    }
}
