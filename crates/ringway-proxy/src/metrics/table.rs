//! The rows: every metric there is, declared once.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The word after `# TYPE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One metric, or one of the counters that share a metric and differ in a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name, with the prefix `ringway_` and, for counters, the suffix `_total`.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// What is counted: `connections`, `bytes`, `seconds`, …
    pub unit: &'static str,
    /// Labels whose values depend on what is counted.
    pub labels: &'static [&'static str],
    /// Labels whose values are fixed in this row.
    pub fixed: &'static [(&'static str, &'static str)],
    /// One sentence for the reader of the page.
    pub help: &'static str,
}

macro_rules! rows {
    ($(#[$about:meta])* $set:ident: $(
        $variant:ident = $kind:ident $name:literal $labels:tt { $($key:literal = $value:literal),* }
            in $unit:literal: $help:literal;
    )*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $set {
            $(
                #[doc = $help]
                $(#[doc = concat!("Counted under `", $key, "=\"", $value, "\"`.")])*
                $variant,
            )*
        }

        impl $set {
            /// All of them, in the order of the page.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Its row of the table.
            pub const fn row(self) -> &'static Row {
                match self {
                    $(Self::$variant => &Row {
                        name: $name,
                        kind: Kind::$kind,
                        unit: $unit,
                        labels: &$labels,
                        fixed: &[$(($key, $value)),*],
                        help: $help,
                    },)*
                }
            }
        }
    };
}

rows! {
    /// Counters that each app has, in each worker.
    AppCounter:
    ConnectionsAccepted = Counter "ringway_connections_accepted_total" ["app"] {}
        in "connections": "Connections accepted from clients, those refused at once included.";
    ConnectionsQueued = Counter "ringway_connections_queued_total" ["app"] {}
        in "connections": "Connections that had to wait for a backend with room.";
    BytesFromClients = Counter "ringway_relayed_bytes_total" ["app"] {"direction" = "client_to_backend"}
        in "bytes": "Bytes handed on, by direction.";
    BytesFromBackends = Counter "ringway_relayed_bytes_total" ["app"] {"direction" = "backend_to_client"}
        in "bytes": "Bytes handed on, by direction.";
    BandwidthWaits = Counter "ringway_bandwidth_waits_total" ["app"] {}
        in "waits": "Times that bytes had to wait, as `bandwidth` or `bandwidth_per_connection` allowed no more.";
    HandshakesFull = Counter "ringway_tls_handshakes_total" ["app"] {"kind" = "full"}
        in "handshakes": "Handshakes of TLS with clients that are over: full ones, and those that resumed a session.";
    HandshakesResumed = Counter "ringway_tls_handshakes_total" ["app"] {"kind" = "resumed"}
        in "handshakes": "Handshakes of TLS with clients that are over: full ones, and those that resumed a session.";
    HandshakesFailedByAlert = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "peer_alert"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesWithoutCertificate = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "no_certificate"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesOverloaded = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "overloaded"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesOfNothingInCommon = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "nothing_in_common"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesWithoutProtocol = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "no_protocol"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesOfMissingCertificates = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "peer_certificate_missing"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesOfRevokedCertificates = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "peer_certificate_revoked"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesOfExpiredCertificates = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "peer_certificate_expired"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesOfUntrustedCertificates = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "peer_certificate_untrusted"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesOfUnlistedCertificates = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "peer_certificate_unlisted"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesOfBadCertificates = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "peer_certificate"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    HandshakesAgainstTheRules = Counter "ringway_tls_handshake_failures_total" ["app"] {"reason" = "protocol"}
        in "handshakes": "Handshakes of TLS with clients that failed, by reason.";
    ConnectAttempts = Counter "ringway_connect_attempts_total" ["app"] {}
        in "dials": "Dials to backends for clients, retries included.";
    ConnectFailures = Counter "ringway_connect_failures_total" ["app"] {}
        in "dials": "Dials to backends that failed or timed out.";
    ConnectRetries = Counter "ringway_connect_retries_total" ["app"] {}
        in "dials": "Dials that followed a failed one for the same client.";
    ChecksPassed = Counter "ringway_health_checks_total" ["app"] {"result" = "passed"}
        in "checks": "Active health checks, by result.";
    ChecksFailed = Counter "ringway_health_checks_total" ["app"] {"result" = "failed"}
        in "checks": "Active health checks, by result.";
    BackendEjections = Counter "ringway_backend_ejections_total" ["app"] {"cause" = "failed_dial"}
        in "ejections": "Endpoints left out because a client's dial failed, or too many connections did.";
    OutlierEjections = Counter "ringway_backend_ejections_total" ["app"] {"cause" = "failure_ratio"}
        in "ejections": "Endpoints left out because a client's dial failed, or too many connections did.";
    OutliersSpared = Counter "ringway_backend_ejections_spared_total" ["app"] {}
        in "ejections": "Endpoints not left out, though too many connections failed, as many were already; at most one a second.";
    PanicChoices = Counter "ringway_panic_choices_total" ["app"] {}
        in "dials": "Choices of a backend that did not ask for health, as too few were healthy.";
}

rows! {
    /// Counters that each worker has for itself.
    WorkerCounter:
    AcceptPauses = Counter "ringway_accept_pauses_total" [] {}
        in "pauses": "Times that a listener rested because descriptors or memory ran out.";
    ConnectionsMoved = Counter "ringway_connections_moved_total" [] {}
        in "connections": "Open connections that came from another worker, so that all have about as many.";
    BindRetries = Counter "ringway_bind_retries_total" [] {}
        in "attempts": "Attempts to bind a busy address that failed and will be repeated.";
}

rows! {
    /// Counters of the process as a whole.
    ProcessCounter:
    AccessLogDropped = Counter "ringway_log_lines_dropped_total" [] {"log" = "access"}
        in "lines": "Log lines dropped because their reader was too slow or gone.";
    ProcessLogDropped = Counter "ringway_log_lines_dropped_total" [] {"log" = "process"}
        in "lines": "Log lines dropped because their reader was too slow or gone.";
    LookupsAnswered = Counter "ringway_name_lookups_total" [] {"result" = "answered"}
        in "lookups": "Look-ups of backend names, by result.";
    LookupsFailed = Counter "ringway_name_lookups_total" [] {"result" = "failed"}
        in "lookups": "Look-ups of backend names, by result.";
}

rows! {
    /// Values that are read when somebody asks.
    Reading:
    BuildInfo = Gauge "ringway_build_info" ["version"] {}
        in "none": "Always 1; its label names the running version.";
    UptimeSeconds = Gauge "ringway_uptime_seconds" [] {}
        in "seconds": "Time since the process started.";
    Workers = Gauge "ringway_workers" ["engine"] {}
        in "threads": "Worker threads; the label names the engine they run on.";
    WorkerConnections = Gauge "ringway_worker_connections" ["worker"] {}
        in "connections": "Connections of clients that are open in a worker, those included that wait.";
    ConnectionLimit = Gauge "ringway_connection_limit" [] {}
        in "connections": "The most connections of clients that are open at once.";
    Connections = Gauge "ringway_connections" ["app"] {}
        in "connections": "Connections of clients that are open.";
    QueuedConnections = Gauge "ringway_queued_connections" ["app"] {}
        in "connections": "Connections that wait for a backend with room.";
    FrontendListening = Gauge "ringway_frontend_listening" ["app", "frontend"] {}
        in "workers": "Workers that listen at a frontend.";
    Certificates = Gauge "ringway_certificates" ["app"] {}
        in "certificates": "Certificates that an app ends TLS with.";
    CertificateDaysLeft = Gauge "ringway_certificate_days_left" ["app", "certificate"] {}
        in "days": "Whole days until a certificate expires, negative once it has; of each app the 100 that expire first.";
    AppPanic = Gauge "ringway_app_panic" ["app", "route"] {}
        in "none": "1 while so few backends of an app or route are healthy that health is not asked for, else 0.";
    RouteConnections = Gauge "ringway_route_connections" ["app", "route"] {}
        in "connections": "Connections of clients that are open, by the route that they took.";
    BackendWeight = Gauge "ringway_backend_weight" ["app", "route", "backend"] {}
        in "none": "Weight of a backend as it is now: 0 in maintenance and while it drains.";
    EndpointUp = Gauge "ringway_endpoint_up" ["app", "route", "backend", "endpoint"] {}
        in "none": "1 if an endpoint gets connections, else 0.";
    EndpointConnections = Gauge "ringway_endpoint_connections" ["app", "route", "backend", "endpoint"] {}
        in "connections": "Connections open to an endpoint, dials included.";
    EndpointConnectionsTotal = Counter "ringway_endpoint_connections_total" ["app", "route", "backend", "endpoint"] {}
        in "connections": "Connections opened to an endpoint.";
}

/// The row of the connections that ended; its counters belong to close reasons and not to this table.
pub(crate) const CONNECTIONS_CLOSED: Row = Row {
    name: "ringway_connections_closed_total",
    kind: Kind::Counter,
    unit: "connections",
    labels: &["app", "initiator", "phase", "reason"],
    fixed: &[],
    help: "Connections that ended: who ended them, in which phase, and why.",
};

/// Every row, in the order of both pages.
pub(crate) fn all_rows() -> Vec<&'static Row> {
    let apps = AppCounter::ALL.iter().map(|counter| counter.row());
    let closed = [&CONNECTIONS_CLOSED];
    let workers = WorkerCounter::ALL.iter().map(|counter| counter.row());
    let process = ProcessCounter::ALL.iter().map(|counter| counter.row());
    let readings = Reading::ALL.iter().map(|reading| reading.row());
    apps.chain(closed).chain(workers).chain(process).chain(readings).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for row in all_rows() {
            assert!(row.name.starts_with("ringway_"), "{}", row.name);
            assert_eq!(row.kind == Kind::Counter, row.name.ends_with("_total"), "{}", row.name);
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
        }
    }

    #[test]
    fn rows_of_one_metric_stand_together_and_agree() {
        let rows = all_rows();
        for (index, row) in rows.iter().enumerate() {
            for (other_index, other) in rows.iter().enumerate().skip(index + 1) {
                if other.name == row.name {
                    assert_eq!((other.kind, other.unit, other.help), (row.kind, row.unit, row.help));
                    assert!(rows[index..other_index].iter().all(|between| between.name == row.name));
                    assert_ne!(other.fixed, row.fixed);
                }
            }
        }
    }
}
