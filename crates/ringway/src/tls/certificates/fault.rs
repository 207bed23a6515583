//! What is wrong with a certificate.

use std::fmt;
use std::path::PathBuf;

/// What is wrong with one of the certificates of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFault {
    /// Which one, in the order in which they were given.
    pub number: usize,
    /// The file that it is about.
    pub path: PathBuf,
    /// What it is.
    pub problem: CertificateProblem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateProblem {
    /// A file cannot be read; why.
    Unreadable(String),
    /// There is no certificate in the file.
    NoCertificate,
    /// What is in the file is not in the form of a certificate.
    Malformed,
    /// There is no key in the file.
    NoKey,
    /// The key cannot be used; why.
    UnusableKey(String),
    /// The key is not that of the certificate.
    OtherKey,
    /// The staple is no answer of an OCSP server, or one that says nothing.
    Staple,
    /// It names no host, and is not the default.
    Nameless,
    /// Each host that it names has an earlier certificate with a key of the same kind: that of this file.
    Shadowed(PathBuf),
    /// It holds no longer: since this second, counted from the beginning of 1970.
    Expired(i64),
    /// It does not hold yet: from this second on.
    NotYetValid(i64),
}

impl CertificateProblem {
    /// Whether the certificate cannot be served.
    pub fn is_grave(&self) -> bool {
        match self {
            Self::Unreadable(_)
            | Self::NoCertificate
            | Self::Malformed
            | Self::NoKey
            | Self::UnusableKey(_)
            | Self::OtherKey
            | Self::Staple => true,
            Self::Nameless | Self::Shadowed(_) | Self::Expired(_) | Self::NotYetValid(_) => false,
        }
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            Self::NoCertificate => f.write_str("there is no certificate in it (PEM)"),
            Self::Malformed => f.write_str("what is in it is no certificate"),
            Self::NoKey => f.write_str("there is no private key in it (PEM, not encrypted)"),
            Self::UnusableKey(error) => write!(f, "its key cannot be used: {error}"),
            Self::OtherKey => f.write_str("its key is not that of the certificate"),
            Self::Staple => f.write_str("it is no successful answer of an OCSP server (DER)"),
            Self::Nameless => f.write_str("the certificate names no host, so that nobody would get it"),
            Self::Shadowed(by) => {
                write!(
                    f,
                    "nobody would get it: all that it names has a certificate already, {}",
                    by.display()
                )
            }
            Self::Expired(since) => write!(f, "the certificate expired at {}", Utc(*since)),
            Self::NotYetValid(from) => write!(f, "the certificate is not valid before {}", Utc(*from)),
        }
    }
}

impl std::error::Error for CertificateFault {}

/// Seconds since the beginning of 1970, as RFC 3339 writes them.
struct Utc(i64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // Years begin in March, so that the day that is there in some years only is their last one; 400 of them have
        // 146,097 days.
        let days = days + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = year + era * 400 + carry;
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_date_writes_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_825_600, "2000-02-29T12:00:00Z"),
            (1_795_747_902, "2026-11-27T02:51:42Z"),
            (4_949_347_902, "2126-11-03T02:51:42Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Utc(seconds).to_string(), text);
        }
    }
}
