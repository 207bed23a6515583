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
            Event::Admitted => self.ask_to_enter(limits),
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
            Event::PrefaceRead => self.ask_to_enter(limits),
            Event::Refused(reason) => self.end(&[Action::CloseClient], reason),
            Event::TimerFired(_) => Actions::of(&[Action::EndPreface]),
            Event::ClientLeft { .. } => self.end(&[Action::CloseClient], CloseReason::ClientLeftBeforeHeader),
            Event::ClientLost { reset: true } => self.end(&[], CloseReason::ClientLeftBeforeHeader),
            Event::ClientLost { reset: false } => self.end(&[], CloseReason::ClientFailedBeforeHeader),
            Event::Close(ending) => self.end(&[Action::CloseClient], ending.reason(Phase::Accept)),
            _ => Actions::of(&[]),
        }
    }

    pub(super) fn handle_awaiting_entry(&mut self, event: Event) -> Actions {
        match event {
            Event::Entered => self.enter(),
            Event::Refused(reason) => self.end(&[Action::CloseClient], reason),
            // It is answered before anything else can happen.
            _ => Actions::of(&[]),
        }
    }

    fn ask_to_enter(&mut self, limits: &Limits) -> Actions {
        if !limits.checks_entry {
            return self.enter();
        }
        self.state = State::AwaitingEntry;
        Actions::of(&[Action::Enter])
    }

    fn enter(&mut self) -> Actions {
        self.has_entered = true;
        self.state = State::AwaitingChoice { attempts: 0, last: None };
        Actions::of(&[Action::Choose])
    }
}
