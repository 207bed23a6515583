//! Bytes out are bytes in, in order (a prefix, for resets): over arbitrary chunkings, pauses, half-closes and
//! resets, through a relay of every kind of driver.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ringway_engine::{EngineKind, RelayOptions};

use crate::rig::{Joined, Rig, assert_prefix, assert_same};

/// What the ends and the proxy do, one after the other. Directions are 0 (client to server) and 1.
#[derive(Clone, Debug)]
enum Step {
    Send(usize, usize),
    Pause(usize),
    Resume(usize),
    Shut(usize),
    Reset(usize),
    Cut,
    Restart,
    Turn(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let direction = 0..2usize;
    let step = prop_oneof![
        8 => (direction.clone(), 1..200_000usize).prop_map(|(direction, len)| Step::Send(direction, len)),
        8 => (direction.clone(), 1..100usize).prop_map(|(direction, len)| Step::Send(direction, len)),
        1 => (direction.clone(), 1_000_000..3_000_000usize).prop_map(|(direction, len)| Step::Send(direction, len)),
        3 => direction.clone().prop_map(Step::Pause),
        4 => direction.clone().prop_map(Step::Resume),
        1 => direction.clone().prop_map(Step::Shut),
        1 => direction.prop_map(Step::Reset),
        1 => Just(Step::Cut),
        2 => Just(Step::Restart),
        10 => (1..6usize).prop_map(Step::Turn),
    ];
    // Cuts and resets end a case; most should go on for a while.
    prop::collection::vec(step, 0..40)
}

/// Plays the steps, finishes what is still open, and holds the result against what was sent.
fn play(rig: &mut Rig, steps: &[Step]) {
    let joined = rig.joined(RelayOptions::default());
    let mut sent: [Vec<u8>; 2] = Default::default();
    let mut shut = [false, false];
    let mut broken = false;
    for step in steps {
        match *step {
            Step::Send(direction, len) => {
                let payload = rig.payload(len);
                let from = joined.from(direction);
                if !shut[direction] && rig.ops(joined.ends).send(from, &payload).is_ok() {
                    sent[direction].extend_from_slice(&payload);
                }
            }
            Step::Pause(direction) => rig.ops(joined.ends).pause_receive(joined.to(direction)),
            Step::Resume(direction) => rig.ops(joined.ends).start_receive(joined.to(direction)),
            Step::Shut(direction) => {
                shut[direction] = true;
                rig.ops(joined.ends).shut(joined.from(direction));
            }
            Step::Reset(direction) => {
                broken = true;
                rig.ops(joined.ends).reset(joined.from(direction));
            }
            Step::Cut => {
                broken = true;
                rig.ops(joined.proxy).cut_relay(joined.a);
            }
            Step::Restart => {
                if !restart(rig, joined) {
                    return;
                }
            }
            Step::Turn(count) => (0..count).for_each(|_| rig.turn()),
        }
        if broken {
            break;
        }
    }
    for direction in 0..2 {
        if !broken {
            rig.ops(joined.ends).shut(joined.from(direction));
        }
        rig.ops(joined.ends).start_receive(joined.to(direction));
    }
    rig.until("the relay's end", |rig| !rig.log(joined.proxy).relay_ends.is_empty());
    let end = rig.log_mut(joined.proxy).relay_ends.pop().expect("an end");
    for direction in 0..2 {
        let to = joined.to(direction);
        rig.until("the last word", |rig| rig.log(joined.ends).ended(to) || rig.log(joined.ends).is_dead(to));
        let got = rig.log(joined.ends).bytes(to);
        if rig.log(joined.ends).ended(to) {
            assert_same(got, &sent[direction]);
        } else {
            assert!(broken, "a clean end became a break");
            assert_prefix(got, &sent[direction]);
        }
        assert!(end.bytes[direction] >= got.len() as u64, "more came than was counted");
        assert!(end.bytes[direction] + end.undelivered[direction] <= sent[direction].len() as u64);
    }
    assert_eq!(rig.ops(joined.proxy).connection_count(), 0);
    assert_eq!(rig.ops(joined.proxy).pending_bytes(), 0);
}

/// False if one of the two connections broke between the stop and the start, so that there is nothing to join.
fn restart(rig: &mut Rig, joined: Joined) -> bool {
    rig.ops(joined.proxy).stop_relay(joined.b);
    rig.until("the stop", |rig| {
        !rig.log(joined.proxy).relay_stops.is_empty() || !rig.log(joined.proxy).relay_ends.is_empty()
    });
    let Some(stop) = rig.log_mut(joined.proxy).relay_stops.pop() else { return true };
    if rig.log(joined.proxy).is_dead(joined.a) || rig.log(joined.proxy).is_dead(joined.b) {
        return false;
    }
    let mut bytes = stop.bytes;
    let mut ops = rig.ops(joined.proxy);
    for (direction, target) in [joined.b, joined.a].into_iter().enumerate() {
        if !stop.pending[direction].is_empty() {
            ops.send(target, &stop.pending[direction]).expect("to send");
            bytes[direction] += stop.pending[direction].len() as u64;
        }
    }
    ops.start_relay(joined.a, joined.b, RelayOptions { bytes, ..RelayOptions::default() });
    true
}

/// `max_shrink_time`: in milliseconds. A case that fails by waiting in vain takes its whole deadline.
fn check(cases: u32, max_shrink_time: u32, rig: impl Fn(u64) -> Option<Rig>) {
    if rig(0).is_none() {
        return;
    }
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, max_shrink_time, ..Config::default() });
    let result = runner.run(&(steps(), any::<u64>()), |(steps, seed)| {
        if let Some(mut rig) = rig(seed) {
            play(&mut rig, &steps);
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn bytes_out_are_bytes_in_on_a_simulated_network() {
    check(150, 60_000, |seed| Some(Rig::simulated(seed)));
}

#[test]
fn bytes_out_are_bytes_in_on_epoll() {
    check(60, 30_000, |_| Rig::real(EngineKind::Epoll));
}

#[test]
fn bytes_out_are_bytes_in_on_io_uring() {
    check(60, 30_000, |_| Rig::real(EngineKind::IoUring));
}
