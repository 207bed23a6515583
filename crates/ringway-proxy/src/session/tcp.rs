//! The states of one proxied TCP (or Unix) connection. Pure: events and `now` in, [`Action`]s out.
//!
//! ```text
//! AwaitingAdmission ─admitted─▶ AwaitingChoice ─chosen─▶ AwaitingConnect ─connected─▶ Relaying ─▶ Ended
//!        │ PROXY header due           ▲ │                      │                         │
//!        └──────▶ AwaitingPreface ────┤ │                      │                         │
//!              routes AwaitingRoute ───┤                        │                         │ timeout, shutdown
//!                TLS AwaitingHandshake ─┘                        │                         │
//!                                     ├──── dial failed ───────┤                 AwaitingRelayEnd ─▶ Ended
//!                                     └─ AwaitingDescriptors ◀─┘
//! ```
//! Where all backends are full and there is a queue, `AwaitingRoom` lies between the first choice and the first dial.
//! From each state that lasts it can be frozen (`moving`), to go on in another worker.
//!
//! One timer serves all limits. It is set again only when a limit may pass *sooner* than it fires; where the limit
//! moved away it fires, finds that nothing is due, and is set anew. So bytes that flow cost no timer work at all.

use std::time::Duration;

use ringway::{RelayProgress, Time};

use super::{CloseReason, Ending, Peer, Phase};
use crate::endpoint::DialFailure;
use crate::model;

mod entrance;
mod moving;
mod room;

pub use moving::{FrozenPhase, FrozenSession};

/// Pause before another try when dialling found no descriptor or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// One proxied connection.
#[derive(Clone, Debug)]
pub struct Session {
    identity: Identity,
    accepted: Time,
    /// From the accept to the first dial.
    queue_micros: u32,
    /// While it waits for its header, or for room: from the accept to the begin of that. While dialling: from the accept to
    /// the start of this dial. After: from the first dial to the connection.
    connect_micros: u32,
    state: State,
    /// It was let in, so that its app counts it.
    has_entered: bool,
}

/// Which connection it is, for the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The client's address.
    pub peer: Peer,
    /// Place of the frontend among those of its worker.
    pub frontend: u32,
    /// Number among the connections of its worker.
    pub number: u32,
}

// The engine keeps 80 bytes for an idle relayed connection, the whole budget is 160, and the shell adds 24 here.
const _: () = assert!(size_of::<Session>() <= 48);

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitingAdmission,
    /// The first bytes of the client must say for whom it connects.
    AwaitingPreface,
    /// The app's limits are looked at.
    AwaitingEntry,
    /// The first bytes of the client must say where it goes. `may_be_silent`: it may turn out that it waits for the
    /// server to speak first.
    AwaitingRoute {
        may_be_silent: bool,
    },
    /// Its hello is read, and the handshake of TLS goes on until its route can be found.
    AwaitingHandshake,
    AwaitingChoice {
        attempts: u8,
        last: Option<DialFailure>,
    },
    /// All endpoints are full: it waits in the line of its app, or was called and is being answered.
    AwaitingRoom,
    AwaitingConnect {
        attempts: u8,
        sources_left: u8,
    },
    /// Dialling found no descriptor or memory: another try follows, for as long as one dial may take.
    AwaitingDescriptors {
        attempts: u8,
    },
    Relaying {
        half_closed: bool,
    },
    AwaitingRelayEnd(CloseReason),
    Ended,
    /// Its connections leave this worker, or have just come.
    Frozen(FrozenPhase),
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The limit on connections is reached: it has to wait.
    MustWait,
    /// It may go on.
    Admitted,
    /// A PROXY header is to be read first.
    PrefaceDue,
    /// It was read, or there is none to be read.
    PrefaceRead,
    /// The app's limits let it in.
    Entered,
    /// The client's first bytes are to be looked at, to find its route.
    RouteDue,
    /// Its TLS ends here: the handshake has to be over first.
    HandshakeDue,
    /// Its route is known.
    Routed,
    /// More has to come before its route is known.
    RoutePending,
    /// It is turned away.
    Refused(CloseReason),
    /// An endpoint was chosen and reserved. `sources`: how many local addresses it can be dialled from.
    Chosen {
        /// At least one, the system's choice counted as one.
        sources: u8,
    },
    /// No endpoint is available that was not tried before.
    NoneAvailable,
    /// Of the endpoints that are available and were not tried none has room.
    AllFull,
    /// It is in the line of those that wait for room.
    Queued,
    /// It is called: there may be room.
    RoomMade,
    /// The backend's connection is established.
    Connected,
    /// And TLS on it, where it has to be.
    BackendSecured,
    /// The backend's connection could not be established.
    DialFailed(DialFailure),
    /// The client, who is watched until bytes flow, left or finished sending.
    ClientLeft {
        /// It reset the connection.
        reset: bool,
        /// Bytes of it wait to be read.
        unread: bool,
    },
    /// The client's connection broke before it could be relayed, and is gone.
    ClientLost {
        /// By a reset; else the kernel gave it up.
        reset: bool,
    },
    /// The backend's connection broke after it was established and before it could be relayed, and is gone.
    BackendLost {
        /// By a reset; else the kernel gave it up.
        reset: bool,
    },
    /// The session's timer came due; how far the relay is, if there is one.
    TimerFired(RelayProgress),
    /// One side finished sending, and the other was told.
    HalfClosed,
    /// The relay is over, and both connections are gone.
    RelayEnded(RelayOutcome),
    /// It is to be closed now, whatever it is doing.
    Close(Ending),
}

/// What a connection does at a moment, for whoever looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits below the connection limit, or for its PROXY header.
    Waiting,
    /// It waits for a backend with room.
    Queued,
    /// Its backend is chosen and dialled.
    Connecting,
    /// Bytes may flow.
    Relaying,
    /// One side has finished sending.
    HalfClosed,
    /// It was told to end.
    Closing,
}

impl Stage {
    /// The word for people and for JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Connecting => "connecting",
            Self::Relaying => "relaying",
            Self::HalfClosed => "half_closed",
            Self::Closing => "closing",
        }
    }
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayOutcome {
    /// Both sides finished, the client first.
    ClientFinished,
    /// Both sides finished, the backend first.
    BackendFinished,
    /// The client reset it.
    ClientReset,
    /// The backend reset it.
    BackendReset,
    /// The kernel gave the client up.
    ClientFailed,
    /// The kernel gave the backend up.
    BackendFailed,
    /// The client's connection ended within its stream of TLS.
    ClientCutShort,
    /// The backend's connection ended within its stream of TLS.
    BackendCutShort,
    /// The client broke the rules of TLS, or said that this end did.
    ClientTlsFailed,
    /// The backend broke the rules of TLS, or said that this end did.
    BackendTlsFailed,
    /// It was cut as told.
    Cut,
}

/// What is to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell when the client leaves.
    WatchClient,
    /// See whether a PROXY header is to be read; answer with `PrefaceDue`, `PrefaceRead` or `Refused`.
    Inspect,
    /// Look at the client's first bytes until they say enough; answer with `PrefaceRead` or `Refused`.
    StartPreface,
    /// The time for the header is over; answer with `PrefaceRead` or `Refused`.
    EndPreface,
    /// Find its route; answer with `RouteDue`, `Routed` or `Refused`.
    Route,
    /// Look at the client's first bytes until they say enough; answer with `Routed` or `Refused`.
    StartSniff,
    /// A client that has sent nothing waits for the server; answer with `Routed`, `Refused` or `RoutePending`.
    EndSilence,
    /// Check the app's limits; answer with `Entered` or `Refused`.
    Enter,
    /// Choose and reserve an endpoint that was not tried; answer with `Chosen`, `NoneAvailable` or `AllFull`.
    Choose,
    /// Join the line of those that wait for room; answer with `Queued` or `Refused`.
    JoinQueue,
    /// It was called, and there is no room: it waits on where it is.
    StayQueued,
    /// Dial the chosen endpoint, from the next local address.
    Dial,
    /// Begin TLS with the endpoint; answer with `BackendSecured` or `DialFailed`.
    SecureBackend,
    /// Take the failure of the chosen endpoint down.
    NoteFailure(DialFailure),
    /// Close the backend's connection; if it is being dialled still, that cancels the dial.
    CloseBackend,
    /// Give the reservation of the chosen endpoint back.
    Release,
    /// Join client and backend.
    StartRelay,
    /// Set the timer, in the place of the one that is set.
    SetTimer(Time),
    /// End the relay now; it answers with `RelayEnded`.
    CutRelay,
    /// Close the client's connection.
    CloseClient,
    /// It is over: cancel the timer, count, write the log line, forget the session.
    End(CloseReason),
}

/// How long things may take, and how often they may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For one dial.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
    /// Without a byte after one side finished.
    pub half_close: Option<Duration>,
    /// For the whole connection.
    pub lifetime: Option<Duration>,
    /// For a PROXY header, where clients may send one.
    pub preface: Option<Duration>,
    /// Whether there are limits on who is let in.
    pub checks_entry: bool,
    /// Whether there are several places to go to.
    pub has_routes: bool,
    /// For what says where a client goes.
    pub hello: Duration,
    /// Who has sent nothing for so long waits for the server; `None`: nobody does.
    pub silence: Option<Duration>,
    /// Whether a connection waits if all endpoints are full.
    pub has_queue: bool,
    /// For that wait.
    pub queue: Duration,
    /// Endpoints that are tried for one connection, at least one.
    pub connect_attempts: u8,
    /// Whether endpoints speak TLS.
    pub secures_backends: bool,
}

impl Limits {
    /// The limits of an app.
    pub fn of(app: &model::App) -> Self {
        let model::Timeouts { connect, idle, half_close, lifetime, handshake, sniff } = app.timeouts;
        let checks_entry = app.limits != model::Limits::default();
        let preface = (app.proxy_protocol.accept != model::AcceptHeader::Never).then_some(handshake);
        let connect_attempts = u8::try_from(app.connect_attempts).unwrap_or(u8::MAX).max(1);
        let has_queue = app.limits.queue.is_some();
        let queue = app.limits.queue_timeout;
        Self {
            connect,
            idle,
            half_close,
            lifetime,
            preface,
            checks_entry,
            has_routes: app.tls.is_some() || !app.routes.is_empty(),
            hello: handshake,
            silence: app.takes_silence().then_some(sniff),
            has_queue,
            queue,
            connect_attempts,
            secures_backends: app.backend_tls.is_some(),
        }
    }
}

/// Up to [`Actions::MAX`] actions, without allocation.
#[derive(Clone, Copy)]
pub struct Actions {
    list: [Action; Self::MAX],
    len: u8,
}

impl Actions {
    /// The most actions that one event brings about.
    pub const MAX: usize = 5;

    /// The actions, in order.
    pub fn as_slice(&self) -> &[Action] {
        &self.list[..usize::from(self.len)]
    }

    fn of(actions: &[Action]) -> Self {
        let mut all = Self { list: [Action::Choose; Self::MAX], len: 0 };
        all.extend(actions);
        all
    }

    fn extend(&mut self, actions: &[Action]) {
        let start = usize::from(self.len);
        self.list[start..start + actions.len()].copy_from_slice(actions);
        self.len += actions.len() as u8;
    }
}

impl Session {
    /// A connection that was accepted just now.
    pub fn new(identity: Identity, now: Time) -> Self {
        Self {
            identity,
            accepted: now,
            queue_micros: 0,
            connect_micros: 0,
            state: State::AwaitingAdmission,
            has_entered: false,
        }
    }

    /// Which connection it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The client is another one than the end of its connection: a PROXY header says so.
    pub fn set_peer(&mut self, peer: Peer) {
        self.identity.peer = peer;
    }

    /// Whether its first bytes are looked at for a PROXY header.
    pub fn awaits_preface(&self) -> bool {
        self.state == State::AwaitingPreface
    }

    /// Whether its first bytes are looked at to find its route.
    pub fn awaits_route(&self) -> bool {
        matches!(self.state, State::AwaitingRoute { .. })
    }

    /// Whether its handshake of TLS goes on, after which its route is found.
    pub fn awaits_handshake(&self) -> bool {
        self.state == State::AwaitingHandshake
    }

    /// It goes on by another place, which leads from the same frontend to the pool of its route.
    pub fn set_frontend(&mut self, frontend: u32) {
        self.identity.frontend = frontend;
    }

    /// Whether it is new to the endpoints: it has neither tried one nor waited for one.
    pub fn is_newcomer(&self) -> bool {
        self.state == State::AwaitingChoice { attempts: 0, last: None }
    }

    /// Whether the app's limits let it in.
    pub fn has_entered(&self) -> bool {
        self.has_entered
    }

    /// When it was accepted.
    pub fn accepted(&self) -> Time {
        self.accepted
    }

    /// From the accept to the first dial.
    pub fn queue_duration(&self) -> Duration {
        Duration::from_micros(self.queue_micros.into())
    }

    /// From the first dial to the established connection; meaningful once there was one.
    pub fn connect_duration(&self) -> Duration {
        Duration::from_micros(self.connect_micros.into())
    }

    /// Whether it waits to be admitted.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::AwaitingAdmission | State::Frozen(FrozenPhase::AwaitingAdmission))
    }

    /// Whether its connections are on their way.
    pub fn is_frozen(&self) -> bool {
        matches!(self.state, State::Frozen(_))
    }

    /// What it does now.
    pub fn stage(&self) -> Stage {
        match self.state {
            State::AwaitingAdmission
            | State::AwaitingPreface
            | State::AwaitingEntry
            | State::AwaitingRoute { .. }
            | State::AwaitingHandshake => Stage::Waiting,
            State::AwaitingRoom => Stage::Queued,
            State::AwaitingChoice { .. }
            | State::AwaitingConnect { .. }
            | State::AwaitingDescriptors { .. } => Stage::Connecting,
            State::Relaying { half_closed: false } => Stage::Relaying,
            State::Relaying { half_closed: true } => Stage::HalfClosed,
            State::AwaitingRelayEnd(_) | State::Ended => Stage::Closing,
            State::Frozen(phase) => phase.stage(),
        }
    }

    /// Whether it waits for descriptors or memory of this process.
    pub fn is_starved(&self) -> bool {
        matches!(self.state, State::AwaitingDescriptors { .. })
    }

    /// Takes in what happened and says what is to be done. What can no longer matter is ignored: events that were
    /// under way when the session moved on.
    pub fn handle(&mut self, event: Event, limits: &Limits, now: Time) -> Actions {
        match self.state {
            State::AwaitingAdmission => self.handle_awaiting_admission(event, limits),
            State::AwaitingPreface => self.handle_awaiting_preface(event, limits, now),
            State::AwaitingEntry => self.handle_awaiting_entry(event, limits),
            State::AwaitingRoute { may_be_silent } => {
                self.handle_awaiting_route(event, may_be_silent, limits, now)
            }
            State::AwaitingHandshake => self.handle_awaiting_handshake(event, limits, now),
            State::AwaitingChoice { attempts, last } => {
                self.handle_awaiting_choice(event, attempts, last, limits, now)
            }
            State::AwaitingRoom => self.handle_awaiting_room(event, limits, now),
            State::AwaitingConnect { attempts, sources_left } => {
                self.handle_awaiting_connect(event, attempts, sources_left, limits, now)
            }
            State::AwaitingDescriptors { attempts } => {
                self.handle_awaiting_descriptors(event, attempts, limits, now)
            }
            State::Relaying { half_closed } => self.handle_relaying(event, half_closed, limits, now),
            State::AwaitingRelayEnd(reason) => match event {
                Event::RelayEnded(outcome) => self.end_relay(outcome, reason),
                Event::ClientLost { .. } => self.end(&[Action::CloseBackend, Action::Release], reason),
                Event::BackendLost { .. } => self.end(&[Action::Release, Action::CloseClient], reason),
                _ => Actions::of(&[]),
            },
            State::Ended => Actions::of(&[]),
            State::Frozen(phase) => self.handle_frozen(event, phase, limits, now),
        }
    }

    fn handle_awaiting_choice(
        &mut self,
        event: Event,
        attempts: u8,
        last: Option<DialFailure>,
        limits: &Limits,
        now: Time,
    ) -> Actions {
        match event {
            Event::Chosen { sources } if last.is_none() => self.dial_first(sources, limits, now),
            Event::Chosen { sources } => {
                self.begin_dial(attempts, sources, now);
                // A timer is still set, and fires before this dial has taken too long.
                Actions::of(&[Action::Dial])
            }
            Event::AllFull if last.is_none() && limits.has_queue => self.wait_for_room(now),
            Event::AllFull => {
                let reason = last.map_or(CloseReason::BackendsFull, reason_of_failure);
                self.end(&[Action::CloseClient], reason)
            }
            Event::NoneAvailable => {
                let reason = last.map_or(CloseReason::NoBackend, reason_of_failure);
                self.end(&[Action::CloseClient], reason)
            }
            // The choice is answered before anything else can happen.
            _ => Actions::of(&[]),
        }
    }

    fn dial_first(&mut self, sources: u8, limits: &Limits, now: Time) -> Actions {
        self.begin_dial(0, sources, now);
        self.queue_micros = self.connect_micros;
        let (due, _) = self.connect_deadline(limits);
        Actions::of(&[Action::WatchClient, Action::Dial, Action::SetTimer(due)])
    }

    fn begin_dial(&mut self, attempts: u8, sources: u8, now: Time) {
        self.connect_micros = micros(now.since(self.accepted));
        self.state = State::AwaitingConnect {
            attempts: attempts.saturating_add(1),
            sources_left: sources.saturating_sub(1),
        };
    }

    fn handle_awaiting_connect(
        &mut self,
        event: Event,
        attempts: u8,
        sources_left: u8,
        limits: &Limits,
        now: Time,
    ) -> Actions {
        match event {
            // Within the time of the dial.
            Event::Connected if limits.secures_backends => Actions::of(&[Action::SecureBackend]),
            Event::Connected | Event::BackendSecured => {
                self.connect_micros = micros(now.since(self.accepted)).saturating_sub(self.queue_micros);
                self.state = State::Relaying { half_closed: false };
                let mut actions = Actions::of(&[Action::StartRelay]);
                // The timer of the dial is set still, no later than the connect timeout from now.
                if limits.idle.is_some_and(|idle| idle < limits.connect) {
                    let (due, _) = self.relay_deadline(now, false, limits).expect("the idle timeout is set");
                    actions.extend(&[Action::SetTimer(due)]);
                }
                actions
            }
            Event::DialFailed(DialFailure::SourceUnavailable) if sources_left > 0 => {
                self.state = State::AwaitingConnect { attempts, sources_left: sources_left - 1 };
                Actions::of(&[Action::Dial])
            }
            Event::DialFailed(DialFailure::Exhausted) => {
                self.state = State::AwaitingDescriptors { attempts };
                Actions::of(&[
                    Action::NoteFailure(DialFailure::Exhausted),
                    Action::Release,
                    Action::SetTimer(now + EXHAUSTED_PAUSE),
                ])
            }
            Event::DialFailed(failure) => self.after_failed_dial(&[], failure, attempts, limits),
            Event::BackendLost { .. } => self.after_failed_dial(&[], DialFailure::Reset, attempts, limits),
            Event::TimerFired(_) => match self.connect_deadline(limits) {
                (due, _) if now < due => Actions::of(&[Action::SetTimer(due)]),
                (_, Some(reason)) => {
                    self.end(&[Action::CloseBackend, Action::Release, Action::CloseClient], reason)
                }
                (_, None) => {
                    let mut actions = self.after_failed_dial(
                        &[Action::CloseBackend],
                        DialFailure::TimedOut,
                        attempts,
                        limits,
                    );
                    if actions.as_slice().last() == Some(&Action::Choose) {
                        // Nothing is set now, and the next dial counts on it.
                        let due = self.dial_deadline(limits, now);
                        actions.list[usize::from(actions.len) - 1] = Action::SetTimer(due);
                        actions.extend(&[Action::Choose]);
                    }
                    actions
                }
            },
            Event::ClientLeft { reset, unread } if reset || !unread => {
                let actions = [Action::CloseBackend, Action::Release, Action::CloseClient];
                self.end(&actions, CloseReason::ClientLeftWhileConnecting)
            }
            Event::ClientLost { reset } => {
                let reason = match reset {
                    true => CloseReason::ClientLeftWhileConnecting,
                    false => CloseReason::ClientFailedWhileConnecting,
                };
                self.end(&[Action::CloseBackend, Action::Release], reason)
            }
            Event::Close(ending) => {
                let actions = [Action::CloseBackend, Action::Release, Action::CloseClient];
                self.end(&actions, ending.reason(Phase::Connect))
            }
            _ => Actions::of(&[]),
        }
    }

    fn handle_awaiting_descriptors(
        &mut self,
        event: Event,
        attempts: u8,
        limits: &Limits,
        now: Time,
    ) -> Actions {
        match event {
            Event::TimerFired(_) => {
                let first_dial = self.accepted + self.queue_duration();
                if now >= self.dial_deadline(limits, first_dial) {
                    return self.end(&[Action::CloseClient], CloseReason::ConnectExhausted);
                }
                // The try that found no descriptor is not held against the attempts.
                let last = Some(DialFailure::Exhausted);
                self.state = State::AwaitingChoice { attempts: attempts.saturating_sub(1), last };
                Actions::of(&[Action::SetTimer(self.dial_deadline(limits, now)), Action::Choose])
            }
            Event::ClientLeft { reset, unread } if reset || !unread => {
                self.end(&[Action::CloseClient], CloseReason::ClientLeftWhileConnecting)
            }
            Event::ClientLost { reset: true } => self.end(&[], CloseReason::ClientLeftWhileConnecting),
            Event::ClientLost { reset: false } => self.end(&[], CloseReason::ClientFailedWhileConnecting),
            Event::Close(ending) => self.end(&[Action::CloseClient], ending.reason(Phase::Connect)),
            _ => Actions::of(&[]),
        }
    }

    /// No byte was sent yet, so another endpoint may be tried.
    fn after_failed_dial(
        &mut self,
        before: &[Action],
        failure: DialFailure,
        attempts: u8,
        limits: &Limits,
    ) -> Actions {
        let mut actions = Actions::of(before);
        actions.extend(&[Action::NoteFailure(failure), Action::Release]);
        if attempts < limits.connect_attempts {
            self.state = State::AwaitingChoice { attempts, last: Some(failure) };
            actions.extend(&[Action::Choose]);
        } else {
            self.state = State::Ended;
            actions.extend(&[Action::CloseClient, Action::End(reason_of_failure(failure))]);
        }
        actions
    }

    fn handle_relaying(&mut self, event: Event, half_closed: bool, limits: &Limits, now: Time) -> Actions {
        match event {
            Event::HalfClosed if !half_closed => {
                self.state = State::Relaying { half_closed: true };
                match self.relay_deadline(now, true, limits) {
                    Some((due, _)) => Actions::of(&[Action::SetTimer(due)]),
                    None => Actions::of(&[]),
                }
            }
            // Counted from the last byte. After a half-close the timer was set at that very moment, so that it never
            // fires before the limit has passed since then, either.
            Event::TimerFired(progress) => {
                match self.relay_deadline(progress.last_activity, half_closed, limits) {
                    None => Actions::of(&[]),
                    Some((due, _)) if now < due => Actions::of(&[Action::SetTimer(due)]),
                    Some((_, reason)) => self.cut(reason),
                }
            }
            Event::RelayEnded(outcome) => self.end_relay(outcome, CloseReason::Shutdown),
            // One connection broke just before the relay began, which is why there is none.
            Event::ClientLost { reset } => {
                let reason = if reset { CloseReason::ClientReset } else { CloseReason::ClientFailed };
                self.end(&[Action::CloseBackend, Action::Release], reason)
            }
            Event::BackendLost { reset } => {
                let reason = if reset { CloseReason::BackendReset } else { CloseReason::BackendFailed };
                self.end(&[Action::Release, Action::CloseClient], reason)
            }
            Event::Close(ending) => self.cut(ending.reason(Phase::Relay)),
            _ => Actions::of(&[]),
        }
    }

    fn cut(&mut self, reason: CloseReason) -> Actions {
        self.state = State::AwaitingRelayEnd(reason);
        Actions::of(&[Action::CutRelay])
    }

    /// `cut`: why it was cut, if it was. A relay may have ended by itself before the cut came.
    fn end_relay(&mut self, outcome: RelayOutcome, cut: CloseReason) -> Actions {
        let reason = match outcome {
            RelayOutcome::ClientFinished => CloseReason::ClientFinished,
            RelayOutcome::BackendFinished => CloseReason::BackendFinished,
            RelayOutcome::ClientReset => CloseReason::ClientReset,
            RelayOutcome::BackendReset => CloseReason::BackendReset,
            RelayOutcome::ClientFailed => CloseReason::ClientFailed,
            RelayOutcome::BackendFailed => CloseReason::BackendFailed,
            RelayOutcome::ClientCutShort => CloseReason::ClientCutShort,
            RelayOutcome::BackendCutShort => CloseReason::BackendCutShort,
            RelayOutcome::ClientTlsFailed => CloseReason::ClientTlsFailed,
            RelayOutcome::BackendTlsFailed => CloseReason::BackendTlsFailed,
            RelayOutcome::Cut => cut,
        };
        self.end(&[Action::Release], reason)
    }

    fn end(&mut self, before: &[Action], reason: CloseReason) -> Actions {
        self.state = State::Ended;
        let mut actions = Actions::of(before);
        actions.extend(&[Action::End(reason)]);
        actions
    }

    /// When this dial has taken too long; with the reason if it is then the connection's age that ends it.
    fn connect_deadline(&self, limits: &Limits) -> (Time, Option<CloseReason>) {
        let dial = self.accepted + Duration::from_micros(self.connect_micros.into()) + limits.connect;
        match limits.lifetime.map(|lifetime| self.accepted + lifetime) {
            Some(lifetime) if lifetime <= dial => (lifetime, Some(CloseReason::LifetimeWhileConnecting)),
            _ => (dial, None),
        }
    }

    /// When a dial that starts at `start` has taken too long, or the connection is too old.
    fn dial_deadline(&self, limits: &Limits, start: Time) -> Time {
        let dial = start + limits.connect;
        limits.lifetime.map_or(dial, |lifetime| dial.min(self.accepted + lifetime))
    }

    /// When the first limit of a relay passes, counted from `since` where silence counts; and which it is.
    fn relay_deadline(&self, since: Time, half_closed: bool, limits: &Limits) -> Option<(Time, CloseReason)> {
        let silence = |limit: Option<Duration>, reason| limit.map(|limit| (since + limit, reason));
        [
            limits.lifetime.map(|lifetime| (self.accepted + lifetime, CloseReason::Lifetime)),
            silence(limits.half_close.filter(|_| half_closed), CloseReason::HalfClose),
            silence(limits.idle, CloseReason::Idle),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(due, _)| *due)
    }
}

/// Why a connection ends whose last dial failed like this.
fn reason_of_failure(failure: DialFailure) -> CloseReason {
    match failure {
        DialFailure::Refused => CloseReason::ConnectRefused,
        DialFailure::TimedOut => CloseReason::ConnectTimedOut,
        DialFailure::Unreachable => CloseReason::ConnectUnreachable,
        DialFailure::Reset => CloseReason::ConnectReset,
        DialFailure::NotFound => CloseReason::ConnectNotFound,
        DialFailure::Tls => CloseReason::ConnectTlsFailed,
        DialFailure::SourceUnavailable => CloseReason::SourceUnavailable,
        DialFailure::Exhausted => CloseReason::ConnectExhausted,
        DialFailure::Other => CloseReason::ConnectFailed,
    }
}

/// Whole microseconds; what is longer than 71 minutes counts as that.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;
