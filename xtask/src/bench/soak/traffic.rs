//! The load of a soak: round trips by the clock whose replies are checked, told of window by window.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::super::process::Load;

const BACKENDS: u8 = 16;
const SOURCES: u16 = 16;
/// What setting up all connections may take, and an answer.
const SETUP_PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// How a soak is loaded.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) loadgen: PathBuf,
    pub(super) cpu: usize,
    pub(super) connections: usize,
    /// Each connection has a round trip in this time.
    pub(super) pace: Duration,
    /// Each so-many-th connection is new for each round trip.
    pub(super) churn: usize,
}

/// A running load.
pub(super) struct Traffic {
    load: Load,
    backends: Vec<SocketAddr>,
    /// What was counted over the whole run at the last mark.
    seen: Failures,
}

/// Failures, counted from the start of a run, or within a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Failures {
    /// Connections that could not be made.
    pub(super) failed: u64,
    /// Connections that stood and were ended by the proxy.
    pub(super) cut: u64,
    pub(super) wrong_bytes: u64,
    /// The first of the run, in words.
    pub(super) first: Option<String>,
}

impl Failures {
    pub(super) fn add(&mut self, other: &Self) {
        self.failed += other.failed;
        self.cut += other.cut;
        self.wrong_bytes += other.wrong_bytes;
        self.first = self.first.take().or_else(|| other.first.clone());
    }

    pub(super) fn total(&self) -> u64 {
        self.failed + self.cut + self.wrong_bytes
    }
}

/// What the clients saw between two marks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Window {
    pub(super) round_trips: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// The longest that any connection waited.
    pub(super) longest_ms: f64,
    pub(super) failures: Failures,
}

impl Traffic {
    /// Starts the backends; clients come with [`Self::flow`].
    pub(super) fn start(shape: &Shape) -> Result<Self, String> {
        let mut words = vec!["pingpong".to_owned(), "--json".into(), "--stdin".into()];
        words.push(format!("--connections={}", shape.connections));
        words.push(format!("--sources={SOURCES}"));
        // Ended by us long before.
        words.push("--seconds=86400".into());
        words.push("--warmup=2".into());
        words.extend((1..=BACKENDS).map(|host| format!("--backend=127.0.0.{host}:0")));
        let mut load = Load::start(&shape.loadgen, shape.cpu, &words)?;
        let listening = load.wait_for("listening", ANSWER_PATIENCE)?;
        let backends = serde_json::from_value(listening["backends"].clone())
            .map_err(|error| format!("the load's backends: {error}"))?;
        load.tell(&format!("pace {} {}", shape.pace.as_millis(), shape.churn))?;
        Ok(Self { load, backends, seen: Failures::default() })
    }

    pub(super) fn backends(&self) -> &[SocketAddr] {
        &self.backends
    }

    /// Connects all clients to `target`, and returns when they are warm.
    pub(super) fn flow(&mut self, target: SocketAddr) -> Result<(), String> {
        self.load.tell(&format!("target {target}"))?;
        self.load.wait_for("window-start", SETUP_PATIENCE)?;
        self.mark().map(|_| ())
    }

    /// What happened since the last mark.
    pub(super) fn mark(&mut self) -> Result<Window, String> {
        self.load.tell("mark")?;
        let report = self.load.wait_for("mark", ANSWER_PATIENCE)?;
        Ok(window_of(&report, &mut self.seen))
    }

    /// A window of this length, with something done in its middle.
    pub(super) fn window(
        &mut self,
        length: Duration,
        middle: impl FnOnce() -> Result<(), String>,
    ) -> Result<Window, String> {
        thread::sleep(length / 2);
        middle()?;
        thread::sleep(length / 2);
        self.mark()
    }
}

/// The report of a mark as a window; `seen` is what the run had counted before, and then has.
fn window_of(report: &Value, seen: &mut Failures) -> Window {
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    let cut = count("cut");
    let now = Failures {
        failed: count("errors").saturating_sub(cut),
        cut,
        wrong_bytes: count("wrong_bytes"),
        first: report["first_error"].as_str().map(str::to_owned),
    };
    let failures = Failures {
        failed: now.failed.saturating_sub(seen.failed),
        cut: now.cut.saturating_sub(seen.cut),
        wrong_bytes: now.wrong_bytes.saturating_sub(seen.wrong_bytes),
        first: now.first.clone(),
    };
    *seen = now;
    let millis = |value: &Value| value.as_f64().unwrap_or(0.0) / 1e3;
    Window {
        round_trips: count("units"),
        p50_ms: millis(&report["latency"]["p50_us"]),
        p99_ms: millis(&report["latency"]["p99_us"]),
        longest_ms: millis(&report["longest_wait_us"]),
        failures,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn failures_of_a_window_are_those_since_the_last_one() {
        let report = json!({
            "units": 50, "errors": 7, "cut": 4, "wrong_bytes": 9, "first_error": "client 1: reset",
            "longest_wait_us": 12_000.0, "latency": {"p50_us": 1000.0, "p99_us": 2000.0},
        });
        let mut seen = Failures { failed: 1, cut: 3, wrong_bytes: 9, first: None };
        let window = window_of(&report, &mut seen);
        assert_eq!((window.failures.failed, window.failures.cut, window.failures.wrong_bytes), (2, 1, 0));
        assert_eq!((window.p99_ms, window.longest_ms), (2.0, 12.0));
        assert_eq!((seen.failed, seen.cut), (3, 4));
    }

    #[test]
    fn a_window_in_which_nothing_came_back_has_no_latency() {
        let window = window_of(&json!({"units": 0, "latency": null}), &mut Failures::default());
        assert_eq!(window, Window::default());
    }
}
