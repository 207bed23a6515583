//! The wait for a backend with room, in the line of the app.

use ringway::Time;

use super::{Action, Actions, Event, Limits, Session, State, micros};
use crate::session::{CloseReason, Phase};

impl Session {
    pub(super) fn wait_for_room(&mut self, now: Time) -> Actions {
        self.connect_micros = micros(now.since(self.accepted));
        self.state = State::AwaitingRoom;
        Actions::of(&[Action::JoinQueue])
    }

    pub(super) fn handle_awaiting_room(&mut self, event: Event, limits: &Limits, now: Time) -> Actions {
        let (reason, is_open) = match event {
            Event::Queued => {
                return Actions::of(&[Action::WatchClient, Action::SetTimer(now + limits.queue)]);
            }
            Event::RoomMade => return Actions::of(&[Action::Choose]),
            Event::Chosen { sources } => return self.dial_first(sources, limits, now),
            // Backends that are down now may be up before its time is over.
            Event::AllFull | Event::NoneAvailable => return Actions::of(&[Action::StayQueued]),
            Event::TimerFired(_) => match self.room_deadline(limits) {
                due if now < due => return Actions::of(&[Action::SetTimer(due)]),
                _ => (CloseReason::QueueTimedOut, true),
            },
            Event::Refused(reason) => (reason, true),
            Event::ClientLeft { reset, unread } if reset || !unread => (CloseReason::ClientLeftInQueue, true),
            Event::ClientLost { reset: true } => (CloseReason::ClientLeftInQueue, false),
            Event::ClientLost { reset: false } => (CloseReason::ClientFailedInQueue, false),
            Event::Close(ending) => (ending.reason(Phase::Accept), true),
            _ => return Actions::of(&[]),
        };
        self.queue_micros = micros(now.since(self.accepted));
        let close = [Action::CloseClient];
        self.end(if is_open { &close } else { &[] }, reason)
    }

    /// When it has waited for too long.
    pub(super) fn room_deadline(&self, limits: &Limits) -> Time {
        self.accepted + std::time::Duration::from_micros(self.connect_micros.into()) + limits.queue
    }
}
