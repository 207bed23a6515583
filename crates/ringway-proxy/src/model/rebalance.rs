//! `[app.rebalance]`: that a backend which joins takes over open connections, too.

use std::time::Duration;

/// `[app.rebalance]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rebalance {
    /// Share of what a backend has too much that is closed at each turn, above 0 to 1. Default 0.1.
    pub share: f64,
    /// Time between turns. Default 10 s.
    pub interval: Duration,
    /// Share of the interval by which each turn is moved at random. Default 0.2.
    pub jitter: f64,
    /// Connections are closed that are at least so old. Default 1 min.
    pub min_age: Duration,
    /// At each turn at most so many are closed, over all backends. Default 100.
    pub max_closed: u32,
    /// Share above what would be fair from which a backend has too much. Default 0.1.
    pub tolerance: f64,
    /// How long after a backend joined it ends, done or not. Default 10 min.
    pub within: Duration,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self {
            share: 0.1,
            interval: Duration::from_secs(10),
            jitter: 0.2,
            min_age: Duration::from_secs(60),
            max_closed: 100,
            tolerance: 0.1,
            within: Duration::from_secs(600),
        }
    }
}
