//! The only reader of time: monotonic, and the same base for every engine of a process, and for the processes that
//! follow it by a hand-over.

use std::ops::{Add, Sub};
use std::sync::OnceLock;
use std::time::Duration;

use crate::sys;

/// A moment: nanoseconds since the process first asked for the time, or, where processes followed each other by a
/// hand-over, since the first of them did (or since a simulation began).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// The beginning.
    pub const ZERO: Self = Self(0);

    /// The moment `nanoseconds` after the beginning.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the beginning.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Reads the monotonic clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Time zero, in nanoseconds of CLOCK_MONOTONIC.
    origin: u64,
}

static ORIGIN: OnceLock<u64> = OnceLock::new();

impl Clock {
    /// The clock of this process. Every call gives the same base, so moments of two engines compare.
    pub fn process() -> Self {
        Self { origin: *ORIGIN.get_or_init(sys::monotonic_nanos) }
    }

    /// Time zero in nanoseconds of CLOCK_MONOTONIC: what another process needs for [`Self::continue_from`].
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// Has this process go on with the time of the one that it follows, so that moments of both compare: ages and
    /// deadlines cross a hand-over as they are. Says whether it does: not once this process has asked for the time.
    pub fn continue_from(origin: u64) -> bool {
        // An origin in the future is no machine's; time would stand still until then.
        origin <= sys::monotonic_nanos() && *ORIGIN.get_or_init(|| origin) == origin
    }

    /// The moment it is now. Cost: one `clock_gettime` in the vDSO, about 20 ns.
    pub fn now(&self) -> Time {
        Time::from_nanos(sys::monotonic_nanos().saturating_sub(self.origin))
    }
}
