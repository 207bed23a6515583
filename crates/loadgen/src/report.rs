//! What a run tells: events while it goes, one report at its end.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The mode's word.
    pub mode: &'static str,
    /// Connections held, or in flight.
    pub connections: usize,
    /// Length of the measured window.
    pub seconds: f64,
    /// Round trips, or connections, that were completed in the window. Zero in bulk.
    pub units: u64,
    /// Bytes of payload that reached the receiving side in the window (a round trip counts its reply).
    pub bytes: u64,
    /// Time of a round trip, or from dial to reply; none in bulk.
    pub latency: Option<Latency>,
    /// Connections of clients that failed, or ended when they should not, over the whole run.
    pub errors: u64,
    /// Those of them that ended a connection that stood.
    pub cut: u64,
    /// Bytes of replies that were not what was sent, over the whole run; looked at under `pace` only.
    pub wrong_bytes: u64,
    /// The longest wait for a reply, in microseconds; under `pace` also of those that still wait, and for a connection.
    pub longest_wait_us: f64,
    /// The first failed connection, in words.
    pub first_error: Option<String>,
    /// CPU time of the watched processes within the window; none if none was watched.
    pub watched_cpu_seconds: Option<f64>,
    /// What was seen of TLS within the window; none without it.
    pub tls: Option<TlsReport>,
    /// CPU time of the load itself within the window, where the system tells. Near `seconds`: the load was the limit.
    pub load_cpu_seconds: Option<f64>,
}

/// Handshakes of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TlsReport {
    /// Those that were completed.
    pub handshakes: u64,
    /// Those of them that went on with an earlier session.
    pub resumed: u64,
    /// Tickets for later sessions that servers sent.
    pub tickets: u64,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50_us: f64,
    /// Nine in ten are faster.
    pub p90_us: f64,
    /// Ninety-nine in a hundred are faster.
    pub p99_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Latency {
    /// The percentiles of a histogram of nanoseconds; none if it is empty.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let micros = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Some(Self {
            p50_us: micros(0.5),
            p90_us: micros(0.9),
            p99_us: micros(0.99),
            max_us: histogram.max() as f64 / 1e3,
        })
    }
}

/// What happens on the way; with `--json` each is a line on standard output.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RunEvent {
    /// The backends listen at these addresses.
    Listening {
        /// In the order of the options.
        backends: Vec<SocketAddr>,
    },
    /// All connections stand; traffic starts.
    Ready {
        /// How many.
        connections: usize,
    },
    /// The measured window begins.
    WindowStart,
    /// The measured window ended.
    WindowEnd,
    /// So many idle connections stand and are held.
    Holding {
        /// How many.
        connections: usize,
    },
    /// What was counted since the window began, or since the last mark.
    Mark(Report),
    /// The run is over.
    Result(Report),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds.max(f64::MIN_POSITIVE);
        writeln!(f, "{}: {} connections, {:.2} s", self.mode, self.connections, self.seconds)?;
        if self.units > 0 {
            writeln!(f, "  rate        {:>12.0} /s", self.units as f64 / seconds)?;
        }
        if self.bytes > 0 {
            writeln!(f, "  throughput  {:>12.3} GB/s", self.bytes as f64 / 1e9 / seconds)?;
        }
        if let Some(latency) = &self.latency {
            writeln!(
                f,
                "  latency     p50 {:.1} us, p90 {:.1} us, p99 {:.1} us, max {:.1} us",
                latency.p50_us, latency.p90_us, latency.p99_us, latency.max_us
            )?;
        }
        if let Some(cpu) = self.watched_cpu_seconds {
            write!(f, "  watched CPU {:>11.1} %", 100.0 * cpu / seconds)?;
            if self.units > 0 {
                writeln!(f, ", {:.2} us a unit", cpu * 1e6 / self.units as f64)?;
            } else if self.bytes > 0 {
                writeln!(f, ", {:.3} s a GB", cpu * 1e9 / self.bytes as f64)?;
            } else {
                writeln!(f)?;
            }
        }
        if let Some(tls) = self.tls.filter(|tls| tls.handshakes > 0) {
            let TlsReport { handshakes, resumed, tickets } = tls;
            writeln!(f, "  handshakes  {handshakes:>12}  ({resumed} resumed, {tickets} tickets)")?;
        }
        if let Some(cpu) = self.load_cpu_seconds {
            writeln!(f, "  load CPU    {:>11.1} %", 100.0 * cpu / seconds)?;
        }
        write!(f, "  errors      {:>12}", self.errors)?;
        if let Some(error) = &self.first_error {
            write!(f, "  (first: {error})")?;
        }
        Ok(())
    }
}

/// What is counted in the window.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) units: u64,
    pub(crate) bytes: u64,
    pub(crate) latency: Histogram<u64>,
    /// The longest wait, exactly.
    pub(crate) longest: Duration,
    /// Handshakes in TLS, and those of them that were resumed.
    pub(crate) handshakes: u64,
    pub(crate) resumed: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        // Up to a minute at two digits: 60 s is far above any time-out that would have counted as an error.
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("these bounds are valid");
        Self { units: 0, bytes: 0, latency, longest: Duration::ZERO, handshakes: 0, resumed: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.units = 0;
        self.bytes = 0;
        self.latency.reset();
        self.longest = Duration::ZERO;
        (self.handshakes, self.resumed) = (0, 0);
    }

    pub(crate) fn handshake(&mut self, is_resumed: bool) {
        self.handshakes += 1;
        self.resumed += u64::from(is_resumed);
    }

    pub(crate) fn unit(&mut self, bytes: usize, took: Duration) {
        self.units += 1;
        self.bytes += bytes as u64;
        self.longest = self.longest.max(took);
        self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_from_what_was_recorded() {
        let mut tally = Tally::new();
        for micros in 1..=100 {
            tally.unit(10, Duration::from_micros(micros));
        }
        let latency = Latency::of(&tally.latency).expect("not empty");
        assert!((latency.p50_us - 50.0).abs() < 1.0, "{latency:?}");
        assert!((latency.p99_us - 99.0).abs() < 1.5, "{latency:?}");
        assert_eq!((tally.units, tally.bytes), (100, 1000));
        tally.reset();
        assert_eq!(Latency::of(&tally.latency), None);
    }

    #[test]
    fn events_are_one_line_of_json_with_a_tag() {
        let line = serde_json::to_string(&RunEvent::Holding { connections: 7 }).expect("plain data");
        assert_eq!(line, r#"{"event":"holding","connections":7}"#);
    }
}
