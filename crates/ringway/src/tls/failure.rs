//! Why a conversation in TLS failed.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Why a conversation failed: the kind for counters, and words for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    words: String,
}

/// What went wrong, as far as somebody would act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The other end gave up, with an alert: it does not trust the certificate, say.
    PeerAlert,
    /// There is no certificate for the name that was asked for, or it cannot be loaded.
    NoCertificate,
    /// Too many certificates wait to be loaded for one more.
    Overloaded,
    /// There is no version, cipher suite, or group in common.
    NothingInCommon,
    /// There is no application protocol in common.
    NoProtocol,
    /// The other end has no certificate, and has to have one.
    PeerCertificateMissing,
    /// Its certificate was revoked.
    PeerCertificateRevoked,
    /// Its certificate holds no longer, or not yet.
    PeerCertificateExpired,
    /// Nobody who is believed issued its certificate.
    PeerCertificateUntrusted,
    /// Whether its certificate was revoked is not known: there is no list of its authority.
    PeerCertificateUnlisted,
    /// Its certificate is for other names than the one that was asked for.
    PeerCertificateMisnamed,
    /// Its certificate is wrong in another way: malformed, for another purpose, or its signature is.
    PeerCertificate,
    /// What came is no TLS, or breaks its rules.
    Protocol,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::PeerAlert,
        Self::NoCertificate,
        Self::Overloaded,
        Self::NothingInCommon,
        Self::NoProtocol,
        Self::PeerCertificateMissing,
        Self::PeerCertificateRevoked,
        Self::PeerCertificateExpired,
        Self::PeerCertificateUntrusted,
        Self::PeerCertificateUnlisted,
        Self::PeerCertificateMisnamed,
        Self::PeerCertificate,
        Self::Protocol,
    ];

    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PeerAlert => "peer_alert",
            Self::NoCertificate => "no_certificate",
            Self::Overloaded => "overloaded",
            Self::NothingInCommon => "nothing_in_common",
            Self::NoProtocol => "no_protocol",
            Self::PeerCertificateMissing => "peer_certificate_missing",
            Self::PeerCertificateRevoked => "peer_certificate_revoked",
            Self::PeerCertificateExpired => "peer_certificate_expired",
            Self::PeerCertificateUntrusted => "peer_certificate_untrusted",
            Self::PeerCertificateUnlisted => "peer_certificate_unlisted",
            Self::PeerCertificateMisnamed => "peer_certificate_misnamed",
            Self::PeerCertificate => "peer_certificate",
            Self::Protocol => "protocol",
        }
    }
}

impl Failure {
    /// What went wrong.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// There is no name to ask a server for.
    pub fn without_name() -> Self {
        Self { kind: FailureKind::PeerCertificateMisnamed, words: "there is no name to ask for".to_owned() }
    }

    /// The certificate for the name that was asked for cannot be loaded, as too many wait to be.
    pub fn overloaded() -> Self {
        Self { kind: FailureKind::Overloaded, words: "too many certificates wait to be loaded".to_owned() }
    }

    /// The other end's certificate held when its session began, and holds no longer.
    pub(super) fn expired() -> Self {
        Self {
            kind: FailureKind::PeerCertificateExpired,
            words: "the certificate of its session expired".to_owned(),
        }
    }

    pub(super) fn protocol(words: &str) -> Self {
        Self { kind: FailureKind::Protocol, words: words.to_owned() }
    }

    /// The other end's certificate is missing or wrong; that of this end was asked for and is not there.
    pub(super) fn of(error: &Error, has_no_certificate: bool) -> Self {
        let kind = match error {
            Error::AlertReceived(_) => FailureKind::PeerAlert,
            Error::General(_) if has_no_certificate => FailureKind::NoCertificate,
            Error::PeerIncompatible(_) => FailureKind::NothingInCommon,
            Error::NoApplicationProtocol => FailureKind::NoProtocol,
            Error::NoCertificatesPresented => FailureKind::PeerCertificateMissing,
            Error::UnsupportedNameType => FailureKind::PeerCertificateMisnamed,
            Error::InvalidCertificate(error) => of_certificate(error),
            Error::InvalidCertRevocationList(_) => FailureKind::PeerCertificateUnlisted,
            _ => FailureKind::Protocol,
        };
        let words = match error {
            Error::AlertReceived(AlertDescription::Unknown(number)) => format!("alert {number}"),
            Error::General(_) if has_no_certificate => "no certificate for this name".to_owned(),
            // Without the names in it: those are as many as the other end likes.
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => "the certificate is not for the name that was asked for".to_owned(),
            error => error.to_string(),
        };
        Self { kind, words }
    }
}

fn of_certificate(error: &CertificateError) -> FailureKind {
    match error {
        CertificateError::Revoked => FailureKind::PeerCertificateRevoked,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => FailureKind::PeerCertificateExpired,
        CertificateError::UnknownIssuer => FailureKind::PeerCertificateUntrusted,
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => FailureKind::PeerCertificateUnlisted,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            FailureKind::PeerCertificateMisnamed
        }
        _ => FailureKind::PeerCertificate,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::new(io::ErrorKind::InvalidData, failure)
    }
}
