//! Which workers give connections to which, so that all have about as many.
//!
//! The kernel spreads new connections over the workers by chance, and they end when they like: in time one worker may
//! carry many and another few. Pure: counts in, transfers out; `control` asks the workers.

/// The most connections that a worker gives or gets in one round: at some 15 µs each, a millisecond.
pub const MOVES_MAX: u64 = 64;
/// Differences up to this are left alone, ...
const TOLERATED_MIN: u64 = 16;
/// ... and up to this part of what a worker has on average: chance alone brings about less.
const TOLERATED_PART: u64 = 8;

/// Connections that are to go from one worker to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Number of the worker that gives.
    pub from: usize,
    /// Number of the worker that gets.
    pub to: usize,
    /// How many; fewer go if fewer are idle.
    pub count: u64,
}

/// The transfers of one round between workers that have so many connections: none while they differ by little. Nobody
/// comes below the average by giving, or above it by getting, so that no round undoes another.
pub fn plan(open: &[u64]) -> Vec<Transfer> {
    let (Some(least), Some(most)) = (open.iter().min(), open.iter().max()) else { return Vec::new() };
    let (total, workers) = (open.iter().sum::<u64>(), open.len() as u64);
    let (floor, ceiling) = (total / workers, total.div_ceil(workers));
    if most - least <= TOLERATED_MIN.max(floor / TOLERATED_PART) {
        return Vec::new();
    }
    let mut givers = distances(open, |open| open.saturating_sub(ceiling));
    let mut takers = distances(open, |open| floor.saturating_sub(open));
    let mut transfers = Vec::new();
    while let (Some(giver), Some(taker)) = (givers.last_mut(), takers.last_mut()) {
        let count = giver.1.min(taker.1);
        transfers.push(Transfer { from: giver.0, to: taker.0, count });
        giver.1 -= count;
        taker.1 -= count;
        givers.pop_if(|(_, left)| *left == 0);
        takers.pop_if(|(_, left)| *left == 0);
    }
    transfers
}

/// Workers that are off the average, with how much of that one round mends; the farthest last.
fn distances(open: &[u64], of: impl Fn(u64) -> u64) -> Vec<(usize, u64)> {
    let mut distances: Vec<(usize, u64)> =
        open.iter().map(|open| of(*open)).enumerate().filter(|(_, distance)| *distance > 0).collect();
    distances.sort_by_key(|(_, distance)| *distance);
    distances.into_iter().map(|(worker, distance)| (worker, distance.min(MOVES_MAX))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spread(open: &[u64]) -> u64 {
        open.iter().max().expect("workers") - open.iter().min().expect("workers")
    }

    fn is_even(open: &[u64]) -> bool {
        spread(open) <= TOLERATED_MIN.max(open.iter().sum::<u64>() / open.len() as u64 / TOLERATED_PART)
    }

    #[test]
    fn the_fullest_gives_to_the_emptiest_and_little_differences_are_left_alone() {
        assert_eq!(plan(&[]), []);
        assert_eq!(plan(&[5_000]), []);
        assert_eq!(plan(&[16, 0]), []);
        assert_eq!(plan(&[1_050, 950]), []);
        assert_eq!(plan(&[17, 0]), [Transfer { from: 0, to: 1, count: 8 }]);
        assert_eq!(plan(&[0, 9_000]), [Transfer { from: 1, to: 0, count: MOVES_MAX }]);
        assert_eq!(
            plan(&[100, 0, 30, 300]),
            [Transfer { from: 3, to: 1, count: MOVES_MAX }],
            "nobody else is above the average"
        );
    }

    proptest! {
        /// However many of those that a round names are idle.
        #[test]
        fn rounds_are_bounded_never_undo_each_other_and_end_even(
            mut open in prop::collection::vec(0u64..20_000, 1..17),
            idle in prop::collection::vec(0u64..=MOVES_MAX, 1..50),
        ) {
            let total: u64 = open.iter().sum();
            let average = |open: &[u64]| total / open.len() as u64;
            let rounds_max = open.iter().max().expect("one") / MOVES_MAX + 1;
            let mut has_given = vec![false; open.len()];
            let mut has_got = vec![false; open.len()];
            let all_idle = std::iter::repeat(u64::MAX);
            for (round, idle) in idle.into_iter().chain(all_idle).enumerate() {
                let before = spread(&open);
                let transfers = plan(&open);
                if transfers.is_empty() {
                    break;
                }
                prop_assert!(round as u64 <= 50 + rounds_max * open.len() as u64, "no end: {open:?}");
                let mut moved = vec![0; open.len()];
                for Transfer { from, to, count } in transfers {
                    prop_assert!(count > 0 && from != to);
                    moved[from] += count;
                    moved[to] += count;
                    let count = count.min(idle);
                    open[from] -= count;
                    open[to] += count;
                    has_given[from] = true;
                    has_got[to] = true;
                    prop_assert!(open[from] >= average(&open) && open[to] <= average(&open));
                }
                prop_assert!(moved.iter().all(|count| *count <= MOVES_MAX), "{moved:?}");
                prop_assert!(spread(&open) <= before);
            }
            prop_assert!(is_even(&open), "{open:?}");
            prop_assert_eq!(open.iter().sum::<u64>(), total);
            prop_assert!(!has_given.iter().zip(&has_got).any(|(gave, got)| *gave && *got));
        }
    }
}
