//! Timers and wake-ups.

use std::time::Duration;

use ringway_engine::Token;

use crate::contract;
use crate::log::Seen;
use crate::rig::Rig;

contract!(
    timers_fire_in_order_never_early,
    timer_in_the_past_fires_later_not_at_once,
    cancelled_timer_is_silent,
    timer_cancelled_by_another_of_the_same_moment_is_silent,
    far_and_near_timers_live_together,
    waker_wakes_once_for_many_calls,
    waker_works_from_another_thread,
);

fn fired(token: u32) -> impl Fn(&Seen) -> bool {
    move |seen| matches!(seen, Seen::Timer { token: Token(t), .. } if *t == token)
}

fn timers_fire_in_order_never_early(rig: &mut Rig) {
    let node = rig.node();
    let now = rig.ops(node).now();
    // More than the coarseness apart.
    let delays = [60u64, 20, 100, 40, 80];
    for (index, delay) in delays.into_iter().enumerate() {
        rig.ops(node).set_timer(now + Duration::from_millis(delay), Token(index as u32));
    }
    for (index, delay) in delays.into_iter().enumerate() {
        rig.until("a timer", |rig| rig.log(node).has(fired(index as u32)));
        assert!(rig.ops(node).now() >= now + Duration::from_millis(delay));
    }
    let order: Vec<_> = rig
        .log(node)
        .seen
        .iter()
        .map(|seen| match seen {
            Seen::Timer { token, .. } => token.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [1, 3, 0, 4, 2]);
}

fn timer_in_the_past_fires_later_not_at_once(rig: &mut Rig) {
    let node = rig.node();
    let past = rig.ops(node).now() - Duration::from_secs(5);
    rig.ops(node).set_timer(past, Token(1));
    assert!(rig.log(node).seen.is_empty());
    rig.until("the timer", |rig| rig.log(node).has(fired(1)));
}

fn cancelled_timer_is_silent(rig: &mut Rig) {
    let node = rig.node();
    let now = rig.ops(node).now();
    let cancelled = rig.ops(node).set_timer(now + Duration::from_millis(5), Token(1));
    rig.ops(node).cancel_timer(cancelled);
    rig.ops(node).set_timer(now + Duration::from_millis(30), Token(2));
    rig.until("the later timer", |rig| rig.log(node).has(fired(2)));
    assert!(!rig.log(node).has(fired(1)));
}

fn timer_cancelled_by_another_of_the_same_moment_is_silent(rig: &mut Rig) {
    let node = rig.node();
    let at = rig.ops(node).now() + Duration::from_millis(10);
    let timers = [rig.ops(node).set_timer(at, Token(0)), rig.ops(node).set_timer(at, Token(1))];
    rig.log_mut(node).hook = Some(Box::new(move |ops, seen| {
        if let Seen::Timer { token: Token(token @ 0..=1), .. } = seen {
            ops.cancel_timer(timers[1 - *token as usize]);
        }
    }));
    rig.until("one timer", |rig| !rig.log(node).seen.is_empty());
    rig.settle();
    assert_eq!(rig.log(node).seen.len(), 1);
}

fn far_and_near_timers_live_together(rig: &mut Rig) {
    let node = rig.node();
    let now = rig.ops(node).now();
    let far: Vec<_> = (1..200)
        .map(|hours| rig.ops(node).set_timer(now + Duration::from_secs(3600 * hours), Token(9)))
        .collect();
    rig.ops(node).set_timer(now + Duration::from_millis(20), Token(1));
    rig.until("the near timer", |rig| rig.log(node).has(fired(1)));
    for timer in far {
        rig.ops(node).cancel_timer(timer);
    }
    rig.settle();
    assert!(!rig.log(node).has(fired(9)));
}

fn waker_wakes_once_for_many_calls(rig: &mut Rig) {
    let node = rig.node();
    let waker = rig.engine(node).waker();
    for _ in 0..5 {
        waker.wake();
    }
    rig.until("Woken", |rig| rig.log(node).has(|seen| *seen == Seen::Woken));
    rig.settle();
    assert_eq!(rig.log(node).count(|seen| *seen == Seen::Woken), 1);
    waker.wake();
    rig.until("Woken again", |rig| rig.log(node).count(|seen| *seen == Seen::Woken) == 2);
}

fn waker_works_from_another_thread(rig: &mut Rig) {
    let node = rig.node();
    let waker = rig.engine(node).waker();
    std::thread::spawn(move || waker.wake()).join().expect("the thread");
    rig.until("Woken", |rig| rig.log(node).has(|seen| *seen == Seen::Woken));
}
