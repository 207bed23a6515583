//! Why a connection to an endpoint could not be opened.

/// Why a connection to an endpoint could not be opened; also the reason of its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DialFailure {
    /// Nobody listens (ECONNREFUSED).
    Refused,
    /// No answer in time, by our own limit or the kernel's.
    TimedOut,
    /// No way there (EHOSTUNREACH, ENETUNREACH).
    Unreachable,
    /// Reset while it was being opened.
    Reset,
    /// A Unix socket that is not there, or may not be used.
    NotFound,
    /// The handshake of TLS with it failed.
    Tls,
    /// No free local port, or the source address is not ours (EADDRNOTAVAIL).
    SourceUnavailable,
    /// This process or machine has no descriptors or memory left.
    Exhausted,
    /// Anything else that the system says.
    Other,
}

impl DialFailure {
    pub(super) const ALL: [Self; 9] = [
        Self::Refused,
        Self::TimedOut,
        Self::Unreachable,
        Self::Reset,
        Self::NotFound,
        Self::Tls,
        Self::SourceUnavailable,
        Self::Exhausted,
        Self::Other,
    ];

    /// What an error of `connect` means.
    pub fn from_error(error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                Self::Unreachable
            }
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Self::Reset,
            ErrorKind::NotFound | ErrorKind::PermissionDenied => Self::NotFound,
            ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse => Self::SourceUnavailable,
            ErrorKind::OutOfMemory => Self::Exhausted,
            // EMFILE 24, ENFILE 23 and ENOBUFS 105 have no kind of their own (Linux numbers, `errno.h`).
            _ if matches!(error.raw_os_error(), Some(23 | 24 | 105)) => Self::Exhausted,
            _ => Self::Other,
        }
    }

    /// The word for logs, metrics and the status page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::NotFound => "not_found",
            Self::Tls => "tls_failed",
            Self::SourceUnavailable => "source_unavailable",
            Self::Exhausted => "exhausted",
            Self::Other => "failed",
        }
    }

    /// Whether it says something about the endpoint, and not about this machine.
    pub fn is_the_endpoints(self) -> bool {
        match self {
            Self::Refused
            | Self::TimedOut
            | Self::Unreachable
            | Self::Reset
            | Self::NotFound
            | Self::Tls
            | Self::Other => true,
            Self::SourceUnavailable | Self::Exhausted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_descriptors_is_not_the_endpoints_fault() {
        let failure = DialFailure::from_error(&std::io::Error::from_raw_os_error(24));
        assert_eq!(failure, DialFailure::Exhausted);
        assert!(!failure.is_the_endpoints());
    }
}
