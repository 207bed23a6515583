//! What one worker knows of the endpoints that may be chosen: a list that is made anew when anything changed.
//!
//! So a choice costs the same whether few or most of ten thousand endpoints are down: nobody looks for those that are up.

use ringway::Time;

use crate::endpoint::{EndpointSet, FULL, Tier};

/// The endpoints of one tier that may be chosen, with their weights.
#[derive(Debug)]
pub(super) struct Pool {
    open: Vec<u32>,
    /// The effective weight of each place of the set; zero for those that may not be chosen. Close together, where
    /// endpoints are far apart: looking at one of those costs a cache miss.
    weights: Vec<u32>,
    /// The sum of the effective weights up to and with each of them.
    reach: Vec<u64>,
    is_panicking: bool,
    /// The state of the set that this was made of.
    change: Option<u64>,
    /// When the effective weights are others.
    weights_end: Option<Time>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let (open, weights, reach) = (Vec::new(), Vec::new(), Vec::new());
        Self { open, weights, reach, is_panicking: false, change: None, weights_end: None }
    }

    /// Looks at all endpoints again if anything changed; says whether it did.
    pub(super) fn refresh(&mut self, set: &EndpointSet, tier: &Tier, now: Time) -> bool {
        let change = set.change_count();
        if self.change == Some(change) && self.weights_end.is_none_or(|end| now < end) {
            return false;
        }
        self.change = Some(change);
        self.is_panicking = set.is_panicking();
        self.open.clear();
        self.reach.clear();
        self.weights.clear();
        if tier.places().is_empty() {
            self.weights_end = None;
            return true;
        }
        self.weights.resize(set.endpoints().len(), 0);
        let (mut sum, mut is_growing) = (0, false);
        for &place in tier.places() {
            let endpoint = &set.endpoints()[place as usize];
            if self.is_panicking || endpoint.is_available() {
                let weight = set.effective_weight(place, now);
                is_growing |= weight < u32::from(endpoint.weight()) * FULL;
                sum += u64::from(weight);
                self.weights[place as usize] = weight;
                self.open.push(place);
                self.reach.push(sum);
            }
        }
        self.weights_end = set.slow_start_step().filter(|_| is_growing).map(|step| now + step);
        true
    }

    /// Whether anything changed since this was made.
    pub(super) fn is_stale(&self, set: &EndpointSet) -> bool {
        self.change != Some(set.change_count())
    }

    /// The effective weight of the endpoint at `place`; zero if it may not be chosen.
    pub(super) fn weight_of(&self, place: u32) -> u32 {
        self.weights.get(place as usize).copied().unwrap_or(0)
    }

    /// Whether an endpoint is in its slow start.
    pub(super) fn is_growing(&self) -> bool {
        self.weights_end.is_some()
    }

    /// Whether health is not asked for.
    pub(super) fn is_panicking(&self) -> bool {
        self.is_panicking
    }

    /// The places, in the order of the set.
    pub(super) fn places(&self) -> &[u32] {
        &self.open
    }

    /// The sum of all effective weights.
    pub(super) fn weight(&self) -> u64 {
        self.reach.last().copied().unwrap_or(0)
    }

    /// Which of the places `point` belongs to, where each has a stretch as long as its effective weight and the
    /// stretches follow each other. `point` is below [`Self::weight`].
    pub(super) fn at(&self, point: u64) -> usize {
        self.reach.partition_point(|reach| *reach <= point)
    }

    /// The places from the one at `index` on, around to the one before it.
    pub(super) fn around(&self, index: usize) -> impl Iterator<Item = u32> + '_ {
        let (before, after) = self.open.split_at(index.min(self.open.len()));
        after.iter().chain(before).copied()
    }
}
