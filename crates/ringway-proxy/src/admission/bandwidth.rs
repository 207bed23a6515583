//! Bytes a second: who wants to send reserves a slice of time, and sends when it begins.
//!
//! What is kept is one number, the moment at which the next slice may begin, so that all workers share it without a
//! lock, and everybody gets slices in the order in which they were asked for: that is what makes it fair. What was not
//! used is kept for a tenth of a second, so that a limit is reached though timers are late by up to 8 ms.
//!
//! Of what is sent in any stretch of time, no more is reserved than the rate × (the stretch + 0.1 s) and one slice.
//!
//! The atomics come from `super::sync`: loom's where `tests/loom_bandwidth.rs` includes this file.

use super::sync::{AtomicU64, Ordering};

const SECOND_NANOS: u64 = 1_000_000_000;

/// How long what was not used is kept.
const DEPTH_NANOS: u64 = SECOND_NANOS / 10;

/// A slice is so much of a second's worth: twice as long as timers are late.
const SLICES_A_SECOND: u64 = 64;

/// A larger slice saves nothing more.
const SLICE_BYTES_MAX: u64 = 64 << 10;

/// Gives out slices.
#[derive(Debug, Default)]
pub struct Pacer {
    /// When the next slice may begin, in nanoseconds of the process clock.
    next: AtomicU64,
}

impl Pacer {
    /// One of which nothing is used.
    pub fn new() -> Self {
        Self { next: AtomicU64::new(0) }
    }

    /// When the next slice may begin.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Goes on where another one is whose next slice may begin at this moment.
    pub fn go_on(&self, next: u64) {
        self.next.store(next, Ordering::Release);
    }

    /// Reserves `bytes` of `rate` bytes a second; says when they may be sent, which is no later than `now` if at once.
    /// Both times are nanoseconds of the process clock.
    pub fn reserve(&self, now: u64, bytes: usize, rate: u64) -> u64 {
        let mut seen = self.next.load(Ordering::Acquire);
        loop {
            let start = seen.max(now.saturating_sub(DEPTH_NANOS));
            let next = start.saturating_add(length(bytes, rate));
            match self.next.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return start,
                // Another worker reserved; each turn of the loop means that one got on.
                Err(other) => seen = other,
            }
        }
    }
}

/// The most that is reserved at once at this rate.
pub(crate) fn slice(rate: u64) -> usize {
    (rate / SLICES_A_SECOND).clamp(1, SLICE_BYTES_MAX) as usize
}

/// How long `bytes` take, in nanoseconds, rounded up.
fn length(bytes: usize, rate: u64) -> u64 {
    let nanos = (bytes as u128 * u128::from(SECOND_NANOS)).div_ceil(u128::from(rate.max(1)));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}
