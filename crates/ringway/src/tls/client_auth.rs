//! Mutual TLS: who a client has to be.
//!
//! A policy is read once, from the certificates of authorities and their lists of what they revoked; a digest of both is
//! part of what tickets are bound to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway_proto::certificate::Certificate;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::file;
use super::provider::provider;
use super::tickets::Binding;

/// The largest file of authorities or of revocations: lists of public authorities have some MiB.
const FILE_BYTES_MAX: usize = 64 << 20;

/// The longest name of a client. A common name has at most 64 characters (RFC 5280, appendix A.1), each of at most 4 bytes.
const NAME_BYTES_MAX: usize = 255;

/// Whether a client has to bring a certificate. One that it brings has to be good in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Without one it is refused.
    Required,
    /// It may come without one.
    Optional,
}

/// Who may come with a certificate, and whether somebody may come without.
#[derive(Clone)]
pub struct ClientPolicy {
    demand: Demand,
    verifier: Arc<dyn ClientCertVerifier>,
    digest: Binding,
    authorities: usize,
    revocation_lists: usize,
}

/// Why there is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPolicyFault {
    /// The file that it is about.
    pub path: PathBuf,
    /// Whether it is one of those with revocations.
    pub is_revocation_list: bool,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for ClientPolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for ClientPolicyFault {}

impl ClientPolicy {
    /// Clients have certificates of one of the authorities whose own are in the file `ca` (PEM), which none of the lists in
    /// the files `crls` (PEM, or one in DER) names. If there are any lists, each authority between a client and a root
    /// must have one: what is not known not to be revoked is refused.
    ///
    /// # Errors
    /// Each file that cannot be read or used.
    pub fn read(demand: Demand, ca: &Path, crls: &[PathBuf]) -> Result<Self, Vec<ClientPolicyFault>> {
        let mut faults = Vec::new();
        let mut collect = |path: &Path, is_revocation_list: bool, problem: String| {
            faults.push(ClientPolicyFault { path: path.to_path_buf(), is_revocation_list, problem });
        };
        let authorities = authorities(ca).unwrap_or_else(|problem| {
            collect(ca, false, problem);
            Vec::new()
        });
        let mut lists = Vec::new();
        for path in crls {
            match revocation_lists(path) {
                Ok(found) => lists.extend(found),
                Err(problem) => collect(path, true, problem),
            }
        }
        let mut roots = RootCertStore::empty();
        for (number, authority) in (1..).zip(&authorities) {
            if let Err(error) = roots.add(authority.clone()) {
                collect(ca, false, format!("certificate {number} in it cannot be an authority: {error}"));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let digest = digest(demand, &authorities, &lists);
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider()))
            .with_crls(lists.iter().cloned());
        let builder = match demand {
            Demand::Required => builder,
            Demand::Optional => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(|error| {
            let (path, is_revocation_list) = crls.first().map_or((ca, false), |path| (path, true));
            vec![ClientPolicyFault {
                path: path.to_path_buf(),
                is_revocation_list,
                problem: format!("it cannot be used: {error}"),
            }]
        })?;
        Ok(Self { demand, verifier, digest, authorities: authorities.len(), revocation_lists: lists.len() })
    }

    /// Whether a client has to bring a certificate.
    pub fn demand(&self) -> Demand {
        self.demand
    }

    /// All that it is made of, as a digest.
    pub fn digest(&self) -> &Binding {
        &self.digest
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }
}

impl PartialEq for ClientPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl fmt::Debug for ClientPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientPolicy")
            .field("demand", &self.demand)
            .field("authorities", &self.authorities)
            .field("revocation_lists", &self.revocation_lists)
            .finish_non_exhaustive()
    }
}

/// The demand, the authorities and the lists, however they are spread over files, in whatever order.
fn digest(
    demand: Demand,
    authorities: &[CertificateDer<'_>],
    lists: &[CertificateRevocationListDer<'_>],
) -> Binding {
    let mut authorities: Vec<&[u8]> = authorities.iter().map(|authority| &**authority).collect();
    let mut lists: Vec<&[u8]> = lists.iter().map(|list| &**list).collect();
    authorities.sort_unstable();
    lists.sort_unstable();
    let demand: &[u8] = match demand {
        Demand::Required => b"required",
        Demand::Optional => b"optional",
    };
    let count = (authorities.len() as u64).to_be_bytes();
    let parts = [demand, &count].into_iter().chain(authorities).chain(lists);
    Binding::of(parts)
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in it (PEM)".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it cannot be used: {error}")),
    }
}

fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, pem::Error> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    match found {
        // Authorities publish them in DER: a SEQUENCE.
        Ok(found) if found.is_empty() && bytes.first() == Some(&0x30) => Ok(vec![bytes.into()]),
        Ok(found) if found.is_empty() => Err("there is no list of revocations in it (PEM or DER)".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it cannot be used: {error}")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = file::read(path, FILE_BYTES_MAX);
    read.map(|(bytes, _)| bytes).map_err(|error| format!("it cannot be read: {error}"))
}

/// What a client is called by the certificate that it showed: its common name, or else the first of its other names.
/// None if it has none, or one that is no text, or is longer than 255 bytes: a part of it might be the name of somebody else.
pub fn name_of_client(certificate: &[u8]) -> Option<String> {
    let certificate = Certificate::parse(certificate).ok()?;
    let others =
        || certificate.uris().chain(certificate.dns_names()).chain(certificate.mail_addresses()).next();
    let name = certificate.common_name().or_else(others)?;
    (name.len() <= NAME_BYTES_MAX).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
