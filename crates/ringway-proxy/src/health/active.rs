//! When the next active check of an endpoint is due, and what its result means. Pure: driven by `prober`.

use std::time::Duration;

use ringway::Time;

use crate::balance::table::Random;
use crate::endpoint::Health;
use crate::model;

/// Results of the checks of one endpoint, and when they are due.
#[derive(Clone, Debug)]
pub struct ActiveCheck {
    rise: u32,
    fall: u32,
    interval: Duration,
    jitter: f64,
    random: Random,
    good_in_a_row: u32,
    bad_in_a_row: u32,
    has_result: bool,
}

impl ActiveCheck {
    /// Nothing is known yet. `seed` decides the jitter.
    pub fn new(health: &model::Health, seed: u64) -> Self {
        Self {
            rise: health.rise.max(1),
            fall: health.fall.max(1),
            interval: health.interval,
            jitter: health.jitter.clamp(0.0, 1.0),
            random: Random::new(seed),
            good_in_a_row: 0,
            bad_in_a_row: 0,
            has_result: false,
        }
    }

    /// When the first check starts: spread by the jitter, so that many endpoints are not all dialled at once.
    pub fn first(&mut self, now: Time) -> Time {
        let spread = self.interval.mul_f64(self.jitter * self.random.share());
        now + spread
    }

    /// When the check after the one that started at `started` starts: an interval later, moved to either side by up
    /// to the jitter; never before `now`.
    pub fn next(&mut self, started: Time, now: Time) -> Time {
        let factor = 1.0 + self.jitter * (2.0 * self.random.share() - 1.0);
        // An interval moved to nothing must not become a busy loop.
        let pause = self.interval.mul_f64(factor).max(Duration::from_millis(1));
        (started + pause).max(now)
    }

    /// What the result of a check makes of an endpoint whose health is `current`; `None`: nothing changes.
    ///
    /// The very first result decides alone, so that a backend that is down at start is not dialled for long. One good
    /// check takes back an endpoint that was ejected for a failed dial.
    pub fn handle_result(&mut self, is_good: bool, current: Health) -> Option<Health> {
        let is_first = !std::mem::replace(&mut self.has_result, true);
        let new = match is_good {
            true => {
                self.bad_in_a_row = 0;
                self.good_in_a_row = self.good_in_a_row.saturating_add(1);
                match current {
                    Health::Down if !is_first && self.good_in_a_row < self.rise => Health::Down,
                    Health::Up | Health::Down | Health::Ejected => Health::Up,
                }
            }
            false => {
                self.good_in_a_row = 0;
                self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
                if is_first || self.bad_in_a_row >= self.fall { Health::Down } else { current }
            }
        };
        (new != current).then_some(new)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Check;

    const GOOD: bool = true;
    const BAD: bool = false;

    fn check(rise: u32, fall: u32) -> ActiveCheck {
        let interval = Duration::from_secs(2);
        let timeout = Duration::from_secs(1);
        ActiveCheck::new(
            &model::Health { check: Check::Tcp, interval, timeout, rise, fall, ..model::Health::default() },
            7,
        )
    }

    /// Feeds `results` and gives the health after each.
    fn run(check: &mut ActiveCheck, mut health: Health, results: &[bool]) -> Vec<Health> {
        let step = |result: &bool| {
            health = check.handle_result(*result, health).unwrap_or(health);
            health
        };
        results.iter().map(step).collect()
    }

    #[test]
    fn endpoint_falls_after_so_many_bad_checks_and_rises_after_so_many_good_ones() {
        use Health::{Down, Up};
        let seen = run(&mut check(2, 3), Up, &[GOOD, BAD, BAD, BAD, GOOD, GOOD]);
        assert_eq!(seen, [Up, Up, Up, Down, Down, Up]);
    }

    #[test]
    fn results_that_alternate_change_nothing() {
        let mut check = check(2, 2);
        assert_eq!(check.handle_result(GOOD, Health::Up), None);
        for _ in 0..10 {
            assert_eq!(check.handle_result(BAD, Health::Up), None);
            assert_eq!(check.handle_result(GOOD, Health::Up), None);
        }
    }

    #[test]
    fn first_result_decides_alone() {
        assert_eq!(check(2, 3).handle_result(BAD, Health::Up), Some(Health::Down));
        assert_eq!(check(2, 3).handle_result(GOOD, Health::Down), Some(Health::Up));
    }

    #[test]
    fn one_good_check_takes_back_what_a_failed_dial_ejected() {
        use Health::{Ejected, Up};
        assert_eq!(run(&mut check(5, 3), Up, &[GOOD]), [Up]);
        let mut check = check(5, 3);
        assert_eq!(run(&mut check, Ejected, &[GOOD, BAD]), [Up, Up]);
        assert_eq!(run(&mut check, Ejected, &[BAD, GOOD]), [Ejected, Up]);
    }

    proptest! {
        #[test]
        fn next_check_is_an_interval_later_moved_by_no_more_than_the_jitter(seed: u64, jitter in 0.0f64..=1.0) {
            let interval = Duration::from_secs(2);
            let mut check = check(2, 3);
            check.jitter = jitter;
            check.random = Random::new(seed);
            let started = Time::from_nanos(1_000_000_000);
            for _ in 0..20 {
                let pause = check.next(started, started).since(started);
                prop_assert!(pause >= interval.mul_f64((1.0 - jitter).max(0.0)));
                prop_assert!(pause <= interval.mul_f64(1.0 + jitter) + Duration::from_nanos(1));
                prop_assert!(pause >= Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn check_that_took_longer_than_its_interval_is_followed_at_once() {
        let late = Time::from_nanos(60_000_000_000);
        assert_eq!(check(2, 3).next(Time::ZERO, late), late);
    }
}
