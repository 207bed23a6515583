//! An established conversation, and the keys of its other end, which rustls shook hands for and gave away.

use std::array;
use std::mem;
use std::sync::{Arc, Mutex, OnceLock};

use ringway::layer::{Layer, Scratch};
use ringway::tls::{ClientTerms, ClientTermsPlan, Conversation, ServerTerms, ServerTermsPlan, Trust};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384,
    TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Connection, KeyLog, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};

use super::keys::{Keys, Place, Suite};

/// Of `www.example.com`, until the year 9999; its own authority.
const IDENTITY: &str = include_str!("../conversation/identity.pem");
const NAME: &str = "www.example.com";
/// Flights of a handshake, and one more.
const ROUNDS_MAX: usize = 4;

/// What the first byte says.
#[derive(Clone, Copy)]
pub(crate) struct Setup(u8);

impl Setup {
    pub(crate) fn of(byte: u8) -> Self {
        Self(byte)
    }

    /// Ours is the server.
    pub(crate) fn is_server(self) -> bool {
        self.0 & 1 == 0
    }

    pub(crate) fn is_13(self) -> bool {
        self.0 & 2 == 0
    }

    pub(crate) fn suite(self) -> Suite {
        [Suite::Aes128, Suite::Aes256, Suite::Chacha][usize::from(self.0 >> 2) % 3]
    }

    /// The number of the first record behind a handshake: in TLS 1.2 its end is sealed by the same keys.
    pub(crate) fn first_sequence(self) -> u64 {
        u64::from(!self.is_13())
    }

    fn supported(self) -> SupportedCipherSuite {
        match (self.is_13(), self.suite()) {
            (true, Suite::Aes128) => TLS13_AES_128_GCM_SHA256,
            (true, Suite::Aes256) => TLS13_AES_256_GCM_SHA384,
            (true, Suite::Chacha) => TLS13_CHACHA20_POLY1305_SHA256,
            (false, Suite::Aes128) => TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            (false, Suite::Aes256) => TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            (false, Suite::Chacha) => TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        }
    }
}

pub(crate) struct Pair {
    pub(crate) ours: Conversation,
    /// What ours is to open.
    pub(crate) sealing: Keys,
    /// What it seals.
    opening: Keys,
    /// Where the next record is that it seals.
    opens: Place,
}

impl Pair {
    pub(crate) fn of(setup: Setup) -> Self {
        let world = World::get();
        let secrets = Arc::new(Secrets::default());
        let mut said = Scratch::default();
        let (ours, theirs) = match setup.is_server() {
            true => {
                let mut config = world.client_configs[usize::from(setup.0 >> 1) % 6].clone();
                config.key_log = Arc::<Secrets>::clone(&secrets);
                let name = ServerName::try_from(NAME).expect("a name");
                let theirs = ClientConnection::new(Arc::new(config), name).expect("a client");
                let ours = Conversation::accept(&world.server_terms).expect("terms");
                (ours, Connection::from(theirs))
            }
            false => {
                let mut config = world.server_configs[usize::from(setup.0 >> 1) % 6].clone();
                config.key_log = Arc::<Secrets>::clone(&secrets);
                let theirs = ServerConnection::new(Arc::new(config)).expect("a server");
                let ours = Conversation::connect(&world.client_terms, NAME, &mut said).expect("a name");
                (ours, Connection::from(theirs))
            }
        };
        let (ours, theirs) = shake_hands(ours, theirs, said.as_slice().to_vec());
        assert_eq!(theirs.negotiated_cipher_suite(), Some(setup.supported()));
        let extracted = theirs.dangerous_extract_secrets().expect("they may be taken");
        let [client, server] = secrets.taken();
        let (to_ours, of_ours) = if setup.is_server() { (client, server) } else { (server, client) };
        assert_eq!([extracted.tx.0, extracted.rx.0], [setup.first_sequence(); 2]);
        Self {
            ours,
            sealing: Keys::new(setup.suite(), &extracted.tx.1, to_ours),
            opening: Keys::new(setup.suite(), &extracted.rx.1, of_ours),
            opens: Place { epoch: 0, sequence: setup.first_sequence() },
        }
    }

    /// Kinds and contents of the records that ours sealed.
    pub(crate) fn open(&mut self, mut wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut records = Vec::new();
        while !wire.is_empty() {
            let &[_, _, _, high, low] = wire.first_chunk().expect("a whole head");
            let len = 5 + usize::from(u16::from_be_bytes([high, low]));
            let (record, rest) = wire.split_at_checked(len).expect("a whole record");
            wire = rest;
            let (kind, content) = self.opening.open(self.opens, record);
            self.opens.sequence += 1;
            if kind == 22 && content[0] == 24 {
                self.opens = self.opens.after_update();
            }
            records.push((kind, content));
        }
        records
    }
}

/// `said`: what ours says first.
fn shake_hands(
    mut ours: Conversation,
    mut theirs: Connection,
    mut said: Vec<u8>,
) -> (Conversation, Connection) {
    for _ in 0..ROUNDS_MAX {
        let mut heard = &said[..];
        while !heard.is_empty() {
            theirs.read_tls(&mut heard).expect("there is room");
            theirs.process_new_packets().expect("a good handshake");
        }
        let mut answer = Vec::new();
        while theirs.wants_write() {
            theirs.write_tls(&mut answer).expect("memory");
        }
        let mut wire = Scratch::default();
        let progress = ours.handshake(&mut answer, false, &mut wire).expect("a good handshake");
        assert_eq!(progress.taken, answer.len(), "nothing follows it");
        said = wire.as_slice().to_vec();
    }
    assert!(!ours.is_handshaking() && !theirs.is_handshaking() && said.is_empty());
    assert!(!ours.has_peer_finished() && ours.held_bytes() == 0);
    (ours, theirs)
}

/// What pairs are made of; the configurations by the rest of the first byte.
struct World {
    server_terms: ServerTerms,
    client_terms: ClientTerms,
    server_configs: [ServerConfig; 6],
    client_configs: [ClientConfig; 6],
}

impl World {
    fn get() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(Self::new)
    }

    fn new() -> Self {
        let certificate = CertificateDer::from_pem_slice(IDENTITY.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(IDENTITY.as_bytes()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let pair = CertifiedKey::from_der(vec![certificate], key, &default_provider()).expect("a pair");
        let pair = Arc::new(One(Arc::new(pair)));
        let setup = |at: usize| Setup((at as u8) << 1);

        let server_configs = array::from_fn(|at| {
            let suite = setup(at).supported();
            let mut config = ServerConfig::builder_with_provider(only(suite))
                .with_protocol_versions(&[suite.version()])
                .expect("it is its suite's")
                .with_no_client_auth()
                .with_cert_resolver(Arc::<One>::clone(&pair));
            config.send_tls13_tickets = 0;
            config.enable_secret_extraction = true;
            config
        });
        let client_configs = array::from_fn(|at| {
            let suite = setup(at).supported();
            let mut config = ClientConfig::builder_with_provider(only(suite))
                .with_protocol_versions(&[suite.version()])
                .expect("it is its suite's")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.resumption = Resumption::disabled();
            config.enable_secret_extraction = true;
            config
        });
        let trust = Trust::Authorities(IDENTITY.into());
        let plan = ClientTermsPlan { trust, certificate: None, alpn: Vec::new() };
        Self {
            server_terms: ServerTerms::new(ServerTermsPlan::new(pair)),
            client_terms: ClientTerms::new(plan).expect("terms"),
            server_configs,
            client_configs,
        }
    }
}

/// The cheapest there is: one group.
fn only(suite: SupportedCipherSuite) -> Arc<CryptoProvider> {
    let kx_groups = vec![kx_group::X25519];
    Arc::new(CryptoProvider { cipher_suites: vec![suite], kx_groups, ..default_provider() })
}

/// Whatever name is asked for.
#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// What the first keys of TLS 1.3 were made of: the client's and the server's.
#[derive(Debug, Default)]
struct Secrets(Mutex<[Option<Vec<u8>>; 2]>);

impl Secrets {
    fn taken(&self) -> [Option<Vec<u8>>; 2] {
        mem::take(&mut *self.0.lock().expect("nobody panicked"))
    }
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let side = match label {
            "CLIENT_TRAFFIC_SECRET_0" => 0,
            "SERVER_TRAFFIC_SECRET_0" => 1,
            _ => return,
        };
        self.0.lock().expect("nobody panicked")[side] = Some(secret.to_vec());
    }
}
