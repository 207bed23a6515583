//! Of two at random by weight the one that is less full for its weight.
//!
//! Nearly as even as least-connections, and nothing is looked at but two endpoints; several load balancers that do
//! not know of each other do not all run to the same backend. Source: Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing" (2001).

use super::Draw;

/// Draws for a second one that is not the first.
const DRAWS: usize = 4;

pub(super) fn choose(draw: &mut Draw<'_>) -> Option<usize> {
    let one = draw.draw()?;
    let mut two = draw.draw()?;
    for _ in 0..DRAWS {
        if two != one {
            break;
        }
        two = draw.draw()?;
    }
    let places = draw.pool.places();
    let (first, second) = match draw.fullness(places[two]) < draw.fullness(places[one]) {
        true => (two, one),
        false => (one, two),
    };
    draw.take(places[first]).or_else(|| draw.take(places[second])).or_else(|| draw.take_around(second))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{balancer, counts};
    use crate::model::Balance;

    #[test]
    fn connections_that_stay_are_spread_far_more_evenly_than_by_chance() {
        let mut balancer = balancer(Balance::TwoChoices, &[(1, false); 100]);
        for _ in 0..10_000 {
            balancer.choose(&[]).expect("all are available");
        }
        // By chance alone the fullest has some 125, by the better of two about log log n more than the mean.
        let counts = counts(&balancer);
        assert!(counts.iter().all(|count| (94..=105).contains(count)), "{counts:?}");
    }

    #[test]
    fn weights_count() {
        let mut balancer = balancer(Balance::TwoChoices, &[(1, false), (3, false), (1, false), (3, false)]);
        for _ in 0..8_000 {
            balancer.choose(&[]).expect("all are available");
        }
        for (count, ideal) in counts(&balancer).into_iter().zip([1_000u32, 3_000, 1_000, 3_000]) {
            assert!(count.abs_diff(ideal) < 100, "{count} instead of {ideal}");
        }
    }
}
