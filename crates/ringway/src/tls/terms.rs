//! What an app's connections are accepted by: certificates, application protocols, versions.

use std::fmt;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, ServerConfig};

use super::provider::provider;

/// How connections are accepted. Cheap to clone; those that are open keep the terms that they began with.
#[derive(Clone)]
pub struct ServerTerms {
    config: Arc<ServerConfig>,
}

/// Why something that terms are made of is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermsError {
    /// There is no certificate in the file, or it cannot be read.
    Chain(String),
    /// There is no private key in the file, or none that can be used.
    Key(String),
    /// The key is not that of the first certificate.
    Mismatch,
}

impl fmt::Display for TermsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(reason) | Self::Key(reason) => f.write_str(reason),
            Self::Mismatch => f.write_str("the key is not that of the first certificate of the chain"),
        }
    }
}

impl std::error::Error for TermsError {}

impl ServerTerms {
    /// Terms for TLS 1.2 and 1.3. `alpn`: application protocols, the preferred one first; empty: none is agreed on.
    pub fn new(resolver: Arc<dyn ResolvesServerCert>, alpn: Vec<Vec<u8>>) -> Self {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites of both versions")
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = alpn;
        // Sessions are resumed by tickets alone, and there are no keys for those yet.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Self { config: Arc::new(config) }
    }

    /// The same for these certificates, at least one. A client gets the first that has the name it asks for; one that asks
    /// for none, or for a name of none, gets the first.
    pub fn of(certificates: Vec<Arc<CertifiedKey>>, alpn: Vec<Vec<u8>>) -> Self {
        Self::new(Arc::new(FirstThatFits(certificates)), alpn)
    }

    pub(super) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

impl fmt::Debug for ServerTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTerms").field("alpn", &self.config.alpn_protocols).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct FirstThatFits(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for FirstThatFits {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |key: &&Arc<CertifiedKey>| {
            let parsed = key.cert.first().and_then(|cert| ParsedCertificate::try_from(cert).ok());
            name.as_ref().zip(parsed).is_some_and(|(name, cert)| verify_server_name(&cert, name).is_ok())
        };
        self.0.iter().find(fits).or(self.0.first()).map(Arc::clone)
    }
}

/// A certificate with its intermediates and its key, both in PEM.
///
/// # Errors
/// When one of the two cannot be read, or they do not belong together.
pub fn certified_key(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, TermsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| TermsError::Chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(TermsError::Chain("no certificate in PEM is in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| TermsError::Key(format!("no private key in PEM is in it: {error}")))?;
    match CertifiedKey::from_der(chain, key, provider()) {
        Ok(certified) => Ok(Arc::new(certified)),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(TermsError::Mismatch),
        Err(Error::InvalidCertificate(error)) => Err(TermsError::Chain(error.to_string())),
        Err(error) => Err(TermsError::Key(error.to_string())),
    }
}
