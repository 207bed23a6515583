//! That an endpoint is left out because too many of its connections failed: until when, and how often it was before.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use ringway::Time;

use super::{DownReason, Endpoint, Health, Outcome, Tally};

/// The last time that an endpoint was left out. Written by whoever leaves it out, one at a time.
#[derive(Debug, Default)]
pub(super) struct LastEjection {
    until: AtomicU64,
    /// In nanoseconds.
    time: AtomicU64,
    in_a_row: AtomicU32,
    failed: AtomicU32,
    connections: AtomicU32,
}

/// One time that an endpoint is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EjectionReport {
    /// Why: how its connections went.
    pub tally: Tally,
    /// Until when, if nothing takes it back before.
    pub until: Time,
    /// For how long.
    pub time: Duration,
    /// How many times in a row; what is long ago does not count.
    pub in_a_row: u32,
}

/// Lets one worker at a time leave an endpoint of an app out, so that never more are than may be. Nobody waits at it.
/// Inside is the moment until which nobody has to look.
#[derive(Debug, Default)]
pub struct OutlierGate(Mutex<Time>);

impl OutlierGate {
    /// Goes in, if nobody is inside.
    pub fn try_enter(&self) -> Option<MutexGuard<'_, Time>> {
        match self.0.try_lock() {
            Ok(inside) => Some(inside),
            Err(TryLockError::Poisoned(inside)) => Some(inside.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Endpoint {
    /// Counts how a connection went, for windows of this length.
    pub fn count_outcome(&self, outcome: Outcome, window: Duration, now: Time) {
        self.outcomes.add(outcome, window, now);
    }

    /// How its connections went in a window that ends now.
    pub fn tally(&self, window: Duration, now: Time) -> Tally {
        self.outcomes.tally(window, now)
    }

    /// The last time that it was left out because too many of its connections failed.
    pub fn last_ejection(&self) -> EjectionReport {
        let last = &self.last_ejection;
        EjectionReport {
            tally: Tally {
                failed: last.failed.load(Ordering::Relaxed),
                connections: last.connections.load(Ordering::Relaxed),
            },
            until: Time::from_nanos(last.until.load(Ordering::Relaxed)),
            time: Duration::from_nanos(last.time.load(Ordering::Relaxed)),
            in_a_row: last.in_a_row.load(Ordering::Relaxed),
        }
    }

    /// Whether it is left out now because too many of its connections failed.
    pub fn is_outlier(&self) -> bool {
        let (health, _, reason) = self.health_report();
        health == Health::Ejected && reason == Some(DownReason::Failures)
    }

    /// Leaves it out, unless it is down; says whether that is news. One caller at a time.
    pub fn eject_outlier(&self, report: &EjectionReport, now: Time) -> bool {
        let before = self.last_ejection();
        // Whoever sees the new health has to see these.
        self.keep(report);
        let may = |health, reason| match health {
            Health::Up => true,
            Health::Ejected => reason != Some(DownReason::Failures),
            Health::Down => false,
        };
        if self.change_health(Health::Ejected, Some(DownReason::Failures), now, may).is_none() {
            self.keep(&before);
            return false;
        }
        // It is judged anew when it is back.
        self.outcomes.clear();
        true
    }

    /// How its connections went, as it can be handed to another process with the same clock and configuration; `None` if
    /// there were none.
    pub(crate) fn outcomes(&self) -> Option<Vec<u64>> {
        self.outcomes.words()
    }

    /// Goes on where another process left: its connections went so, and this was the last time that it was left out.
    pub(crate) fn go_on(&self, outcomes: &[u64], last: &EjectionReport) {
        self.outcomes.set_words(outcomes);
        self.keep(last);
    }

    /// Takes it back, if it is left out because too many of its connections failed; says whether that is news.
    pub fn readmit_outlier(&self, now: Time) -> bool {
        let is_outlier = |health, reason| health == Health::Ejected && reason == Some(DownReason::Failures);
        self.change_health(Health::Up, None, now, is_outlier).is_some()
    }

    fn keep(&self, report: &EjectionReport) {
        let last = &self.last_ejection;
        last.failed.store(report.tally.failed, Ordering::Relaxed);
        last.connections.store(report.tally.connections, Ordering::Relaxed);
        last.until.store(report.until.as_nanos(), Ordering::Relaxed);
        last.time.store(u64::try_from(report.time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        last.in_a_row.store(report.in_a_row, Ordering::Relaxed);
    }
}
