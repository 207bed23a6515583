//! Windows with a reload and windows without, interleaved, and what the reloads made of the latency.

use std::time::Duration;

use super::super::stats::median;
use super::ringway::Ringway;
use super::traffic::{Failures, Traffic, Window};

/// The target: at most this much more, whichever is more.
const SHARE_MAX: f64 = 0.2;
const MILLIS_MAX: f64 = 5.0;

/// Both kinds of windows.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    pub(super) with: Vec<Window>,
    pub(super) without: Vec<Window>,
    /// How long each `ringway reload` took, in milliseconds.
    pub(super) reloads_ms: Vec<f64>,
}

impl Windows {
    /// So many of each kind, in turns.
    pub(super) fn measure(
        ringway: &mut Ringway,
        traffic: &mut Traffic,
        count: usize,
        length: Duration,
    ) -> Result<Self, String> {
        let mut windows = Self::default();
        for round in 1..=count {
            let quiet = traffic.window(length, || Ok(()))?;
            let mut took = Duration::ZERO;
            let reloaded = traffic.window(length, || {
                took = ringway.reload()?;
                Ok(())
            })?;
            let took = took.as_secs_f64() * 1e3;
            eprintln!(
                "window {round}: p99 {:.2} ms, with a reload ({took:.1} ms) {:.2} ms; longest {:.1} and {:.1} ms",
                quiet.p99_ms, reloaded.p99_ms, quiet.longest_ms, reloaded.longest_ms
            );
            windows.without.push(quiet);
            windows.with.push(reloaded);
            windows.reloads_ms.push(took);
        }
        Ok(windows)
    }

    /// Medians of the p99s in milliseconds: without, with.
    pub(super) fn p99s(&self) -> (f64, f64) {
        let middle = |windows: &[Window]| median(windows.iter().map(|window| window.p99_ms)).unwrap_or(0.0);
        (middle(&self.without), middle(&self.with))
    }

    /// At most 20 % or 5 ms apart, whichever is more.
    pub(super) fn is_within_target(&self) -> bool {
        let (without, with) = self.p99s();
        (with - without).abs() <= (without * SHARE_MAX).max(MILLIS_MAX)
    }

    /// The longest that any connection waited: without, with.
    pub(super) fn longest_ms(&self) -> (f64, f64) {
        let most = |windows: &[Window]| windows.iter().map(|window| window.longest_ms).fold(0.0, f64::max);
        (most(&self.without), most(&self.with))
    }

    pub(super) fn failures(&self) -> Failures {
        let mut sum = Failures::default();
        self.with.iter().chain(&self.without).for_each(|window| sum.add(&window.failures));
        sum
    }

    pub(super) fn round_trips(&self) -> u64 {
        self.with.iter().chain(&self.without).map(|window| window.round_trips).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(without: [f64; 3], with: [f64; 3]) -> Windows {
        let window = |p99_ms| Window { p99_ms, longest_ms: 2.0 * p99_ms, ..Window::default() };
        Windows {
            with: with.map(window).to_vec(),
            without: without.map(window).to_vec(),
            reloads_ms: Vec::new(),
        }
    }

    #[test]
    fn five_milliseconds_are_allowed_however_short_the_latency_is() {
        let windows = windows([1.0, 2.0, 90.0], [6.9, 6.9, 90.0]);
        assert_eq!(windows.p99s(), (2.0, 6.9));
        assert!(windows.is_within_target());
    }

    #[test]
    fn a_fifth_is_allowed_however_long_the_latency_is() {
        assert!(windows([100.0; 3], [119.0; 3]).is_within_target());
        assert!(!windows([100.0; 3], [121.0; 3]).is_within_target());
        assert!(!windows([121.0; 3], [90.0; 3]).is_within_target());
    }

    #[test]
    fn the_longest_wait_of_all_windows_counts() {
        assert_eq!(windows([1.0, 3.0, 2.0], [5.0, 1.0, 1.0]).longest_ms(), (6.0, 10.0));
    }
}
