//! In turn, smoothly by weight: one cursor for all workers over a sequence that is worked out beforehand.
//!
//! The sequence spreads each endpoint evenly: the n-th turn of one with weight w lies at (2n + 1) / w, the divisors
//! by which Sainte-Laguë shares seats. So each stretch holds each endpoint nearly as often as its weight says.

use crate::endpoint::{Endpoint, EndpointSet};

/// The method: its sequence. The cursor is in the set.
#[derive(Debug)]
pub(super) struct RoundRobin {
    /// Places in the set, each as often as its weight over the greatest common divisor of all.
    sequence: Vec<u32>,
}

impl RoundRobin {
    pub(super) fn new(set: &EndpointSet, places: &[usize]) -> Self {
        let weight = |place: usize| u32::from(set.endpoints()[place].weight());
        let divisor =
            places.iter().fold(0, |divisor, place| greatest_common_divisor(divisor, weight(*place)));
        let mut turns: Vec<(u32, u32, u32)> = Vec::new();
        for &place in places {
            let count = weight(place) / divisor;
            let place = u32::try_from(place).expect("fewer endpoints than addresses");
            turns.extend((0..count).map(|turn| (2 * turn + 1, count, place)));
        }
        turns.sort_by(|(one, one_count, one_place), (two, two_count, two_place)| {
            let (left, right) =
                (u64::from(*one) * u64::from(*two_count), u64::from(*two) * u64::from(*one_count));
            left.cmp(&right).then(one_place.cmp(two_place))
        });
        Self { sequence: turns.into_iter().map(|(_, _, place)| place).collect() }
    }

    pub(super) fn choose(&self, set: &EndpointSet, may: &dyn Fn(&Endpoint) -> bool) -> Option<usize> {
        let available = |place: &u32| may(&set.endpoints()[*place as usize]);
        if !self.sequence.iter().any(available) {
            return None;
        }
        // Those that are passed over use up their turns, so that the others keep their shares among themselves.
        // Other workers take turns in between: once around may miss an available one, hence the second look.
        let turns = (0..self.sequence.len()).map(|_| &self.sequence[set.next_turn(self.sequence.len())]);
        let place =
            turns.chain(&self.sequence).find(|place| available(place)).map(|place| *place as usize)?;
        set.endpoints()[place].active().acquire();
        Some(place)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringway::Time;

    use super::super::tests::balancer;
    use crate::endpoint::Health;
    use crate::model::Balance;

    proptest! {
        #[test]
        fn every_stretch_holds_each_endpoint_nearly_by_its_weight(
            weights in prop::collection::vec(1u16..=20, 1..6),
            length in 1usize..100,
        ) {
            let backends: Vec<_> = weights.iter().map(|weight| (*weight, false)).collect();
            let balancer = balancer(Balance::RoundRobin, &backends);
            for _ in 0..length {
                balancer.choose(&[]).expect("all are available");
            }
            let sum: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
            for (endpoint, weight) in balancer.set().endpoints().iter().zip(&weights) {
                let ideal = length as f64 * f64::from(*weight) / f64::from(sum);
                let real = f64::from(endpoint.active().get());
                prop_assert!((ideal - real).abs() < 2.0, "{real} turns instead of {ideal}");
            }
        }
    }

    #[test]
    fn one_round_of_all_workers_gives_each_endpoint_exactly_its_weight() {
        let balancer = balancer(Balance::RoundRobin, &[(5, false), (3, false), (2, false)]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..250 {
                        balancer.choose(&[]).expect("all are available");
                    }
                });
            }
        });
        let counts: Vec<u32> = balancer.set().endpoints().iter().map(|e| e.active().get()).collect();
        assert_eq!(counts, [500, 300, 200]);
    }

    #[test]
    fn turns_of_an_endpoint_that_is_down_are_shared_by_all_others() {
        let balancer = balancer(Balance::RoundRobin, &[(1, false); 3]);
        balancer.set().endpoints()[1].set_health(Health::Down, None, Time::ZERO);
        for _ in 0..100 {
            balancer.choose(&[]).expect("two are available");
        }
        let counts: Vec<u32> = balancer.set().endpoints().iter().map(|e| e.active().get()).collect();
        assert_eq!(counts, [50, 0, 50]);
    }

    #[test]
    fn equal_weights_make_a_short_sequence() {
        let balancer = balancer(Balance::RoundRobin, &[(200, false), (200, false)]);
        let order: Vec<_> = (0..4).map(|_| balancer.choose(&[])).collect();
        assert_eq!(order, [Some(0), Some(1), Some(0), Some(1)]);
    }
}
