//! From the accept to the choice of a backend: admission, and the PROXY header where one may come.

use ringway::Time;

use super::{Action, Actions, Event, Limits, Session, State};
use crate::session::{CloseReason, Phase};

impl Session {
    pub(super) fn handle_awaiting_admission(&mut self, event: Event, limits: &Limits) -> Actions {
        match event {
            Event::MustWait => Actions::of(&[Action::WatchClient]),
            Event::Admitted if limits.preface.is_some() => {
                self.state = State::AwaitingPreface;
                Actions::of(&[Action::Inspect])
            }
            Event::Admitted => self.enter(),
            Event::ClientLeft { reset, unread } if reset || !unread => {
                self.end(&[Action::CloseClient], CloseReason::ClientLeftBeforeAdmission)
            }
            Event::ClientLost { reset: true } => self.end(&[], CloseReason::ClientLeftBeforeAdmission),
            Event::ClientLost { reset: false } => self.end(&[], CloseReason::ClientFailedBeforeAdmission),
            Event::Close(ending) => self.end(&[Action::CloseClient], ending.reason(Phase::Accept)),
            _ => Actions::of(&[]),
        }
    }

    pub(super) fn handle_awaiting_preface(&mut self, event: Event, limits: &Limits, now: Time) -> Actions {
        match event {
            Event::PrefaceDue => {
                let due = limits.preface.map(|time| Action::SetTimer(now + time));
                let mut actions = Actions::of(&[Action::StartPreface]);
                actions.extend(due.as_slice());
                actions
            }
            Event::PrefaceRead => self.enter(),
            Event::Refused(reason) => self.end(&[Action::CloseClient], reason),
            Event::TimerFired(_) => Actions::of(&[Action::EndPreface]),
            Event::ClientLeft { .. } => self.end(&[Action::CloseClient], CloseReason::ClientLeftBeforeHeader),
            Event::ClientLost { reset: true } => self.end(&[], CloseReason::ClientLeftBeforeHeader),
            Event::ClientLost { reset: false } => self.end(&[], CloseReason::ClientFailedBeforeHeader),
            Event::Close(ending) => self.end(&[Action::CloseClient], ending.reason(Phase::Accept)),
            _ => Actions::of(&[]),
        }
    }

    fn enter(&mut self) -> Actions {
        self.state = State::AwaitingChoice { attempts: 0, last: None };
        Actions::of(&[Action::Choose])
    }
}
