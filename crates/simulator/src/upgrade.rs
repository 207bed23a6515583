//! One process follows another in the midst of a simulation.
//!
//! Who may serve is decided by the framework's [`OldSide`] and [`NewSide`] and the commit word between them; what they ask
//! for is done with the proxy's own parts: workers come to rest by mail, connections cross as records with second handles to
//! their sockets, and the new process's workers wake up with them. The channel between the two takes its time, and either
//! process may die, hang, refuse or be called off after any number of moves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use ringway::handover::Decision;
use ringway::handover::protocol::{
    NewAction, NewEvent, NewSide, NewWork, OldAction, OldEvent, OldSide, OldWork, Outcome, Step,
};
use ringway::simulated::Random;
use ringway::{ExportedConnection, Listener, Time};
use ringway_proxy::control::upgrade::{
    AllowanceRecord, State, allowances_of, outliers_of, restore_allowances,
};
use ringway_proxy::session::record::{self, EndState, RecordParts};
use ringway_proxy::worker::{
    Arrivals, Homes, Legacy, LentListener, MovedSession, Parcel, Rested, WorkerMail,
};

use crate::client::number_of;
use crate::proxy::Proxy;

/// How long either side waits for a word of the other: as in the real process, if not in its words.
const UNTIL_READY: Duration = Duration::from_secs(10);
const UNTIL_PREPARED: Duration = Duration::from_secs(2);
const UNTIL_SERVING: Duration = Duration::from_secs(1);
const PATIENCE_OF_NEW: Duration = Duration::from_secs(60);

/// What a seed decides of an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) workers: usize,
    pub(crate) seed: u64,
    pub(crate) fault: Fault,
    /// After how many moves of the two sides it strikes. More than there are: never.
    pub(crate) after: u32,
    /// How long a message is on its way, at most.
    pub(crate) latency: Duration,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    OldDies,
    NewDies,
    /// After it has served for so long, without having said so.
    NewDiesServing(Duration),
    /// It does nothing for so long, and then goes on.
    OldHangs(Duration),
    NewHangs(Duration),
    /// What it does fails, or it does not understand what it is told.
    OldFails,
    NewFails,
    /// Whoever asked for the upgrade, or a drain, calls it off.
    Cancelled,
    /// The program of the new process does not know the newest records.
    NewIsOlder,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let hang = Duration::from_millis(random.between(100, 20_000));
        let fault = match random.index(9) {
            0 => Fault::OldDies,
            1 => Fault::NewDies,
            2 => Fault::OldHangs(hang),
            3 => Fault::NewHangs(hang),
            4 => Fault::OldFails,
            5 => Fault::NewFails,
            6 => Fault::Cancelled,
            7 => Fault::NewDiesServing(UNTIL_SERVING.mul_f64(random.between(0, 80) as f64 / 100.0)),
            _ => Fault::NewIsOlder,
        };
        Self {
            workers: random.between(1, 4) as usize,
            seed: random.next_u64(),
            fault,
            // In half of them: there are some thirty moves.
            after: random.below(60) as u32,
            latency: Duration::from_millis(random.between(1, 100)),
        }
    }
}

/// What one side says to the other, with what comes along.
enum Letter {
    Word(Step),
    Listeners(Vec<(FrontendKey, Listener)>),
    /// Health, and what operators said: the last of what goes ahead.
    Ahead(Vec<u8>),
    Sessions {
        records: Vec<u8>,
        sockets: Vec<ExportedConnection>,
    },
    /// These were all.
    State {
        sessions: u64,
        next_number: u64,
        allowances: Vec<u8>,
    },
    Prepared {
        refused: Vec<(u64, &'static str)>,
    },
    /// The kernel says that the process at the other end is dead.
    Ended,
}

/// An app, and the place of a frontend in it.
type FrontendKey = (Arc<str>, usize);

/// A box of letters, in the order in which they were sent.
#[derive(Default)]
struct Inbox(VecDeque<(Time, Letter)>);

impl Inbox {
    fn send(&mut self, at: Time, letter: Letter) {
        // Nothing overtakes.
        let at = self.0.back().map_or(at, |(last, _)| at.max(*last));
        self.0.push_back((at, letter));
    }

    fn take(&mut self, now: Time) -> Option<Letter> {
        self.0.pop_front_if(|(at, _)| *at <= now).map(|(_, letter)| letter)
    }

    fn next_at(&self) -> Option<Time> {
        self.0.front().map(|(at, _)| *at)
    }
}

/// An upgrade under way.
pub(crate) struct Upgrade {
    plan: Plan,
    random: Random,
    word: Decision,
    old: Old,
    new: New,
    moves: u32,
    /// Numbers of the clients whose connections stood still, and whether these had a backend.
    frozen_clients: Vec<(u32, bool)>,
    /// Of those whose connections the new process carried on.
    taken_clients: Vec<u32>,
    /// What happened, for the trace.
    pub(crate) log: Vec<String>,
}

struct Old {
    side: OldSide,
    lives: bool,
    inbox: Inbox,
    events: VecDeque<OldEvent>,
    hangs_until: Time,
    /// By when the new process has to speak.
    deadline: Time,
    lending: Option<Receiver<std::io::Result<Vec<LentListener>>>>,
    lent: Vec<LentListener>,
    resting: Option<Receiver<Rested>>,
    /// By worker.
    frozen: Vec<(u32, Vec<MovedSession>)>,
    rested: usize,
    next_number: u64,
    /// What the new process reads.
    version: u16,
    sent: u64,
    refused: HashMap<u64, &'static str>,
}

struct New {
    side: NewSide,
    lives: bool,
    inbox: Inbox,
    events: VecDeque<NewEvent>,
    hangs_until: Time,
    deadline: Time,
    dies_at: Option<Time>,
    proxy: Option<Proxy>,
    homes: Option<Homes>,
    listeners: HashMap<FrontendKey, Vec<Listener>>,
    sessions: Vec<MovedSession>,
    refused: Vec<(u64, &'static str)>,
    /// Of how many it was told.
    named: u64,
    next_number: u64,
}

/// How an upgrade ended.
pub(crate) enum End {
    /// The first process goes on.
    Stays,
    /// It does, but the other one had served: connections of these clients were cut, which had a backend or had none.
    TakesBack { cut: Vec<(u32, bool)> },
    /// The other one does, with the connections of these clients, and the first finishes what is left.
    Follows { new: Box<Proxy>, taken: Vec<u32> },
    /// The other one does, and the first is dead.
    Inherits { new: Box<Proxy>, taken: Vec<u32> },
}

impl Upgrade {
    pub(crate) fn begin(plan: Plan, now: Time) -> Self {
        let (side, actions) = NewSide::new();
        let version = match plan.fault {
            Fault::NewIsOlder => record::VERSIONS[0],
            _ => record::VERSIONS[record::VERSIONS.len() - 1],
        };
        let mut upgrade = Self {
            random: Random::new(plan.seed),
            plan,
            word: Decision::Undecided,
            old: Old {
                side: OldSide::new(),
                lives: true,
                inbox: Inbox::default(),
                events: VecDeque::new(),
                hangs_until: now,
                deadline: now + UNTIL_READY,
                lending: None,
                lent: Vec::new(),
                resting: None,
                frozen: Vec::new(),
                rested: 0,
                next_number: 0,
                version,
                sent: 0,
                refused: HashMap::new(),
            },
            new: New {
                side,
                lives: true,
                inbox: Inbox::default(),
                events: VecDeque::new(),
                hangs_until: now,
                deadline: now + PATIENCE_OF_NEW,
                dies_at: None,
                proxy: None,
                homes: None,
                listeners: HashMap::new(),
                sessions: Vec::new(),
                refused: Vec::new(),
                named: 0,
                next_number: 0,
            },
            moves: 0,
            frozen_clients: Vec::new(),
            taken_clients: Vec::new(),
            log: Vec::new(),
        };
        for action in actions {
            if let NewAction::Say(step) = action {
                upgrade.tell_old(now, Letter::Word(step));
            }
        }
        upgrade
    }

    /// The process that is to follow; its workers turn, asleep or not.
    pub(crate) fn heir(&mut self) -> Option<&mut Proxy> {
        self.new.proxy.as_mut().filter(|_| self.new.lives)
    }

    /// Calls it off, if that is still possible.
    pub(crate) fn cancel(&mut self) {
        self.old.events.push_back(OldEvent::Cancelled);
    }

    /// When something is due.
    pub(crate) fn next_at(&self, now: Time) -> Option<Time> {
        let Self { old, new, .. } = self;
        let of_old = old.lives.then(|| {
            let word = old.inbox.next_at().filter(|_| old.waits());
            let deadline = old.side.awaits_peer().then_some(old.deadline);
            // A hang ends, whatever waits then.
            let hang = (old.hangs_until > now).then_some(old.hangs_until);
            word.into_iter().chain(deadline).chain(hang).min().map(|at| at.max(old.hangs_until))
        });
        let of_new = new.lives.then(|| {
            let deadline = new.side.awaits_peer().then_some(new.deadline);
            let hang = (new.hangs_until > now).then_some(new.hangs_until);
            let word = new.inbox.next_at();
            word.into_iter().chain(deadline).chain(hang).min().map(|at| at.max(new.hangs_until))
        });
        let death = new.dies_at.filter(|_| new.lives);
        of_old.flatten().into_iter().chain(of_new.flatten()).chain(death).min()
    }

    /// One side takes one event in, if there is one. Says whether there was.
    pub(crate) fn turn(&mut self, proxy: &mut Proxy, now: Time) -> bool {
        if self.new.lives && self.new.dies_at.is_some_and(|at| at <= now) {
            self.kill_new(now);
            return true;
        }
        let old_first = self.random.chance(0.5);
        for old in [old_first, !old_first] {
            if old
                && self.old.lives
                && now >= self.old.hangs_until
                && let Some(event) = self.next_of_old(proxy, now)
            {
                self.count_move(proxy, now);
                if self.old.lives {
                    self.log.push(format!("old {event:?}"));
                    let actions = self.old.side.handle(event);
                    actions.into_iter().for_each(|action| self.act_old(action, proxy, now));
                }
                return true;
            }
            if !old
                && self.new.lives
                && now >= self.new.hangs_until
                && let Some(event) = self.next_of_new(now)
            {
                self.count_move(proxy, now);
                if self.new.lives {
                    self.log.push(format!("new {event:?}"));
                    let actions = self.new.side.handle(event);
                    actions.into_iter().for_each(|action| self.act_new(action, proxy, now));
                }
                return true;
            }
        }
        false
    }

    /// What must hold at any moment.
    pub(crate) fn check(&self) -> Option<String> {
        let old = self.old.lives && self.old.side.may_touch();
        let new = self.new.lives && self.new.side.may_touch();
        (old && new).then(|| format!("both processes may use the sockets: {:?}", self.log))
    }

    /// How it ended, once nothing more will come of it.
    pub(crate) fn end(&mut self) -> Option<Result<End, String>> {
        use Outcome::{HandedOver, Resumed, Serves, ServesAfresh, TakenBack};
        let old = self.old.side.outcome().filter(|_| self.old.lives);
        let new = self.new.side.outcome().filter(|_| self.new.lives);
        let end = match (self.old.lives, old, self.new.lives, new) {
            (true, Some(Resumed), false, _) => End::Stays,
            (true, Some(TakenBack), false, _) => {
                End::TakesBack { cut: std::mem::take(&mut self.frozen_clients) }
            }
            (true, Some(HandedOver), true, Some(Serves)) => {
                End::Follows { new: self.taken()?, taken: std::mem::take(&mut self.taken_clients) }
            }
            (false, _, true, Some(Serves | ServesAfresh)) => {
                End::Inherits { new: self.taken()?, taken: std::mem::take(&mut self.taken_clients) }
            }
            // The other one has still to notice, or to come to its own.
            (true, None, _, _) | (_, _, true, None) => return None,
            (true, Some(HandedOver), true, _) => return None,
            found => return Some(Err(format!("nobody serves, or both do: {found:?}, {:?}", self.log))),
        };
        Some(Ok(end))
    }

    fn taken(&mut self) -> Option<Box<Proxy>> {
        self.new.proxy.take().map(Box::new)
    }

    // --- the world ----------------------------------------------------------------------------------------------

    fn arrival(&mut self, now: Time) -> Time {
        now + Duration::from_micros(self.random.below(self.plan.latency.as_micros() as u64))
    }

    fn tell_old(&mut self, now: Time, letter: Letter) {
        let at = self.arrival(now);
        self.old.inbox.send(at, letter);
    }

    fn tell_new(&mut self, now: Time, letter: Letter) {
        let at = self.arrival(now);
        self.new.inbox.send(at, letter);
    }

    fn count_move(&mut self, proxy: &mut Proxy, now: Time) {
        self.moves += 1;
        if self.moves != self.plan.after {
            return;
        }
        self.log.push(format!("{:?}", self.plan.fault));
        match self.plan.fault {
            // The death of whoever serves alone is none of an upgrade.
            Fault::OldDies if self.word == Decision::Old || !self.new.lives => {}
            Fault::NewDies if self.new.side.may_touch() => {}
            Fault::OldDies => {
                self.old.lives = false;
                // It may have died before it said all that it did.
                let said = self.random.index(self.new.inbox.0.len() + 1);
                self.new.inbox.0.truncate(said);
                // All that it had open.
                self.old.lent.clear();
                self.old.frozen.clear();
                (self.old.lending, self.old.resting) = (None, None);
                proxy.kill();
                self.tell_new(now, Letter::Ended);
            }
            Fault::NewDies => self.kill_new(now),
            Fault::OldHangs(time) => self.old.hangs_until = now + time,
            Fault::NewHangs(time) => self.new.hangs_until = now + time,
            Fault::OldFails => self.old.events.push_front(OldEvent::Failed),
            Fault::NewFails => self.new.events.push_front(NewEvent::Failed),
            Fault::Cancelled => self.cancel(),
            Fault::NewIsOlder | Fault::NewDiesServing(_) => {}
        }
    }

    fn kill_new(&mut self, now: Time) {
        if std::mem::replace(&mut self.new.lives, false) {
            let New { proxy, sessions, listeners, inbox, .. } = &mut self.new;
            if let Some(proxy) = proxy {
                proxy.kill();
            }
            *proxy = None;
            sessions.clear();
            listeners.clear();
            // What was on its way is closed with the channel.
            inbox.0.clear();
            self.tell_old(now, Letter::Ended);
        }
    }

    fn decide(&mut self, wanted: Decision) -> Decision {
        if self.word == Decision::Undecided {
            self.word = wanted;
        }
        self.word
    }

    // --- the old process ------------------------------------------------------------------------------------------

    fn next_of_old(&mut self, proxy: &Proxy, now: Time) -> Option<OldEvent> {
        let old = &mut self.old;
        if let Some(event) = old.events.pop_front() {
            return Some(event);
        }
        if let Some(lending) = &old.lending {
            let lent: Vec<_> = lending.try_iter().collect();
            for of_worker in lent {
                old.rested += 1;
                match of_worker {
                    Ok(lent) => old.lent.extend(lent),
                    Err(_) => return Some(OldEvent::Failed),
                }
            }
            if old.rested < proxy.mailers().len() {
                return None;
            }
            (old.lending, old.rested) = (None, 0);
            return Some(OldEvent::Done(OldWork::SendAhead));
        }
        if let Some(resting) = &old.resting {
            for Rested { worker, next_number, taken } in resting.try_iter() {
                old.rested += 1;
                old.next_number = old.next_number.max(next_number);
                let clients = taken.sessions.iter().filter_map(|session| {
                    Some((number_of(&session.facts().client)?, session.backend().is_some()))
                });
                self.frozen_clients.extend(clients);
                old.frozen.push((worker, taken.sessions));
            }
            if old.rested < proxy.mailers().len() {
                return None;
            }
            old.resting = None;
            return Some(OldEvent::Done(OldWork::Freeze));
        }
        match old.inbox.take(now) {
            Some(Letter::Word(Step::Refuse)) => Some(OldEvent::Failed),
            Some(Letter::Word(step)) => Some(OldEvent::Said(step)),
            Some(Letter::Prepared { refused }) => {
                old.refused = refused.into_iter().collect();
                Some(OldEvent::Said(Step::Prepared))
            }
            Some(Letter::Ended) => Some(OldEvent::PeerEnded),
            Some(_) => Some(OldEvent::Failed),
            None => (old.side.awaits_peer() && now >= old.deadline).then_some(OldEvent::Silent),
        }
    }

    fn act_old(&mut self, action: OldAction, proxy: &mut Proxy, now: Time) {
        self.log.push(format!("old {action:?}"));
        match action {
            OldAction::Say(Step::Ahead) => {
                let state = State::of(&proxy.snapshot());
                let state = serde_json::to_vec(&state).expect("plain data");
                self.send_listeners(proxy, now);
                self.tell_new(now, Letter::Ahead(state));
            }
            OldAction::Say(Step::State) => {
                let allowances = allowances_of(&proxy.snapshot(), now);
                let allowances = serde_json::to_vec(&allowances).expect("plain data");
                let (sessions, next_number) = (self.old.sent, self.old.next_number);
                self.tell_new(now, Letter::State { sessions, next_number, allowances });
            }
            OldAction::Say(step) => {
                if step == Step::Go {
                    self.old.deadline = now + UNTIL_SERVING;
                }
                self.tell_new(now, Letter::Word(step));
            }
            OldAction::Do(OldWork::SendAhead) => {
                let (reply, lending) = mpsc::channel();
                proxy.tell(&WorkerMail::Lend(reply));
                self.old.lending = Some(lending);
            }
            OldAction::Do(OldWork::Freeze) => {
                let (reply, resting) = mpsc::channel();
                proxy.tell(&WorkerMail::Rest(reply));
                self.old.resting = Some(resting);
            }
            OldAction::Do(OldWork::SendState) => {
                self.old.deadline = now + UNTIL_PREPARED;
                self.send_sessions(now);
                self.old.events.push_front(OldEvent::Done(OldWork::SendState));
            }
            OldAction::Decide => {
                // Long enough for a sign of life, or of death.
                self.old.deadline = now + UNTIL_SERVING;
                let decision = self.decide(Decision::Old);
                self.old.events.push_front(OldEvent::Decided(decision));
            }
            OldAction::Kill => self.kill_new(now),
            OldAction::Resume => {
                // Nobody has looked yet at what it froze before it hung.
                let resting = self.old.resting.take().into_iter();
                let rested = resting.flat_map(|resting| resting.try_iter().collect::<Vec<_>>());
                self.old.frozen.extend(rested.map(|rested| (rested.worker, rested.taken.sessions)));
                self.give_back(proxy, WorkerMail::PutIn);
                proxy.tell(&WorkerMail::Resume);
            }
            OldAction::TakeBack => {
                self.give_back(proxy, WorkerMail::Cut);
                proxy.tell(&WorkerMail::Resume);
                proxy.tell(&WorkerMail::LookAgain);
            }
            OldAction::LetGo => self.let_go(proxy),
        }
    }

    fn send_listeners(&mut self, proxy: &Proxy, now: Time) {
        let snapshot = proxy.snapshot();
        let mut places = HashMap::new();
        for app in snapshot.apps() {
            for (index, frontend) in app.frontends().iter().enumerate() {
                places.insert(Arc::as_ptr(frontend), (Arc::clone(app.name()), index));
            }
        }
        let lent = std::mem::take(&mut self.old.lent).into_iter();
        // Whatever is of no app any more is being closed.
        let keyed = lent.filter_map(|LentListener { frontend, listener }| {
            Some((places.get(&Arc::as_ptr(&frontend)).cloned()?, listener))
        });
        let keyed = keyed.collect();
        self.tell_new(now, Letter::Listeners(keyed));
    }

    /// Sends all that the new process can read, in messages of a few.
    fn send_sessions(&mut self, now: Time) {
        let version = self.old.version;
        let mut frozen = std::mem::take(&mut self.old.frozen);
        let (mut records, mut sockets) = (Vec::new(), Vec::new());
        for session in frozen.iter_mut().flat_map(|(_, sessions)| sessions) {
            session.share();
            if !can_be_sent(session, version) {
                continue;
            }
            let (backend, routed) = (session.backend(), session.routed());
            let parts = RecordParts {
                facts: session.facts(),
                routed: &routed,
                client: end_of(session.client()),
                backend: backend.map(end_of),
                allowance: session.allowance(),
            };
            record::write(version, parts, &mut records);
            let ends = std::iter::once(session.client()).chain(backend);
            sockets.extend(ends.map(|end| end.duplicate().expect("a simulated socket can always be copied")));
            self.old.sent += 1;
            if self.random.chance(0.2) {
                let (records, sockets) = (std::mem::take(&mut records), std::mem::take(&mut sockets));
                self.tell_new(now, Letter::Sessions { records, sockets });
            }
        }
        if !records.is_empty() {
            self.tell_new(now, Letter::Sessions { records, sockets });
        }
        self.old.frozen = frozen;
    }

    /// Every worker gets back what it had.
    fn give_back(&mut self, proxy: &Proxy, mail: fn(Parcel<Arrivals>) -> WorkerMail) {
        for (worker, sessions) in self.old.frozen.drain(..) {
            let parcel = Parcel::new(Arrivals::new(sessions, ()));
            proxy.mailers()[worker as usize].send(mail(parcel));
        }
    }

    /// What crossed is the other process's; what that one refused goes on here.
    fn let_go(&mut self, proxy: &mut Proxy) {
        let mut place = 0;
        let (version, refused) = (self.old.version, std::mem::take(&mut self.old.refused));
        for (worker, sessions) in std::mem::take(&mut self.old.frozen) {
            let mut kept = Vec::new();
            for session in sessions {
                let is_sent = can_be_sent(&session, version);
                if is_sent && !refused.contains_key(&place) {
                    session.let_go(proxy.admission());
                } else {
                    kept.push(session);
                }
                place += u64::from(is_sent);
            }
            let parcel = Parcel::new(Arrivals::new(kept, ()));
            proxy.mailers()[worker as usize].send(WorkerMail::PutIn(parcel));
        }
        proxy.leave();
    }

    // --- the new process --------------------------------------------------------------------------------------------

    fn next_of_new(&mut self, now: Time) -> Option<NewEvent> {
        if let Some(event) = self.new.events.pop_front() {
            return Some(event);
        }
        let new = &mut self.new;
        let event = loop {
            break match new.inbox.take(now) {
                Some(Letter::Word(step)) => NewEvent::Said(step),
                Some(Letter::Ended) => NewEvent::PeerEnded,
                Some(Letter::Listeners(keyed)) => {
                    for (key, listener) in keyed {
                        new.listeners.entry(key).or_default().push(listener);
                    }
                    continue;
                }
                Some(Letter::Ahead(state)) => match new.take_state(&state) {
                    true => NewEvent::Said(Step::Ahead),
                    false => NewEvent::Failed,
                },
                Some(Letter::Sessions { records, sockets }) => match new.take_sessions(&records, sockets) {
                    true => continue,
                    false => NewEvent::Failed,
                },
                Some(Letter::State { sessions, next_number, allowances }) => {
                    (new.named, new.next_number) = (sessions, next_number);
                    let records: Option<Vec<AllowanceRecord>> = serde_json::from_slice(&allowances).ok();
                    match (records, &new.proxy) {
                        (Some(records), Some(heir)) => {
                            restore_allowances(&records, &heir.snapshot());
                            NewEvent::Said(Step::State)
                        }
                        _ => NewEvent::Failed,
                    }
                }
                Some(Letter::Prepared { .. }) => NewEvent::Failed,
                None if new.side.awaits_peer() && now >= new.deadline => NewEvent::Silent,
                None => return None,
            };
        };
        self.new.deadline = now + PATIENCE_OF_NEW;
        Some(event)
    }

    fn act_new(&mut self, action: NewAction, proxy: &Proxy, now: Time) {
        self.log.push(format!("new {action:?}"));
        match action {
            NewAction::Say(Step::Prepared) => {
                let refused = std::mem::take(&mut self.new.refused);
                self.tell_old(now, Letter::Prepared { refused });
            }
            NewAction::Say(step) => match self.plan.fault {
                Fault::NewDiesServing(after) if step == Step::Serving && self.old.lives => {
                    self.new.dies_at = Some(now + after);
                }
                _ => self.tell_old(now, Letter::Word(step)),
            },
            NewAction::Do(NewWork::Start) => {
                self.new.proxy = Some(proxy.heir(self.plan.workers, self.plan.seed));
                self.new.events.push_back(NewEvent::Done(NewWork::Start));
            }
            NewAction::Do(NewWork::Rebuild) => {
                let New { sessions, refused, named, .. } = &self.new;
                self.new.events.push_back(match (sessions.len() + refused.len()) as u64 == *named {
                    true => NewEvent::Done(NewWork::Rebuild),
                    false => NewEvent::Failed,
                });
            }
            NewAction::Decide => {
                let decision = self.decide(Decision::New);
                self.new.events.push_front(NewEvent::Decided(decision));
            }
            NewAction::Serve | NewAction::ServeAfresh => {
                if self.new.proxy.is_none() {
                    // It was never told what is served, and reads its own file.
                    self.new.proxy = Some(proxy.heir(self.plan.workers, self.plan.seed));
                }
                let sessions = self.new.sessions.iter();
                self.taken_clients.extend(sessions.filter_map(|session| number_of(&session.facts().client)));
                self.new.wake();
            }
            NewAction::Withdraw => self.kill_new(now),
        }
    }
}

impl Old {
    /// Whether it looks at its letters: it does nothing else meanwhile.
    fn waits(&self) -> bool {
        self.lending.is_none() && self.resting.is_none()
    }
}

impl New {
    fn take_state(&mut self, state: &[u8]) -> bool {
        let (Ok(state), Some(heir)) = (serde_json::from_slice::<State>(state), &mut self.proxy) else {
            return false;
        };
        let snapshot = heir.snapshot();
        state.restore(&snapshot);
        heir.refresh();
        self.homes = Some(Homes::new(&snapshot, Arc::clone(heir.admission())));
        true
    }

    fn take_sessions(&mut self, records: &[u8], sockets: Vec<ExportedConnection>) -> bool {
        let Some(homes) = &mut self.homes else { return false };
        let mut sockets = sockets.into_iter();
        let mut end = |state: EndState| {
            let mut exported = sockets.next()?;
            (exported.received, exported.queued) = (state.received, state.queued);
            (exported.ended, exported.shut) = (state.ended, state.shut);
            Some(exported)
        };
        let mut rest = records;
        while !rest.is_empty() {
            let Some((Ok(found), following)) = record::read(rest) else { return false };
            rest = following;
            let Some(client) = end(found.client) else { return false };
            let backend = match found.backend.map(&mut end) {
                Some(None) => return false,
                Some(backend) => backend,
                None => None,
            };
            let place = (self.sessions.len() + self.refused.len()) as u64;
            let ends = (client, backend);
            match MovedSession::arrive(found.facts, &found.routed, found.allowance, ends, homes) {
                Ok(session) => self.sessions.push(session),
                Err(why) => self.refused.push((place, why)),
            }
        }
        sockets.next().is_none()
    }

    /// Has the workers serve, each with its share.
    fn wake(&mut self) {
        let Some(heir) = &mut self.proxy else { return };
        let snapshot = heir.snapshot();
        let workers = heir.mailers().len();
        let mut shares: Vec<Vec<LentListener>> = (0..workers).map(|_| Vec::new()).collect();
        for app in snapshot.apps() {
            for (index, frontend) in app.frontends().iter().enumerate() {
                let key = (Arc::clone(app.name()), index);
                let listeners = self.listeners.remove(&key).unwrap_or_default();
                for (turn, listener) in listeners.into_iter().enumerate() {
                    let frontend = Arc::clone(frontend);
                    shares[turn % workers].push(LentListener { frontend, listener });
                }
            }
        }
        // Of apps that this process does not have.
        self.listeners.clear();
        let mut sessions: Vec<Vec<MovedSession>> = (0..workers).map(|_| Vec::new()).collect();
        for (turn, session) in self.sessions.drain(..).enumerate() {
            sessions[turn % workers].push(session);
        }
        let mut outliers = outliers_of(&snapshot);
        let (awake, _) = mpsc::channel();
        let each = shares.into_iter().zip(sessions);
        for (mailer, (listeners, sessions)) in heir.mailers().iter().zip(each) {
            let outliers = std::mem::take(&mut outliers);
            let (next_number, awake) = (self.next_number, awake.clone());
            let (progress, is_whole) = (Vec::new(), true);
            let legacy = Legacy { listeners, sessions, progress, is_whole, next_number, outliers, awake };
            mailer.send(WorkerMail::Wake(Parcel::new(legacy)));
        }
        heir.start_checks();
    }
}

fn can_be_sent(session: &MovedSession, version: u16) -> bool {
    record::has_phase(version, session.facts().session.phase)
}

fn end_of(end: &ExportedConnection) -> record::End<'_> {
    record::End { received: &end.received, queued: &end.queued, ended: end.ended, shut: end.shut }
}
