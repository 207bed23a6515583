//! Counts that all workers share and that are never wrong, not even for a moment.
//!
//! A maximum is taken by compare-and-swap, so that no race can pass it. The atomics come from `super::sync`: the
//! standard library's here, loom's where `tests/loom_counts.rs` includes this file to try every interleaving.

use super::sync::{AtomicU32, Ordering};

/// A number of things that are open, counted exactly over all workers, on a cache line of its own.
// Adjacent lines are fetched in pairs on x86-64, so 128 bytes and not 64 keep neighbours apart.
#[repr(align(128))]
#[derive(Debug, Default)]
pub struct ExactCount {
    open: AtomicU32,
}

impl ExactCount {
    /// A count of zero.
    pub fn new() -> Self {
        Self { open: AtomicU32::new(0) }
    }

    /// How many are open at this moment.
    pub fn get(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    /// Adds one, whatever the count is.
    pub fn acquire(&self) {
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        assert!(before < u32::MAX, "more things open than there are numbers");
    }

    /// Adds one if that does not pass `max`; says whether it did.
    #[must_use]
    pub fn try_acquire(&self, max: u32) -> bool {
        let mut seen = self.get();
        while seen < max {
            match self.open.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                // Somebody else came or went; the loop ends when the maximum is reached, and each turn of it means
                // that another worker got on.
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Adds one if the count is still `seen`: what was decided on `seen` still holds.
    #[must_use]
    pub fn acquire_if(&self, seen: u32) -> bool {
        seen < u32::MAX
            && self.open.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes one away, which the caller had added.
    pub fn release(&self) {
        let before = self.open.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "given back what was never taken");
    }
}
