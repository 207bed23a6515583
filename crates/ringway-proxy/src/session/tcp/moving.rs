//! From one worker to another, or to another process: a session freezes, is plain data on its way, and thaws.
//!
//! While it is frozen its connections are taken out of the engine. Nothing but their loss reaches it then: what else
//! happens is found again where it thaws. A dial does not travel; another one to the same endpoint follows.

use std::time::Duration;

use ringway::Time;

use super::{Action, Actions, EXHAUSTED_PAUSE, Event, Identity, Limits, Session, Stage, State, micros};
use crate::session::CloseReason;

/// What a session is apart from the worker that it lives in. Moments are those of the process's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrozenSession {
    /// When it was accepted.
    pub accepted: Time,
    /// From the accept to the first dial.
    pub queue_micros: u32,
    /// From the first dial to the connection; before, what its phase makes of it.
    pub connect_micros: u32,
    /// What it waits for.
    pub phase: FrozenPhase,
    /// It was let in, so that its app counts it.
    pub has_entered: bool,
}

/// What a frozen session goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrozenPhase {
    /// It waits below the limit on connections.
    AwaitingAdmission,
    /// The client's first bytes are looked at; they are with the kernel.
    AwaitingPreface,
    /// The client's first bytes are looked at for its route; they are with the kernel.
    AwaitingRoute {
        /// It may turn out that it waits for the server to speak first.
        may_be_silent: bool,
    },
    /// It waits for a backend with room. Whether it was called is not known: it looks anew.
    AwaitingRoom,
    /// The endpoint is dialled anew.
    AwaitingConnect {
        /// Endpoints that were tried, the one included that is not dialled to the end.
        attempts: u8,
    },
    /// It waits for descriptors or memory.
    AwaitingDescriptors {
        /// Endpoints that were tried.
        attempts: u8,
    },
    /// Bytes flow.
    Relaying {
        /// One side has finished sending.
        half_closed: bool,
    },
}

impl FrozenPhase {
    /// Whether it has a backend's connection.
    pub fn has_backend(self) -> bool {
        matches!(self, Self::Relaying { .. })
    }

    /// Whether it has a place in the count of its endpoint.
    pub fn holds_endpoint(self) -> bool {
        matches!(self, Self::Relaying { .. } | Self::AwaitingConnect { .. })
    }

    /// Whether it counts against the limit on connections.
    pub fn is_admitted(self) -> bool {
        self != Self::AwaitingAdmission
    }

    /// What it was doing.
    pub fn stage(self) -> Stage {
        match self {
            Self::AwaitingAdmission | Self::AwaitingPreface | Self::AwaitingRoute { .. } => Stage::Waiting,
            Self::AwaitingRoom => Stage::Queued,
            Self::AwaitingConnect { .. } | Self::AwaitingDescriptors { .. } => Stage::Connecting,
            Self::Relaying { half_closed: false } => Stage::Relaying,
            Self::Relaying { half_closed: true } => Stage::HalfClosed,
        }
    }
}

impl Session {
    /// The session that `frozen` is from now on.
    pub fn of(frozen: FrozenSession, identity: Identity) -> Self {
        let FrozenSession { accepted, queue_micros, connect_micros, phase, has_entered } = frozen;
        let state = State::Frozen(phase);
        Self { identity, accepted, queue_micros, connect_micros, state, has_entered }
    }

    /// What it is, if it is frozen.
    pub fn frozen(&self) -> Option<FrozenSession> {
        let State::Frozen(phase) = self.state else { return None };
        let Self { accepted, queue_micros, connect_micros, has_entered, .. } = *self;
        Some(FrozenSession { accepted, queue_micros, connect_micros, phase, has_entered })
    }

    /// What it would be if it froze now, if bytes flow.
    pub fn as_if_frozen(&self) -> Option<FrozenSession> {
        let State::Relaying { half_closed } = self.state else { return None };
        let Self { accepted, queue_micros, connect_micros, has_entered, .. } = *self;
        let phase = FrozenPhase::Relaying { half_closed };
        Some(FrozenSession { accepted, queue_micros, connect_micros, phase, has_entered })
    }

    /// Whether it is frozen, and one side has finished sending.
    pub fn is_half_closed(&self) -> bool {
        matches!(self.state, State::Frozen(FrozenPhase::Relaying { half_closed: true }))
    }

    /// Stops here, and says what is to be done before its connections leave; `None` if it is at its end, or frozen.
    pub fn freeze(&mut self) -> Option<Actions> {
        let (phase, actions) = match self.state {
            State::AwaitingAdmission => (FrozenPhase::AwaitingAdmission, Actions::of(&[])),
            State::AwaitingPreface => (FrozenPhase::AwaitingPreface, Actions::of(&[])),
            State::AwaitingRoute { may_be_silent } => {
                (FrozenPhase::AwaitingRoute { may_be_silent }, Actions::of(&[]))
            }
            State::AwaitingRoom => (FrozenPhase::AwaitingRoom, Actions::of(&[])),
            State::AwaitingConnect { attempts, .. } => {
                (FrozenPhase::AwaitingConnect { attempts }, Actions::of(&[Action::CloseBackend]))
            }
            State::AwaitingDescriptors { attempts } => {
                (FrozenPhase::AwaitingDescriptors { attempts }, Actions::of(&[]))
            }
            State::Relaying { half_closed } => (FrozenPhase::Relaying { half_closed }, Actions::of(&[])),
            // It is over within moments.
            State::AwaitingHandshake => return None,
            // The first two are answered before anything else can happen.
            State::AwaitingEntry
            | State::AwaitingChoice { .. }
            | State::AwaitingRelayEnd(_)
            | State::Ended
            | State::Frozen(_) => return None,
        };
        self.state = State::Frozen(phase);
        Some(actions)
    }

    /// Goes on where it is now. A relay has been started again, in which bytes moved last at `last_activity`.
    pub fn thaw(&mut self, last_activity: Time, limits: &Limits, now: Time) -> Actions {
        let State::Frozen(phase) = self.state else { return Actions::of(&[]) };
        match phase {
            FrozenPhase::AwaitingAdmission => {
                self.state = State::AwaitingAdmission;
                Actions::of(&[Action::WatchClient])
            }
            FrozenPhase::AwaitingPreface => {
                self.state = State::AwaitingPreface;
                // An app that takes no headers any more waits for this one still.
                let time = limits.preface.unwrap_or(limits.connect);
                let since = self.accepted + Duration::from_micros(self.connect_micros.into());
                Actions::of(&[Action::StartPreface, Action::SetTimer(since + time)])
            }
            FrozenPhase::AwaitingRoute { may_be_silent } => {
                // What it has sent is looked at again, and until then it is not to be taken for silent.
                let silence = limits.silence.filter(|_| may_be_silent);
                self.state = State::AwaitingRoute { may_be_silent: silence.is_some() };
                let deadline = self.hello_deadline(limits);
                let due = silence.map_or(deadline, |silence| deadline.min(now + silence));
                Actions::of(&[Action::StartSniff, Action::SetTimer(due)])
            }
            FrozenPhase::AwaitingRoom => {
                self.state = State::AwaitingRoom;
                let due = self.room_deadline(limits);
                Actions::of(&[Action::WatchClient, Action::SetTimer(due), Action::Choose])
            }
            FrozenPhase::AwaitingConnect { attempts } => {
                self.state = State::AwaitingConnect { attempts, sources_left: 0 };
                // A new dial has all its time: what is dialled is not to be blamed for the move.
                self.connect_micros = micros(now.since(self.accepted));
                let (due, _) = self.connect_deadline(limits);
                Actions::of(&[Action::WatchClient, Action::Dial, Action::SetTimer(due)])
            }
            FrozenPhase::AwaitingDescriptors { attempts } => {
                self.state = State::AwaitingDescriptors { attempts };
                Actions::of(&[Action::WatchClient, Action::SetTimer(now + EXHAUSTED_PAUSE)])
            }
            FrozenPhase::Relaying { half_closed } => {
                self.state = State::Relaying { half_closed };
                match self.relay_deadline(last_activity, half_closed, limits) {
                    Some((due, _)) => Actions::of(&[Action::SetTimer(due)]),
                    None => Actions::of(&[]),
                }
            }
        }
    }

    pub(super) fn handle_frozen(
        &mut self,
        event: Event,
        phase: FrozenPhase,
        limits: &Limits,
        now: Time,
    ) -> Actions {
        match (phase, event) {
            (FrozenPhase::Relaying { .. }, Event::HalfClosed) => {
                // Its limit is set when it thaws.
                self.state = State::Frozen(FrozenPhase::Relaying { half_closed: true });
                Actions::of(&[])
            }
            // The relay ended before it could be stopped; or one end broke after it was.
            (FrozenPhase::Relaying { .. }, Event::RelayEnded(outcome)) => {
                self.end_relay(outcome, CloseReason::Shutdown)
            }
            (FrozenPhase::Relaying { half_closed }, Event::ClientLost { .. } | Event::BackendLost { .. }) => {
                self.handle_relaying(event, half_closed, limits, now)
            }
            (FrozenPhase::AwaitingAdmission, Event::ClientLost { .. }) => {
                self.handle_awaiting_admission(event, limits)
            }
            (FrozenPhase::AwaitingPreface, Event::ClientLost { .. }) => {
                self.handle_awaiting_preface(event, limits, now)
            }
            (FrozenPhase::AwaitingRoute { may_be_silent }, Event::ClientLost { .. }) => {
                self.handle_awaiting_route(event, may_be_silent, limits, now)
            }
            (FrozenPhase::AwaitingRoom, Event::ClientLost { .. }) => {
                self.handle_awaiting_room(event, limits, now)
            }
            // The dial is cancelled already, and the endpoint still reserved.
            (FrozenPhase::AwaitingConnect { .. }, Event::ClientLost { reset }) => {
                let reason = match reset {
                    true => CloseReason::ClientLeftWhileConnecting,
                    false => CloseReason::ClientFailedWhileConnecting,
                };
                self.end(&[Action::Release], reason)
            }
            (FrozenPhase::AwaitingDescriptors { attempts }, Event::ClientLost { .. }) => {
                self.handle_awaiting_descriptors(event, attempts, limits, now)
            }
            _ => Actions::of(&[]),
        }
    }
}
