//! The workloads: one table of what the load does, what is measured, and what Ringway is held to.

use super::edge::Edge;

/// One workload.
#[derive(Debug)]
pub(super) struct Row {
    /// For `--only` and the samples' file.
    pub(super) name: &'static str,
    /// For the page.
    pub(super) title: &'static str,
    /// Arguments of the load, its mode first.
    pub(super) load: &'static [&'static str],
    pub(super) edge: Edge,
    /// What is compared; less is better.
    pub(super) measure: Measure,
    pub(super) target: Target,
}

/// What of a cell is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Seconds of the proxy's CPU for 10^9 bytes relayed.
    CpuPerGigabyte,
    /// Microseconds of the proxy's CPU for a round trip, or for a connection.
    CpuPerUnit,
    /// What a connection costs more than without this edge, in microseconds of the proxy's CPU.
    CpuOverPlain,
    /// Median latency in microseconds.
    Latency,
    /// Bytes of RssAnon that one more idle connection costs.
    IdleSlope,
    /// RssAnon in MB of a process that nobody has connected to.
    EmptyMemory,
}

impl Measure {
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::CpuPerGigabyte => "CPU s/GB",
            Self::CpuPerUnit => "CPU µs",
            Self::CpuOverPlain => "CPU µs more",
            Self::Latency => "p50 µs",
            Self::IdleSlope => "B/conn",
            Self::EmptyMemory => "MB",
        }
    }

    pub(super) fn format(self, value: f64) -> String {
        match self {
            Self::CpuPerGigabyte => format!("{value:.3}"),
            Self::CpuPerUnit | Self::CpuOverPlain | Self::EmptyMemory => format!("{value:.2}"),
            Self::Latency => format!("{value:.1}"),
            Self::IdleSlope => format!("{value:.0}"),
        }
    }
}

/// What a row is held to: peer ÷ Ringway at least this, or Ringway's own value at most that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    /// Against HAProxy as it comes.
    pub(super) haproxy: Option<f64>,
    /// Against the best of all peers.
    pub(super) best: Option<f64>,
    /// The tuned variant of ours against the tuned HAProxy.
    pub(super) tuned: Option<f64>,
    /// At most, on epoll and on io_uring.
    pub(super) at_most: Option<(f64, f64)>,
    /// The tuned variant stands for Ringway in this row.
    pub(super) by_tuned: bool,
}

const fn ratios(haproxy: f64, best: f64) -> Target {
    Target { haproxy: Some(haproxy), best: Some(best), tuned: None, at_most: None, by_tuned: false }
}

const NONE: Target = Target { haproxy: None, best: None, tuned: None, at_most: None, by_tuned: false };

/// The numbers of connections between which the slope of idle memory is taken.
pub(super) const IDLE_STEPS: (usize, usize) = (1_000, 9_000);

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "bulk-1",
        title: "bulk, 1 connection, backend to client",
        load: &["bulk", "--direction", "down", "--connections", "1"],
        edge: Edge::Plain,
        measure: Measure::CpuPerGigabyte,
        target: Target { tuned: Some(1.4), ..ratios(1.9, 1.1) },
    },
    Row {
        name: "bulk-64-down",
        title: "bulk, 64 connections, backend to client",
        load: &["bulk", "--direction", "down", "--connections", "64"],
        edge: Edge::Plain,
        measure: Measure::CpuPerGigabyte,
        target: Target { tuned: Some(1.3), ..ratios(2.2, 1.15) },
    },
    Row {
        name: "bulk-64-up",
        title: "bulk, 64 connections, client to backend",
        load: &["bulk", "--direction", "up", "--connections", "64"],
        edge: Edge::Plain,
        measure: Measure::CpuPerGigabyte,
        target: Target { tuned: Some(1.3), ..ratios(2.2, 1.15) },
    },
    Row {
        name: "small-64",
        title: "64 B round trips, 64 connections",
        load: &["pingpong", "--size", "64", "--connections", "64"],
        edge: Edge::Plain,
        measure: Measure::CpuPerUnit,
        target: ratios(1.12, 1.08),
    },
    Row {
        name: "small-1000",
        title: "64 B round trips, 1,000 connections",
        load: &["pingpong", "--size", "64", "--connections", "1000"],
        edge: Edge::Plain,
        measure: Measure::CpuPerUnit,
        target: ratios(1.25, 1.1),
    },
    Row {
        name: "small-9000",
        title: "64 B round trips, 9,000 connections",
        load: &["pingpong", "--size", "64", "--connections", "9000"],
        edge: Edge::Plain,
        measure: Measure::CpuPerUnit,
        target: NONE,
    },
    Row {
        name: "medium-64",
        title: "16 KiB round trips, 64 connections",
        load: &["pingpong", "--size", "16384", "--connections", "64"],
        edge: Edge::Plain,
        measure: Measure::CpuPerUnit,
        target: ratios(1.15, 1.1),
    },
    Row {
        name: "medium-1000",
        title: "16 KiB round trips, 1,000 connections",
        load: &["pingpong", "--size", "16384", "--connections", "1000"],
        edge: Edge::Plain,
        measure: Measure::CpuPerUnit,
        target: ratios(1.5, 1.3),
    },
    Row {
        name: "connections-64",
        title: "connect, request, reply, close, 64 in flight",
        load: &["connections", "--size", "64", "--connections", "64", "--sources", "16"],
        edge: Edge::Plain,
        measure: Measure::CpuPerUnit,
        target: ratios(1.03, 0.97),
    },
    Row {
        name: "latency-1",
        title: "p50 latency, one 64 B request in flight (ours: spin on)",
        load: &["pingpong", "--size", "64", "--connections", "1"],
        edge: Edge::Plain,
        measure: Measure::Latency,
        target: Target { by_tuned: true, ..ratios(2.0, 2.0) },
    },
    Row {
        name: "latency-1-polled",
        title: "the same, with clients and backends that poll too",
        load: &["pingpong", "--size", "64", "--connections", "1", "--spin", "500"],
        edge: Edge::Plain,
        measure: Measure::Latency,
        target: Target { by_tuned: true, ..ratios(2.0, 2.0) },
    },
    Row {
        name: "idle-memory",
        title: "user memory of an idle relayed connection (slope of RssAnon, 1,000 to 9,000)",
        load: &["idle", "--connections", "9000", "--steps", "1000,9000"],
        edge: Edge::Plain,
        measure: Measure::IdleSlope,
        target: Target { haproxy: Some(20.0), at_most: Some((160.0, 800.0)), ..NONE },
    },
    Row {
        name: "empty-memory",
        title: "RssAnon with nothing connected, 2 workers",
        load: &[],
        edge: Edge::Plain,
        measure: Measure::EmptyMemory,
        target: Target { at_most: Some((10.0, 10.0)), ..NONE },
    },
    Row {
        name: "tls-full",
        title: "full handshake and one request, 64 in flight",
        load: &["connections", "--size", "64", "--connections", "64", "--sources", "16", "--tls", "full"],
        edge: Edge::Terminated,
        measure: Measure::CpuPerUnit,
        target: ratios(1.7, 1.05),
    },
    Row {
        name: "tls-resumed",
        title: "resumed handshake and one request, 64 in flight",
        load: &["connections", "--size", "64", "--connections", "64", "--sources", "16", "--tls", "resumed"],
        edge: Edge::Terminated,
        measure: Measure::CpuPerUnit,
        target: ratios(1.7, 1.05),
    },
    Row {
        name: "tls-full-mlkem",
        title: "full handshake with X25519MLKEM768 and one request, 64 in flight",
        load: &[
            "connections",
            "--size",
            "64",
            "--connections",
            "64",
            "--sources",
            "16",
            "--tls",
            "full",
            "--key-exchange",
            "x25519mlkem768",
        ],
        edge: Edge::TerminatedHybrid,
        measure: Measure::CpuPerUnit,
        target: NONE,
    },
    Row {
        name: "tls-bulk-4",
        title: "bulk, 4 connections, backend to client, terminated",
        load: &["bulk", "--direction", "down", "--connections", "4", "--tls", "full"],
        edge: Edge::Terminated,
        measure: Measure::CpuPerGigabyte,
        target: ratios(2.0, 1.0),
    },
    Row {
        name: "tls-small-64",
        title: "64 B round trips, 64 connections, terminated",
        load: &["pingpong", "--size", "64", "--connections", "64", "--tls", "full"],
        edge: Edge::Terminated,
        measure: Measure::CpuPerUnit,
        target: ratios(1.1, 1.1),
    },
    Row {
        name: "tls-idle-memory",
        title: "user memory of an idle terminated connection (slope of RssAnon, 1,000 to 9,000)",
        load: &["idle", "--connections", "9000", "--steps", "1000,9000", "--tls", "full"],
        edge: Edge::Terminated,
        measure: Measure::IdleSlope,
        target: Target { at_most: Some((8192.0, 8192.0)), ..NONE },
    },
    Row {
        name: "passthrough-64",
        title: "a connection by the name in its hello, beside a plain relay of the same bytes, 64 in flight",
        // Hellos as browsers send them.
        load: &[
            "connections",
            "--connections",
            "64",
            "--sources",
            "16",
            "--hello",
            "--key-exchange",
            "x25519mlkem768",
        ],
        edge: Edge::Passthrough,
        measure: Measure::CpuOverPlain,
        target: Target { at_most: Some((5.0, 5.0)), ..NONE },
    },
];

/// Cost per message may grow by this factor from the first row to the second.
pub(super) const FLAT: (&str, &str, f64) = ("small-64", "small-9000", 1.5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rows_are_unique() {
        for (place, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..place].iter().all(|other| other.name != row.name), "{}", row.name);
        }
    }

    #[test]
    fn the_rows_of_the_flatness_rule_exist() {
        for name in [FLAT.0, FLAT.1] {
            assert!(ROWS.iter().any(|row| row.name == name));
        }
    }
}
