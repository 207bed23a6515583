//! Arbitrary histories: whatever happens in whatever order, what was taken is given back and the end comes once.

use proptest::prelude::*;
use ringway::SocketAddress;

use super::*;
use crate::session::PeerTable;

/// The world of one session as its shell keeps it, with everything checked that the shell relies on.
struct Shell {
    session: Session,
    limits: Limits,
    now: Time,
    client_is_open: bool,
    backend: Backend,
    has_reservation: bool,
    is_queued: bool,
    timer: Option<Time>,
    end: Option<CloseReason>,
    last_activity: Time,
    /// Drawn from where the world has a choice.
    luck: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    None,
    Dialling,
    /// Open, and TLS on it has begun.
    Securing,
    Open,
    Relayed {
        cut: bool,
    },
}

impl Shell {
    fn new(luck: u64, limits: Limits) -> Self {
        let peer = PeerTable::default().store(SocketAddress::Unix(None));
        let session = Session::new(Identity { peer, frontend: 0, number: 0 }, Time::ZERO);
        Self {
            session,
            limits,
            now: Time::ZERO,
            client_is_open: true,
            backend: Backend::None,
            has_reservation: false,
            is_queued: false,
            timer: None,
            end: None,
            last_activity: Time::ZERO,
            luck,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.luck = self.luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.luck >> 33) % below
    }

    /// Something that can happen now, happens.
    fn step(&mut self) {
        if self.draw(8) == 0 {
            self.move_elsewhere();
            return;
        }
        let choice = self.draw(10);
        let reset = self.draw(2) == 0;
        match (self.backend, choice) {
            (_, 0) => self.let_time_pass(Duration::from_millis(700)),
            (_, 1) => self.let_time_pass(Duration::from_secs(20)),
            (Backend::Relayed { cut: false }, 2 | 3) => self.last_activity = self.now,
            (Backend::Relayed { cut: false }, 4 | 5) => self.tell(Event::HalfClosed),
            (Backend::Relayed { cut }, 6) => {
                self.end_relay(if cut { RelayOutcome::Cut } else { RelayOutcome::ClientReset })
            }
            (Backend::Relayed { .. }, 7) => self.end_relay(RelayOutcome::BackendFinished),
            (Backend::Relayed { .. }, _) => {}
            (Backend::Dialling, 2..=4) => {
                self.backend = Backend::Open;
                self.tell(Event::Connected);
            }
            (Backend::Securing, 2..=4) => {
                self.backend = Backend::Open;
                self.tell(Event::BackendSecured);
            }
            (Backend::Securing, 5..=7) => {
                self.backend = Backend::None;
                self.tell(Event::DialFailed(DialFailure::Tls));
            }
            (Backend::Dialling, 5..=7) => {
                self.backend = Backend::None;
                let failures = [
                    DialFailure::Refused,
                    DialFailure::SourceUnavailable,
                    DialFailure::Exhausted,
                    DialFailure::Unreachable,
                ];
                let failure = failures[self.draw(4) as usize];
                self.tell(Event::DialFailed(failure));
            }
            (Backend::None, 2..=5) if self.session.is_waiting() => self.tell(Event::Admitted),
            (Backend::None, 2..=4) if self.session.awaits_preface() => {
                let answer = self.inspection();
                self.tell(answer);
            }
            (Backend::None, 2) if self.session.awaits_route() => self.tell(Event::HandshakeDue),
            (Backend::None, 2..=4) if self.session.awaits_route() || self.session.awaits_handshake() => {
                let answer = self.routing();
                self.tell(answer);
            }
            (Backend::None, 2..=5) if self.is_queued => self.tell(Event::RoomMade),
            (Backend::None, 6) if self.session.is_waiting() => self.tell(Event::MustWait),
            (Backend::None | Backend::Dialling | Backend::Securing, 8) => {
                let unread = self.draw(2) == 0;
                self.tell(Event::ClientLeft { reset, unread });
            }
            (Backend::None | Backend::Dialling | Backend::Securing, 9) => {
                self.client_is_open = false;
                self.tell(Event::ClientLost { reset });
            }
            (Backend::None | Backend::Dialling | Backend::Securing | Backend::Open, _) => {}
        }
    }

    /// It freezes, and goes on in another worker, or is lost on the way there.
    fn move_elsewhere(&mut self) {
        let Some(actions) = self.session.freeze() else { return };
        for action in actions.as_slice() {
            assert!(self.perform(*action).is_none());
        }
        self.timer = None;
        let is_relay = self.backend != Backend::None;
        for _ in 0..self.draw(3) {
            // Under way still.
            self.tell(Event::Connected);
            self.tell(Event::DialFailed(DialFailure::Refused));
            self.tell(Event::RoomMade);
            self.tell(Event::ClientLeft { reset: false, unread: false });
        }
        match self.draw(6) {
            0 if is_relay => return self.end_relay(RelayOutcome::ClientFinished),
            1 if is_relay => self.tell(Event::HalfClosed),
            2 => {
                self.client_is_open = false;
                return self.tell(Event::ClientLost { reset: true });
            }
            _ => {}
        }
        self.session = Session::of(self.session.frozen().expect("it is"), *self.session.identity());
        let actions = self.session.thaw(self.last_activity, &self.limits, self.now);
        let mut next = None;
        for action in actions.as_slice() {
            next = self.perform(*action);
        }
        if let Some(event) = next {
            self.tell(event);
        }
        assert!(!self.session.awaits_preface() || self.timer.is_some());
    }

    fn inspection(&mut self) -> Event {
        if self.draw(3) == 0 { Event::Refused(CloseReason::Untrusted) } else { Event::PrefaceRead }
    }

    fn routing(&mut self) -> Event {
        if self.draw(3) == 0 { Event::Refused(CloseReason::NoRoute) } else { Event::Routed }
    }

    fn let_time_pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.timer.filter(|due| *due <= until)
            && self.end.is_none()
        {
            self.now = self.now.max(due);
            self.timer = None;
            let progress = RelayProgress { last_activity: self.last_activity, ..RelayProgress::default() };
            self.tell(Event::TimerFired(progress));
        }
        self.now = self.now.max(until);
    }

    fn end_relay(&mut self, outcome: RelayOutcome) {
        self.backend = Backend::None;
        self.client_is_open = false;
        self.tell(Event::RelayEnded(outcome));
    }

    fn tell(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let actions = self.session.handle(event, &self.limits, self.now);
            for action in actions.as_slice() {
                assert!(self.end.is_none(), "{action:?} after the end");
                assert!(next.is_none(), "{action:?} after a choice");
                next = self.perform(*action);
            }
        }
        if self.session.is_frozen() {
            return;
        }
        if matches!(self.backend, Backend::Dialling | Backend::Securing)
            || self.session.is_starved()
            || self.session.awaits_preface()
            || self.session.awaits_route()
            || self.session.awaits_handshake()
            || self.is_queued
        {
            assert!(self.timer.is_some(), "a wait without a limit, after {event:?}");
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::WatchClient => assert!(self.client_is_open),
            Action::Inspect => {
                return Some(if self.draw(3) == 0 { self.inspection() } else { Event::PrefaceDue });
            }
            Action::EndPreface => return Some(self.inspection()),
            Action::Route => {
                return Some(if self.draw(3) == 0 { self.routing() } else { Event::RouteDue });
            }
            Action::StartSniff => assert!(self.client_is_open && self.session.awaits_route()),
            Action::EndSilence => {
                return Some(if self.draw(2) == 0 { self.routing() } else { Event::RoutePending });
            }
            Action::Enter => {
                let is_refused = self.draw(3) == 0;
                return Some(if is_refused {
                    Event::Refused(CloseReason::LimitRate)
                } else {
                    Event::Entered
                });
            }
            Action::StartPreface => assert!(self.client_is_open && self.session.awaits_preface()),
            Action::Choose => {
                assert!(!self.has_reservation, "chosen twice");
                if self.draw(4) == 0 {
                    return Some(if self.draw(2) == 0 { Event::AllFull } else { Event::NoneAvailable });
                }
                self.has_reservation = true;
                self.is_queued = false;
                return Some(Event::Chosen { sources: 1 + self.draw(3) as u8 });
            }
            Action::JoinQueue => {
                assert!(!self.is_queued && self.limits.has_queue, "two places in the line");
                if self.draw(4) == 0 {
                    return Some(Event::Refused(CloseReason::QueueFull));
                }
                self.is_queued = true;
                return Some(Event::Queued);
            }
            Action::StayQueued => assert!(self.is_queued && !self.has_reservation),
            Action::Dial => {
                assert!(self.has_reservation && self.backend == Backend::None);
                self.backend = Backend::Dialling;
            }
            Action::SecureBackend => {
                assert_eq!(self.backend, Backend::Open);
                self.backend = Backend::Securing;
            }
            Action::NoteFailure(_) => assert!(self.has_reservation),
            Action::CloseBackend => {
                assert_ne!(self.backend, Backend::None);
                self.backend = Backend::None;
            }
            Action::Release => assert!(std::mem::take(&mut self.has_reservation), "released twice"),
            Action::StartRelay => {
                assert!(self.client_is_open && self.backend == Backend::Open);
                self.backend = Backend::Relayed { cut: false };
                self.last_activity = self.now;
            }
            Action::SetTimer(due) => self.timer = Some(due),
            Action::CutRelay => {
                assert_eq!(self.backend, Backend::Relayed { cut: false });
                self.backend = Backend::Relayed { cut: true };
            }
            Action::CloseClient => assert!(std::mem::take(&mut self.client_is_open), "closed twice"),
            Action::End(reason) => {
                assert!(!self.has_reservation, "a reservation is left after {reason}");
                assert_eq!(self.backend, Backend::None, "a connection is left after {reason}");
                assert!(!self.client_is_open, "the client is left after {reason}");
                self.is_queued = false;
                self.end = Some(reason);
            }
        }
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn everything_taken_is_given_back_and_the_end_comes_once(
        luck: u64,
        steps in 0usize..40,
        idle in prop::option::of(1u64..40),
        half_close in prop::option::of(1u64..20),
        lifetime in prop::option::of(1u64..100),
        preface in prop::option::of(1u64..10),
        checks_entry: bool,
        has_routes: bool,
        silence in prop::option::of(1u64..10),
        queue in prop::option::of(1u64..30),
        connect_attempts in 1u8..4,
        secures_backends: bool,
    ) {
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let limits = Limits {
            connect: Duration::from_secs(5),
            idle: seconds(idle),
            half_close: seconds(half_close),
            lifetime: seconds(lifetime),
            preface: seconds(preface),
            checks_entry,
            has_routes,
            hello: Duration::from_secs(6),
            silence: seconds(silence),
            has_queue: queue.is_some(),
            queue: seconds(queue).unwrap_or_default(),
            connect_attempts,
            secures_backends,
        };
        let mut shell = Shell::new(luck, limits);
        for _ in 0..steps {
            if shell.end.is_none() {
                shell.step();
            }
        }
        // However far it is: the end can be ordered.
        if shell.end.is_none() {
            shell.tell(Event::Close(Ending::Shutdown));
        }
        if shell.end.is_none() {
            shell.end_relay(RelayOutcome::Cut);
        }
        prop_assert!(shell.end.is_some());
        // And what comes late changes nothing.
        for event in [Event::Connected, Event::Close(Ending::Shutdown), Event::HalfClosed, Event::Admitted] {
            shell.tell(event);
        }
    }

    #[test]
    fn silent_relay_never_outlives_its_limits(luck: u64, idle in 1u64..40, lifetime in prop::option::of(1u64..100)) {
        let limits = Limits {
            connect: Duration::from_secs(5),
            idle: Some(Duration::from_secs(idle)),
            half_close: None,
            lifetime: lifetime.map(Duration::from_secs),
            preface: None,
            checks_entry: false,
            has_routes: false,
            hello: Duration::from_secs(6),
            silence: None,
            has_queue: false,
            queue: Duration::from_secs(8),
            connect_attempts: 3,
            secures_backends: false,
        };
        let mut shell = Shell::new(luck, limits);
        shell.tell(Event::Admitted);
        if shell.backend == Backend::Dialling {
            shell.backend = Backend::Open;
            shell.tell(Event::Connected);
            shell.let_time_pass(Duration::from_secs(idle));
            prop_assert_eq!(shell.backend, Backend::Relayed { cut: true });
        }
    }
}
