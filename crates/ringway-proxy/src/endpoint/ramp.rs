//! Slow start: an endpoint that came up or joined begins with a part of its weight. Pure: a function of `now`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringway::Time;

/// What one unit of weight is worth: effective weights are in 256ths.
pub(crate) const FULL: u32 = 256;
/// Where it begins, as a part of [`FULL`]: a tenth, as less would hardly be noticed and more is no slow start.
const FLOOR: u32 = FULL / 10;
/// The weight grows in so many steps: tables are looked over once for each, and none is felt.
const STEPS: u32 = 64;

const FULL_FROM_THE_START: u64 = u64::MAX;
const NOT_SEEN_YET: u64 = u64::MAX - 1;

/// When an endpoint began to take part.
#[derive(Debug)]
pub(super) struct Ramp(AtomicU64);

impl Ramp {
    /// Of an endpoint that was there when its app started.
    pub(super) fn full() -> Self {
        Self(AtomicU64::new(FULL_FROM_THE_START))
    }

    /// Of an endpoint that joined: it begins when it is first looked at.
    pub(super) fn joined() -> Self {
        Self(AtomicU64::new(NOT_SEEN_YET))
    }

    /// It came up.
    pub(super) fn begin(&self, now: Time) {
        self.0.store(now.as_nanos().min(NOT_SEEN_YET - 1), Ordering::Relaxed);
    }

    /// The part of its weight that it has, from a tenth of [`FULL`] to [`FULL`].
    pub(super) fn part(&self, slow_start: Duration, now: Time) -> u32 {
        let mut began = self.0.load(Ordering::Relaxed);
        if began == NOT_SEEN_YET {
            let first = now.as_nanos().min(NOT_SEEN_YET - 1);
            // Another worker may have been the first.
            began = match self.0.compare_exchange(began, first, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => first,
                Err(seen) => seen,
            };
        }
        if began == FULL_FROM_THE_START || slow_start.is_zero() {
            return FULL;
        }
        let elapsed = now.since(Time::from_nanos(began));
        if elapsed >= slow_start {
            return FULL;
        }
        let step = elapsed.as_nanos() * u128::from(STEPS) / slow_start.as_nanos();
        let grown = (FULL - FLOOR) * u32::try_from(step).unwrap_or(STEPS) / STEPS;
        FLOOR + grown
    }
}

/// How long a weight stays as it is.
pub(crate) fn step(slow_start: Duration) -> Duration {
    (slow_start / STEPS).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD: Duration = Duration::from_secs(30);

    proptest! {
        #[test]
        fn weight_only_grows_from_a_tenth_to_full(began in 0u64..1 << 40, times in prop::collection::vec(0u64..40_000, 1..50)) {
            let ramp = Ramp::full();
            let began = Time::from_nanos(began);
            ramp.begin(began);
            let mut times = times;
            times.sort_unstable();
            let mut before = FLOOR;
            for millis in times {
                let part = ramp.part(PERIOD, began + Duration::from_millis(millis));
                prop_assert!((before..=FULL).contains(&part));
                prop_assert_eq!(part == FULL, millis >= 30_000);
                before = part;
            }
        }
    }

    #[test]
    fn who_was_there_at_the_start_has_full_weight_and_who_joins_begins_when_first_seen() {
        let late = Time::from_nanos(90_000_000_000);
        assert_eq!(Ramp::full().part(PERIOD, late), FULL);
        let joined = Ramp::joined();
        assert_eq!(joined.part(PERIOD, late), FLOOR);
        assert_eq!(joined.part(PERIOD, late + PERIOD), FULL);
        assert!((130..150).contains(&joined.part(PERIOD, late + PERIOD / 2)));
    }
}
