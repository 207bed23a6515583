//! What backends are dialled by: whom to believe, who this end is, application protocols.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore, SignatureScheme};

use super::provider::provider;
use super::tickets::Binding;

/// How servers are dialled. Cheap to clone; connections that are open keep the terms that they began with. Terms are the same if
/// what they are made of is, to the last byte.
#[derive(Clone)]
pub struct ClientTerms {
    config: Arc<ClientConfig>,
    digest: Binding,
}

/// What terms are made of.
#[derive(Clone, Debug)]
pub struct ClientTermsPlan {
    /// Whom to believe.
    pub trust: Trust,
    /// Who this end is, where servers ask for it: a certificate with its intermediates, and its key, in PEM; `None`: nobody.
    pub certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// Application protocols that are offered, the preferred one first; empty: none are.
    pub alpn: Vec<Vec<u8>>,
}

impl ClientTermsPlan {
    fn digest(&self) -> Binding {
        let (trust, authorities): (&[u8], &[u8]) = match &self.trust {
            Trust::System => (b"system", b""),
            Trust::Authorities(pem) => (b"authorities", pem),
            Trust::Anybody => (b"anybody", b""),
        };
        let (whose, chain, key): (&[u8], &[u8], &[u8]) = match &self.certificate {
            Some((chain, key)) => (b"own", chain, key),
            None => (b"nobody", b"", b""),
        };
        let alpn = self.alpn.iter().map(Vec::as_slice);
        Binding::of([trust, authorities, whose, chain, key].into_iter().chain(alpn))
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that the authorities of the system have signed, for the name that is dialled. They are read once in a process,
    /// from where OpenSSL has them, or `SSL_CERT_FILE` and `SSL_CERT_DIR` say.
    System,
    /// Those that these have signed, in PEM, for the name that is dialled.
    Authorities(Vec<u8>),
    /// Anybody's, which protects from nobody who can get between.
    Anybody,
}

/// Why there are no terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientTermsError {
    /// The authorities of the system cannot be read.
    System(String),
    /// Those that were given cannot be.
    Authorities(String),
    /// There is no certificate of this end in what was given, or it cannot be read.
    Chain(String),
    /// There is no private key in what was given, none that can be used, or that of another certificate.
    Key(String),
}

impl fmt::Display for ClientTermsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(reason) => write!(f, "the authorities of the system cannot be read: {reason}"),
            Self::Authorities(reason) | Self::Chain(reason) | Self::Key(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for ClientTermsError {}

impl ClientTerms {
    /// The terms of a plan, for TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// When there is nobody to believe, or this end's certificate is of no use.
    pub fn new(plan: ClientTermsPlan) -> Result<Self, ClientTermsError> {
        let digest = plan.digest();
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites of both versions");
        let builder = match &plan.trust {
            Trust::System => builder.with_root_certificates(system_roots()?),
            Trust::Authorities(pem) => builder.with_root_certificates(roots_of(pem)?),
            Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)),
        };
        let mut config = match plan.certificate {
            Some((chain, key)) => {
                let resolver = SingleCertAndKey::from(certified_key(&chain, &key)?);
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = plan.alpn;
        // To seal and open records with the keys once the handshake is over.
        config.enable_secret_extraction = true;
        // A server that goes on with a session of earlier is not verified again, however old its certificate has become.
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), digest })
    }

    /// Terms by which a handshake shows that somebody speaks TLS, and not who.
    pub fn of_anybody() -> Self {
        static TERMS: OnceLock<ClientTerms> = OnceLock::new();
        let plan = || ClientTermsPlan { trust: Trust::Anybody, certificate: None, alpn: Vec::new() };
        TERMS.get_or_init(|| Self::new(plan()).expect("nobody has to be believed")).clone()
    }

    pub(super) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

impl PartialEq for ClientTerms {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl fmt::Debug for ClientTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTerms").field("alpn", &self.config.alpn_protocols).finish_non_exhaustive()
    }
}

fn certified_key(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, ClientTermsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| ClientTermsError::Chain(error.to_string()))?;
    if chain.is_empty() {
        return Err(ClientTermsError::Chain("no certificate in PEM is in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| ClientTermsError::Key(format!("no private key in PEM is in it: {error}")))?;
    CertifiedKey::from_der(chain, key, provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            ClientTermsError::Key("it is not the key of the certificate".to_owned())
        }
        Error::InvalidCertificate(error) => ClientTermsError::Chain(error.to_string()),
        error => ClientTermsError::Key(error.to_string()),
    })
}

fn system_roots() -> Result<Arc<RootCertStore>, ClientTermsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        // They may be installed before they are asked for again.
        let reason = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(ClientTermsError::System(reason));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

fn roots_of(pem: &[u8]) -> Result<Arc<RootCertStore>, ClientTermsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = match certificate {
            Ok(certificate) => roots.add(certificate).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        added.map_err(ClientTermsError::Authorities)?;
    }
    match roots.is_empty() {
        true => Err(ClientTermsError::Authorities("no certificate in PEM is in it".to_owned())),
        false => Ok(Arc::new(roots)),
    }
}

/// Believes whatever certificate comes. That whoever has it has its key is verified still.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
