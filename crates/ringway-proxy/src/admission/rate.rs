//! New connections a second: a bucket that holds one second's worth and refills steadily.
//!
//! Kept as one number, the moment at which the bucket will be full again (the generic cell rate algorithm), so that all
//! workers share it without a lock. The atomics come from `super::sync`: loom's where `tests/loom_rate.rs` includes
//! this file.

use super::sync::{AtomicU64, Ordering};

/// What the bucket holds, in the time that it takes to fill.
const DEPTH_NANOS: u64 = 1_000_000_000;

/// A bucket that all workers take from.
#[derive(Debug, Default)]
pub struct Rate {
    /// When it is full, in nanoseconds of the process clock.
    full_at: AtomicU64,
}

impl Rate {
    /// A full bucket.
    pub fn new() -> Self {
        Self { full_at: AtomicU64::new(0) }
    }

    /// When it is full.
    pub fn full_at(&self) -> u64 {
        self.full_at.load(Ordering::Acquire)
    }

    /// Makes it full at that moment.
    pub fn fill_at(&self, full_at: u64) {
        self.full_at.store(full_at, Ordering::Release);
    }

    /// Takes one, if there is one; `now` in nanoseconds. `per_second` must be the same for all that take at a time.
    #[must_use]
    pub fn try_take(&self, now: u64, per_second: u32) -> bool {
        let mut seen = self.full_at.load(Ordering::Acquire);
        while let Some(next) = take(seen, now, per_second) {
            match self.full_at.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                // Another worker took one; it ends when none is left.
                Err(other) => seen = other,
            }
        }
        false
    }
}

/// When a bucket that was to be full at `full_at` is full after one more is taken; `None` if none is left.
pub(super) fn take(full_at: u64, now: u64, per_second: u32) -> Option<u64> {
    let interval = DEPTH_NANOS / u64::from(per_second.max(1));
    let next = full_at.max(now) + interval;
    (next - now <= DEPTH_NANOS).then_some(next)
}
