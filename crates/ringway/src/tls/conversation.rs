//! One connection in TLS, apart from its socket.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;

use ringway_proto::certificate::Certificate;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{AlertDescription, CipherSuite, CommonState, Error, HandshakeKind, ProtocolVersion};

use super::client_terms::ClientTerms;
use super::failure::Failure;
use super::terms::{ServerTerms, TlsVersion};
use super::traffic::{Breach, Schedule, Taken, Traffic};
use crate::layer::{Heard, Layer, Scratch};

/// Bytes before the payload of a record (RFC 8446, section 5.1).
pub(super) const HEADER_BYTES: usize = 5;
/// The longest payload of a record, as it is sent.
pub(super) const RECORD_PAYLOAD_MAX: usize = 1 << 14;
/// What a record in either version may be longer than its payload (RFC 5246, section 6.2.3: 2048 bytes, the header apart).
pub(super) const RECORD_EXPANSION_MAX: usize = 2_048;
/// What is kept of an incomplete message within the handshake: rustls takes messages of up to 64 KiB, and a record may be incomplete
/// behind it. Whoever cuts a long one into records of a few bytes is refused.
const PENDING_BYTES_MAX: usize = (64 << 10) + RECORD_PAYLOAD_MAX + RECORD_EXPANSION_MAX + HEADER_BYTES;
/// Calls to rustls for one piece of input, but for those that take records in: messages to be sent are few.
const IDLE_CALLS_MAX: usize = 64;

/// A connection in TLS: rustls while it shakes hands, and then the keys that come of it.
pub struct Conversation {
    connection: Connection,
    /// Bytes of incomplete messages and records. Nothing is held while there are none.
    pending: Vec<u8>,
    /// Within the handshake: how many of them are whole records, which rustls has seen.
    pending_whole: usize,
    has_peer_finished: bool,
    has_finished: bool,
    has_failed: bool,
}

enum Connection {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
    Established(Box<Traffic>),
    /// The handshake came to nothing that could be gone on with.
    Broken,
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So many bytes of those that were given are taken in; the others are to be given again, with more behind them.
    pub taken: usize,
    /// It is over: payload may be sent and received.
    pub is_established: bool,
}

/// What two ends agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// `"1.2"` or `"1.3"`.
    pub version: &'static str,
    /// The cipher suite by the name that IANA gave it.
    pub cipher: &'static str,
    /// The application protocol.
    pub alpn: Option<Box<[u8]>>,
    /// They went on with a session of earlier.
    pub is_resumed: bool,
}

/// What a call to rustls came to.
enum Turn {
    /// Call again.
    Again,
    /// More has to come.
    Wait,
    /// The peer says that it sends no more; call again.
    PeerFinished,
}

impl Conversation {
    /// What is held at most: memory that grows by doubling.
    pub const HELD_BYTES_MAX: usize = 2 * PENDING_BYTES_MAX;

    /// The server's side of a connection whose client speaks first.
    ///
    /// # Errors
    /// None that the network could bring about: what the terms say cannot be.
    pub fn accept(terms: &ServerTerms) -> Result<Self, Failure> {
        let connection = UnbufferedServerConnection::new(Arc::clone(terms.config()))
            .map_err(|error| Failure::of(&error, false))?;
        Ok(Self::of(Connection::Server(Box::new(connection))))
    }

    /// The client's side of a connection to a server that is to be `name`: a host name, or an IP address. `answer` is
    /// what to send first.
    ///
    /// # Errors
    /// When the name is none.
    pub fn connect(terms: &ClientTerms, name: &str, answer: &mut Scratch) -> Result<Self, Failure> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| Failure::without_name())?;
        let connection = UnbufferedClientConnection::new(Arc::clone(terms.config()), name)
            .map_err(|error| Failure::of(&error, false))?;
        let mut conversation = Self::of(Connection::Client(Box::new(connection)));
        conversation.turn(&mut [], &mut Scratch::default(), answer)?;
        Ok(conversation)
    }

    fn of(connection: Connection) -> Self {
        Self {
            connection,
            pending: Vec::new(),
            pending_whole: 0,
            has_peer_finished: false,
            has_finished: false,
            has_failed: false,
        }
    }

    /// Goes on with the handshake. Takes whole records, and none that comes after the handshake: the rest may stay where it
    /// is. `is_all`: there is no room for more where the bytes are, so that the begin of a record is taken too.
    ///
    /// # Errors
    /// When the handshake failed: `answer` is the alert to send, and nothing else is. When anything failed before, without one.
    pub fn handshake(
        &mut self,
        bytes: &mut [u8],
        is_all: bool,
        answer: &mut Scratch,
    ) -> Result<Progress, Failure> {
        if self.has_failed {
            return Err(Failure::protocol("nothing is taken in any more"));
        }
        let (mut payload, mut taken) = (Scratch::default(), 0);
        while self.is_handshaking() && !self.has_peer_finished && taken < bytes.len() {
            let rest = &mut bytes[taken..];
            let missing = missing_of_record(&self.pending[self.pending_whole..], rest);
            let count = match missing <= rest.len() {
                true => missing,
                false if is_all && taken == 0 => rest.len(),
                false => break,
            };
            self.take_in_handshake(&mut rest[..count], count == missing, &mut payload, answer)?;
            taken += count;
        }
        if self.is_handshaking() && self.has_peer_finished {
            return Err(self.fail(Failure::protocol("the other end finished within the handshake")));
        }
        if !payload.is_empty() {
            return Err(self.fail(Failure::protocol("payload within the handshake")));
        }
        let is_established = !self.is_handshaking();
        if is_established {
            self.establish(answer)?;
        }
        Ok(Progress { taken, is_established })
    }

    /// Leaves rustls behind: the handshake is over, and its last words are said.
    fn establish(&mut self, answer: &mut Scratch) -> Result<(), Failure> {
        let Some(common) = self.common() else { return Ok(()) };
        if self.has_outlived_peer_certificate() {
            // Not even the tickets that rustls has ready; it has no alert for this.
            answer.clear();
            return Err(self.fail(Failure::expired()));
        }
        let peer_certificate = self.peer_certificate().map(Box::from);
        let suite = common.negotiated_cipher_suite();
        let (Some(agreed), Some(suite), true) = (self.agreed(), suite, self.pending.is_empty()) else {
            answer.clear();
            return Err(self.fail(Failure::protocol("more of a message than the handshake has")));
        };
        let parted = match mem::replace(&mut self.connection, Connection::Broken) {
            Connection::Server(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, rest)| (secrets, Schedule::Server(rest))),
            Connection::Client(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, rest)| (secrets, Schedule::Client(rest))),
            Connection::Established(_) | Connection::Broken => return Ok(()),
        };
        let traffic = parted.and_then(|(secrets, schedule)| {
            Traffic::new(&secrets, suite, schedule, agreed, peer_certificate)
        });
        match traffic {
            Ok(traffic) => self.connection = Connection::Established(Box::new(traffic)),
            Err(error) => {
                answer.clear();
                return Err(self.fail(Failure::of(&error, false)));
            }
        }
        Ok(())
    }

    /// Whether the other end goes on with a session of when its certificate held, and it holds no longer: rustls looks at
    /// certificates in full handshakes only, and gives new tickets in resumed ones.
    fn has_outlived_peer_certificate(&self) -> bool {
        if self.common().is_none_or(|common| common.handshake_kind() != Some(HandshakeKind::Resumed)) {
            return false;
        }
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        self.peer_certificate().is_some_and(|certificate| match Certificate::parse(certificate) {
            Ok(certificate) => certificate.not_after() < now,
            Err(_) => true,
        })
    }

    /// Whether the handshake goes on.
    pub fn is_handshaking(&self) -> bool {
        match &self.connection {
            Connection::Established(_) => false,
            Connection::Broken => true,
            Connection::Server(_) | Connection::Client(_) => {
                self.common().is_some_and(CommonState::is_handshaking)
            }
        }
    }

    /// What the two ends agreed on; `None` before.
    pub fn agreed(&self) -> Option<Agreed> {
        if let Connection::Established(traffic) = &self.connection {
            return Some(traffic.agreed().clone());
        }
        let common = self.common()?;
        Some(Agreed {
            version: match common.protocol_version()? {
                ProtocolVersion::TLSv1_2 => TlsVersion::Tls12.as_str(),
                _ => TlsVersion::Tls13.as_str(),
            },
            cipher: name_of(common.negotiated_cipher_suite()?.suite()),
            alpn: common.alpn_protocol().map(Box::from),
            is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }

    /// The certificate of the other end, in DER.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        if let Connection::Established(traffic) = &self.connection {
            return traffic.peer_certificate();
        }
        self.common()?.peer_certificates()?.first().map(|certificate| certificate.as_ref())
    }

    /// Bytes that are held because they are not complete; at most [`HELD_BYTES_MAX`](Self::HELD_BYTES_MAX).
    pub fn held_bytes(&self) -> usize {
        self.pending.capacity()
    }

    /// What rustls knows, within the handshake.
    fn common(&self) -> Option<&CommonState> {
        match &self.connection {
            Connection::Server(connection) => Some(connection),
            Connection::Client(connection) => Some(connection),
            Connection::Established(_) | Connection::Broken => None,
        }
    }

    /// The records of an established one.
    #[cfg(test)]
    pub(super) fn traffic(&mut self) -> &mut Traffic {
        match &mut self.connection {
            Connection::Established(traffic) => traffic,
            _ => panic!("the handshake is not over"),
        }
    }

    /// Takes bytes in, of which those that are incomplete are kept.
    fn take_in(
        &mut self,
        bytes: &mut [u8],
        payload: &mut Scratch,
        answer: &mut Scratch,
    ) -> Result<(), Failure> {
        let mut at = 0;
        while self.is_handshaking() && !self.has_peer_finished && at < bytes.len() {
            at += self.handshake(&mut bytes[at..], true, answer)?.taken;
        }
        if at == bytes.len() || self.has_peer_finished {
            return Ok(());
        }
        if !self.pending.is_empty() {
            let missing = missing_of_record(&self.pending, &bytes[at..]);
            // Of what states that it is longer than any record, no more than it takes to say so.
            let longest = HEADER_BYTES + RECORD_PAYLOAD_MAX + RECORD_EXPANSION_MAX;
            let count = missing.min(bytes.len() - at).min(longest);
            self.keep(&bytes[at..at + count])?;
            if missing > bytes.len() - at {
                return Ok(());
            }
            at += count;
            let record = mem::take(&mut self.pending);
            self.take_record(&record, payload, answer)?;
        }
        while at < bytes.len() && !self.has_peer_finished {
            let missing = missing_of_record(&[], &bytes[at..]);
            if missing > bytes.len() - at {
                return self.keep(&bytes[at..]);
            }
            self.take_record(&bytes[at..at + missing], payload, answer)?;
            at += missing;
        }
        Ok(())
    }

    /// Takes a whole record of an established connection in.
    fn take_record(
        &mut self,
        record: &[u8],
        payload: &mut Scratch,
        answer: &mut Scratch,
    ) -> Result<(), Failure> {
        let Connection::Established(traffic) = &mut self.connection else {
            return Err(self.fail(Failure::protocol("a record of nothing that was agreed on")));
        };
        // Nobody says anything behind the end of what he says.
        let mut answer = (!self.has_finished).then_some(answer);
        match traffic.take(record, payload, answer.as_deref_mut()) {
            Ok(Taken::Done) => {}
            Ok(Taken::PeerFinished) => self.has_peer_finished = true,
            Err(Breach { error, alert }) => {
                if let (Some(alert), Some(answer)) = (alert, answer) {
                    // If not even that can be said, nothing is.
                    let _ = traffic.give_up(alert, answer);
                }
                return Err(self.fail(Failure::of(&error, false)));
            }
        }
        Ok(())
    }

    /// Takes a record of the handshake in, or, if it is not whole, the begin of one.
    fn take_in_handshake(
        &mut self,
        bytes: &mut [u8],
        is_whole: bool,
        payload: &mut Scratch,
        answer: &mut Scratch,
    ) -> Result<(), Failure> {
        if self.pending.is_empty() && is_whole {
            // Where it is. Its header is not to be trusted afterwards.
            let taken = self.turn(bytes, payload, answer)?;
            if !self.has_peer_finished {
                self.keep(&bytes[taken..])?;
                self.pending_whole = self.pending.len();
            }
            return Ok(());
        }
        self.keep(bytes)?;
        if is_whole {
            let mut pending = mem::take(&mut self.pending);
            let taken = self.turn(&mut pending, payload, answer)?;
            pending.drain(..taken);
            self.pending_whole = pending.len();
            if !pending.is_empty() {
                self.pending = pending;
            }
        }
        Ok(())
    }

    /// Keeps bytes that are not complete, behind those that are kept already.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.pending.len() + bytes.len() > PENDING_BYTES_MAX {
            return Err(self.fail(Failure::protocol("a message in too many records")));
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Has rustls look at `bytes`; says how many of them are done with.
    fn turn(
        &mut self,
        bytes: &mut [u8],
        payload: &mut Scratch,
        answer: &mut Scratch,
    ) -> Result<usize, Failure> {
        let (mut taken, mut idle_calls) = (0, 0);
        loop {
            let Some((discarded, turn)) = self.connection.process(&mut bytes[taken..], payload, answer)
            else {
                return Err(self.fail(Failure::protocol("the handshake came to nothing")));
            };
            taken += discarded;
            match turn {
                Ok(Turn::Again) => {}
                Ok(Turn::PeerFinished) => {
                    self.has_peer_finished = true;
                    return Ok(bytes.len());
                }
                Ok(Turn::Wait) => return Ok(taken),
                Err(error) => {
                    let is_server = matches!(self.connection, Connection::Server(_));
                    let lacks_certificate = is_server && self.is_handshaking();
                    // Nobody says anything behind the end of what he says.
                    if !self.has_finished {
                        self.collect_alert(answer);
                    }
                    if matches!(error, Error::NoCertificatesPresented) {
                        self.correct_alert(answer);
                    }
                    return Err(self.fail(Failure::of(&error, lacks_certificate)));
                }
            }
            idle_calls = if discarded > 0 { 0 } else { idle_calls + 1 };
            if idle_calls > IDLE_CALLS_MAX {
                return Err(self.fail(Failure::protocol("no end of messages to send")));
            }
        }
    }

    /// Appends what rustls has to say about a failure. It is not to look at any more bytes: it would say it twice.
    fn collect_alert(&mut self, answer: &mut Scratch) {
        while self.common().is_some_and(CommonState::wants_write) {
            match self.connection.process(&mut [], &mut Scratch::default(), answer) {
                Some((_, Ok(Turn::Again))) => {}
                _ => break,
            }
        }
    }

    /// In TLS 1.2 a client that has no certificate is told of a handshake failure (RFC 5246, section 7.4.6): the alert that rustls
    /// gives it is of TLS 1.3, and some clients do not know it. Nothing is encrypted yet.
    fn correct_alert(&self, answer: &mut Scratch) {
        let version = self.common().and_then(|common| common.protocol_version());
        let is_old = version == Some(ProtocolVersion::TLSv1_2);
        if is_old
            && let [.., 21, 3, 3, 0, 2, 2, description] = answer.as_mut_slice()
            && *description == u8::from(AlertDescription::CertificateRequired)
        {
            *description = AlertDescription::HandshakeFailure.into();
        }
    }

    /// Nothing more is taken in, or said.
    fn fail(&mut self, failure: Failure) -> Failure {
        self.has_failed = true;
        self.pending = Vec::new();
        self.pending_whole = 0;
        failure
    }
}

impl Connection {
    /// Has rustls look at `bytes`, within the handshake.
    fn process(
        &mut self,
        bytes: &mut [u8],
        payload: &mut Scratch,
        answer: &mut Scratch,
    ) -> Option<(usize, Result<Turn, Error>)> {
        match self {
            Self::Server(connection) => {
                Some(take(parts(connection.process_tls_records(bytes)), payload, answer))
            }
            Self::Client(connection) => {
                Some(take(parts(connection.process_tls_records(bytes)), payload, answer))
            }
            Self::Established(_) | Self::Broken => None,
        }
    }
}

impl Layer for Conversation {
    fn receive<'a>(
        &mut self,
        bytes: &'a mut [u8],
        payload: &'a mut Scratch,
        answer: &mut Scratch,
    ) -> Heard<'a> {
        payload.clear();
        let failure = match self.has_failed {
            true => None,
            false => self.take_in(bytes, payload, answer).err().map(io::Error::from),
        };
        Heard { payload: payload.as_slice(), failure }
    }

    fn has_peer_finished(&self) -> bool {
        self.has_peer_finished
    }

    fn send(&mut self, payload: &[u8], wire: &mut Scratch) -> io::Result<()> {
        match &mut self.connection {
            Connection::Established(traffic) if !self.has_failed && !self.has_finished => {
                Ok(traffic.send(payload, wire).map_err(|error| Failure::of(&error, false))?)
            }
            _ => Err(Failure::protocol("nothing can be said, or any more").into()),
        }
    }

    fn finish(&mut self, wire: &mut Scratch) {
        if mem::replace(&mut self.has_finished, true) || self.has_failed {
            return;
        }
        if let Connection::Established(traffic) = &mut self.connection {
            // One that can say nothing any more ends without it, as what it is.
            let _ = traffic.finish(wire);
        }
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation")
            .field("agreed", &self.agreed())
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

/// What rustls says: bytes that are done with, and what is to be done.
type Status<'c, 'i, Data> = (usize, Result<ConnectionState<'c, 'i, Data>, Error>);

fn parts<'c, 'i, Data>(status: UnbufferedStatus<'c, 'i, Data>) -> Status<'c, 'i, Data> {
    (status.discard, status.state)
}

/// Does what rustls says; gives the bytes that are done with, and what comes next.
fn take<Data>(
    (mut discarded, state): Status<'_, '_, Data>,
    payload: &mut Scratch,
    answer: &mut Scratch,
) -> (usize, Result<Turn, Error>) {
    let turn = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discarded += record.discard;
                    payload.extend(record.payload);
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Turn::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let mut room = RECORD_PAYLOAD_MAX;
            loop {
                match data.encode(answer.room(room)) {
                    Ok(count) => {
                        answer.advance(count);
                        break Ok(Turn::Again);
                    }
                    Err(EncodeError::InsufficientSize(size)) if size.required_size > room => {
                        room = size.required_size;
                    }
                    Err(error) => break Err(Error::General(error.to_string())),
                }
            }
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Turn::Again)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Turn::PeerFinished),
        Ok(
            ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed,
        ) => Ok(Turn::Wait),
        // Early data is never offered.
        Ok(state) => Err(Error::General(format!("{state:?}"))),
    };
    (discarded, turn)
}

/// How many bytes of `rest` complete the record that begins with `partial`; more than there are if it is not all there. What
/// is no record counts as one with all that there is: rustls says so.
fn missing_of_record(partial: &[u8], rest: &[u8]) -> usize {
    let byte = |at: usize| match partial.get(at) {
        Some(byte) => Some(*byte),
        None => rest.get(at - partial.len()).copied(),
    };
    // Change cipher spec, alert, handshake, application data (RFC 8446, appendix B.1).
    if byte(0).is_some_and(|kind| !(20..=23).contains(&kind)) {
        return rest.len();
    }
    let (Some(high), Some(low)) = (byte(3), byte(4)) else { return rest.len() + 1 };
    let len = usize::from(u16::from_be_bytes([high, low]));
    match len > RECORD_PAYLOAD_MAX + RECORD_EXPANSION_MAX {
        true => rest.len(),
        false => HEADER_BYTES + len - partial.len().min(HEADER_BYTES + len),
    }
}

fn name_of(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}
