//! `[app.health.ejection]`: when a backend is left out because too many of its connections fail.

use std::time::Duration;

/// `[app.health.ejection]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    /// Share of connections that fail from which an endpoint is left out, above 0 to 1. Default 0.5.
    pub failure_ratio: f64,
    /// Of the connections of so much time. Default 30 s.
    pub window: Duration,
    /// Fewer than these are not judged. Default 20.
    pub min_connections: u32,
    /// Connections count as failed, too, that the backend ends before it has sent a byte. Default no.
    pub early_close: bool,
    /// For how long it is left out the first time; doubles with each that follows. Default 30 s.
    pub time: Duration,
    /// For how long at most. Default 5 min, or the first time where that is longer.
    pub max_time: Duration,
    /// Share of the app's endpoints that are left out like this at once, at most; rounded down. Default 0.5.
    pub max_share: f64,
    /// What ends it. Default the time.
    pub until: EjectedUntil,
}

impl Ejection {
    /// The default of `max_time`.
    pub const MAX_TIME: Duration = Duration::from_secs(300);
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            failure_ratio: 0.5,
            window: Duration::from_secs(30),
            min_connections: 20,
            early_close: false,
            time: Duration::from_secs(30),
            max_time: Self::MAX_TIME,
            max_share: 0.5,
            until: EjectedUntil::Time,
        }
    }
}

/// `app.health.ejection.until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectedUntil {
    /// The time is over.
    Time,
    /// The time is over, or a check was good before.
    Check,
    /// The time is over, and after that a check was good.
    Both,
}
