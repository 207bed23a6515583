//! Both sides with the word between them, in a world where either dies, hangs or fails at every step.

use std::collections::VecDeque;

use proptest::prelude::*;
use ringway_engine::handover::Decision;

use super::*;

/// What goes wrong, after so many moves of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    OldDies,
    NewDies,
    /// It says nothing any more, and does nothing; it is alive.
    NewHangs,
    OldHangs,
    OldWorkFails,
    NewWorkFails,
    Cancelled,
}

/// Where each side is and what is on its way. A move is one event taken in by one side.
struct World {
    old: OldSide,
    new: NewSide,
    word: Decision,
    old_lives: bool,
    new_lives: bool,
    old_hangs: bool,
    new_hangs: bool,
    to_old: VecDeque<OldEvent>,
    to_new: VecDeque<NewEvent>,
    /// What was done, in order.
    log: Vec<String>,
}

impl World {
    fn new() -> Self {
        let (new, actions) = NewSide::new();
        let mut world = Self {
            old: OldSide::new(),
            new,
            word: Decision::Undecided,
            old_lives: true,
            new_lives: true,
            old_hangs: false,
            new_hangs: false,
            to_old: VecDeque::new(),
            to_new: VecDeque::new(),
            log: Vec::new(),
        };
        world.act_new(actions);
        world
    }

    fn decide(&mut self, wanted: Decision) -> Decision {
        if self.word == Decision::Undecided {
            self.word = wanted;
        }
        self.word
    }

    fn act_old(&mut self, actions: Vec<OldAction>) {
        for action in actions {
            self.log.push(format!("old {action:?}"));
            match action {
                OldAction::Say(step) => self.to_new.push_back(NewEvent::Said(step)),
                OldAction::Do(work) => self.to_old.push_front(OldEvent::Done(work)),
                OldAction::Decide => {
                    let decision = self.decide(Decision::Old);
                    self.to_old.push_front(OldEvent::Decided(decision));
                }
                OldAction::Kill => self.kill_new(),
                OldAction::Resume | OldAction::TakeBack | OldAction::LetGo => {}
            }
        }
    }

    fn act_new(&mut self, actions: Vec<NewAction>) {
        for action in actions {
            self.log.push(format!("new {action:?}"));
            match action {
                NewAction::Say(step) => self.to_old.push_back(OldEvent::Said(step)),
                NewAction::Do(work) => self.to_new.push_front(NewEvent::Done(work)),
                NewAction::Decide => {
                    let decision = self.decide(Decision::New);
                    self.to_new.push_front(NewEvent::Decided(decision));
                }
                // It ends, which the other one notices as it does any end.
                NewAction::Withdraw => self.kill_new(),
                NewAction::Serve | NewAction::ServeAfresh => {}
            }
        }
    }

    fn kill_new(&mut self) {
        if self.new_lives {
            self.new_lives = false;
            self.to_old.push_back(OldEvent::PeerEnded);
        }
    }

    fn kill_old(&mut self) {
        if self.old_lives {
            self.old_lives = false;
            self.to_new.push_back(NewEvent::PeerEnded);
        }
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::None => {}
            Fault::OldDies => self.kill_old(),
            Fault::NewDies => self.kill_new(),
            Fault::NewHangs => self.new_hangs = true,
            Fault::OldHangs => self.old_hangs = true,
            Fault::OldWorkFails => self.to_old.push_front(OldEvent::Failed),
            Fault::NewWorkFails => self.to_new.push_front(NewEvent::Failed),
            Fault::Cancelled => self.to_old.push_front(OldEvent::Cancelled),
        }
    }

    fn check(&self) {
        let old = self.old_lives && self.old.may_touch();
        let new = self.new_lives && self.new.may_touch();
        assert!(!(old && new), "both may use the sockets: {:#?}", self.log);
    }

    /// One side takes one event in; `false` if neither has any.
    fn turn(&mut self, old_first: bool) -> bool {
        for old in [old_first, !old_first] {
            if old && self.old_lives && !self.old_hangs {
                let event = self.to_old.pop_front().or_else(|| {
                    let starves = self.old.awaits_peer() && (self.new_hangs || !self.can_new_move());
                    starves.then_some(OldEvent::Silent)
                });
                if let Some(event) = event {
                    let actions = self.old.handle(event);
                    self.act_old(actions);
                    self.check();
                    return true;
                }
            }
            if !old && self.new_lives && !self.new_hangs {
                let event = self.to_new.pop_front().or_else(|| {
                    let starves = self.new.awaits_peer() && (self.old_hangs || !self.can_old_move());
                    starves.then_some(NewEvent::Silent)
                });
                if let Some(event) = event {
                    let actions = self.new.handle(event);
                    self.act_new(actions);
                    self.check();
                    return true;
                }
            }
        }
        false
    }

    fn can_new_move(&self) -> bool {
        self.new_lives && (!self.to_new.is_empty() || !self.new.awaits_peer())
    }

    fn can_old_move(&self) -> bool {
        self.old_lives && (!self.to_old.is_empty() || !self.old.awaits_peer())
    }

    /// Runs to the end, with one fault after so many moves. Says whether the fault came before the end.
    fn run(&mut self, fault: Fault, at: usize, order: impl Fn(usize) -> bool) -> bool {
        let mut struck = false;
        for count in 0..200 {
            if count == at {
                struck = true;
                self.strike(fault);
                self.check();
            }
            if !self.turn(order(count)) {
                return struck;
            }
        }
        panic!("it never ends: {:#?}", self.log);
    }

    /// That one side that lives and does not hang serves, if there is one; and never both.
    fn check_end(&self, fault: Fault) {
        self.check();
        let old_acts = self.old_lives && !self.old_hangs;
        let new_acts = self.new_lives && !self.new_hangs;
        let serves = old_acts && self.old.may_touch() || new_acts && self.new.may_touch();
        match fault {
            // Whoever hung with the decision on its side keeps it: to take it away would let two serve.
            Fault::NewHangs if self.word == Decision::New => {}
            Fault::OldHangs if self.word != Decision::New => {}
            // It had said that it serves: that is the death of a server, and no longer a hand-over's matter.
            Fault::NewDies if self.log.iter().any(|line| line == "new Say(Serving)") => {}
            _ => assert!(serves || !(old_acts || new_acts), "nobody serves after {fault:?}: {:#?}", self.log),
        }
        if let Some(Outcome::Resumed) = self.old.outcome() {
            assert_eq!(self.word, Decision::Old);
        }
        if self.new_lives && self.new.outcome() == Some(Outcome::Serves) {
            assert_eq!(self.word, Decision::New);
        }
    }
}

const FAULTS: [Fault; 8] = [
    Fault::None,
    Fault::OldDies,
    Fault::NewDies,
    Fault::NewHangs,
    Fault::OldHangs,
    Fault::OldWorkFails,
    Fault::NewWorkFails,
    Fault::Cancelled,
];

#[test]
fn without_a_fault_the_new_process_serves_and_the_old_one_lets_go() {
    let mut world = World::new();
    world.run(Fault::None, 0, |_| true);
    assert_eq!(world.old.outcome(), Some(Outcome::HandedOver));
    assert_eq!(world.new.outcome(), Some(Outcome::Serves));
    assert_eq!(world.word, Decision::New);
}

/// The table of `docs/internals/upgrade.md`: after which action who dies, and what comes of it.
#[test]
fn whoever_dies_after_whichever_step_the_other_one_serves() {
    use Outcome::{HandedOver, Resumed, Serves, ServesAfresh, TakenBack};
    // The last thing done before, what the old side comes to if the new one dies, what the new one if the old one does.
    let table = [
        ("new Say(Hello)", Resumed, ServesAfresh),
        ("old Say(Welcome)", Resumed, ServesAfresh),
        ("new Do(Start)", Resumed, ServesAfresh),
        ("new Say(Ready)", Resumed, ServesAfresh),
        ("old Do(SendAhead)", Resumed, ServesAfresh),
        ("old Say(Ahead)", Resumed, ServesAfresh),
        ("new Say(Armed)", Resumed, ServesAfresh),
        ("old Do(Freeze)", Resumed, ServesAfresh),
        ("old Do(SendState)", Resumed, ServesAfresh),
        ("old Say(State)", Resumed, Serves),
        ("new Do(Rebuild)", Resumed, Serves),
        ("new Say(Prepared)", Resumed, Serves),
        ("old Say(Go)", Resumed, Serves),
        ("new Decide", TakenBack, Serves),
        ("new Say(Serving)", HandedOver, Serves),
    ];
    for (step, old_comes_to, new_comes_to) in table {
        for fault in [Fault::NewDies, Fault::OldDies] {
            let mut world = World::new();
            while world.log.last().is_none_or(|last| last != step) {
                assert!(world.turn(true), "{step} is no step: {:#?}", world.log);
            }
            world.strike(fault);
            while world.turn(true) {}
            world.check_end(fault);
            match fault {
                Fault::NewDies => {
                    assert_eq!(world.old.outcome(), Some(old_comes_to), "new dies after {step}")
                }
                _ => assert_eq!(world.new.outcome(), Some(new_comes_to), "old dies after {step}"),
            }
        }
    }
}

#[test]
fn whatever_goes_wrong_at_whichever_moment_exactly_one_serves() {
    for fault in FAULTS {
        for old_first in [false, true] {
            for at in 0.. {
                let mut world = World::new();
                if !world.run(fault, at, |_| old_first) {
                    assert!(at > 10, "a hand-over has more moves than that");
                    break;
                }
                world.check_end(fault);
            }
        }
    }
}

#[test]
fn a_refusal_leaves_the_old_process_serving() {
    let mut old = OldSide::new();
    assert_eq!(old.handle(OldEvent::Said(Step::Hello)), [OldAction::Say(Step::Welcome)]);
    assert_eq!(old.handle(OldEvent::Said(Step::Refuse)), [OldAction::Decide]);
    assert!(!old.may_touch(), "it could have been decided already");
    let actions = old.handle(OldEvent::Decided(Decision::Old));
    assert_eq!(actions, [OldAction::Kill, OldAction::Resume]);
    assert_eq!(old.outcome(), Some(Outcome::Resumed));
}

#[test]
fn a_step_out_of_turn_ends_the_hand_over_and_nothing_else() {
    for step in Step::ALL {
        let mut old = OldSide::new();
        let actions = old.handle(OldEvent::Said(step));
        let expected = if step == Step::Hello { OldAction::Say(Step::Welcome) } else { OldAction::Decide };
        assert_eq!(actions, [expected]);
        let (mut new, _) = NewSide::new();
        let actions = new.handle(NewEvent::Said(step));
        assert!(!new.may_touch());
        match step {
            Step::Welcome => assert_eq!(actions, [NewAction::Do(NewWork::Start)]),
            _ => assert_eq!(actions, [NewAction::Say(Step::Refuse), NewAction::Withdraw]),
        }
    }
}

proptest! {
    /// Two faults, and any order in which the two sides come to their moves.
    #[test]
    fn never_both_serve_in_any_order(
        order in prop::collection::vec(any::<bool>(), 200),
        first in (0..FAULTS.len(), 0_usize..40),
        second in (0..FAULTS.len(), 0_usize..40),
    ) {
        let mut world = World::new();
        for count in 0..200 {
            for (fault, at) in [first, second] {
                if count == at {
                    world.strike(FAULTS[fault]);
                    world.check();
                }
            }
            if !world.turn(order[count]) {
                break;
            }
        }
        world.check();
    }
}
