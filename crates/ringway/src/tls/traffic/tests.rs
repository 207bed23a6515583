//! Established connections against rustls that does it the ordinary way, and against ends that break the rules on purpose.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig,
    ServerConnection,
};
use testkit::certificates::{Authority, Issued};

use super::*;
use crate::layer::Layer;
use crate::tls::provider::provider;
use crate::tls::tests::{NAME, World, pattern, world};
use crate::tls::{
    ClientPolicy, ClientTerms, ClientTermsPlan, Conversation, Demand, ServerTerms, ServerTermsPlan,
    TicketKeys, Trust,
};

/// An established conversation, and its other end, which is rustls.
struct Pair {
    ours: Conversation,
    theirs: Connection,
}

/// The other end of an established conversation, which seals what it likes.
struct Forger {
    sealing: Keys,
    opening: Keys,
}

fn suites() -> impl Iterator<Item = SupportedCipherSuite> {
    provider().cipher_suites.iter().copied().filter(|suite| !format!("{suite:?}").contains("_RSA_"))
}

fn first_of(is_13: bool) -> SupportedCipherSuite {
    suites().find(|suite| suite.tls13().is_some() == is_13).expect("there is one")
}

fn only(suite: SupportedCipherSuite) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { cipher_suites: vec![suite], ..CryptoProvider::clone(provider()) })
}

fn server_of(world: &World, suite: SupportedCipherSuite) -> Pair {
    Pair::with_server(&world.terms, client_config(world, only(suite), suite, None))
}

fn client_of(world: &World, suite: SupportedCipherSuite) -> Pair {
    Pair::with_client(&client_terms(world, None), server_config(world, only(suite), suite, None))
}

fn client_config(
    world: &World,
    provider: Arc<CryptoProvider>,
    suite: SupportedCipherSuite,
    own: Option<&Issued>,
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[suite.version()])
        .expect("a version")
        .with_root_certificates(Arc::clone(&world.roots));
    let mut config = match own {
        Some(own) => builder.with_client_auth_cert(vec![chain_of(own)], key_of(own)).expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    config.enable_secret_extraction = true;
    config
}

fn server_config(
    world: &World,
    provider: Arc<CryptoProvider>,
    suite: SupportedCipherSuite,
    clients: Option<&Authority>,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[suite.version()])
        .expect("a version");
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate");
            roots.add(root).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("roots"))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(&world.terms.config().cert_resolver));
    config.enable_secret_extraction = true;
    config
}

fn client_terms(world: &World, own: Option<&Issued>) -> ClientTerms {
    let trust = Trust::Authorities(world.pem.clone().into_bytes());
    let certificate = own.map(|own| (own.chain.clone().into_bytes(), own.key.clone().into_bytes()));
    ClientTerms::new(ClientTermsPlan { trust, certificate, alpn: Vec::new() }).expect("terms")
}

fn chain_of(issued: &Issued) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a certificate")
}

fn key_of(issued: &Issued) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key")
}

impl Pair {
    fn with_server(terms: &ServerTerms, config: impl Into<Arc<ClientConfig>>) -> Self {
        let name = ServerName::try_from(NAME).expect("a name");
        let theirs = ClientConnection::new(config.into(), name).expect("a client").into();
        let ours = Conversation::accept(terms).expect("terms");
        Self { ours, theirs }.met(Vec::new())
    }

    fn with_client(terms: &ClientTerms, config: ServerConfig) -> Self {
        let theirs = ServerConnection::new(Arc::new(config)).expect("a server").into();
        let mut wire = Scratch::default();
        let ours = Conversation::connect(terms, NAME, &mut wire).expect("a name");
        Self { ours, theirs }.met(wire.as_slice().to_vec())
    }

    /// Both directions carry, and the keys of both can be exchanged.
    fn carries(mut self) -> Self {
        for round in 0..3 {
            self.theirs.writer().write_all(&pattern(40_000)).expect("memory");
            let said = self.says();
            let (payload, answer) = self.takes(&said).expect("good records");
            assert!(payload == pattern(40_000) && answer.is_empty());
            let mut wire = Scratch::default();
            self.ours.send(&pattern(40_000), &mut wire).expect("it is open");
            assert!(self.hears(wire.as_slice()) == pattern(40_000));
            if round == 1 && self.theirs.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
                self.theirs.refresh_traffic_keys().expect("it is TLS 1.3");
            }
        }
        self
    }

    /// Shakes hands; `said` is what ours says first.
    fn met(mut self, mut said: Vec<u8>) -> Self {
        self.theirs.set_buffer_limit(None);
        for _ in 0..4 {
            self.hears(&said);
            let mut answer = self.says();
            let mut wire = Scratch::default();
            let taken = self.ours.handshake(&mut answer, false, &mut wire).expect("a handshake").taken;
            said = wire.as_slice().to_vec();
            if taken < answer.len() {
                let (payload, answered) = self.takes(&answer[taken..]).expect("tickets");
                assert!(payload.is_empty() && answered.is_empty());
            }
        }
        assert!(!self.ours.is_handshaking() && !self.theirs.is_handshaking() && said.is_empty());
        self
    }

    /// What rustls has to say.
    fn says(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.theirs.wants_write() {
            self.theirs.write_tls(&mut bytes).expect("memory");
        }
        bytes
    }

    /// Has rustls hear it; gives the payload.
    fn hears(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        while !bytes.is_empty() {
            self.theirs.read_tls(&mut bytes).expect("memory");
            self.theirs.process_new_packets().expect("good records");
            let _ = self.theirs.reader().read_to_end(&mut payload);
        }
        payload
    }

    /// Has ours take it; gives the payload and the answer; only that if it failed.
    fn takes(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Vec<u8>> {
        takes(&mut self.ours, bytes)
    }

    fn forger(self) -> (Conversation, Forger) {
        let is_13 = self.theirs.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let secrets = self.theirs.dangerous_extract_secrets().expect("they may be taken");
        let keys = |(sequence, secrets): (u64, _)| Keys::new(&secrets, sequence, is_13).expect("keys");
        (self.ours, Forger { sealing: keys(secrets.tx), opening: keys(secrets.rx) })
    }
}

fn takes(ours: &mut Conversation, bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Vec<u8>> {
    let (mut payload, mut answer) = (Scratch::default(), Scratch::default());
    let mut bytes = bytes.to_vec();
    let heard = ours.receive(&mut bytes, &mut payload, &mut answer);
    let (payload, has_failed) = (heard.payload.to_vec(), heard.failure.is_some());
    let answer = answer.as_slice().to_vec();
    if has_failed { Err(answer) } else { Ok((payload, answer)) }
}

impl Forger {
    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut wire = Scratch::default();
        self.sealing.seal(kind, content, &mut wire).expect("it is sealed");
        wire.as_slice().to_vec()
    }

    /// What the records of an answer are.
    fn open(&mut self, mut answer: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut records = Vec::new();
        while !answer.is_empty() {
            let len = HEADER_BYTES + usize::from(u16::from_be_bytes([answer[3], answer[4]]));
            let mut room = Scratch::default();
            let (kind, count) = self.opening.open(&answer[..len], &mut room).expect("a good record");
            records.push((kind, room.room(count).to_vec()));
            answer = &answer[len..];
        }
        records
    }
}

#[test]
fn every_suite_carries_both_ways_on_both_sides() {
    let world = world(&[]);
    let mut count = 0;
    for suite in suites() {
        for make in [server_of, client_of] {
            let mut pair = make(&world, suite);
            for len in [0, 1, 16_384, 16_385, 100_000] {
                pair.theirs.writer().write_all(&pattern(len)).expect("memory");
                let said = pair.says();
                let (payload, answer) = pair.takes(&said).expect("good records");
                assert!(payload == pattern(len) && answer.is_empty(), "{suite:?} {len}");
                let mut wire = Scratch::default();
                pair.ours.send(&pattern(len), &mut wire).expect("it is open");
                assert!(pair.hears(wire.as_slice()) == pattern(len), "{suite:?} {len}");
            }
            let mut wire = Scratch::default();
            pair.ours.finish(&mut wire);
            assert!(pair.ours.send(b"more", &mut wire).is_err(), "it said that there is none");
            assert!(pair.hears(wire.as_slice()).is_empty());
            assert_eq!(pair.theirs.reader().read(&mut [0]).expect("a clean end"), 0);
            count += 1;
        }
    }
    assert_eq!(count, 12, "three suites of either version, on either side");
}

#[test]
fn every_kind_of_handshake_leaves_good_keys() {
    let world = world(&[]);
    let authority = Authority::new("clients");
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("it is written");
    let alice = authority.issue_client("alice");
    let terms = |clients: bool, tickets: bool| {
        ServerTerms::new(ServerTermsPlan {
            clients: clients.then(|| ClientPolicy::read(Demand::Required, &ca, &[]).expect("a policy")),
            tickets: tickets.then(|| Arc::new(TicketKeys::random(Duration::from_secs(3_600)))),
            ..ServerTermsPlan::new(Arc::clone(&world.terms.config().cert_resolver))
        })
    };
    for suite in [false, true].map(first_of) {
        let alone = || client_config(&world, only(suite), suite, None);
        let shown = |pair: &Pair| pair.ours.peer_certificate().map(<[u8]>::to_vec);

        // A client with a certificate, and with a session of earlier.
        for (clients, own) in [(false, None), (true, Some(&alice))] {
            let terms = terms(clients, true);
            let config = Arc::new(client_config(&world, only(suite), suite, own));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let pair = Pair::with_server(&terms, Arc::clone(&config)).carries();
                assert_eq!(pair.theirs.handshake_kind(), Some(kind));
                assert_eq!(shown(&pair).as_deref(), own.map(chain_of).as_deref());
            }
        }
        Pair::with_server(&terms(false, false), alone()).carries();

        // Ours as a client, without and with a certificate.
        for own in [None, Some(&alice)] {
            let config = server_config(&world, only(suite), suite, own.map(|_| &authority));
            let pair = Pair::with_client(&client_terms(&world, own), config).carries();
            assert!(shown(&pair).is_some());
            assert_eq!(pair.theirs.peer_certificates().is_some(), own.is_some());
        }
    }

    // Two hellos, as the first is of no use to the server.
    let suite = first_of(true);
    let of_groups = |kx_groups| Arc::new(CryptoProvider { kx_groups, ..CryptoProvider::clone(&only(suite)) });
    let config = client_config(&world, of_groups(vec![kx_group::MLKEM768, kx_group::X25519]), suite, None);
    let pair = Pair::with_server(&world.terms, config).carries();
    assert_eq!(pair.theirs.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
    let config = server_config(&world, of_groups(vec![kx_group::SECP384R1]), suite, None);
    let pair = Pair::with_client(&client_terms(&world, None), config).carries();
    assert_eq!(pair.theirs.handshake_kind(), Some(HandshakeKind::FullWithHelloRetryRequest));
}

/// Also where a handshake is over within a read, and payload is behind it.
#[test]
fn receiving_alone_shakes_hands_wherever_it_is_cut() {
    let world = world(&[]);
    for suite in [false, true].map(first_of) {
        for piece in [1, 7, 100, 1_000, usize::MAX] {
            let mut wire = Scratch::default();
            let ours = Conversation::connect(&client_terms(&world, None), NAME, &mut wire).expect("a name");
            let config = server_config(&world, only(suite), suite, None);
            let theirs = ServerConnection::new(Arc::new(config)).expect("a server").into();
            let mut pair = Pair { ours, theirs };
            let mut said = wire.as_slice().to_vec();
            let mut heard = Vec::new();
            for _ in 0..4 {
                pair.hears(&said);
                if !pair.theirs.is_handshaking() && heard.is_empty() {
                    pair.theirs.writer().write_all(&pattern(10_000)).expect("memory");
                }
                said.clear();
                for part in pair.says().chunks(piece) {
                    let (payload, answer) = pair.takes(part).expect("good records");
                    heard.extend(payload);
                    said.extend(answer);
                }
            }
            assert!(heard == pattern(10_000), "{suite:?} in pieces of {piece}");
            pair.carries();
        }
    }
}

#[test]
fn keys_are_updated_as_often_as_the_other_end_likes() {
    let world = world(&[]);
    for suite in suites().filter(|suite| suite.tls13().is_some()) {
        for make in [server_of, client_of] {
            let mut pair = make(&world, suite);
            for round in 0..100 {
                let len = round * 100 + 1;
                pair.theirs.writer().write_all(b"before").expect("memory");
                pair.theirs.refresh_traffic_keys().expect("it is TLS 1.3");
                pair.theirs.writer().write_all(&pattern(len)).expect("memory");
                let said = pair.says();
                let (payload, answer) = pair.takes(&said).expect("good records");
                assert!(payload == [&b"before"[..], &pattern(len)].concat(), "{suite:?} {round}");
                assert!(answer.is_empty(), "what it is asked for goes before the next payload");
                let mut wire = Scratch::default();
                pair.ours.send(&pattern(len), &mut wire).expect("it is open");
                assert_eq!(pair.ours.traffic().sealing.sequence, 1);
                assert!(pair.hears(wire.as_slice()) == pattern(len), "{suite:?} {round}");
            }
        }
    }
}

#[test]
fn whoever_asks_for_keys_and_does_not_read_is_not_answered_each_time() {
    let world = world(&[]);
    let mut pair = server_of(&world, first_of(true));
    for _ in 0..1_000 {
        pair.theirs.writer().write_all(b"payload").expect("memory");
        pair.theirs.refresh_traffic_keys().expect("it is TLS 1.3");
        let said = pair.says();
        assert_eq!(pair.takes(&said).expect("good records"), (b"payload".to_vec(), Vec::new()));
    }
    let mut wire = Scratch::default();
    pair.ours.send(b"", &mut wire).expect("it is open");
    assert!(wire.is_empty());
    pair.ours.send(b"once", &mut wire).expect("it is open");
    let updated = wire.as_slice().len();
    assert_eq!(updated, 2 * (HEADER_BYTES + 1 + TAG_BYTES) + 5 + 4, "an update and the payload");
    assert_eq!(pair.hears(wire.as_slice()), b"once");
}

#[test]
fn a_key_that_has_sealed_as_much_as_it_may_is_updated_or_the_connection_ends() {
    let world = world(&[]);
    for make in [server_of, client_of] {
        let mut pair = make(&world, first_of(true));
        pair.ours.traffic().records_max = 5;
        for round in 0..50 {
            let mut wire = Scratch::default();
            pair.ours.send(&pattern(50_000), &mut wire).expect("it is open");
            assert!(pair.hears(wire.as_slice()) == pattern(50_000), "{round}");
            assert!(pair.ours.traffic().sealing.sequence < 5);
        }

        let mut pair = make(&world, first_of(false));
        pair.ours.traffic().records_max = 5;
        let mut wire = Scratch::default();
        // The first was for the end of the handshake, and the last one is for what is said at the end.
        pair.ours.send(&pattern(3 * RECORD_PAYLOAD_MAX), &mut wire).expect("it may seal so many");
        assert!(pair.hears(wire.as_slice()) == pattern(3 * RECORD_PAYLOAD_MAX));
        wire.clear();
        // Nor a part of it.
        pair.ours.traffic().records_max = 6;
        pair.ours.send(&pattern(RECORD_PAYLOAD_MAX + 1), &mut wire).expect_err("it is too much by one");
        assert!(wire.is_empty());
        pair.ours.traffic().records_max = 5;
        let error = pair.ours.send(b"one more", &mut wire).expect_err("and no more");
        assert!(error.to_string().contains("has sealed as much as it may") && wire.is_empty(), "{error}");
        pair.ours.finish(&mut wire);
        pair.hears(wire.as_slice());
        assert_eq!(pair.theirs.reader().read(&mut [0]).expect("a clean end"), 0);
    }
}

/// What a forger sends to one that is good otherwise, and the alert that it gets; none where nothing is to be said to it.
type Case<'a> = (&'a str, &'a [(u8, &'a [u8])], Option<AlertDescription>);

#[test]
fn whoever_breaks_the_rules_is_told_how_and_nothing_of_it_is_payload() {
    use AlertDescription as Alert;
    let long = vec![7; RECORD_PAYLOAD_MAX + 1];
    // With the kind of zero that is sealed behind it: one more than a record of nothing but padding has.
    let padded = [&[23][..], &vec![0; RECORD_PAYLOAD_MAX]].concat();
    let too_padded = [&[23][..], &vec![0; RECORD_PAYLOAD_MAX + EXPANSION_MAX_13]].concat();
    let both: [Case<'_>; 9] = [
        ("an empty alert", &[(ALERT, &[])], Some(Alert::UnexpectedMessage)),
        ("an alert of one byte", &[(ALERT, &[2])], Some(Alert::DecodeError)),
        ("an alert of three", &[(ALERT, &[1, 0, 0])], Some(Alert::DecodeError)),
        ("an alert of no level", &[(ALERT, &[3, 0])], Some(Alert::IllegalParameter)),
        ("a fatal alert", &[(ALERT, &[2, 80])], None),
        ("a change of the cipher", &[(20, &[1])], Some(Alert::UnexpectedMessage)),
        ("nothing of a message", &[(HANDSHAKE, &[])], Some(Alert::UnexpectedMessage)),
        ("a message that nobody sends", &[(HANDSHAKE, &[20, 0, 0, 0])], Some(Alert::UnexpectedMessage)),
        ("too long a payload", &[(APPLICATION_DATA, &long)], Some(Alert::RecordOverflow)),
    ];
    let of_13: [Case<'_>; 10] = [
        ("a byte of padding beyond a record", &[(0, &padded)], Some(Alert::RecordOverflow)),
        ("a warning", &[(ALERT, &[1, 41])], Some(Alert::DecodeError)),
        ("no kind", &[(0, &[0, 0, 0])], Some(Alert::UnexpectedMessage)),
        ("padding beyond a record", &[(0, &too_padded)], Some(Alert::RecordOverflow)),
        ("an unknown kind", &[(24, &[0])], Some(Alert::UnexpectedMessage)),
        (
            "an update of neither kind",
            &[(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 2])],
            Some(Alert::IllegalParameter),
        ),
        ("an update of two bytes", &[(HANDSHAKE, &[KEY_UPDATE, 0, 0, 2, 0, 0])], Some(Alert::DecodeError)),
        (
            "more behind an update",
            &[(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE])],
            Some(Alert::UnexpectedMessage),
        ),
        (
            "payload within a message",
            &[(HANDSHAKE, &[KEY_UPDATE, 0]), (APPLICATION_DATA, b"within")],
            Some(Alert::UnexpectedMessage),
        ),
        ("too long a message", &[(HANDSHAKE, &[KEY_UPDATE, 2, 0, 0])], Some(Alert::DecodeError)),
    ];
    let world = world(&[]);
    for is_13 in [false, true] {
        for (what, records, alert) in both.iter().chain(of_13.iter().filter(|_| is_13)) {
            for make in [server_of, client_of] {
                let (mut ours, mut forger) = make(&world, first_of(is_13)).forger();
                let mut said = forger.seal(APPLICATION_DATA, b"good");
                records.iter().for_each(|(kind, content)| said.extend(forger.seal(*kind, content)));
                said.extend(forger.seal(APPLICATION_DATA, b"never heard"));
                let (mut payload, mut answer) = (Scratch::default(), Scratch::default());
                let heard = ours.receive(&mut said, &mut payload, &mut answer);
                assert_eq!(heard.payload, b"good", "{what}");
                assert!(heard.failure.is_some(), "{what}");
                let told = alert.map(|alert| (ALERT, vec![FATAL, alert.into()]));
                assert_eq!(forger.open(answer.as_slice()), Vec::from_iter(told), "{what}");
                assert_eq!(ours.held_bytes(), 0, "{what}");
            }
        }
    }
}

#[test]
fn headers_that_are_none_are_refused() {
    use AlertDescription as Alert;
    let world = world(&[]);
    let long = [&[22, 3, 3, 0x4e, 0x20][..], &pattern(20_000)].concat();
    let cases: [(bool, &[u8], Alert); 11] = [
        (true, b"GET / HTTP/1.1\r\n", Alert::UnexpectedMessage),
        (true, &[23, 2, 0, 0, 1, 0], Alert::ProtocolVersion),
        (false, &[23, 3, 1, 0, 1, 0], Alert::ProtocolVersion),
        (true, &[21, 3, 3, 0, 2, 1, 0], Alert::UnexpectedMessage),
        (true, &[23, 3, 3, 0, 0], Alert::BadRecordMac),
        (true, &[23, 3, 3, 0, 3, 1, 2, 3], Alert::BadRecordMac),
        (false, &[23, 3, 3, 0, 3, 1, 2, 3], Alert::BadRecordMac),
        (true, &[23, 3, 3, 0xff, 0xff, 0], Alert::RecordOverflow),
        (false, &[23, 3, 3, 0xff, 0xff, 0], Alert::RecordOverflow),
        // Also if all of it is there at once.
        (true, &long, Alert::RecordOverflow),
        (false, &long, Alert::RecordOverflow),
    ];
    // The head in two pieces, of which the other is as long as a read.
    for is_13 in [false, true] {
        let (mut ours, mut forger) = server_of(&world, first_of(is_13)).forger();
        takes(&mut ours, &[23, 3, 3]).expect("more has to come");
        let answer = takes(&mut ours, &vec![0xff; 256 << 10]).expect_err("it is refused");
        assert_eq!(forger.open(&answer), [(ALERT, vec![FATAL, Alert::RecordOverflow.into()])]);
    }
    for (is_13, bytes, alert) in cases {
        for piece in [1, usize::MAX] {
            let (mut ours, mut forger) = server_of(&world, first_of(is_13)).forger();
            let told = bytes.chunks(piece).find_map(|piece| takes(&mut ours, piece).err());
            let answer = told.expect("it is refused");
            assert_eq!(forger.open(&answer), [(ALERT, vec![FATAL, alert.into()])], "{:?}", &bytes[..5]);
            assert_eq!(ours.held_bytes(), 0);
        }
    }
}

#[test]
fn padding_is_none_of_the_payload() {
    let world = world(&[]);
    let (mut ours, mut forger) = server_of(&world, first_of(true)).forger();
    for padding in [0, 1, 1_000, RECORD_PAYLOAD_MAX - 7] {
        // With a kind of zero, which is padding, too.
        let said = forger.seal(0, &[b"padded", &[APPLICATION_DATA][..], &vec![0; padding]].concat());
        assert_eq!(takes(&mut ours, &said).expect("it may be padded").0, b"padded");
    }
}

#[test]
fn what_means_nothing_is_taken_so_often_and_no_more() {
    let world = world(&[]);
    let update: &[u8] = &[KEY_UPDATE, 0, 0, 1, 0];
    let cases: [(bool, u8, &[u8], u8); 4] = [
        (true, APPLICATION_DATA, b"", EMPTY_RECORDS_MAX),
        (false, APPLICATION_DATA, b"", EMPTY_RECORDS_MAX),
        (true, ALERT, &[WARNING, 90], WARNINGS_MAX),
        (false, ALERT, &[WARNING, 41], WARNINGS_MAX),
    ];
    for (is_13, kind, content, most) in cases {
        let (mut ours, mut forger) = server_of(&world, first_of(is_13)).forger();
        for _ in 0..most {
            let said = forger.seal(kind, content);
            assert_eq!(takes(&mut ours, &said).expect("it means nothing"), (Vec::new(), Vec::new()));
        }
        let said = forger.seal(kind, content);
        let answer = takes(&mut ours, &said).expect_err("once more than anybody has to");
        let told = vec![FATAL, AlertDescription::UnexpectedMessage.into()];
        assert_eq!(forger.open(&answer), [(ALERT, told)]);
    }
    // Payload between them begins anew. Updates need their keys: rustls makes them.
    for (between, is_good) in [(&b""[..], false), (b"payload", true)] {
        let mut pair = server_of(&world, first_of(true));
        let mut updated = Ok((Vec::new(), Vec::new()));
        for _ in 0..=KEY_UPDATES_MAX {
            pair.theirs.writer().write_all(between).expect("memory");
            pair.theirs.refresh_traffic_keys().expect("it is TLS 1.3");
            let said = pair.says();
            updated = pair.takes(&said);
        }
        assert_eq!(updated.is_ok(), is_good);
    }
    let (mut ours, mut forger) = server_of(&world, first_of(true)).forger();
    for _ in 0..5 * EMPTY_RECORDS_MAX {
        let said = [forger.seal(APPLICATION_DATA, b""), forger.seal(APPLICATION_DATA, b"payload")].concat();
        assert_eq!(takes(&mut ours, &said).expect("it is good").0, b"payload");
    }
    // In pieces as small as they come.
    for &byte in update {
        let said = forger.seal(HANDSHAKE, &[byte]);
        assert_eq!(takes(&mut ours, &said).expect("a part of it"), (Vec::new(), Vec::new()));
    }
    assert_eq!((ours.held_bytes(), ours.traffic().opening.sequence), (0, 0), "there are new keys");
}

#[test]
fn nobody_renegotiates() {
    let world = world(&[]);
    for (make, message) in
        [(server_of as fn(&World, SupportedCipherSuite) -> Pair, CLIENT_HELLO), (client_of, HELLO_REQUEST)]
    {
        let (mut ours, mut forger) = make(&world, first_of(false)).forger();
        let asks = |forger: &mut Forger| match message {
            CLIENT_HELLO => {
                let hello = [&[CLIENT_HELLO, 0, 0x40, 0][..], &pattern(1 << 14)].concat();
                hello.chunks(5_000).flat_map(|part| forger.seal(HANDSHAKE, part)).collect()
            }
            _ => forger.seal(HANDSHAKE, &[HELLO_REQUEST, 0, 0, 0]),
        };
        let said: Vec<u8> = asks(&mut forger);
        let (payload, answer) = takes(&mut ours, &said).expect("it may ask");
        assert!(payload.is_empty());
        assert_eq!(forger.open(&answer), [(ALERT, vec![WARNING, 100])], "no_renegotiation");
        let said = forger.seal(APPLICATION_DATA, b"it goes on");
        assert_eq!(takes(&mut ours, &said).expect("it is open").0, b"it goes on");
        let said = asks(&mut forger);
        let answer = takes(&mut ours, &said).expect_err("twice");
        assert_eq!(forger.open(&answer), [(ALERT, vec![FATAL, AlertDescription::HandshakeFailure.into()])]);
    }
}

#[test]
fn tickets_of_a_server_are_passed_over_and_not_held() {
    let world = world(&[]);
    let (mut ours, mut forger) = client_of(&world, first_of(true)).forger();
    let ticket = [&[NEW_SESSION_TICKET, 1, 0, 0][..], &pattern(MESSAGE_BYTES_MAX)].concat();
    for _ in 0..3 {
        for part in ticket.chunks(100) {
            let said = forger.seal(HANDSHAKE, part);
            assert_eq!(takes(&mut ours, &said).expect("it may send some"), (Vec::new(), Vec::new()));
            assert_eq!(ours.held_bytes(), 0, "nobody reads it");
        }
    }
    // Nor within one.
    let [head, rest] = [&ticket[..10], &ticket[10..]].map(|part| part.to_vec());
    let said = forger.seal(HANDSHAKE, &head);
    assert_eq!(takes(&mut ours, &said).expect("it may send some"), (Vec::new(), Vec::new()));
    assert_eq!(ours.held_bytes(), 0);
    for part in rest.chunks(RECORD_PAYLOAD_MAX) {
        let said = forger.seal(HANDSHAKE, part);
        takes(&mut ours, &said).expect("it may send some");
    }
    let said = forger.seal(HANDSHAKE, &[NEW_SESSION_TICKET, 1, 0, 1]);
    let answer = takes(&mut ours, &said).expect_err("longer than any");
    assert_eq!(forger.open(&answer), [(ALERT, vec![FATAL, AlertDescription::DecodeError.into()])]);
}

#[test]
fn after_its_end_one_follows_updates_and_does_not_answer_them() {
    let world = world(&[]);
    let mut pair = server_of(&world, first_of(true));
    pair.ours.finish(&mut Scratch::default());
    pair.theirs.refresh_traffic_keys().expect("it is TLS 1.3");
    pair.theirs.writer().write_all(b"under the next key").expect("memory");
    let said = pair.says();
    assert_eq!(pair.takes(&said).expect("good records"), (b"under the next key".to_vec(), Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Of its header, too, but for what TLS 1.3 has of no meaning there and authenticates all the same.
    #[test]
    fn no_bit_of_a_record_may_be_another(is_13: bool, at: prop::sample::Index, bit in 0u8..8, len in 1usize..300) {
        thread_local!(static WORLD: World = world(&[]));
        let (mut ours, mut forger) = WORLD.with(|world| server_of(world, first_of(is_13))).forger();
        let mut said = forger.seal(APPLICATION_DATA, &pattern(len));
        let at = at.index(said.len());
        said[at] ^= 1 << bit;
        // Where it seems longer than it is, the rest of it has to come.
        said.extend(vec![0; 70_000]);
        let (mut payload, mut answer) = (Scratch::default(), Scratch::default());
        let heard = ours.receive(&mut said, &mut payload, &mut answer);
        prop_assert!(heard.payload.is_empty());
        prop_assert!(heard.failure.is_some());
        let told = forger.open(answer.as_slice());
        prop_assert!(matches!(&told[..], [(ALERT, alert)] if alert[0] == FATAL), "{told:?}");
        prop_assert_eq!(ours.held_bytes(), 0);
    }
}
