//! The timer wheel against a plain map: nothing fires early, late, twice, or after it was cancelled.
#![no_main]
#![allow(dead_code, reason = "the engine's own files are compiled here, and not all of them is used")]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/ringway-engine/src/id.rs"]
mod id;
#[path = "../../crates/ringway-engine/src/time.rs"]
mod time;
#[path = "../../crates/ringway-engine/src/timer.rs"]
mod timer;

pub use id::{TimerId, Token};
pub use time::Time;

/// A tick and a bit: no timer fires later than that.
const LATE_NANOS_MAX: u64 = 2 << 22;
/// Timers farther away may fire early (see `timer`), so none is set there.
const AHEAD_NANOS_MAX: u64 = 50 * 24 * 3600 * 1_000_000_000;

#[derive(Arbitrary, Debug)]
enum Operation {
    Set(u64),
    SetSoon(u32),
    Cancel(u8),
    Advance(u64),
    AdvanceLittle(u32),
    AdvanceToDeadline,
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut now = 0;
    let mut wheel = timer::TimerWheel::new(Time::ZERO);
    // By token: the moment and the timer.
    let mut pending: BTreeMap<u32, (u64, TimerId)> = BTreeMap::new();
    let mut next_token = 0;
    for operation in operations {
        match operation {
            Operation::Set(ahead) => {
                set(&mut wheel, &mut pending, &mut next_token, now + ahead % AHEAD_NANOS_MAX)
            }
            Operation::SetSoon(ahead) => {
                set(&mut wheel, &mut pending, &mut next_token, now + u64::from(ahead))
            }
            Operation::Cancel(place) => {
                let token = pending.keys().nth(usize::from(place)).copied();
                if let Some((_, timer)) = token.and_then(|token| pending.remove(&token)) {
                    wheel.cancel(timer);
                }
            }
            Operation::Advance(by) => now += by % AHEAD_NANOS_MAX,
            Operation::AdvanceLittle(by) => now += u64::from(by),
            Operation::AdvanceToDeadline => {
                now = wheel.next_deadline().map_or(now, |deadline| now.max(deadline.as_nanos()));
            }
        }
        while let Some((_, Token(token))) = wheel.pop(Time::from_nanos(now)) {
            let (at, _) = pending.remove(&token).expect("only what is pending fires, and once");
            assert!(at <= now, "{at} fired early, at {now}");
        }
        for (at, _) in pending.values() {
            assert!(now.saturating_sub(*at) <= LATE_NANOS_MAX, "{at} has not fired at {now}");
        }
        if let Some(first) = pending.values().map(|(at, _)| *at).min() {
            let deadline = wheel.next_deadline().expect("timers are set");
            assert!(
                deadline.as_nanos() <= first.max(now) + LATE_NANOS_MAX,
                "the deadline is too late for {first}"
            );
        }
    }
});

fn set(
    wheel: &mut timer::TimerWheel,
    pending: &mut BTreeMap<u32, (u64, TimerId)>,
    next_token: &mut u32,
    at: u64,
) {
    let timer = wheel.set(Time::from_nanos(at), Token(*next_token));
    pending.insert(*next_token, (at, timer));
    *next_token += 1;
}
