//! Conversations against clients of rustls that do it the ordinary way, cut at any place.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

use testkit::certificates::{Authority, Issued, Request};

use super::provider::provider;
use super::*;
use crate::layer::{Layer, Scratch};

pub(super) const NAME: &str = "www.example.com";

pub(super) struct World {
    pub(super) terms: ServerTerms,
    pub(super) pem: String,
    pub(super) roots: Arc<RootCertStore>,
}

#[derive(Debug)]
struct One(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

pub(super) fn world(alpn: &[&str]) -> World {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let key = Arc::new(CertifiedKey::from_der(vec![cert.der().clone()], key, provider()).expect("a pair"));
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let alpn = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let plan = ServerTermsPlan { alpn, ..ServerTermsPlan::new(Arc::new(One(Some(key)))) };
    World { terms: ServerTerms::new(plan), pem: cert.pem(), roots: Arc::new(roots) }
}

fn client(world: &World, version: &'static SupportedProtocolVersion, alpn: &[&str]) -> ClientConnection {
    let mut theirs = CryptoProvider::clone(provider());
    // An order of suites that is not the server's.
    theirs.cipher_suites.reverse();
    let mut config = ClientConfig::builder_with_provider(Arc::new(theirs))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(Arc::clone(&world.roots))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).expect("a name")).expect("a client")
}

fn said_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("memory");
    }
    bytes
}

/// Has the client read these; gives the payload.
fn tell(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut payload = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("memory");
        client.process_new_packets()?;
        // It ends in "would block" where the stream does not end.
        let _ = client.reader().read_to_end(&mut payload);
    }
    Ok(payload)
}

/// Shakes hands; what the client says arrives in pieces of this size, and what is not taken is given again.
fn shake(
    server: &mut Conversation,
    client: &mut ClientConnection,
    piece: usize,
) -> Result<(), (Failure, Vec<u8>)> {
    let mut waiting: Vec<u8> = Vec::new();
    for _ in 0..10 {
        let said = said_by(client);
        for piece in said.chunks(piece.max(1)) {
            waiting.extend_from_slice(piece);
            let mut answer = Scratch::default();
            let mut peeked = waiting.clone();
            match server.handshake(&mut peeked, false, &mut answer) {
                Ok(progress) => drop(waiting.drain(..progress.taken)),
                Err(failure) => return Err((failure, answer.as_slice().to_vec())),
            }
            let payload = tell(client, answer.as_slice());
            let payload = payload.map_err(|error| (Failure::of(&error, false), Vec::new()))?;
            assert!(payload.is_empty());
        }
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() {
            assert!(waiting.is_empty());
            return Ok(());
        }
    }
    panic!("no end of the handshake");
}

/// What a server makes of bytes that arrive in pieces of these sizes, taken in turn.
fn receive(server: &mut Conversation, bytes: &[u8], pieces: &[usize]) -> Vec<u8> {
    let (mut payload, mut answer, mut all) = (Scratch::default(), Scratch::default(), Vec::new());
    let (mut at, mut turn) = (0, 0);
    while at < bytes.len() {
        let end = bytes.len().min(at + pieces[turn % pieces.len()].max(1));
        turn += 1;
        let mut piece = bytes[at..end].to_vec();
        at = end;
        let heard = server.receive(&mut piece, &mut payload, &mut answer);
        assert!(heard.failure.is_none(), "{:?}", heard.failure);
        all.extend_from_slice(heard.payload);
    }
    assert!(answer.is_empty());
    all
}

pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn both_versions_agree_and_carry_both_ways() {
    let world = world(&["h2", "http/1.1"]);
    for (version, word) in [(&version::TLS12, "1.2"), (&version::TLS13, "1.3")] {
        let mut server = Conversation::accept(&world.terms).expect("terms");
        let mut client = client(&world, version, &["http/1.1", "h2"]);
        assert!(server.agreed().is_none() && server.is_handshaking());
        shake(&mut server, &mut client, usize::MAX).expect("a handshake");
        let agreed = server.agreed().expect("it is over");
        assert_eq!((agreed.version, agreed.is_resumed), (word, false));
        assert_eq!(agreed.alpn.as_deref(), Some(&b"h2"[..]), "the server's order counts");
        assert!(agreed.cipher.starts_with("TLS_"), "{}", agreed.cipher);
        assert!(agreed.cipher.ends_with("AES_128_GCM_SHA256"), "here too: {}", agreed.cipher);
        client.writer().write_all(b"question").expect("memory");
        assert_eq!(receive(&mut server, &said_by(&mut client), &[usize::MAX]), b"question");
        let (answer, mut wire) = (pattern(100_000), Scratch::default());
        server.send(&answer, &mut wire).expect("it is open");
        assert!(tell(&mut client, wire.as_slice()).expect("good records") == answer);
    }
}

#[test]
fn ends_are_told_in_each_direction_and_the_other_goes_on() {
    let world = world(&[]);
    for version in [&version::TLS12, &version::TLS13] {
        let mut server = Conversation::accept(&world.terms).expect("terms");
        let mut client = client(&world, version, &[]);
        shake(&mut server, &mut client, usize::MAX).expect("a handshake");
        client.writer().write_all(b"last words").expect("memory");
        client.send_close_notify();
        let mut said = said_by(&mut client);
        said.extend_from_slice(b"what comes after the end means nothing");
        assert_eq!(receive(&mut server, &said, &[usize::MAX]), b"last words");
        assert!(server.has_peer_finished());
        let mut wire = Scratch::default();
        server.send(b"answer", &mut wire).expect("this direction is open");
        server.finish(&mut wire);
        server.finish(&mut wire);
        assert_eq!(tell(&mut client, wire.as_slice()).expect("good records"), b"answer");
        assert_eq!(client.reader().read(&mut [0]).expect("a clean end"), 0);
    }
}

#[test]
fn nothing_is_held_while_nothing_is_incomplete() {
    let world = world(&[]);
    let mut server = Conversation::accept(&world.terms).expect("terms");
    let mut client = client(&world, &version::TLS13, &[]);
    shake(&mut server, &mut client, 1).expect("a handshake");
    assert_eq!(server.held_bytes(), 0);
    client.writer().write_all(b"question").expect("memory");
    let said = said_by(&mut client);
    let (first, rest) = said.split_at(7);
    assert_eq!(receive(&mut server, first, &[usize::MAX]), b"");
    assert!(server.held_bytes() >= 7);
    assert_eq!(receive(&mut server, rest, &[usize::MAX]), b"question");
    assert_eq!(server.held_bytes(), 0);
}

#[test]
fn what_comes_behind_the_handshake_is_left_where_it_is() {
    let world = world(&[]);
    let mut server = Conversation::accept(&world.terms).expect("terms");
    let mut client = client(&world, &version::TLS13, &[]);
    let mut answer = Scratch::default();
    server.handshake(&mut said_by(&mut client), false, &mut answer).expect("a hello");
    tell(&mut client, answer.as_slice()).expect("a flight");
    client.writer().write_all(b"early question").expect("memory");
    let mut said = said_by(&mut client);
    answer.clear();
    let progress = server.handshake(&mut said, false, &mut answer).expect("a finish");
    assert!(progress.is_established && progress.taken < said.len());
    assert_eq!(receive(&mut server, &said[progress.taken..], &[3]), b"early question");
}

#[test]
fn nothing_comes_of_nothing_while_a_message_is_incomplete() {
    let world = world(&[]);
    let mut server = Conversation::accept(&world.terms).expect("terms");
    let mut client = client(&world, &version::TLS13, &[]);
    let hello = said_by(&mut client);
    let mut answer = Scratch::default();
    // The hello in two records, of which the first has come.
    let (first, rest) = hello[5..].split_at(100);
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    for _ in 0..2 {
        let progress = server.handshake(&mut [], false, &mut answer).expect("nothing is wrong");
        assert_eq!((progress.taken, progress.is_established), (0, false));
        if server.held_bytes() == 0 {
            assert_eq!(server.handshake(&mut record(first), false, &mut answer).expect("a part").taken, 105);
        }
    }
    server.handshake(&mut record(rest), false, &mut answer).expect("the rest");
    assert!(tell(&mut client, answer.as_slice()).is_ok() && server.held_bytes() == 0);
}

#[test]
fn failures_have_a_kind_and_an_alert() {
    let plain = world(&["h2"]);
    let mut server = Conversation::accept(&plain.terms).expect("terms");
    let mut other = client(&plain, &version::TLS13, &["ftp"]);
    let (failure, alert) = shake(&mut server, &mut other, usize::MAX).expect_err("no protocol in common");
    assert_eq!(failure.kind(), FailureKind::NoProtocol);
    let said = tell(&mut other, &alert).expect_err("it is told");
    assert_eq!(said, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));

    let nobody = ServerTerms::new(ServerTermsPlan::new(Arc::new(One(None))));
    let mut server = Conversation::accept(&nobody).expect("terms");
    let (failure, alert) = shake(&mut server, &mut client(&plain, &version::TLS12, &[]), usize::MAX)
        .expect_err("no certificate");
    assert_eq!(failure.kind(), FailureKind::NoCertificate);
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 49], "access_denied (RFC 8446, section 6.2)");

    let mut server = Conversation::accept(&plain.terms).expect("terms");
    let mut answer = Scratch::default();
    let failure = server.handshake(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec(), false, &mut answer);
    assert_eq!(failure.expect_err("no TLS").kind(), FailureKind::Protocol);

    // A client that does not trust the certificate says so.
    let (ours, theirs) = (world(&[]), world(&[]));
    let mut server = Conversation::accept(&ours.terms).expect("terms");
    let mut doubting = client(&theirs, &version::TLS13, &[]);
    let mut answer = Scratch::default();
    server.handshake(&mut said_by(&mut doubting), false, &mut answer).expect("a hello");
    tell(&mut doubting, answer.as_slice()).expect_err("another authority");
    answer.clear();
    let failure = server.handshake(&mut said_by(&mut doubting), false, &mut answer).expect_err("an alert");
    assert_eq!(failure.kind(), FailureKind::PeerAlert);
}

#[test]
fn a_flipped_bit_ends_it_with_an_alert_after_what_was_good() {
    let world = world(&[]);
    let mut server = Conversation::accept(&world.terms).expect("terms");
    let mut client = client(&world, &version::TLS13, &[]);
    shake(&mut server, &mut client, usize::MAX).expect("a handshake");
    client.writer().write_all(b"good").expect("memory");
    let mut said = said_by(&mut client);
    client.writer().write_all(b"bad").expect("memory");
    said.extend(said_by(&mut client));
    let last = said.len() - 1;
    said[last] ^= 1;
    let (mut payload, mut answer) = (Scratch::default(), Scratch::default());
    let heard = server.receive(&mut said, &mut payload, &mut answer);
    assert_eq!(heard.payload, b"good");
    assert!(heard.failure.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData));
    assert!(!answer.is_empty(), "an alert");
    let mut more = [0; 100];
    let heard = server.receive(&mut more, &mut payload, &mut answer);
    assert!(heard.payload.is_empty() && heard.failure.is_none(), "nothing more is listened to");
}

#[test]
fn who_has_finished_says_nothing_more_also_to_what_breaks_the_rules() {
    let world = world(&[]);
    for version in [&version::TLS12, &version::TLS13] {
        let mut server = Conversation::accept(&world.terms).expect("terms");
        let mut client = client(&world, version, &[]);
        shake(&mut server, &mut client, usize::MAX).expect("a handshake");
        server.finish(&mut Scratch::default());
        client.writer().write_all(b"bad").expect("memory");
        let mut said = said_by(&mut client);
        *said.last_mut().expect("a record") ^= 1;
        let (mut payload, mut answer) = (Scratch::default(), Scratch::default());
        let heard = server.receive(&mut said, &mut payload, &mut answer);
        assert!(heard.payload.is_empty());
        assert!(heard.failure.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData));
        assert!(answer.is_empty());
    }
}

#[test]
fn a_message_in_more_records_than_anybody_needs_is_refused() {
    let world = world(&[]);
    let mut server = Conversation::accept(&world.terms).expect("terms");
    let mut answer = Scratch::default();
    // The begin of a hello of 64 KiB, a byte a record.
    let mut hello = vec![0; 65_000];
    hello[..4].copy_from_slice(&[1, 0, 0xfd, 0xe4]);
    for byte in hello {
        let mut record = vec![22, 3, 1, 0, 1, byte];
        match server.handshake(&mut record, false, &mut answer) {
            Ok(_) => assert!(server.held_bytes() < 200_000),
            Err(failure) => return assert_eq!(failure.kind(), FailureKind::Protocol),
        }
    }
    panic!("it took all of them");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn however_it_is_cut_the_payload_is_the_same(
        is_old: bool,
        shake_piece in 1usize..3_000,
        lengths in prop::collection::vec(0usize..40_000, 1..5),
        pieces in prop::collection::vec(prop_oneof![1usize..40, 1usize..5_000, 10_000usize..60_000], 1..6),
    ) {
        let world = world(&[]);
        let version = if is_old { &version::TLS12 } else { &version::TLS13 };
        let mut server = Conversation::accept(&world.terms).expect("terms");
        let mut client = client(&world, version, &[]);
        client.set_buffer_limit(None);
        shake(&mut server, &mut client, shake_piece).expect("a handshake");
        let (mut said, mut sent) = (Vec::new(), Vec::new());
        for length in lengths {
            let bytes = pattern(length);
            client.writer().write_all(&bytes).expect("memory");
            sent.extend(bytes);
            said.extend(said_by(&mut client));
        }
        client.send_close_notify();
        said.extend(said_by(&mut client));
        prop_assert!(receive(&mut server, &said, &pieces) == sent);
        prop_assert!(server.has_peer_finished());
        prop_assert_eq!(server.held_bytes(), 0);
    }

    #[test]
    fn bytes_of_anybody_are_answered_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3_000), head: bool) {
        let world = world(&[]);
        let mut server = Conversation::accept(&world.terms).expect("terms");
        let mut bytes = bytes;
        if head && bytes.len() > 5 {
            let len = (bytes.len() - 5) as u16;
            bytes[..3].copy_from_slice(&[22, 3, 1]);
            bytes[3..5].copy_from_slice(&len.to_be_bytes());
        }
        let mut answer = Scratch::default();
        if let Ok(progress) = server.handshake(&mut bytes, false, &mut answer) {
            prop_assert!(!progress.is_established && progress.taken <= bytes.len());
        }
    }
}

#[test]
fn both_sides_of_a_conversation_understand_each_other() {
    let world = world(&["h2"]);
    let terms = |trust| {
        let plan = ClientTermsPlan { trust, certificate: None, alpn: vec![b"h2".to_vec()] };
        ClientTerms::new(plan).expect("terms")
    };
    let meet = |terms: &ClientTerms, name: &str| {
        let (mut to_server, mut to_client) = (Scratch::default(), Scratch::default());
        let mut server = Conversation::accept(&world.terms).expect("terms");
        let mut client = Conversation::connect(terms, name, &mut to_server)?;
        for _ in 0..4 {
            let (mut said, mut answered) = (to_server.as_slice().to_vec(), to_client.as_slice().to_vec());
            to_server.clear();
            to_client.clear();
            // An alert of the client is its failure, and not the server's.
            let _ = server.handshake(&mut said, false, &mut to_client);
            client.handshake(&mut answered, false, &mut to_server)?;
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
        Ok::<_, Failure>((server, client))
    };
    let known = terms(Trust::Authorities(world.pem.clone().into_bytes()));
    let (mut server, mut client) = meet(&known, NAME).expect("a handshake");
    assert_eq!(client.agreed(), server.agreed());
    assert_eq!(client.agreed().and_then(|agreed| agreed.alpn).as_deref(), Some(&b"h2"[..]));
    let mut wire = Scratch::default();
    client.send(&pattern(50_000), &mut wire).expect("it is open");
    client.finish(&mut wire);
    assert!(receive(&mut server, wire.as_slice(), &[1_000]) == pattern(50_000) && server.has_peer_finished());
    for name in ["other.example.com", "127.0.0.1"] {
        let failure = meet(&known, name).expect_err("another name");
        assert_eq!(failure.kind(), FailureKind::PeerCertificateMisnamed, "{failure}");
    }
    let failure = meet(&terms(Trust::System), NAME).expect_err("nobody has signed it");
    assert_eq!(failure.kind(), FailureKind::PeerCertificateUntrusted, "{failure}");
    assert!(meet(&ClientTerms::of_anybody(), "127.0.0.1").is_ok());
    assert!(meet(&known, "no name").is_err());
}

/// The middle of 2020.
#[derive(Debug)]
struct Then;

impl TimeProvider for Then {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_593_600_000)))
    }
}

#[test]
fn a_ticket_is_of_no_use_to_a_client_whose_certificate_has_expired() {
    let authority = Authority::new("ours");
    let directory = tempfile::tempdir().expect("a directory");
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("it is written");
    let world = world(&[]);
    for (version, last, is_let_in) in
        [(&version::TLS12, 2021, false), (&version::TLS13, 2021, false), (&version::TLS13, 2100, true)]
    {
        let issued = authority.issue_as(&Request {
            common_name: "alice",
            is_client: true,
            days: [(2020, 1, 1), (last, 1, 1)],
            ..Request::default()
        });
        let certificates = Arc::clone(&world.terms.config().cert_resolver);
        let terms = ServerTerms::new(ServerTermsPlan {
            clients: Some(ClientPolicy::read(Demand::Required, &ca, &[]).expect("a policy")),
            tickets: Some(Arc::new(TicketKeys::random(Duration::from_secs(3_600)))),
            ..ServerTermsPlan::new(certificates)
        });
        let terms = terms.at(Arc::new(Then));
        let chain = CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let config = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(Arc::clone(&world.roots))
            .with_client_auth_cert(vec![chain], key)
            .expect("a pair");
        let config = Arc::new(config);
        let meet = || {
            let name = ServerName::try_from(NAME).expect("a name");
            let mut client = ClientConnection::new(Arc::clone(&config), name).expect("a client");
            let mut server = Conversation::accept(&terms).expect("terms");
            shake(&mut server, &mut client, usize::MAX).map(|()| server)
        };
        let first = meet().expect("it holds then");
        assert!(first.agreed().is_some_and(|agreed| !agreed.is_resumed));
        match meet() {
            Ok(second) => {
                assert!(is_let_in && second.agreed().is_some_and(|agreed| agreed.is_resumed));
            }
            Err((failure, answer)) => {
                assert!(!is_let_in && answer.is_empty(), "{failure}");
                assert_eq!(failure.kind(), FailureKind::PeerCertificateExpired);
            }
        }
    }
}

#[test]
fn a_server_is_verified_anew_each_time_it_is_dialled() {
    let world = world(&[]);
    let certificates = Arc::clone(&world.terms.config().cert_resolver);
    let tickets = Some(Arc::new(TicketKeys::random(Duration::from_secs(3_600))));
    let server_terms = ServerTerms::new(ServerTermsPlan { tickets, ..ServerTermsPlan::new(certificates) });
    let trust = Trust::Authorities(world.pem.clone().into_bytes());
    let plan = ClientTermsPlan { trust, certificate: None, alpn: Vec::new() };
    let terms = ClientTerms::new(plan).expect("terms");
    for _ in 0..3 {
        let (mut to_server, mut to_client) = (Scratch::default(), Scratch::default());
        let mut server = Conversation::accept(&server_terms).expect("terms");
        let mut client = Conversation::connect(&terms, NAME, &mut to_server).expect("a name");
        for _ in 0..4 {
            let (mut said, mut answered) = (to_server.as_slice().to_vec(), to_client.as_slice().to_vec());
            to_server.clear();
            to_client.clear();
            server.handshake(&mut said, false, &mut to_client).expect("a handshake");
            let taken = client.handshake(&mut answered, false, &mut to_server).expect("a handshake").taken;
            // Tickets come behind it.
            let (mut payload, mut more) = (Scratch::default(), Scratch::default());
            assert!(client.receive(&mut answered[taken..], &mut payload, &mut more).failure.is_none());
        }
        assert!(client.agreed().is_some_and(|agreed| !agreed.is_resumed));
    }
}

#[test]
fn terms_of_dialling_are_the_same_if_all_that_they_are_made_of_is() {
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let own = |issued: &Issued| Some((issued.chain.clone().into_bytes(), issued.key.clone().into_bytes()));
    let (first, second) = (one.issue_client("a"), one.issue_client("a"));
    let trust = |authority: &Authority| Trust::Authorities(authority.pem().as_bytes().to_vec());
    let alpn = |protocols: &[&str]| protocols.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
    let plans = || {
        [
            (Trust::Anybody, None, alpn(&[])),
            (trust(&one), None, alpn(&[])),
            (trust(&other), None, alpn(&[])),
            (trust(&one), own(&first), alpn(&[])),
            (trust(&one), own(&second), alpn(&[])),
            (trust(&one), None, alpn(&["h2", "http/1.1"])),
            (trust(&one), None, alpn(&["http/1.1", "h2"])),
        ]
        .map(|(trust, certificate, alpn)| ClientTerms::new(ClientTermsPlan { trust, certificate, alpn }))
        .map(|terms| terms.expect("they are good"))
    };
    for (number, terms) in plans().iter().enumerate() {
        for (index, again) in plans().iter().enumerate() {
            assert_eq!(terms == again, number == index, "{number} {index}");
        }
    }
}

/// The alert that the last failure told the other end of.
fn alert_told(client: &mut ClientConnection, alert: &[u8]) -> rustls::AlertDescription {
    match tell(client, alert) {
        Err(rustls::Error::AlertReceived(description)) => description,
        other => panic!("no alert: {other:?}"),
    }
}

#[test]
fn what_is_wrong_with_a_client_s_certificate_is_told_apart_and_told_to_it() {
    use rustls::AlertDescription as Alert;

    let (authority, other, unlisted) =
        (Authority::new("ours"), Authority::new("another"), Authority::new("without a list"));
    let of_days = |days| Request { common_name: "alice", is_client: true, days, ..Request::default() };
    let good = authority.issue_client("alice");
    let revoked = authority.issue_client("mallory");
    let clients = [
        (None, FailureKind::PeerCertificateMissing, [Alert::HandshakeFailure, Alert::CertificateRequired]),
        (
            Some(revoked.clone()),
            FailureKind::PeerCertificateRevoked,
            [Alert::CertificateRevoked, Alert::CertificateRevoked],
        ),
        (
            Some(authority.issue_as(&of_days([(2020, 1, 1), (2021, 1, 1)]))),
            FailureKind::PeerCertificateExpired,
            [Alert::CertificateExpired, Alert::CertificateExpired],
        ),
        (
            Some(authority.issue_as(&of_days([(2099, 1, 1), (2100, 1, 1)]))),
            FailureKind::PeerCertificateExpired,
            [Alert::CertificateExpired, Alert::CertificateExpired],
        ),
        (
            Some(other.issue_client("alice")),
            FailureKind::PeerCertificateUntrusted,
            [Alert::UnknownCA, Alert::UnknownCA],
        ),
        (
            Some(unlisted.issue_client("alice")),
            FailureKind::PeerCertificateUnlisted,
            [Alert::UnknownCA, Alert::UnknownCA],
        ),
        (
            Some(authority.issue(&[NAME])),
            FailureKind::PeerCertificate,
            [Alert::UnsupportedCertificate, Alert::UnsupportedCertificate],
        ),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path
    };
    let ca = write("ca.pem", &format!("{}{}", authority.pem(), unlisted.pem()));
    let crl = write("crl.pem", &authority.revoke(&[&revoked]));
    let world = world(&[]);
    let terms = ServerTerms::new(ServerTermsPlan {
        clients: Some(ClientPolicy::read(Demand::Required, &ca, &[crl]).expect("a policy")),
        ..ServerTermsPlan::new(Arc::clone(&world.terms.config().cert_resolver))
    });
    let meet = |version, own: Option<&Issued>| {
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(Arc::clone(&world.roots));
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::from_pem_slice(own.chain.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![chain], key).expect("a pair")
            }
        };
        let name = ServerName::try_from(NAME).expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut server = Conversation::accept(&terms).expect("terms");
        (shake(&mut server, &mut client, usize::MAX), client)
    };
    for (number, version) in [&version::TLS12, &version::TLS13].into_iter().enumerate() {
        assert!(meet(version, Some(&good)).0.is_ok());
        for (own, kind, alerts) in &clients {
            let (outcome, mut client) = meet(version, own.as_ref());
            let (failure, alert) = outcome.expect_err("it is refused");
            assert_eq!(failure.kind(), *kind, "{version:?}: {failure}");
            assert_eq!(alert_told(&mut client, &alert), alerts[number], "{version:?}: {failure}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_server_s_certificate_is_told_apart_and_told_to_it() {
    use rustls::AlertDescription as Alert;

    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let of_days = |days| Request { names: &[NAME], days, ..Request::default() };
    let servers = [
        (
            authority.issue_as(&of_days([(2020, 1, 1), (2021, 1, 1)])),
            FailureKind::PeerCertificateExpired,
            Alert::CertificateExpired,
        ),
        (other.issue(&[NAME]), FailureKind::PeerCertificateUntrusted, Alert::UnknownCA),
        (
            authority.issue(&["other.example.com"]),
            FailureKind::PeerCertificateMisnamed,
            Alert::BadCertificate,
        ),
        (authority.issue_client(NAME), FailureKind::PeerCertificate, Alert::UnsupportedCertificate),
    ];
    let trust = Trust::Authorities(authority.pem().as_bytes().to_vec());
    let terms = ClientTerms::new(ClientTermsPlan { trust, certificate: None, alpn: Vec::new() });
    let terms = terms.expect("they are good");
    for version in [&version::TLS12, &version::TLS13] {
        for (issued, kind, alert) in &servers {
            let chain = CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a certificate");
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
            let config = rustls::ServerConfig::builder_with_provider(Arc::clone(provider()))
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_no_client_auth()
                .with_single_cert(vec![chain], key)
                .expect("a pair");
            let mut server = rustls::ServerConnection::new(Arc::new(config)).expect("a server");
            let mut wire = Scratch::default();
            let mut client = Conversation::connect(&terms, NAME, &mut wire).expect("a name");
            server.read_tls(&mut wire.as_slice()).expect("memory");
            server.process_new_packets().expect("a hello");
            let mut said = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut said).expect("memory");
            }
            wire.clear();
            let failure = client.handshake(&mut said, false, &mut wire).expect_err("it is refused");
            assert_eq!(failure.kind(), *kind, "{version:?}: {failure}");
            server.read_tls(&mut wire.as_slice()).expect("memory");
            let told = server.process_new_packets().expect_err("it is told");
            assert_eq!(told, rustls::Error::AlertReceived(*alert), "{version:?}");
        }
    }
}
