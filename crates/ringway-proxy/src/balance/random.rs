//! At random by weight.

use super::Draw;

/// Draws before the next one in order is taken: only endpoints that were tried already are drawn in vain.
const DRAWS: usize = 8;

pub(super) fn choose(draw: &mut Draw<'_>) -> Option<usize> {
    let mut index = draw.draw()?;
    for _ in 0..DRAWS {
        if let Some(place) = draw.take(draw.pool.places()[index]) {
            return Some(place);
        }
        index = draw.draw()?;
    }
    draw.take_around(index)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{balancer, counts};
    use crate::model::Balance;

    #[test]
    fn shares_follow_the_weights_and_the_seed_repeats_them() {
        let run = || {
            let mut balancer = balancer(Balance::Random, &[(1, false), (2, false), (7, false)]);
            for _ in 0..10_000 {
                balancer.choose(&[]).expect("all are available");
            }
            counts(&balancer)
        };
        let counts = run();
        for (count, ideal) in counts.iter().zip([1_000, 2_000, 7_000]) {
            assert!(count.abs_diff(ideal) < 200, "{counts:?}");
        }
        assert_eq!(counts, run());
    }
}
