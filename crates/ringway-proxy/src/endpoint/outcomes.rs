//! How the connections to an endpoint went lately, counted over all workers. Pure: functions of `now`.
//!
//! A window moves on in steps. Each step is one word that holds its own number, so that whoever comes first in a new one
//! takes the place of what is too old, and counting is a load and an addition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringway::Time;

/// A window is forgotten in eighths: coarser would be felt, finer costs memory of every endpoint.
const STEPS: u64 = 8;
/// Two counts of twenty bits, and the number of the step in the other 24, above them.
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const STEP_SHIFT: u32 = 2 * COUNT_BITS;
const STEP_MASK: u64 = (1 << (64 - STEP_SHIFT)) - 1;
/// From here on a step counts no further, far enough below the mask for all workers to have looked before any has
/// added: more than a quarter of a million connections a second in the default window.
const COUNT_MAX: u64 = COUNT_MASK - 4_096;

/// How many connections there were, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Of the connections, those that failed.
    pub failed: u32,
    /// Connections that were opened, or could not be.
    pub connections: u32,
}

/// What is counted of one connection, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was opened.
    Opened,
    /// It could not be opened.
    NotOpened,
    /// It was opened, and counted as that, and then it failed.
    FailedLater,
}

/// The outcomes of a window that ends now.
#[derive(Debug, Default)]
pub(super) struct Outcomes([AtomicU64; STEPS as usize]);

impl Outcomes {
    pub(super) fn add(&self, outcome: Outcome, window: Duration, now: Time) {
        let one = match outcome {
            Outcome::Opened => 1,
            Outcome::NotOpened => 1 << COUNT_BITS | 1,
            Outcome::FailedLater => 1 << COUNT_BITS,
        };
        let step = step_of(window, now);
        let slot = &self.0[(step % STEPS) as usize];
        let mut word = slot.load(Ordering::Relaxed);
        loop {
            if word >> STEP_SHIFT == step {
                if word & COUNT_MASK < COUNT_MAX && (word >> COUNT_BITS) & COUNT_MASK < COUNT_MAX {
                    slot.fetch_add(one, Ordering::Relaxed);
                }
                return;
            }
            let first = step << STEP_SHIFT | one;
            match slot.compare_exchange(word, first, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                // Another one was first in this step; each turn of the loop means that one got on.
                Err(other) => word = other,
            }
        }
    }

    /// Those of the last seven to eight eighths of the window.
    pub(super) fn tally(&self, window: Duration, now: Time) -> Tally {
        let step = step_of(window, now);
        let (mut failed, mut connections) = (0, 0);
        for slot in &self.0 {
            let word = slot.load(Ordering::Relaxed);
            if distance(step, word >> STEP_SHIFT) < STEPS {
                failed += (word >> COUNT_BITS) & COUNT_MASK;
                connections += word & COUNT_MASK;
            }
        }
        // Eight times twenty bits are 23. What failed late may have been opened before the window.
        Tally { failed: failed.min(connections) as u32, connections: connections as u32 }
    }

    /// All that is counted, for another window of the same length; `None` if nothing is.
    pub(super) fn words(&self) -> Option<Vec<u64>> {
        let words: Vec<u64> = self.0.iter().map(|slot| slot.load(Ordering::Relaxed)).collect();
        words.iter().any(|word| *word != 0).then_some(words)
    }

    /// Goes on from what [`words`](Self::words) gave.
    pub(super) fn set_words(&self, words: &[u64]) {
        self.0.iter().zip(words).for_each(|(slot, word)| slot.store(*word, Ordering::Relaxed));
    }

    /// Nothing is known any more.
    pub(super) fn clear(&self) {
        self.0.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
    }
}

fn step_of(window: Duration, now: Time) -> u64 {
    let length = (window / STEPS as u32).as_nanos().max(1);
    (u128::from(now.as_nanos()) / length) as u64 & STEP_MASK
}

/// How many steps `step` is after `other`; numbers begin anew after 24 bits.
fn distance(step: u64, other: u64) -> u64 {
    step.wrapping_sub(other) & STEP_MASK
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(8);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    proptest! {
        #[test]
        fn a_tally_has_all_of_seven_eighths_of_the_window_and_nothing_older_than_all_of_it(
            start in 0u64..1 << 40,
            events in prop::collection::vec((0u64..1_500, 0..3u8), 1..60),
        ) {
            let outcomes = Outcomes::default();
            let (mut now, mut opened, mut failed) = (start, Vec::new(), Vec::new());
            for (pause, kind) in events {
                now += pause;
                let outcome = [Outcome::Opened, Outcome::NotOpened, Outcome::FailedLater][usize::from(kind)];
                outcomes.add(outcome, WINDOW, at(now));
                if outcome != Outcome::FailedLater {
                    opened.push(now);
                }
                if outcome != Outcome::Opened {
                    failed.push(now);
                }
                let since = |moments: &[u64], span: u64| {
                    moments.iter().filter(|moment| **moment + span > now).count() as u32
                };
                let tally = outcomes.tally(WINDOW, at(now));
                prop_assert!(tally.connections >= since(&opened, 7_000));
                prop_assert!(tally.connections <= since(&opened, 8_000));
                prop_assert!(tally.failed >= since(&failed, 7_000).min(tally.connections));
                prop_assert!(tally.failed <= since(&failed, 8_000));
            }
        }
    }

    #[test]
    fn nothing_is_lost_when_many_workers_count_at_once() {
        let outcomes = Arc::new(Outcomes::default());
        let count = |outcome| {
            let outcomes = Arc::clone(&outcomes);
            std::thread::spawn(move || {
                (0..10_000).for_each(|_| outcomes.add(outcome, WINDOW, at(100)));
            })
        };
        let threads = [Outcome::Opened, Outcome::NotOpened, Outcome::Opened, Outcome::FailedLater].map(count);
        threads.into_iter().for_each(|thread| thread.join().expect("it counts"));
        assert_eq!(outcomes.tally(WINDOW, at(100)), Tally { failed: 20_000, connections: 30_000 });
        outcomes.clear();
        assert_eq!(outcomes.tally(WINDOW, at(100)), Tally::default());
    }

    #[test]
    fn a_step_that_is_full_counts_no_further_and_spoils_no_other_count() {
        let outcomes = Outcomes::default();
        outcomes.0[1].store(1 << STEP_SHIFT | COUNT_MAX, Ordering::Relaxed);
        (0..10_000).for_each(|_| outcomes.add(Outcome::NotOpened, WINDOW, at(1_000)));
        let full = Tally { failed: 0, connections: COUNT_MAX as u32 };
        assert_eq!(outcomes.tally(WINDOW, at(1_000)), full);
    }
}
