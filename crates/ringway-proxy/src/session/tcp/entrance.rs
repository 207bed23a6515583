//! From the accept to the choice of a backend: admission, the PROXY header where one may come, and the route where there
//! are several.

use std::time::Duration;

use ringway::Time;

use super::{Action, Actions, Event, Limits, Session, State, micros};
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
                self.connect_micros = micros(now.since(self.accepted));
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

    pub(super) fn handle_awaiting_entry(&mut self, event: Event, limits: &Limits) -> Actions {
        match event {
            Event::Entered => self.enter(limits),
            Event::Refused(reason) => self.end(&[Action::CloseClient], reason),
            // It is answered before anything else can happen.
            _ => Actions::of(&[]),
        }
    }

    fn ask_to_enter(&mut self, limits: &Limits) -> Actions {
        if !limits.checks_entry {
            return self.enter(limits);
        }
        self.state = State::AwaitingEntry;
        Actions::of(&[Action::Enter])
    }

    pub(super) fn handle_awaiting_route(
        &mut self,
        event: Event,
        may_be_silent: bool,
        limits: &Limits,
        now: Time,
    ) -> Actions {
        let deadline = self.hello_deadline(limits);
        match event {
            Event::RouteDue => {
                self.connect_micros = micros(now.since(self.accepted));
                let silence = limits.silence.map(|silence| silence.min(limits.hello));
                self.state = State::AwaitingRoute { may_be_silent: silence.is_some() };
                let due = now + silence.unwrap_or(limits.hello);
                Actions::of(&[Action::StartSniff, Action::SetTimer(due)])
            }
            Event::Routed => self.begin_to_choose(),
            Event::HandshakeDue => {
                self.state = State::AwaitingHandshake;
                // The timer that is set may be that of a silent client, and fires before.
                Actions::of(&[])
            }
            Event::Refused(reason) => self.end(&[Action::CloseClient], reason),
            Event::TimerFired(_) if may_be_silent => {
                self.state = State::AwaitingRoute { may_be_silent: false };
                Actions::of(&[Action::EndSilence])
            }
            Event::RoutePending if now < deadline => Actions::of(&[Action::SetTimer(deadline)]),
            Event::TimerFired(_) if now < deadline => Actions::of(&[Action::SetTimer(deadline)]),
            Event::RoutePending | Event::TimerFired(_) => {
                self.end(&[Action::CloseClient], CloseReason::HelloTimedOut)
            }
            Event::ClientLeft { .. } => self.end(&[Action::CloseClient], CloseReason::ClientLeftBeforeRoute),
            Event::ClientLost { reset: true } => self.end(&[], CloseReason::ClientLeftBeforeRoute),
            Event::ClientLost { reset: false } => self.end(&[], CloseReason::ClientFailedBeforeRoute),
            Event::Close(ending) => self.end(&[Action::CloseClient], ending.reason(Phase::Accept)),
            _ => Actions::of(&[]),
        }
    }

    pub(super) fn handle_awaiting_handshake(&mut self, event: Event, limits: &Limits, now: Time) -> Actions {
        let deadline = self.hello_deadline(limits);
        match event {
            Event::Routed => self.begin_to_choose(),
            Event::Refused(reason) => self.end(&[Action::CloseClient], reason),
            Event::TimerFired(_) if now < deadline => Actions::of(&[Action::SetTimer(deadline)]),
            Event::TimerFired(_) => self.end(&[Action::CloseClient], CloseReason::HandshakeTimedOut),
            Event::ClientLeft { .. } => self.end(&[Action::CloseClient], CloseReason::ClientLeftInHandshake),
            Event::ClientLost { reset: true } => self.end(&[], CloseReason::ClientLeftInHandshake),
            Event::ClientLost { reset: false } => self.end(&[], CloseReason::ClientFailedInHandshake),
            Event::Close(ending) => self.end(&[Action::CloseClient], ending.reason(Phase::Accept)),
            _ => Actions::of(&[]),
        }
    }

    /// When what says where it goes has taken too long, a handshake that it begins included.
    pub(super) fn hello_deadline(&self, limits: &Limits) -> Time {
        // No dial has begun that would need the field.
        self.accepted + Duration::from_micros(self.connect_micros.into()) + limits.hello
    }

    fn enter(&mut self, limits: &Limits) -> Actions {
        self.has_entered = true;
        if limits.has_routes {
            self.state = State::AwaitingRoute { may_be_silent: false };
            return Actions::of(&[Action::Route]);
        }
        self.begin_to_choose()
    }

    fn begin_to_choose(&mut self) -> Actions {
        self.state = State::AwaitingChoice { attempts: 0, last: None };
        Actions::of(&[Action::Choose])
    }
}
