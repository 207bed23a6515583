//! In turn, smoothly by weight: one cursor for all workers over a sequence that is worked out beforehand.

use super::Draw;
use crate::endpoint::FULL;

/// Turns that are passed over before those that are available are asked instead.
const TURNS: usize = 64;
/// 2^64 over the golden ratio: its multiples fill an interval evenly, whichever of them are picked.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

pub(super) fn choose(draw: &mut Draw<'_>) -> Option<usize> {
    if draw.pool.places().is_empty() {
        return None;
    }
    let sequence = draw.tier.sequence();
    let mut turn = 0;
    // Those that are passed over use up their turns, so that the others keep their shares among themselves.
    for _ in 0..TURNS {
        turn = draw.set.next_turn();
        let place = sequence[(turn % sequence.len() as u64) as usize];
        if takes_turn(draw, place, turn)
            && let Some(place) = draw.take(place)
        {
            return Some(place);
        }
    }
    // Nearly all are down, or at the beginning of their slow start.
    let point = (u128::from(turn.wrapping_mul(GOLDEN)) * u128::from(draw.pool.weight())) >> 64;
    draw.take_around(draw.pool.at(point as u64))
}

/// During its slow start an endpoint takes a part of its turns.
fn takes_turn(draw: &Draw<'_>, place: u32, turn: u64) -> bool {
    if !draw.pool.is_growing() {
        return true;
    }
    let full = u64::from(draw.endpoint(place).weight()) * u64::from(FULL);
    (turn.wrapping_mul(GOLDEN) >> 32) * full < u64::from(draw.pool.weight_of(place)) << 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringway::Time;

    use super::super::testing::{balancer, counts, workers};
    use crate::endpoint::Health;
    use crate::model::Balance;

    proptest! {
        #[test]
        fn every_stretch_holds_each_endpoint_nearly_by_its_weight(
            weights in prop::collection::vec(1u16..=20, 1..6),
            length in 1usize..100,
        ) {
            let backends: Vec<_> = weights.iter().map(|weight| (*weight, false)).collect();
            let mut balancer = balancer(Balance::RoundRobin, &backends);
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
        let mut workers = workers(Balance::RoundRobin, &[(5, false), (3, false), (2, false)], 4);
        std::thread::scope(|scope| {
            for balancer in &mut workers {
                scope.spawn(|| {
                    for _ in 0..250 {
                        balancer.choose(&[]).expect("all are available");
                    }
                });
            }
        });
        assert_eq!(counts(&workers[0]), [500, 300, 200]);
    }

    #[test]
    fn turns_of_an_endpoint_that_is_down_are_shared_by_all_others() {
        let mut balancer = balancer(Balance::RoundRobin, &[(1, false); 3]);
        balancer.set().endpoints()[1].set_health(Health::Down, None, Time::ZERO);
        for _ in 0..100 {
            balancer.choose(&[]).expect("two are available");
        }
        assert_eq!(counts(&balancer), [50, 0, 50]);
    }

    #[test]
    fn the_few_of_thousands_that_are_up_share_by_weight() {
        let mut backends = vec![(1, false); 3_000];
        backends[2_000].0 = 3;
        let mut balancer = balancer(Balance::RoundRobin, &backends);
        for (place, endpoint) in balancer.set().endpoints().iter().enumerate() {
            if place % 1_000 != 0 {
                endpoint.set_health(Health::Down, None, Time::ZERO);
            }
        }
        for _ in 0..5_000 {
            balancer.choose(&[]).expect("three are available");
        }
        let counts = counts(&balancer);
        for (place, ideal) in [(0, 1_000), (1_000, 1_000), (2_000, 3_000)] {
            assert!(counts[place].abs_diff(ideal) < 200, "{} instead of {ideal}", counts[place]);
        }
    }
}
