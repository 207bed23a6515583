//! TLS at the ends of clients, and the certificates that they are shown.
//!
//! A client speaks by rustls's buffered connections, which the proxy does not use, and holds certificates against an authority of its
//! own. Keys and nonces are chance, but nothing that they decide is seen: what is said is as long each time, as all signatures are by
//! Ed25519, and so a seed gives the same trace.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519, SerialNumber, date_time_ymd};
use ringway::simulated::Random;
use ringway::tls::{CertificateFiles, CertificateStore, TlsVersion};
use ringway_proxy::model::{self, RulesOfTls, Termination, Unreadable};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, ProtocolVersion, RootCertStore,
};

use crate::opening::Says;

/// Of each store the certificates are for the same names: which one was shown says by which configuration.
const STORES: usize = 2;
/// Whoever names no host asks for this one.
const ADDRESS: &str = "192.0.2.7";
/// What the certificates of a store are for, the default one first.
const NAMES: [&[&str]; 2] = [&["a.test", "b.test", "nowhere.invalid", ADDRESS], &["*.b.test", "x.y.b.test"]];

/// Certificates of a configuration.
struct Store {
    store: Arc<CertificateStore>,
    /// What clients see of it.
    shown: Vec<CertificateDer<'static>>,
}

/// Those of all simulations of this process.
fn stores() -> &'static [Store; STORES] {
    static ALL: OnceLock<[Store; STORES]> = OnceLock::new();
    ALL.get_or_init(|| std::array::from_fn(Store::new))
}

impl Store {
    fn new(number: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory is made");
        let (mut files, mut shown) = (Vec::new(), Vec::new());
        for (place, names) in NAMES.iter().enumerate() {
            let (chain, key, der) = certificate(names, (number * NAMES.len() + place) as u64 + 1);
            let path = |kind: &str| directory.path().join(format!("{place}.{kind}"));
            let of = CertificateFiles { chain: path("pem"), key: path("key"), ocsp: None };
            std::fs::write(&of.chain, chain).expect("a file is written");
            std::fs::write(&of.key, key).expect("a file is written");
            files.push(of);
            shown.push(der);
        }
        let store = CertificateStore::read(files, None).expect("they can be read");
        // Now: the files go.
        store.load_all().expect("they can be served");
        Self { store: Arc::new(store), shown }
    }
}

/// A certificate that signs itself, and its key, in PEM; and the first in DER.
fn certificate(names: &[&str], serial: u64) -> (String, String, CertificateDer<'static>) {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key is made");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("these are names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("simulated {serial}"));
    params.serial_number = Some(SerialNumber::from(serial));
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
    let signed = params.self_signed(&key).expect("it is signed");
    (signed.pem(), key.serialize_pem(), signed.der().clone())
}

/// The store that has this certificate; more than there are if none has.
fn store_of(certificate: &CertificateDer<'_>) -> usize {
    stores().iter().position(|store| store.shown.contains(certificate)).unwrap_or(STORES)
}

/// Has an app end TLS.
pub(crate) fn terminate(app: &mut model::App, random: &mut Random) {
    let unreadable = app.tls.take().map_or(Unreadable::Refuse, |tls| tls.unreadable);
    app.tls = Some(RulesOfTls { unreadable, termination: Some(Arc::new(termination(random))) });
}

/// Other terms, or another version of its certificates, if the app ends TLS.
pub(crate) fn vary(app: &mut model::App, random: &mut Random) {
    let Some(RulesOfTls { termination: Some(old), .. }) = &mut app.tls else { return };
    *old = match random.chance(0.5) {
        true => Arc::new(termination(random)),
        false => {
            let certificates = Arc::clone(&stores()[random.index(STORES)].store);
            Arc::new(Termination { certificates, ..Termination::clone(old) })
        }
    };
}

fn termination(random: &mut Random) -> Termination {
    let alpn: &[&str] = [&[][..], &["h2", "http/1.1"], &["http/1.1"], &["h2"]][random.index(4)];
    Termination {
        certificates: Arc::clone(&stores()[random.index(STORES)].store),
        alpn: alpn.iter().map(|protocol| (*protocol).to_owned()).collect(),
        min_version: if random.chance(0.15) { TlsVersion::Tls13 } else { TlsVersion::Tls12 },
        clients: None,
        ticket_keys: None,
        ticket_lifetime: random.chance(0.7).then_some(Termination::TICKET_LIFETIME),
    }
}

/// What the two ends of a handshake agree on, if anything: of these protocols, and whether the client knows no TLS 1.3.
pub(crate) fn agreed<'a>(
    termination: &Termination,
    offered: &'a [&'a str],
    is_old: bool,
) -> Option<&'a [&'a str]> {
    if is_old && termination.min_version == TlsVersion::Tls13 {
        return None;
    }
    if termination.alpn.is_empty() || offered.is_empty() {
        return Some(&[]);
    }
    // The server's order counts.
    let first = termination.alpn.iter().find_map(|own| offered.iter().position(|one| one == own))?;
    Some(&offered[first..=first])
}

/// Whether these terms show the certificates of this store.
pub(crate) fn is_shown(termination: &Termination, store: usize) -> bool {
    stores().get(store).is_some_and(|of| Arc::ptr_eq(&of.store, &termination.certificates))
}

/// How a client speaks TLS, beside what it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// It knows TLS 1.2 only.
    pub(crate) is_old: bool,
    /// What ends its handshake is wrong.
    pub(crate) spoils: bool,
    /// Of all that it would send, only so many bytes leave.
    pub(crate) cut_at: Option<u64>,
    /// It ends its connection without an end of TLS.
    pub(crate) truncates: bool,
    /// Once the response is over it sends what is no TLS.
    pub(crate) babbles: bool,
    /// It says the end of its stream in TLS alone, and leaves its connection open.
    pub(crate) keeps_open: bool,
}

impl Manner {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let is_cut = random.chance(0.12);
        Self {
            is_old: random.chance(0.2),
            spoils: random.chance(0.05),
            // A hello is of some 250 or 1,700 bytes, what ends the handshake of 80.
            cut_at: is_cut.then(|| random.between(1, 2_600)),
            truncates: random.chance(0.08),
            babbles: random.chance(0.08),
            keeps_open: random.chance(0.3),
        }
    }
}

/// What all clients of a simulation share: sessions to go on with, and whom they believe.
pub(crate) struct Speakers {
    /// Of those that know TLS 1.3, and of those that do not.
    configs: [ClientConfig; 2],
}

impl Speakers {
    pub(crate) fn new() -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in stores().iter().flat_map(|store| &store.shown) {
            roots.add(certificate.clone()).expect("it can be an authority");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = |versions| {
            ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(versions)
                .expect("there are suites")
                .with_root_certificates(roots.clone())
                .with_no_client_auth()
        };
        Self { configs: [config(&[&TLS13, &TLS12]), config(&[&TLS12])] }
    }

    /// One end of a connection to whom the opening asks for; `None` if it is none of TLS.
    pub(crate) fn begin(&self, says: Says, manner: Manner) -> Option<Line> {
        let Says::Tls { name, alpn, .. } = says else { return None };
        let mut config = self.configs[usize::from(manner.is_old)].clone();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.unwrap_or(ADDRESS)).expect("it is a name or an address");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a hello can be made");
        let left = manner.cut_at.unwrap_or(u64::MAX);
        Some(Line { tls, manner, wire: Vec::new(), flights: 0, left, has_finished: false })
    }
}

/// A client's end of a connection in TLS.
pub(crate) struct Line {
    tls: ClientConnection,
    manner: Manner,
    /// What is to be sent.
    wire: Vec<u8>,
    flights: u32,
    /// So many bytes may still leave.
    left: u64,
    has_finished: bool,
}

/// What a client heard.
pub(crate) struct Heard {
    pub(crate) payload: Vec<u8>,
    /// No more comes.
    pub(crate) finished: bool,
    pub(crate) error: Option<Error>,
}

/// What a client believes to have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accord {
    pub(crate) version: &'static str,
    pub(crate) alpn: Option<String>,
    pub(crate) is_resumed: bool,
    /// Of which store the certificate was that the client was shown, if it was one.
    pub(crate) store: Option<usize>,
}

impl Line {
    /// Whether payload can be said.
    pub(crate) fn is_open(&self) -> bool {
        !self.tls.is_handshaking()
    }

    /// Whether nothing leaves any more.
    pub(crate) fn is_cut(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn accord(&self) -> Option<Accord> {
        let is_new = self.tls.handshake_kind() != Some(HandshakeKind::Resumed);
        let chain = self.tls.peer_certificates().filter(|_| is_new);
        self.is_open().then(|| Accord {
            version: match self.tls.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "1.2",
                _ => "1.3",
            },
            alpn: self.tls.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned()),
            is_resumed: !is_new,
            store: chain.and_then(|chain| chain.first()).map(store_of),
        })
    }

    /// What is to be sent now, `most` bytes of it at most; empty if there is nothing.
    pub(crate) fn take(&mut self, most: u64) -> Vec<u8> {
        self.collect();
        let count = most.min(self.left).min(self.wire.len() as u64);
        self.left -= count;
        self.wire.drain(..count as usize).collect()
    }

    fn collect(&mut self) {
        let before = self.wire.len();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.wire).expect("memory takes all");
        }
        if self.wire.len() > before {
            self.flights += 1;
            if self.flights == 2
                && self.manner.spoils
                && let Some(last) = self.wire.last_mut()
            {
                *last ^= 0xff;
            }
        }
    }

    /// Says payload.
    pub(crate) fn say(&mut self, payload: &[u8]) {
        self.tls.writer().write_all(payload).expect("what is said is taken out each time");
    }

    /// Says that no more comes, unless the client never does. Returns whether all that was said can leave.
    pub(crate) fn finish(&mut self) -> bool {
        if self.manner.truncates {
            return false;
        }
        if !std::mem::replace(&mut self.has_finished, true) {
            self.tls.send_close_notify();
        }
        self.collect();
        self.left >= self.wire.len() as u64
    }

    /// Takes in what came.
    pub(crate) fn hear(&mut self, mut bytes: &[u8]) -> Heard {
        let mut heard = Heard { payload: Vec::new(), finished: false, error: None };
        while !bytes.is_empty() && !heard.finished {
            match self.tls.read_tls(&mut bytes) {
                // It has ended, and what comes behind that means nothing.
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    heard.error = Some(Error::General(error.to_string()));
                    break;
                }
            }
            match self.tls.process_new_packets() {
                Ok(state) => heard.finished = state.peer_has_closed(),
                Err(error) => {
                    heard.error = Some(error);
                    break;
                }
            }
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = self.tls.reader().read(&mut piece) {
                heard.payload.extend_from_slice(&piece[..count]);
            }
        }
        heard
    }
}

/// A record that nobody can open.
pub(crate) const BABBLE: [u8; 40] = {
    let mut record = [0x5a; 40];
    // Payload, of 35 bytes.
    (record[0], record[1], record[2], record[3], record[4]) = (23, 3, 3, 0, 35);
    record
};

/// Whether a server may refuse a handshake so.
pub(crate) fn is_refusal(error: &Error) -> bool {
    use AlertDescription::{
        BadRecordMac, DecryptError, HandshakeFailure, IllegalParameter, NoApplicationProtocol,
        ProtocolVersion, UnexpectedMessage,
    };
    let alerts = [
        BadRecordMac,
        DecryptError,
        HandshakeFailure,
        IllegalParameter,
        NoApplicationProtocol,
        ProtocolVersion,
        UnexpectedMessage,
    ];
    matches!(error, Error::AlertReceived(alert) if alerts.contains(alert))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringway::layer::{Layer as _, Scratch};
    use ringway::tls::{Conversation, ServerTerms, ServerTermsPlan};

    use super::*;

    /// Both ends of a handshake, and how many bytes each said in each turn.
    fn shake(
        speakers: &Speakers,
        terms: &ServerTerms,
        says: Says,
        manner: Manner,
    ) -> (Line, Conversation, Vec<usize>) {
        let mut line = speakers.begin(says, manner).expect("it speaks TLS");
        let mut server = Conversation::accept(terms).expect("it can be accepted");
        let mut lengths = Vec::new();
        for _ in 0..4 {
            let mut sent = line.take(u64::MAX);
            let mut answer = Scratch::default();
            let payload = &mut Scratch::default();
            assert!(server.receive(&mut sent, payload, &mut answer).failure.is_none());
            lengths.extend([sent.len(), answer.as_slice().len()]);
            assert!(line.hear(answer.as_slice()).error.is_none());
        }
        (line, server, lengths)
    }

    #[test]
    fn a_handshake_says_as_much_each_time() {
        let mut plan = ServerTermsPlan::new(Arc::clone(&stores()[0].store) as _);
        plan.tickets = Some(Arc::new(ringway::tls::TicketKeys::random(Duration::from_secs(60))));
        let terms = ServerTerms::new(plan);
        for is_old in [false, true] {
            for name in [Some("a.test"), Some("x.y.b.test"), Some("www.b.test"), None] {
                let says = Says::Tls { name, alpn: &["h2"], is_old };
                let play = || {
                    let speakers = Speakers::new();
                    let manner = Manner { is_old, ..Manner::default() };
                    // The second one goes on with the session of the first.
                    [(); 2].map(|()| {
                        let (line, server, lengths) = shake(&speakers, &terms, says, manner);
                        let accord = line.accord().expect("the handshake is over");
                        assert_eq!(Some(accord.version), server.agreed().map(|agreed| agreed.version));
                        (accord.is_resumed, lengths)
                    })
                };
                let first = play();
                assert_eq!([first[0].0, first[1].0], [false, true]);
                assert_eq!(first, play());
            }
        }
    }
}
