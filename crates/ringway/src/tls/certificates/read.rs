//! The files of a certificate: its names alone, or all that it takes to serve it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway_proto::certificate::{Certificate, KeyKind};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::files::CertificateFiles;
use super::index::canonical;
use super::{CertificateFault, CertificateProblem};
use crate::tls::file::{self, Stamp};
use crate::tls::provider::provider;

/// The largest file that a chain, a key or a staple is read from: the longest chains have some 20 KiB.
const FILE_BYTES_MAX: usize = 1 << 20;

/// What a certificate says of itself.
#[derive(Debug)]
pub(super) struct Facts {
    /// In the form in which they are looked up, each once.
    pub(super) names: Vec<Arc<str>>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) key_kind: KeyKind,
    pub(super) stamp: Stamp,
}

/// Why a certificate cannot be served, and the file that it is about.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) path: PathBuf,
    pub(super) problem: CertificateProblem,
}

impl Failure {
    fn new(path: &Path, problem: CertificateProblem) -> Self {
        Self { path: path.to_path_buf(), problem }
    }

    /// With the number of its certificate.
    pub(super) fn of(self, number: usize) -> CertificateFault {
        CertificateFault { number, path: self.path, problem: self.problem }
    }
}

/// Reads what the first certificate of a chain says.
pub(super) fn facts(chain: &Path) -> Result<Facts, Failure> {
    let (bytes, stamp) = read(chain)?;
    let first = CertificateDer::from_pem_slice(&bytes).map_err(|error| of_chain(chain, &error))?;
    let certificate =
        Certificate::parse(&first).map_err(|_| Failure::new(chain, CertificateProblem::Malformed))?;
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut add = |name: &str| match canonical(name).map(Arc::from) {
        Some(name) if !names.contains(&name) => names.push(name),
        _ => {}
    };
    certificate.dns_names().for_each(&mut add);
    // Only where there are no others it is a host's name (RFC 6125, section 6.4.4).
    if certificate.dns_names().next().is_none() {
        certificate.common_name().into_iter().for_each(add);
    }
    let (not_before, not_after) = (certificate.not_before(), certificate.not_after());
    Ok(Facts { names, not_before, not_after, key_kind: certificate.key_kind(), stamp })
}

/// Reads a chain with its key and its staple, and looks whether they belong together.
pub(super) fn load(files: &CertificateFiles) -> Result<CertifiedKey, Failure> {
    let CertificateFiles { chain, key, ocsp } = files;
    let (bytes, _) = read(chain)?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| of_chain(chain, &error))?;
    if certificates.is_empty() {
        return Err(Failure::new(chain, CertificateProblem::NoCertificate));
    }
    let private = private_key(key)?;
    let mut certified =
        CertifiedKey::from_der(certificates, private, provider()).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Failure::new(key, CertificateProblem::OtherKey)
            }
            Error::InvalidCertificate(_) => Failure::new(chain, CertificateProblem::Malformed),
            other => Failure::new(key, CertificateProblem::UnusableKey(other.to_string())),
        })?;
    if let Some(ocsp) = ocsp {
        let (answer, _) = read(ocsp)?;
        if !is_successful_answer(&answer) {
            return Err(Failure::new(ocsp, CertificateProblem::Staple));
        }
        certified.ocsp = Some(answer);
    }
    Ok(certified)
}

/// Reads a key.
pub(super) fn private_key(key: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let (bytes, _) = read(key)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        Failure::new(
            key,
            match error {
                pem::Error::NoItemsFound => CertificateProblem::NoKey,
                other => CertificateProblem::UnusableKey(other.to_string()),
            },
        )
    })
}

/// Whether it begins as an OCSPResponse whose status is "successful" (RFC 6960, section 4.2.1): a SEQUENCE of its whole
/// length, then an ENUMERATED of 0, then `[0]` with the answer.
fn is_successful_answer(bytes: &[u8]) -> bool {
    let (length, body) = match bytes {
        [0x30, length @ 0..=0x7f, body @ ..] => (usize::from(*length), body),
        [0x30, 0x81, length, body @ ..] => (usize::from(*length), body),
        [0x30, 0x82, high, low, body @ ..] => (usize::from(*high) << 8 | usize::from(*low), body),
        _ => return false,
    };
    body.len() == length && body.starts_with(&[0x0a, 1, 0, 0xa0])
}

fn read(path: &Path) -> Result<(Vec<u8>, Stamp), Failure> {
    file::read(path, FILE_BYTES_MAX)
        .map_err(|error| Failure::new(path, CertificateProblem::Unreadable(error.to_string())))
}

fn of_chain(chain: &Path, error: &pem::Error) -> Failure {
    Failure::new(
        chain,
        match error {
            pem::Error::NoItemsFound => CertificateProblem::NoCertificate,
            _ => CertificateProblem::Malformed,
        },
    )
}
