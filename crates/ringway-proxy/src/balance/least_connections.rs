//! The fewest open connections for their weight, exactly.
//!
//! The choice counts only if the count it was made on still holds when it is taken (compare-and-swap); else all are
//! looked at again. Counts that only grow are then never further apart, by weight, than one connection, however many
//! workers open at once: whoever takes a place has seen every other at least as full.

use crate::endpoint::{Endpoint, EndpointSet};

/// Rounds of looking at all endpoints before a choice is taken as it is. Each lost round means that another worker
/// took the same endpoint in between: as many in a row never happen with real numbers of workers, so the bound costs
/// no exactness and only rules out an endless loop.
const ROUNDS_MAX: usize = 256;

/// The method; the state is in the endpoints.
#[derive(Debug)]
pub(super) struct LeastConnections {
    /// Places in the set.
    places: Vec<usize>,
}

impl LeastConnections {
    pub(super) fn new(places: Vec<usize>) -> Self {
        Self { places }
    }

    pub(super) fn choose(&self, set: &EndpointSet, may: &dyn Fn(&Endpoint) -> bool) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        // Endpoints that are equally full take turns: an idle app spreads its short connections.
        let start = set.next_turn(self.places.len());
        for _ in 0..ROUNDS_MAX {
            let (place, seen) = self.least(set, start, may)?;
            if set.endpoints()[place].active().acquire_if(seen) {
                return Some(place);
            }
        }
        let (place, _) = self.least(set, start, may)?;
        set.endpoints()[place].active().acquire();
        Some(place)
    }

    /// The least full endpoint, the first from `start` on of several, and its count.
    fn least(
        &self,
        set: &EndpointSet,
        start: usize,
        may: &dyn Fn(&Endpoint) -> bool,
    ) -> Option<(usize, u32)> {
        let mut best: Option<(usize, u32, u16)> = None;
        let (before, after) = self.places.split_at(start);
        for &place in after.iter().chain(before) {
            let endpoint = &set.endpoints()[place];
            if !may(endpoint) {
                continue;
            }
            let (active, weight) = (endpoint.active().get(), endpoint.weight());
            // active / weight < best_active / best_weight, without division.
            let less = best.is_none_or(|(_, best_active, best_weight)| {
                u64::from(active) * u64::from(best_weight) < u64::from(best_active) * u64::from(weight)
            });
            if less {
                best = Some((place, active, weight));
            }
            if active == 0 {
                // None has fewer.
                break;
            }
        }
        best.map(|(place, active, _)| (place, active))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::balancer;
    use crate::model::Balance;

    proptest! {
        #[test]
        fn one_after_another_lands_on_the_true_minimum(
            weights in prop::collection::vec(1u16..=256, 1..8),
            steps in prop::collection::vec(any::<(bool, u8)>(), 1..200),
        ) {
            let backends: Vec<_> = weights.iter().map(|weight| (*weight, false)).collect();
            let balancer = balancer(Balance::LeastConnections, &backends);
            let endpoints = balancer.set().endpoints();
            let mut open = Vec::new();
            for (close, which) in steps {
                if close && !open.is_empty() {
                    let place: usize = open.swap_remove(usize::from(which) % open.len());
                    endpoints[place].active().release();
                    continue;
                }
                let before: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.active().get()).collect();
                let place = balancer.choose(&[]).expect("all are available");
                for (other, count) in before.iter().enumerate() {
                    prop_assert!(
                        u64::from(before[place]) * u64::from(weights[other])
                            <= u64::from(*count) * u64::from(weights[place])
                    );
                }
                open.push(place);
            }
            let total: u32 = endpoints.iter().map(|endpoint| endpoint.active().get()).sum();
            prop_assert_eq!(total as usize, open.len());
        }
    }

    #[test]
    fn opened_at_once_by_several_workers_counts_stay_together() {
        const WORKERS: u32 = 4;
        let balancer = balancer(Balance::LeastConnections, &[(1, false); 5]);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        balancer.choose(&[]).expect("all are available");
                    }
                });
            }
        });
        let counts: Vec<u32> = balancer.set().endpoints().iter().map(|e| e.active().get()).collect();
        let (min, max) = (counts.iter().min().expect("some"), counts.iter().max().expect("some"));
        assert_eq!(counts.iter().sum::<u32>(), WORKERS * 2_000);
        assert!(max - min <= WORKERS, "{counts:?}");
    }

    #[test]
    fn short_connections_one_at_a_time_go_to_all_in_turn() {
        let balancer = balancer(Balance::LeastConnections, &[(1, false); 3]);
        let mut hits = [0; 3];
        for _ in 0..30 {
            let place = balancer.choose(&[]).expect("all are available");
            hits[place] += 1;
            balancer.set().endpoints()[place].active().release();
        }
        assert_eq!(hits, [10, 10, 10]);
    }
}
