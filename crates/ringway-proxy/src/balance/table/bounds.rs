//! For thousands of endpoints in groups: below what no endpoint of a group can be, so that most groups need no look.
//!
//! A bound may be lower than the truth, and whoever finds that out raises it; it is never higher once a release is
//! complete. Raising is by compare-and-swap on a word that every lowering changes, so what was seen before a lowering
//! cannot undo it. The atomics come from `super::sync`: loom's where `tests/loom_counts.rs` includes this file.

use super::sync::{AtomicU64, Ordering};

/// A key in the high bits, a count of lowerings in the low ones.
const VERSION_BITS: u32 = 24;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;

/// The key of a group without any endpoint that may be chosen.
pub(crate) const NOBODY: u64 = u64::MAX >> VERSION_BITS;

/// How full an endpoint is: its connections over its effective weight (in 256ths, not zero), as a number that
/// compares. Exact for whole weights: two different ratios of weights up to 256 differ by at least 2^-16.
pub(crate) fn key(active: u32, weight: u32) -> u64 {
    // Sixteen million connections to one endpoint are as full as it gets.
    let active = u64::from(active.min((1 << 24) - 1));
    ((active << 24) / u64::from(weight.max(1))).min(NOBODY - 1)
}

/// One bound a group.
#[derive(Debug)]
pub(crate) struct Bounds {
    words: Box<[AtomicU64]>,
}

/// A bound as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Seen {
    /// No endpoint of the group was less full than this.
    pub(crate) fn key(self) -> u64 {
        self.0 >> VERSION_BITS
    }
}

impl Bounds {
    /// Bounds that say nothing yet.
    pub(crate) fn new(groups: usize) -> Self {
        Self { words: (0..groups).map(|_| AtomicU64::new(0)).collect() }
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// The bound of `group`.
    pub(crate) fn get(&self, group: usize) -> Seen {
        Seen(self.words[group].load(Ordering::Acquire))
    }

    /// Says that the least full of `group` is at `key`, unless anything was released there since `seen` was read; gives
    /// the bound as it is then.
    pub(crate) fn raise(&self, group: usize, seen: Seen, key: u64) -> Seen {
        let word = key << VERSION_BITS | seen.0 & VERSION_MASK;
        match self.words[group].compare_exchange(seen.0, word, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Seen(word),
            // Whoever was faster knows better. What is handed back fits no bound to come.
            Err(_) => seen,
        }
    }

    /// Says that an endpoint of `group` is at `key` now, or may be.
    pub(crate) fn lower(&self, group: usize, key: u64) {
        let mut word = self.words[group].load(Ordering::Relaxed);
        loop {
            let low = key.min(word >> VERSION_BITS);
            let new = low << VERSION_BITS | word.wrapping_add(1) & VERSION_MASK;
            match self.words[group].compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                // Each turn of the loop means that another worker got on.
                Err(now) => word = now,
            }
        }
    }

    /// Forgets all that is known.
    pub(crate) fn reset(&self) {
        (0..self.len()).for_each(|group| self.lower(group, 0));
    }
}
