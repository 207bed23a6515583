//! A proxied connection as bytes, for another process: all that it is, and what is under way at its two sockets.
//!
//! A record is `version: u16, length: u32`, and so many bytes, all little-endian. A version never changes its meaning; one
//! that is not known cannot be read, but can be skipped. It is written in the newest version that its reader knows, so that
//! an earlier program can follow this one, too. `docs/internals/upgrade.md` has the fields. Texts are a `u16` length and UTF-8; byte strings a `u32` length; addresses a `u8` kind: 0 an unnamed Unix socket, 1 a text that
//! is a path, 2 a text that is an IP address and port.
//!
//! Reading allocates no more than the record is long, and refuses whatever it does not understand.

use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use ringway::{SocketAddress, Time};

use super::SessionFacts;
use super::moved::{CarriedAddresses, EndpointName};
use super::tcp::{FrozenPhase, FrozenSession};

/// The versions that are read and written, the newest last.
pub const VERSIONS: &[u16] = &[1, 2];
/// Bytes before those of a record.
pub(super) const HEAD: usize = 6;

/// What is under way at a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndState {
    /// Received and not handed on.
    pub received: Vec<u8>,
    /// Handed over to be sent, and not sent.
    pub queued: Vec<u8>,
    /// The other end has finished sending.
    pub ended: bool,
    /// This end has.
    pub shut: bool,
}

/// A connection: its facts, its client's end, and its backend's if bytes flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// All but its sockets.
    pub facts: SessionFacts,
    /// Where a route of its app led it.
    pub routed: Routed,
    /// At the client's socket.
    pub client: EndState,
    /// At the backend's socket.
    pub backend: Option<EndState>,
    /// What it has used of its bandwidth, by the side that sends. Since version 2.
    pub allowance: Option<[Allowance; 2]>,
}

/// What a connection has used of its bandwidth in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// When what it sends next may begin, by its own limit.
    pub next: Time,
    /// Bytes for which time is reserved; none if zero.
    pub reserved_bytes: u32,
    /// When these may be sent.
    pub due: Time,
    /// They are reserved of the bandwidth of its app, too.
    pub is_of_app: bool,
}

/// Where a route led a connection, and by what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// The name of the route, if it is not the app itself that serves it.
    pub route: Option<Arc<str>>,
    /// What its first bytes said.
    pub asked: Option<AskedFor>,
}

/// What the first bytes of a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedFor {
    /// The word for its protocol.
    pub protocol: Arc<str>,
    /// The host.
    pub name: Option<Arc<str>>,
    /// The application protocols.
    pub alpn: Option<Arc<str>>,
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It is of a version that this program does not know.
    Version(u16),
    /// It ends too early, or holds what no record holds.
    Malformed,
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Version(version) => write!(f, "unknown version {version}"),
            Self::Malformed => f.write_str("malformed record"),
        }
    }
}

/// The newest version that both this program and one that reads `theirs` know.
pub fn common_version(theirs: &[u16]) -> Option<u16> {
    VERSIONS.iter().rev().copied().find(|version| theirs.contains(version))
}

/// Whether a connection in this phase can be told of in records of this version.
pub fn has_phase(version: u16, phase: FrozenPhase) -> bool {
    match phase {
        FrozenPhase::AwaitingRoute { .. } => version >= 2,
        FrozenPhase::AwaitingAdmission
        | FrozenPhase::AwaitingPreface
        | FrozenPhase::AwaitingRoom
        | FrozenPhase::AwaitingConnect { .. }
        | FrozenPhase::AwaitingDescriptors { .. }
        | FrozenPhase::Relaying { .. } => true,
    }
}

/// A connection, lent to be written.
#[derive(Clone, Copy, Debug)]
pub struct RecordParts<'a> {
    /// As in [`SessionRecord`].
    pub facts: &'a SessionFacts,
    /// As in [`SessionRecord`].
    pub routed: &'a Routed,
    /// As in [`SessionRecord`].
    pub client: End<'a>,
    /// As in [`SessionRecord`].
    pub backend: Option<End<'a>>,
    /// As in [`SessionRecord`].
    pub allowance: Option<[Allowance; 2]>,
}

/// Writes a record of a version that [has its phase](has_phase) behind what is in `out`.
pub fn write(version: u16, parts: RecordParts<'_>, out: &mut Vec<u8>) {
    let RecordParts { facts, routed, client, backend, allowance } = parts;
    let start = out.len();
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let mut writer = Writer(out);
    writer.facts(facts);
    writer.routed(routed);
    writer.end(client);
    writer.byte(u8::from(backend.is_some()));
    if let Some(backend) = backend {
        writer.end(backend);
    }
    if version >= 2 {
        writer.allowance(allowance);
    }
    // Bounded by what the engine queues for two connections.
    let length = u32::try_from(out.len() - start - HEAD).expect("a record of less than 4 GiB");
    out[start + 2..start + HEAD].copy_from_slice(&length.to_le_bytes());
}

/// What is under way at a socket, lent.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// As in [`EndState`].
    pub received: &'a [u8],
    /// As in [`EndState`].
    pub queued: &'a [u8],
    /// As in [`EndState`].
    pub ended: bool,
    /// As in [`EndState`].
    pub shut: bool,
}

/// Reads the first record of `bytes`; gives what follows it, too. A record that cannot be understood is an error with
/// what follows it.
///
/// # Errors
/// `None` if there is not even a whole head and so many bytes: then nothing that follows can be read either.
#[allow(clippy::type_complexity, reason = "a record or why not, and the rest")]
pub fn read(bytes: &[u8]) -> Option<(Result<SessionRecord, RecordError>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let version = u16::from_le_bytes([head[0], head[1]]);
    let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
    let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if !VERSIONS.contains(&version) {
        return Some((Err(RecordError::Version(version)), rest));
    }
    let mut reader = Reader(body);
    let record = reader.record(version).filter(|_| reader.0.is_empty());
    Some((record.ok_or(RecordError::Malformed), rest))
}

pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn long(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn word(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Names are short: what is longer than 64 KiB is cut, and names nothing at the other side.
    fn text(&mut self, text: &[u8]) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(&text[..usize::from(length)]);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.word(u32::try_from(bytes.len()).expect("less than 4 GiB are queued"));
        self.0.extend_from_slice(bytes);
    }

    fn address(&mut self, address: &SocketAddress) {
        match address {
            SocketAddress::Unix(None) => self.byte(0),
            SocketAddress::Unix(Some(path)) => {
                self.byte(1);
                self.text(path.as_os_str().as_bytes());
            }
            SocketAddress::Inet(address) => {
                self.byte(2);
                self.text(address.to_string().as_bytes());
            }
        }
    }

    fn endpoint(&mut self, name: &EndpointName) {
        self.text(name.backend.as_bytes());
        self.address(&name.address);
    }

    fn facts(&mut self, facts: &SessionFacts) {
        self.long(facts.number);
        self.text(facts.app.as_bytes());
        self.text(facts.frontend.as_bytes());
        self.address(&facts.client);
        self.byte(u8::from(facts.carried.is_some()));
        if let Some(CarriedAddresses { via, destination }) = &facts.carried {
            self.address(via);
            self.address(&SocketAddress::Inet(*destination));
        }
        self.byte(u8::from(facts.endpoint.is_some()));
        if let Some(endpoint) = &facts.endpoint {
            self.endpoint(endpoint);
        }
        // An app tries no more than a byte counts.
        let tried = &facts.tried[..facts.tried.len().min(usize::from(u8::MAX))];
        self.byte(tried.len() as u8);
        tried.iter().for_each(|name| self.endpoint(name));
        self.byte(u8::from(facts.has_permit));
        let FrozenSession { accepted, queue_micros, connect_micros, phase, has_entered } = facts.session;
        self.long(accepted.as_nanos());
        self.word(queue_micros);
        self.word(connect_micros);
        self.byte(u8::from(has_entered));
        let (phase, detail) = match phase {
            FrozenPhase::AwaitingAdmission => (0, 0),
            FrozenPhase::AwaitingPreface => (1, 0),
            FrozenPhase::AwaitingRoom => (2, 0),
            FrozenPhase::AwaitingConnect { attempts } => (3, attempts),
            FrozenPhase::AwaitingDescriptors { attempts } => (4, attempts),
            FrozenPhase::Relaying { half_closed } => (5, u8::from(half_closed)),
            FrozenPhase::AwaitingRoute { may_be_silent } => (6, u8::from(may_be_silent)),
        };
        self.byte(phase);
        self.byte(detail);
        facts.bytes.iter().for_each(|bytes| self.long(*bytes));
        self.long(facts.last_activity.as_nanos());
    }

    fn optional(&mut self, text: Option<&Arc<str>>) {
        self.byte(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text.as_bytes());
        }
    }

    fn routed(&mut self, routed: &Routed) {
        self.optional(routed.route.as_ref());
        self.byte(u8::from(routed.asked.is_some()));
        if let Some(AskedFor { protocol, name, alpn }) = &routed.asked {
            self.text(protocol.as_bytes());
            self.optional(name.as_ref());
            self.optional(alpn.as_ref());
        }
    }

    fn end(&mut self, end: End<'_>) {
        self.byte(u8::from(end.ended) | u8::from(end.shut) << 1);
        self.bytes(end.received);
        self.bytes(end.queued);
    }

    fn allowance(&mut self, allowance: Option<[Allowance; 2]>) {
        self.byte(u8::from(allowance.is_some()));
        for Allowance { next, reserved_bytes, due, is_of_app } in allowance.into_iter().flatten() {
            self.long(next.as_nanos());
            self.word(reserved_bytes);
            self.long(due.as_nanos());
            self.byte(u8::from(is_of_app));
        }
    }
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn word(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn raw_text(&mut self) -> Option<&'a [u8]> {
        let length: [u8; 2] = self.take(2)?.try_into().ok()?;
        self.take(usize::from(u16::from_le_bytes(length)))
    }

    fn text(&mut self) -> Option<Arc<str>> {
        std::str::from_utf8(self.raw_text()?).ok().map(Arc::from)
    }

    pub(super) fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.word()?).ok()?;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn inet(&mut self) -> Option<SocketAddr> {
        std::str::from_utf8(self.raw_text()?).ok()?.parse().ok()
    }

    fn address(&mut self) -> Option<SocketAddress> {
        match self.byte()? {
            0 => Some(SocketAddress::Unix(None)),
            1 => {
                let path = self.raw_text()?.to_vec();
                Some(SocketAddress::unix(std::ffi::OsString::from_vec(path)))
            }
            2 => self.inet().map(SocketAddress::Inet),
            _ => None,
        }
    }

    fn endpoint(&mut self) -> Option<EndpointName> {
        Some(EndpointName { backend: self.text()?, address: self.address()? })
    }

    fn facts(&mut self, version: u16) -> Option<SessionFacts> {
        let number = self.long()?;
        let (app, frontend) = (self.text()?, self.text()?);
        let client = self.address()?;
        let carried = match self.flag()? {
            false => None,
            true => {
                let via = self.address()?;
                Some(CarriedAddresses { via, destination: self.address()?.inet()? })
            }
        };
        let endpoint = match self.flag()? {
            false => None,
            true => Some(self.endpoint()?),
        };
        let count = self.byte()?;
        let tried = (0..count).map(|_| self.endpoint()).collect::<Option<Vec<_>>>()?;
        let has_permit = self.flag()?;
        let accepted = Time::from_nanos(self.long()?);
        let (queue_micros, connect_micros) = (self.word()?, self.word()?);
        let has_entered = self.flag()?;
        let phase = match (self.byte()?, self.byte()?) {
            (0, 0) => FrozenPhase::AwaitingAdmission,
            (1, 0) => FrozenPhase::AwaitingPreface,
            (2, 0) => FrozenPhase::AwaitingRoom,
            (3, attempts) => FrozenPhase::AwaitingConnect { attempts },
            (4, attempts) => FrozenPhase::AwaitingDescriptors { attempts },
            (5, half_closed @ (0 | 1)) => FrozenPhase::Relaying { half_closed: half_closed == 1 },
            (6, silent @ (0 | 1)) => FrozenPhase::AwaitingRoute { may_be_silent: silent == 1 },
            _ => return None,
        };
        if !has_phase(version, phase) {
            return None;
        }
        let session = FrozenSession { accepted, queue_micros, connect_micros, phase, has_entered };
        let bytes = [self.long()?, self.long()?];
        let last_activity = Time::from_nanos(self.long()?);
        Some(SessionFacts {
            number,
            app,
            frontend,
            client,
            carried,
            endpoint,
            tried,
            has_permit,
            session,
            bytes,
            last_activity,
        })
    }

    fn optional(&mut self) -> Option<Option<Arc<str>>> {
        Some(if self.flag()? { Some(self.text()?) } else { None })
    }

    fn routed(&mut self) -> Option<Routed> {
        let route = self.optional()?;
        let asked = match self.flag()? {
            false => None,
            true => Some(AskedFor { protocol: self.text()?, name: self.optional()?, alpn: self.optional()? }),
        };
        Some(Routed { route, asked })
    }

    fn end(&mut self) -> Option<EndState> {
        let flags = self.byte()?;
        if flags > 3 {
            return None;
        }
        let (received, queued) = (self.bytes()?, self.bytes()?);
        Some(EndState { received, queued, ended: flags & 1 != 0, shut: flags & 2 != 0 })
    }

    fn allowance(&mut self) -> Option<Allowance> {
        Some(Allowance {
            next: Time::from_nanos(self.long()?),
            reserved_bytes: self.word()?,
            due: Time::from_nanos(self.long()?),
            is_of_app: self.flag()?,
        })
    }

    fn allowances(&mut self) -> Option<Option<[Allowance; 2]>> {
        Some(if self.flag()? { Some([self.allowance()?, self.allowance()?]) } else { None })
    }

    fn record(&mut self, version: u16) -> Option<SessionRecord> {
        let (facts, routed, client) = (self.facts(version)?, self.routed()?, self.end()?);
        let backend = match self.flag()? {
            false => None,
            true => Some(self.end()?),
        };
        let allowance = if version >= 2 { self.allowances()? } else { None };
        // A relay has two ends, and nothing else has.
        let is_relay = facts.session.phase.has_backend();
        let is_whole = backend.is_some() == is_relay
            && (facts.endpoint.is_some() || !facts.session.phase.holds_endpoint())
            && (is_relay || allowance.is_none());
        is_whole.then_some(SessionRecord { facts, routed, client, backend, allowance })
    }
}

impl EndState {
    /// The same, lent.
    pub fn lend(&self) -> End<'_> {
        End { received: &self.received, queued: &self.queued, ended: self.ended, shut: self.shut }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relaying() -> SessionRecord {
        let name = |backend: &str, port: u16| EndpointName {
            backend: backend.into(),
            address: SocketAddr::from(([127, 0, 0, 1], port)).into(),
        };
        SessionRecord {
            facts: SessionFacts {
                number: 7,
                app: "web".into(),
                frontend: ":443".into(),
                client: SocketAddress::Inet("[2001:db8::1]:5000".parse().expect("an address")),
                carried: Some(CarriedAddresses {
                    via: SocketAddress::unix("/run/edge.sock"),
                    destination: SocketAddr::from(([192, 0, 2, 1], 443)),
                }),
                endpoint: Some(name("db:5432", 5432)),
                tried: vec![name("a", 1), name("b", 2)],
                has_permit: true,
                session: FrozenSession {
                    accepted: Time::from_nanos(1_000_000_007),
                    queue_micros: 11,
                    connect_micros: 13,
                    phase: FrozenPhase::Relaying { half_closed: true },
                    has_entered: true,
                },
                bytes: [1 << 40, 17],
                last_activity: Time::from_nanos(2_000_000_011),
            },
            routed: Routed {
                route: Some("eu".into()),
                asked: Some(AskedFor { protocol: "tls".into(), name: Some("db.example".into()), alpn: None }),
            },
            client: EndState { received: Vec::new(), queued: b"tail".to_vec(), ended: true, shut: false },
            backend: Some(EndState {
                received: b"head".to_vec(),
                queued: Vec::new(),
                ended: false,
                shut: true,
            }),
            allowance: None,
        }
    }

    fn held_back() -> SessionRecord {
        let waits = Allowance {
            next: Time::from_nanos(3_000_000_013),
            reserved_bytes: 4_096,
            due: Time::from_nanos(2_900_000_000),
            is_of_app: true,
        };
        SessionRecord { allowance: Some([waits, Allowance::default()]), ..relaying() }
    }

    fn waiting(phase: FrozenPhase) -> SessionRecord {
        let mut record = relaying();
        record.facts.session.phase = phase;
        record.facts.client = SocketAddress::Unix(None);
        record.facts.carried = None;
        record.routed = Routed::default();
        record.backend = None;
        record
    }

    fn written_in(version: u16, record: &SessionRecord) -> Vec<u8> {
        let mut bytes = Vec::new();
        let SessionRecord { facts, routed, client, backend, allowance } = record;
        let backend = backend.as_ref().map(EndState::lend);
        let parts = RecordParts { facts, routed, client: client.lend(), backend, allowance: *allowance };
        write(version, parts, &mut bytes);
        bytes
    }

    fn written(record: &SessionRecord) -> Vec<u8> {
        written_in(2, record)
    }

    #[test]
    fn every_phase_comes_back_as_it_was() {
        let phases = [
            FrozenPhase::AwaitingAdmission,
            FrozenPhase::AwaitingPreface,
            FrozenPhase::AwaitingRoute { may_be_silent: true },
            FrozenPhase::AwaitingRoom,
            FrozenPhase::AwaitingConnect { attempts: 3 },
            FrozenPhase::AwaitingDescriptors { attempts: 2 },
        ];
        let records: Vec<_> = phases.into_iter().map(waiting).chain([relaying(), held_back()]).collect();
        let bytes: Vec<u8> = records.iter().flat_map(written).collect();
        let mut rest = &bytes[..];
        for record in &records {
            let (found, following) = read(rest).expect("a whole record");
            assert_eq!(found.as_ref(), Ok(record));
            rest = following;
        }
        assert!(rest.is_empty());
    }

    /// Records as programs wrote them, and as this one still writes them for those programs. They are never changed: a
    /// change of the format is a new version, and a new file. To write the file of a new version run this test with
    /// RINGWAY_UPDATE_GOLDEN=1.
    #[test]
    fn records_of_every_version_are_read_and_written_as_ever() {
        let first = vec![relaying(), waiting(FrozenPhase::AwaitingConnect { attempts: 3 })];
        let second = vec![held_back(), waiting(FrozenPhase::AwaitingRoute { may_be_silent: true })];
        let others = [
            FrozenPhase::AwaitingAdmission,
            FrozenPhase::AwaitingPreface,
            FrozenPhase::AwaitingRoom,
            FrozenPhase::AwaitingDescriptors { attempts: 2 },
        ];
        let others = others.map(waiting).to_vec();
        for (version, name, expected) in [
            (1, "session-v1", first),
            (1, "session-v1-waiting", others.clone()),
            (2, "session-v2", second),
            (2, "session-v2-waiting", others),
        ] {
            let path = format!("{}/tests/golden/{name}.bin", env!("CARGO_MANIFEST_DIR"));
            let as_written: Vec<u8> =
                expected.iter().flat_map(|record| written_in(version, record)).collect();
            if std::env::var_os("RINGWAY_UPDATE_GOLDEN").is_some() && !std::path::Path::new(&path).exists() {
                std::fs::write(&path, &as_written).expect("the directory is there");
            }
            let bytes = std::fs::read(path).expect("it is kept");
            assert_eq!(as_written, bytes, "{name}");
            let mut rest = &bytes[..];
            for expected in &expected {
                let (found, following) = read(rest).expect("a whole record");
                assert_eq!(found.as_ref(), Ok(expected));
                rest = following;
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn an_earlier_version_leaves_out_what_it_does_not_know_and_has_no_later_phase() {
        assert_eq!(read(&written_in(1, &held_back())).expect("a whole record").0, Ok(relaying()));
        let later = waiting(FrozenPhase::AwaitingRoute { may_be_silent: false });
        assert!(!has_phase(1, later.facts.session.phase) && has_phase(2, later.facts.session.phase));
        let found = read(&written_in(1, &later)).expect("a whole record").0;
        assert_eq!(found, Err(RecordError::Malformed));
        assert_eq!([&[1][..], &[1, 2, 3], &[3], &[]].map(common_version), [Some(1), Some(2), None, None]);
    }

    #[test]
    fn record_of_an_unknown_version_is_skipped() {
        let mut bytes = written(&relaying());
        bytes[0] = 99;
        bytes.extend(written(&relaying()));
        let (unknown, rest) = read(&bytes).expect("a whole record");
        assert_eq!(unknown, Err(RecordError::Version(99)));
        assert_eq!(read(rest).expect("a whole record").0, Ok(relaying()));
    }

    #[test]
    fn relay_without_its_backend_is_no_record() {
        let mut record = relaying();
        record.backend = None;
        assert_eq!(read(&written(&record)).expect("a whole one").0, Err(RecordError::Malformed));
        let mut record = waiting(FrozenPhase::AwaitingConnect { attempts: 1 });
        record.facts.endpoint = None;
        assert_eq!(read(&written(&record)).expect("a whole one").0, Err(RecordError::Malformed));
        let mut record = waiting(FrozenPhase::AwaitingRoom);
        record.allowance = held_back().allowance;
        assert_eq!(read(&written(&record)).expect("a whole one").0, Err(RecordError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn damaged_records_are_read_or_refused(place in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
            let mut bytes = written(&held_back());
            let place = place % bytes.len();
            bytes[place] = byte;
            let _ = read(&bytes);
            bytes.truncate(cut);
            let _ = read(&bytes);
        }
    }
}
