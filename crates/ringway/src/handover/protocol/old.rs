//! The side of the process that serves until the commit.

use ringway_engine::handover::Decision;

use super::{Outcome, Step};

/// What the old process does for a while, and answers with [`OldEvent::Done`] or [`OldEvent::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OldWork {
    /// Copy sockets to the other process while this one serves.
    SendAhead,
    /// Stop using any socket, in a way that can be undone.
    Freeze,
    /// Send what the other process needs to go on.
    SendState,
}

/// What happened to the old side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldEvent {
    /// The new process said this, and it was understood.
    Said(Step),
    /// The work that was asked for is done.
    Done(OldWork),
    /// The work that was asked for cannot be done, or what the new process said was not understood.
    Failed,
    /// The operator, or whoever asked for it, called it off.
    Cancelled,
    /// The new process has not said what is waited for in time, or has hung up; it may be alive.
    Silent,
    /// The new process has ended; all its descriptors are closed.
    PeerEnded,
    /// What the commit word says, after [`OldAction::Decide`].
    Decided(Decision),
}

/// What the old side has to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldAction {
    /// Tell the new process.
    Say(Step),
    /// Begin a piece of work.
    Do(OldWork),
    /// Try to decide for [`Decision::Old`]; answer with [`OldEvent::Decided`].
    Decide,
    /// Use the sockets again: all that was frozen, and what the new process refused.
    Resume,
    /// Cut what was frozen, since nobody knows how far it went; accept again.
    TakeBack,
    /// Drop what crossed; go on only with what the new process refused.
    LetGo,
    /// End the new process (SIGKILL), if it lives.
    Kill,
}

/// The old process's part in a hand-over: see the [module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldSide {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitingHello,
    AwaitingReady,
    SendingAhead,
    AwaitingArmed,
    Freezing,
    SendingState,
    AwaitingPrepared,
    /// Told to go: the word may change at any moment.
    AwaitingServing,
    /// Something is wrong, and what the word says will tell whose it is.
    Deciding {
        peer_has_ended: bool,
    },
    /// The word says `New`, and the new process has not said that it serves.
    AwaitingSignOfLife,
    Ended(Outcome),
}

impl Default for OldSide {
    fn default() -> Self {
        Self::new()
    }
}

impl OldSide {
    /// The new process was started a moment ago.
    pub fn new() -> Self {
        Self { state: State::AwaitingHello }
    }

    /// Whether this process may use the sockets: read, send, accept, shut.
    pub fn may_touch(&self) -> bool {
        match self.state {
            State::AwaitingHello | State::AwaitingReady | State::SendingAhead | State::AwaitingArmed => true,
            // Until it has come to rest it is not sure to; nobody else has the state of anything by then.
            State::Freezing => true,
            State::SendingState
            | State::AwaitingPrepared
            | State::AwaitingServing
            | State::Deciding { .. }
            | State::AwaitingSignOfLife => false,
            State::Ended(outcome) => matches!(outcome, Outcome::Resumed | Outcome::TakenBack),
        }
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether something is to be said by the new process, so that a deadline must run.
    pub fn awaits_peer(&self) -> bool {
        matches!(
            self.state,
            State::AwaitingHello
                | State::AwaitingReady
                | State::AwaitingArmed
                | State::AwaitingPrepared
                | State::AwaitingServing
                | State::AwaitingSignOfLife
        )
    }

    /// Takes an event in. The one place that makes transitions.
    pub fn handle(&mut self, event: OldEvent) -> Vec<OldAction> {
        let (state, actions) = self.next(event);
        self.state = state;
        actions
    }

    fn next(&self, event: OldEvent) -> (State, Vec<OldAction>) {
        use OldAction::{Decide, Do, Kill, LetGo, Resume, Say, TakeBack};
        use OldEvent::{Cancelled, Decided, Done, Failed, PeerEnded, Said, Silent};
        match (self.state, event) {
            // Over: nothing changes that.
            (State::Ended(_), _) => (self.state, vec![]),

            (State::AwaitingHello, Said(Step::Hello)) => (State::AwaitingReady, vec![Say(Step::Welcome)]),
            (State::AwaitingReady, Said(Step::Ready)) => (State::SendingAhead, vec![Do(OldWork::SendAhead)]),
            (State::SendingAhead, Done(OldWork::SendAhead)) => (State::AwaitingArmed, vec![Say(Step::Ahead)]),
            (State::AwaitingArmed, Said(Step::Armed)) => (State::Freezing, vec![Do(OldWork::Freeze)]),
            (State::Freezing, Done(OldWork::Freeze)) => (State::SendingState, vec![Do(OldWork::SendState)]),
            (State::SendingState, Done(OldWork::SendState)) => {
                (State::AwaitingPrepared, vec![Say(Step::State)])
            }
            (State::AwaitingPrepared, Said(Step::Prepared)) => (State::AwaitingServing, vec![Say(Step::Go)]),
            (State::AwaitingServing | State::AwaitingSignOfLife, Said(Step::Serving)) => {
                (State::Ended(Outcome::HandedOver), vec![LetGo])
            }

            (State::Deciding { .. }, Decided(Decision::Old)) => {
                (State::Ended(Outcome::Resumed), vec![Kill, Resume])
            }
            (State::Deciding { peer_has_ended: true }, Decided(_)) => {
                (State::Ended(Outcome::TakenBack), vec![TakeBack])
            }
            (State::Deciding { peer_has_ended: false }, Decided(_)) => (State::AwaitingSignOfLife, vec![]),
            // It died while the word was asked.
            (State::Deciding { .. }, PeerEnded) => (State::Deciding { peer_has_ended: true }, vec![]),
            (State::Deciding { .. }, Said(_) | Done(_) | Failed | Cancelled | Silent) => (self.state, vec![]),

            (State::AwaitingSignOfLife, PeerEnded) => (State::Ended(Outcome::TakenBack), vec![TakeBack]),
            // It has decided and lives: the sockets are its own, whatever it does with them.
            (State::AwaitingSignOfLife, Silent) => (State::Ended(Outcome::HandedOver), vec![LetGo]),
            (State::AwaitingSignOfLife, Said(_) | Done(_) | Failed | Cancelled | Decided(_)) => {
                (self.state, vec![])
            }

            (_, PeerEnded) => (State::Deciding { peer_has_ended: true }, vec![Decide]),
            // A refusal, a step out of turn, something that cannot be done: the new process gets nothing.
            (_, Said(_) | Done(_) | Failed | Cancelled | Silent | Decided(_)) => {
                (State::Deciding { peer_has_ended: false }, vec![Decide])
            }
        }
    }
}
