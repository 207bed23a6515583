//! Why a proxied connection ended: who did it, in which phase, and the cause. Every session has exactly one.

use std::fmt;

use crate::metrics::{CLOSE_REASONS_MAX, CloseLabels};

/// Whose doing the end of a connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Initiator {
    /// The client.
    Client,
    /// The backend.
    Backend,
    /// This load balancer: a limit, a timeout, its own end.
    Ringway,
    /// The kernel or the network.
    System,
}

impl Initiator {
    /// The word for the access log and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Ringway => "ringway",
            Self::System => "system",
        }
    }
}

/// How far a connection had come when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// It was accepted, no backend had been dialled.
    Accept,
    /// A backend was being dialled.
    Connect,
    /// Bytes could flow.
    Relay,
}

impl Phase {
    /// The word for the access log and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Connect => "connect",
            Self::Relay => "relay",
        }
    }
}

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident: $initiator:ident, $phase:ident, $cause:literal;)*) => {
        /// Why a proxied connection ended. The three words together are unique: the label of its metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            /// All of them, in the order of [`Self::index`].
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The words of all of them, in the order of [`Self::index`], as the metrics want them.
            pub const LABELS: &'static [CloseLabels] = &[$(CloseLabels {
                initiator: Self::$name.initiator().as_str(),
                phase: Self::$name.phase().as_str(),
                reason: Self::$name.cause(),
            },)*];

            /// Whose doing it was.
            pub const fn initiator(self) -> Initiator {
                match self { $(Self::$name => Initiator::$initiator,)* }
            }

            /// How far the connection had come.
            pub const fn phase(self) -> Phase {
                match self { $(Self::$name => Phase::$phase,)* }
            }

            /// The cause in a word.
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$name => $cause,)* }
            }
        }
    };
}

close_reasons! {
    /// The client left while it waited below the connection limit.
    ClientLeftBeforeAdmission: Client, Accept, "left";
    /// The client's connection broke while it waited below the connection limit.
    ClientFailedBeforeAdmission: System, Accept, "failed";
    /// Ringway ended while the connection waited to be admitted, or for a backend with room.
    ShutdownBeforeAdmission: Ringway, Accept, "shutdown";
    /// An operator ended the connection while it waited to be admitted, or for a backend with room.
    KilledBeforeAdmission: Ringway, Accept, "killed";
    /// A reload removed the app, by `removed_backends`, while the connection waited to be admitted, or for a backend with
    /// room.
    RemovedBeforeAdmission: Ringway, Accept, "removed";
    /// The client left before its PROXY header was complete.
    ClientLeftBeforeHeader: Client, Accept, "left_header";
    /// The client's connection broke before its PROXY header was complete.
    ClientFailedBeforeHeader: System, Accept, "failed_header";
    /// The PROXY header was not complete within `timeouts.handshake`.
    HeaderTimedOut: Ringway, Accept, "header_timeout";
    /// The connection did not begin with a well-formed PROXY header, and must.
    HeaderMalformed: Ringway, Accept, "header_malformed";
    /// PROXY headers are taken, and the client is none of those that are trusted.
    Untrusted: Ringway, Accept, "untrusted";
    /// The client left before its first bytes said where it goes, or while its certificate was being loaded.
    ClientLeftBeforeRoute: Client, Accept, "left_hello";
    /// The client's connection broke before its first bytes said where it goes.
    ClientFailedBeforeRoute: System, Accept, "failed_hello";
    /// The client's first bytes did not say within `timeouts.handshake` where it goes, or its certificate was not loaded by then.
    HelloTimedOut: Ringway, Accept, "hello_timeout";
    /// The client's first bytes are no hello of TLS that can be read, where one must come, or break a rule of HTTP/1.
    HelloUnreadable: Ringway, Accept, "hello_unreadable";
    /// The client left in the handshake of TLS.
    ClientLeftInHandshake: Client, Accept, "left_handshake";
    /// The client's connection broke in the handshake of TLS.
    ClientFailedInHandshake: System, Accept, "failed_handshake";
    /// The handshake of TLS was not over within `timeouts.handshake`.
    HandshakeTimedOut: Ringway, Accept, "handshake_timeout";
    /// The handshake of TLS failed: `tls_failure` of the line says why.
    HandshakeFailed: Ringway, Accept, "handshake_failed";
    /// As many clients of the app as `limits.handshakes` allows have not said where they go.
    LimitHandshakes: Ringway, Accept, "limit_handshakes";
    /// As many clients of its source as `limits.handshakes_per_source` allows have not said where they go.
    LimitSourceHandshakes: Ringway, Accept, "limit_source_handshakes";
    /// The client fits no route, and the app has no backends of its own.
    NoRoute: Ringway, Accept, "no_route";
    /// The client's address is denied, or not among those that are allowed.
    Denied: Ringway, Accept, "denied";
    /// The app has as many connections as `limits.connections` allows.
    LimitConnections: Ringway, Accept, "limit_connections";
    /// The client's source has as many connections as `limits.connections_per_source` allows.
    LimitSource: Ringway, Accept, "limit_source";
    /// The app got as many new connections as `limits.connections_per_second` allows.
    LimitRate: Ringway, Accept, "limit_rate";
    /// The client's source opened as many new connections as `limits.connections_per_second_per_source` allows.
    LimitSourceRate: Ringway, Accept, "limit_source_rate";
    /// All backends that are available have as many connections as their `max_connections` allows.
    BackendsFull: Ringway, Accept, "backends_full";
    /// All backends are full, and as many connections as `limits.queue` allows wait for one with room.
    QueueFull: Ringway, Accept, "queue_full";
    /// No backend had room for the connection within `limits.queue_timeout`.
    QueueTimedOut: Ringway, Accept, "queue_timeout";
    /// The client left while it waited for a backend with room.
    ClientLeftInQueue: Client, Accept, "left_queue";
    /// The client's connection broke while it waited for a backend with room.
    ClientFailedInQueue: System, Accept, "failed_queue";
    /// The time of a drain was over while the connection waited to be admitted, or for a backend with room.
    DrainedBeforeAdmission: Ringway, Accept, "drained";
    /// No backend was available: all are down, ejected, without weight, or without an address.
    NoBackend: Ringway, Accept, "no_backend";
    /// The last backend that could be tried refused.
    ConnectRefused: Backend, Connect, "refused";
    /// The last backend that could be tried did not answer in time.
    ConnectTimedOut: Backend, Connect, "timed_out";
    /// The last backend that could be tried cannot be reached.
    ConnectUnreachable: System, Connect, "unreachable";
    /// The last backend that could be tried reset the connection while it was being opened.
    ConnectReset: Backend, Connect, "reset";
    /// The last backend that could be tried is a Unix socket that is not there, or may not be used.
    ConnectNotFound: System, Connect, "not_found";
    /// The last backend that could be tried, or Ringway, ended the handshake of TLS with it.
    ConnectTlsFailed: Backend, Connect, "tls_failed";
    /// No local port was free to dial from.
    SourceUnavailable: System, Connect, "source_unavailable";
    /// Descriptors or memory ran out while dialling.
    ConnectExhausted: System, Connect, "exhausted";
    /// Dialling failed in another way.
    ConnectFailed: System, Connect, "failed";
    /// The client left while its backend was being dialled.
    ClientLeftWhileConnecting: Client, Connect, "left";
    /// The client's connection broke while its backend was being dialled.
    ClientFailedWhileConnecting: System, Connect, "failed_client";
    /// The connection reached its greatest age while its backend was being dialled.
    LifetimeWhileConnecting: Ringway, Connect, "lifetime";
    /// Ringway ended while the backend was being dialled.
    ShutdownWhileConnecting: Ringway, Connect, "shutdown";
    /// An operator ended the connection while its backend was being dialled.
    KilledWhileConnecting: Ringway, Connect, "killed";
    /// The time of a drain was over while the backend was being dialled.
    DrainedWhileConnecting: Ringway, Connect, "drained";
    /// A reload removed the backend that was being dialled, or the app, by `removed_backends`.
    RemovedWhileConnecting: Ringway, Connect, "removed";
    /// Both sides finished; the client first.
    ClientFinished: Client, Relay, "finished";
    /// Both sides finished; the backend first.
    BackendFinished: Backend, Relay, "finished";
    /// The client reset the connection.
    ClientReset: Client, Relay, "reset";
    /// The backend reset the connection.
    BackendReset: Backend, Relay, "reset";
    /// The kernel gave the client's connection up.
    ClientFailed: System, Relay, "failed_client";
    /// The kernel gave the backend's connection up.
    BackendFailed: System, Relay, "failed_backend";
    /// The client's connection ended without the end that TLS gives a stream: what came may be cut short.
    ClientCutShort: Client, Relay, "cut_short";
    /// The backend's connection ended without the end that TLS gives a stream: what came may be cut short.
    BackendCutShort: Backend, Relay, "cut_short";
    /// What the client sent breaks the rules of TLS, or it ended the session with an alert.
    ClientTlsFailed: Client, Relay, "tls_failed";
    /// What the backend sent breaks the rules of TLS, or it ended the session with an alert.
    BackendTlsFailed: Backend, Relay, "tls_failed";
    /// No byte moved for the idle timeout.
    Idle: Ringway, Relay, "idle";
    /// No byte moved for the half-close timeout after one side had finished.
    HalfClose: Ringway, Relay, "half_close";
    /// The connection reached its greatest age.
    Lifetime: Ringway, Relay, "lifetime";
    /// Ringway ended.
    Shutdown: Ringway, Relay, "shutdown";
    /// An operator ended the connection.
    Killed: Ringway, Relay, "killed";
    /// The backend failed its checks, and `health.on_down` says that its connections end then.
    BackendDown: Ringway, Relay, "backend_down";
    /// The time of a drain of its app or backend was over.
    Drained: Ringway, Relay, "drained";
    /// A reload removed the backend, or the app, by `removed_backends`.
    Removed: Ringway, Relay, "removed";
    /// The backend had too many connections after another one had joined, and `rebalance` says that they spread.
    Rebalanced: Ringway, Relay, "rebalanced";
}

/// Why Ringway ends a connection that could have gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The process ends.
    Shutdown,
    /// An operator said so.
    Killed,
    /// The backend it is relayed to went down. Before that it would be dialled elsewhere instead.
    BackendDown,
    /// The backend it is relayed to has too many, since another one joined. Before that it is left alone.
    Rebalanced,
    /// Its app or backend drains, and the time for that is over.
    Drained,
    /// A change of the configuration removed its backend or its app.
    Removed,
}

impl Ending {
    /// The reason of a connection that had come this far.
    pub const fn reason(self, phase: Phase) -> CloseReason {
        match (self, phase) {
            (Self::Shutdown, Phase::Accept) => CloseReason::ShutdownBeforeAdmission,
            (Self::Shutdown, Phase::Connect) => CloseReason::ShutdownWhileConnecting,
            (Self::Shutdown, Phase::Relay) => CloseReason::Shutdown,
            (Self::Killed, Phase::Accept) => CloseReason::KilledBeforeAdmission,
            (Self::Killed, Phase::Connect) => CloseReason::KilledWhileConnecting,
            (Self::Killed, Phase::Relay) => CloseReason::Killed,
            (Self::BackendDown, Phase::Accept | Phase::Connect | Phase::Relay) => CloseReason::BackendDown,
            (Self::Rebalanced, Phase::Accept | Phase::Connect | Phase::Relay) => CloseReason::Rebalanced,
            (Self::Drained, Phase::Accept) => CloseReason::DrainedBeforeAdmission,
            (Self::Drained, Phase::Connect) => CloseReason::DrainedWhileConnecting,
            (Self::Drained, Phase::Relay) => CloseReason::Drained,
            (Self::Removed, Phase::Accept) => CloseReason::RemovedBeforeAdmission,
            (Self::Removed, Phase::Connect) => CloseReason::RemovedWhileConnecting,
            (Self::Removed, Phase::Relay) => CloseReason::Removed,
        }
    }
}

impl CloseReason {
    /// Whether the connection was cut because the process ended.
    pub const fn is_shutdown(self) -> bool {
        matches!(self, Self::ShutdownBeforeAdmission | Self::ShutdownWhileConnecting | Self::Shutdown)
    }

    /// Its place in [`Self::ALL`], for arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

const _: () = assert!(CloseReason::ALL.len() <= CLOSE_REASONS_MAX);

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.initiator().as_str(), self.phase().as_str(), self.cause())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_ending_has_a_reason_of_its_phase_for_each_phase() {
        for ending in [Ending::Shutdown, Ending::Killed, Ending::Drained, Ending::Removed] {
            for phase in [Phase::Accept, Phase::Connect, Phase::Relay] {
                assert_eq!(ending.reason(phase).phase(), phase);
                assert_eq!(ending.reason(phase).initiator(), Initiator::Ringway);
            }
        }
        assert_eq!(Ending::BackendDown.reason(Phase::Relay), CloseReason::BackendDown);
    }

    #[test]
    fn every_reason_has_its_own_words_and_place() {
        let words: BTreeSet<String> = CloseReason::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), CloseReason::ALL.len());
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
