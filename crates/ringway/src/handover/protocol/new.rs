//! The side of the process that serves from the commit on.

use ringway_engine::handover::Decision;

use super::{Outcome, Step};

/// What the new process does for a while, and answers with [`NewEvent::Done`] or [`NewEvent::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NewWork {
    /// Check what is to be served, and start, without touching a socket.
    Start,
    /// Rebuild in memory what crossed, without touching a socket.
    Rebuild,
}

/// What happened to the new side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewEvent {
    /// The old process said this, and it was understood.
    Said(Step),
    /// The work that was asked for is done.
    Done(NewWork),
    /// The work that was asked for cannot be done, or what the old process said was not understood.
    Failed,
    /// The old process has not said what is waited for in time, or has hung up; it may be alive.
    Silent,
    /// The old process has ended; all its descriptors are closed.
    PeerEnded,
    /// What the commit word says, after [`NewAction::Decide`].
    Decided(Decision),
}

/// What the new side has to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewAction {
    /// Tell the old process.
    Say(Step),
    /// Begin a piece of work.
    Do(NewWork),
    /// Try to decide for [`Decision::New`]; answer with [`NewEvent::Decided`].
    Decide,
    /// Use the sockets: go on with what crossed, accept.
    Serve,
    /// Reset the connections whose copies came without their state; accept on the listening sockets that came, and bind
    /// those that did not.
    ServeAfresh,
    /// Drop everything and end.
    Withdraw,
}

/// The new process's part in a hand-over: see the [module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSide {
    state: State,
    /// The old process is dead: the first work that is done leads to the decision.
    peer_has_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitingWelcome,
    Starting,
    AwaitingAhead,
    AwaitingState,
    Rebuilding,
    AwaitingGo,
    Deciding { has_everything: bool },
    Ended(Outcome),
}

impl NewSide {
    /// The old process was reached; the first thing to do comes along.
    pub fn new() -> (Self, Vec<NewAction>) {
        let side = Self { state: State::AwaitingWelcome, peer_has_ended: false };
        (side, vec![NewAction::Say(Step::Hello)])
    }

    /// Whether this process may use the sockets: read, send, accept, shut.
    pub fn may_touch(&self) -> bool {
        matches!(self.state, State::Ended(Outcome::Serves | Outcome::ServesAfresh))
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether something is to be said by the old process, so that a deadline must run.
    pub fn awaits_peer(&self) -> bool {
        matches!(
            self.state,
            State::AwaitingWelcome | State::AwaitingAhead | State::AwaitingState | State::AwaitingGo
        )
    }

    /// Takes an event in. The one place that makes transitions.
    pub fn handle(&mut self, event: NewEvent) -> Vec<NewAction> {
        self.peer_has_ended |= event == NewEvent::PeerEnded;
        let (state, actions) = self.next(event);
        self.state = state;
        actions
    }

    fn next(&self, event: NewEvent) -> (State, Vec<NewAction>) {
        use NewAction::{Decide, Do, Say, Serve, ServeAfresh, Withdraw};
        use NewEvent::{Decided, Done, Failed, PeerEnded, Said, Silent};
        let afresh = (State::Deciding { has_everything: false }, vec![Decide]);
        let whole = (State::Deciding { has_everything: true }, vec![Decide]);
        match (self.state, event) {
            // Over: nothing changes that.
            (State::Ended(_), _) => (self.state, vec![]),

            // Before the welcome there is no word to decide by, and nothing of the old process's to serve: it is as if
            // this one had been started alone.
            (State::AwaitingWelcome, PeerEnded) => (State::Ended(Outcome::ServesAfresh), vec![ServeAfresh]),
            (State::AwaitingWelcome, Said(Step::Welcome)) => (State::Starting, vec![Do(NewWork::Start)]),
            (State::Starting, Done(NewWork::Start)) if self.peer_has_ended => afresh,
            (State::Starting, Done(NewWork::Start)) => (State::AwaitingAhead, vec![Say(Step::Ready)]),
            (State::AwaitingAhead, Said(Step::Ahead)) => (State::AwaitingState, vec![Say(Step::Armed)]),
            (State::AwaitingState, Said(Step::State)) => (State::Rebuilding, vec![Do(NewWork::Rebuild)]),
            (State::Rebuilding, Done(NewWork::Rebuild)) if self.peer_has_ended => whole,
            (State::Rebuilding, Done(NewWork::Rebuild)) => (State::AwaitingGo, vec![Say(Step::Prepared)]),
            (State::AwaitingGo, Said(Step::Go)) => whole,

            (State::Deciding { has_everything }, Decided(Decision::New)) => match has_everything {
                true => (State::Ended(Outcome::Serves), vec![Serve, Say(Step::Serving)]),
                false => (State::Ended(Outcome::ServesAfresh), vec![ServeAfresh]),
            },
            (State::Deciding { .. }, Decided(_)) => (State::Ended(Outcome::Withdrawn), vec![Withdraw]),
            (State::Deciding { .. }, Said(_) | Done(_) | Failed | Silent | PeerEnded) => (self.state, vec![]),

            (State::Starting | State::Rebuilding, PeerEnded) => (self.state, vec![]),
            (State::AwaitingAhead | State::AwaitingState, PeerEnded) => afresh,
            (State::AwaitingGo, PeerEnded) => whole,

            // What crossed is not understood, and the old process is dead: at least the sockets are here.
            (State::Rebuilding, Failed) if self.peer_has_ended => afresh,
            (State::Starting | State::Rebuilding, Failed) => {
                (State::Ended(Outcome::Withdrawn), vec![Say(Step::Refuse), Withdraw])
            }
            // A step out of turn, silence: the old process lives, and goes on.
            (_, Said(_) | Done(_) | Failed | Silent | Decided(_)) => {
                (State::Ended(Outcome::Withdrawn), vec![Say(Step::Refuse), Withdraw])
            }
        }
    }
}
