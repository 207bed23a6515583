//! Who talks to whom: terms and configurations that are made once, of one certificate that both sides know.

use std::array;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ringway::layer::Scratch;
use ringway::tls::{
    ClientPolicy, ClientTerms, ClientTermsPlan, Conversation, Demand, ServerTerms, ServerTermsPlan,
    TicketKeys, Trust,
};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::ends::{End, Ours, Theirs};

/// Of `www.example.com`, until the year 9999; its own authority.
const IDENTITY: &str = include_str!("identity.pem");
const NAME: &str = "www.example.com";

/// What the first two bytes say.
#[derive(Clone, Copy)]
pub(crate) struct Setup([u8; 2]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The server is ours.
    Server,
    /// The client is.
    Client,
    Both,
    /// The server is, and the client was there before.
    ServerAgain,
}

impl Setup {
    pub(crate) fn of(bytes: [u8; 2]) -> Self {
        Self(bytes)
    }

    fn has(self, bit: u32) -> bool {
        u16::from_le_bytes(self.0) >> bit & 1 == 1
    }

    fn who(self) -> Who {
        match self.0[0] & 3 {
            0 => Who::Server,
            1 => Who::Client,
            2 => Who::Both,
            _ => Who::ServerAgain,
        }
    }

    pub(crate) fn is_resumed(self) -> bool {
        self.who() == Who::ServerAgain
    }

    /// TLS 1.2. What is ours cannot be told to speak no other.
    pub(crate) fn is_old(self) -> bool {
        self.has(2) && self.who() != Who::Both
    }

    /// The client shows a certificate, too.
    fn is_mutual(self) -> bool {
        self.has(3)
    }

    /// It has none to show: there is no agreement.
    pub(crate) fn is_unknown(self) -> bool {
        self.is_mutual() && self.has(10) && !self.is_resumed()
    }

    fn has_protocols(self) -> bool {
        self.has(4)
    }

    /// The longest record of one that is not ours.
    fn record_max(self) -> Option<usize> {
        [None, Some(64), Some(500), Some(1_200)][usize::from(self.0[0] >> 5 & 3)]
    }

    /// A server that is ours seals tickets.
    fn has_tickets(self) -> bool {
        self.has(8) || self.is_resumed()
    }

    /// A server that is not ours likes another group than the client hoped for, so that there are two hellos.
    fn is_tried_again(self) -> bool {
        self.has(9)
    }
}

/// What pairs are made of. Of each as many as there are answers to questions that are asked of a [`Setup`], by their bits.
pub(crate) struct World {
    server_terms: [ServerTerms; 4],
    client_terms: [ClientTerms; 4],
    server_configs: [ServerConfig; 8],
    client_configs: [ClientConfig; 4],
}

/// Two ends that can begin as often as one likes.
pub(crate) struct Pair {
    client: Client,
    server: Server,
}

enum Client {
    Ours(ClientTerms),
    Theirs(Arc<ClientConfig>),
}

enum Server {
    Ours(ServerTerms),
    Theirs(Arc<ServerConfig>),
}

impl World {
    pub(crate) fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::new)
    }

    fn new() -> Self {
        let has = |at: usize, bit: u32| at >> bit & 1 == 1;
        let versions =
            |is_old: bool| -> [&SupportedProtocolVersion; 1] { [if is_old { &TLS12 } else { &TLS13 }] };
        let (chain, key) = identity();
        let mut roots = RootCertStore::empty();
        roots.add(chain[0].clone()).expect("a root");
        let roots = Arc::new(roots);
        let pair = CertifiedKey::from_der(chain.clone(), key.clone_key(), &default_provider());
        let pair = Arc::new(One(Arc::new(pair.expect("a pair"))));
        let tickets = Arc::new(TicketKeys::random(Duration::from_secs(3_600)));
        let protocols = || vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let authority = directory().join("identity.pem");

        let server_terms = array::from_fn(|at| {
            let policy = || ClientPolicy::read(Demand::Required, &authority, &[]).expect("a policy");
            let clients = has(at, 0).then(policy);
            let tickets = has(at, 1).then(|| Arc::clone(&tickets));
            let plan = ServerTermsPlan::new(Arc::clone(&pair) as Arc<dyn ResolvesServerCert>);
            ServerTerms::new(ServerTermsPlan { clients, tickets, alpn: protocols(), ..plan })
        });
        let client_terms = array::from_fn(|at| {
            let trust = Trust::Authorities(IDENTITY.into());
            let certificate = has(at, 0).then(|| (IDENTITY.into(), IDENTITY.into()));
            let alpn = if has(at, 1) { vec![b"http/1.1".to_vec()] } else { Vec::new() };
            ClientTerms::new(ClientTermsPlan { trust, certificate, alpn }).expect("terms")
        });
        let server_configs = array::from_fn(|at| {
            let group = if has(at, 2) { kx_group::SECP384R1 } else { kx_group::X25519 };
            let provider = provider(group);
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&versions(has(at, 0)))
                .expect("suites of it");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider);
            let builder = match has(at, 1) {
                true => builder.with_client_cert_verifier(verifier.build().expect("roots")),
                false => builder.with_no_client_auth(),
            };
            let mut config = builder.with_single_cert(chain.clone(), key.clone_key()).expect("a pair");
            config.alpn_protocols = protocols();
            config
        });
        let client_configs = array::from_fn(|at| {
            let builder = ClientConfig::builder_with_provider(provider(kx_group::X25519))
                .with_protocol_versions(&versions(has(at, 0)))
                .expect("suites of it")
                .with_root_certificates(Arc::clone(&roots));
            match has(at, 1) {
                true => builder.with_client_auth_cert(chain.clone(), key.clone_key()).expect("a pair"),
                false => builder.with_no_client_auth(),
            }
        });
        Self { server_terms, client_terms, server_configs, client_configs }
    }

    pub(crate) fn pair(&self, setup: Setup) -> Pair {
        let who = setup.who();
        let [is_old, is_mutual] = [setup.is_old(), setup.is_mutual()].map(usize::from);
        let has_certificate = usize::from(setup.is_mutual() && !setup.is_unknown());
        let client = match who {
            Who::Client | Who::Both => {
                let at = has_certificate | usize::from(setup.has_protocols()) << 1;
                Client::Ours(self.client_terms[at].clone())
            }
            Who::Server | Who::ServerAgain => {
                let mut config = self.client_configs[is_old | has_certificate << 1].clone();
                config.max_fragment_size = setup.record_max();
                // What was said in one input means nothing in the next.
                config.resumption = match setup.is_resumed() {
                    true => Resumption::in_memory_sessions(1),
                    false => Resumption::disabled(),
                };
                if setup.has_protocols() {
                    config.alpn_protocols = vec![b"http/1.1".to_vec()];
                }
                Client::Theirs(Arc::new(config))
            }
        };
        let server = match who {
            Who::Client => {
                let at = is_old | is_mutual << 1 | usize::from(setup.is_tried_again()) << 2;
                let mut config = self.server_configs[at].clone();
                config.max_fragment_size = setup.record_max();
                Server::Theirs(Arc::new(config))
            }
            Who::Server | Who::Both | Who::ServerAgain => {
                let at = is_mutual | usize::from(setup.has_tickets()) << 1;
                Server::Ours(self.server_terms[at].clone())
            }
        };
        Pair { client, server }
    }
}

impl Pair {
    /// A client and a server, and what the client says first.
    pub(crate) fn begin(&self) -> ([End; 2], Vec<u8>) {
        let (client, hello) = match &self.client {
            Client::Ours(terms) => {
                let mut hello = Scratch::default();
                let conversation = Conversation::connect(terms, NAME, &mut hello).expect("a name");
                (End::Ours(Ours::new(conversation)), hello.as_slice().to_vec())
            }
            Client::Theirs(config) => {
                let name = ServerName::try_from(NAME).expect("a name");
                let client = ClientConnection::new(Arc::clone(config), name).expect("a client");
                let mut client = Theirs::new(client);
                let hello = client.said();
                (End::Theirs(client), hello)
            }
        };
        let server = match &self.server {
            Server::Ours(terms) => End::Ours(Ours::new(Conversation::accept(terms).expect("terms"))),
            Server::Theirs(config) => {
                End::Theirs(Theirs::new(ServerConnection::new(Arc::clone(config)).expect("a server")))
            }
        };
        ([client, server], hello)
    }
}

/// Whatever name is asked for.
#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn identity() -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(IDENTITY.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(IDENTITY.as_bytes()).expect("a key");
    (vec![certificate], key)
}

/// The cheapest there is: one group.
fn provider(group: &'static dyn SupportedKxGroup) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![group], ..default_provider() })
}

/// Where these files are: of the crate of the targets, and of that of the test.
fn directory() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["checks/conversation", "../../fuzz/checks/conversation"].map(|place| ours.join(place));
    places.into_iter().find(|place| place.is_dir()).expect("the files of the check")
}
