//! What an app's connections are accepted by: certificates, who clients have to be, tickets, protocols, versions.

use std::fmt;
use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::client_auth::ClientPolicy;
use super::provider::provider;
use super::tickets::{Binding, TicketKeys, Tickets};

/// How connections are accepted. Cheap to clone; those that are open keep the terms that they began with.
#[derive(Clone)]
pub struct ServerTerms {
    config: Arc<ServerConfig>,
}

/// What terms are made of. Made from a resolver, as a [`CertificateStore`](super::CertificateStore): the rest has defaults.
#[derive(Clone, Debug)]
pub struct ServerTermsPlan {
    /// Which certificate a client gets.
    pub certificates: Arc<dyn ResolvesServerCert>,
    /// Application protocols, the preferred one first; none is agreed on if there is none, which is the default.
    pub alpn: Vec<Vec<u8>>,
    /// The oldest version. Default 1.2.
    pub min_version: TlsVersion,
    /// Who clients have to be; `None`: they are not asked. Default none.
    pub clients: Option<ClientPolicy>,
    /// What seals tickets; `None`: nothing is resumed. Default none.
    pub tickets: Option<Arc<TicketKeys>>,
    /// Whose terms they are: no other's tickets are taken. Default nobody's.
    pub owner: String,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// 1.2 (RFC 5246).
    Tls12,
    /// 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// Its number, as people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl ServerTermsPlan {
    /// With these certificates, and defaults.
    pub fn new(certificates: Arc<dyn ResolvesServerCert>) -> Self {
        Self {
            certificates,
            alpn: Vec::new(),
            min_version: TlsVersion::Tls12,
            clients: None,
            tickets: None,
            owner: String::new(),
        }
    }

    /// What tickets are bound to: whose they are, and who a client has to be.
    fn binding(&self) -> Binding {
        let clients: &[u8] = self.clients.as_ref().map_or(b"", |clients| clients.digest().as_bytes());
        Binding::of([self.owner.as_bytes(), clients])
    }
}

impl ServerTerms {
    /// The terms of a plan.
    pub fn new(plan: ServerTermsPlan) -> Self {
        let versions: &[&SupportedProtocolVersion] = match plan.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(versions)
            .expect("the provider has suites of both versions");
        let binding = plan.binding();
        let builder = match &plan.clients {
            Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(plan.certificates);
        config.alpn_protocols = plan.alpn;
        // To seal and open records with the keys once the handshake is over.
        config.enable_secret_extraction = true;
        // The provider's order of suites counts, and not whatever a client has first.
        config.ignore_client_order = true;
        // Sessions are resumed by tickets alone: what a worker keeps another one would not know.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match plan.tickets {
            Some(keys) => config.ticketer = Arc::new(Tickets::new(keys, binding)),
            None => config.send_tls13_tickets = 0,
        }
        Self { config: Arc::new(config) }
    }

    /// The same at another time.
    #[cfg(test)]
    pub(super) fn at(&self, time: Arc<dyn rustls::time_provider::TimeProvider>) -> Self {
        let mut config = ServerConfig::clone(&self.config);
        config.time_provider = time;
        Self { config: Arc::new(config) }
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
