//! A connection once its handshake is over: records are sealed and opened here, by the keys that the handshake came to.
//!
//! Payload is sealed from where it was read to where it is sent from, and opened alike: nothing is copied beside. What is left of
//! rustls is the schedule of keys, for updates in TLS 1.3, with which it keeps the certificates of the other end.

use std::fmt;
use std::mem;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, Error, ExtractedSecrets, InvalidMessage, PeerMisbehaved,
    SupportedCipherSuite,
};

use super::conversation::{Agreed, HEADER_BYTES, RECORD_EXPANSION_MAX, RECORD_PAYLOAD_MAX};
use crate::layer::Scratch;

const TAG_BYTES: usize = 16;
/// What a record of TLS 1.3 may be longer than its payload: the kind, padding, the tag (RFC 8446, section 5.2).
const EXPANSION_MAX_13: usize = 256;
/// The longest message of the handshake's kind: of those there are after a handshake, one with a ticket.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Kinds of records (RFC 8446, appendix B.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Kinds of messages (RFC 8446, appendix B.3; RFC 5246, appendix A.4).
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// What is taken of things that mean nothing and cost work, before the other end is given up. Payload between them begins the
/// count of empty records and of updates anew.
const EMPTY_RECORDS_MAX: u8 = 32;
const KEY_UPDATES_MAX: u8 = 32;
const WARNINGS_MAX: u8 = 4;
const RENEGOTIATIONS_MAX: u8 = 1;

/// Both directions of an established connection.
pub(super) struct Traffic {
    sealing: Keys,
    opening: Keys,
    /// In TLS 1.3.
    schedule: Option<Schedule>,
    is_server: bool,
    /// So many records a key is to seal at most.
    records_max: u64,
    /// The other end wants the next payload under another key.
    owes_update: bool,
    message: Partial,
    empty_records: u8,
    key_updates: u8,
    warnings: u8,
    renegotiations: u8,
    agreed: Agreed,
    peer_certificate: Option<Box<[u8]>>,
}

/// A message of the handshake's kind that has come in part: its head, and what follows if that counts for something.
#[derive(Default)]
struct Partial {
    bytes: [u8; 5],
    len: usize,
    /// So many more bytes of it mean nothing here.
    to_skip: usize,
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.len == 0 && self.to_skip == 0
    }

    /// Appends a byte; gives all that there are.
    fn push(&mut self, byte: u8) -> &[u8] {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
        &self.bytes[..self.len]
    }

    /// The rest of it is so long, and means nothing.
    fn skip(&mut self, count: usize) {
        *self = Self { to_skip: count, ..Self::default() };
    }
}

/// What the keys that come next are made of.
pub(super) enum Schedule {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

/// What a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Payload, or something that is done with.
    Done,
    /// The peer says that it sends no more.
    PeerFinished,
}

/// How the peer broke the rules, and what it is told, if anything.
#[derive(Debug)]
pub(super) struct Breach {
    pub(super) error: Error,
    pub(super) alert: Option<AlertDescription>,
}

impl Breach {
    fn told(alert: AlertDescription, error: impl Into<Error>) -> Self {
        Self { error: error.into(), alert: Some(alert) }
    }

    fn unexpected(error: impl Into<Error>) -> Self {
        Self::told(AlertDescription::UnexpectedMessage, error)
    }

    fn untold(error: impl Into<Error>) -> Self {
        Self { error: error.into(), alert: None }
    }
}

impl Traffic {
    /// Goes on where a handshake ended.
    ///
    /// # Errors
    /// If the suite is none of the provider's.
    pub(super) fn new(
        secrets: &ExtractedSecrets,
        suite: SupportedCipherSuite,
        schedule: Schedule,
        agreed: Agreed,
        peer_certificate: Option<Box<[u8]>>,
    ) -> Result<Self, Error> {
        let is_13 = suite.tls13().is_some();
        let keys = |(sequence, secrets): &(u64, _)| Keys::new(secrets, *sequence, is_13);
        Ok(Self {
            sealing: keys(&secrets.tx)?,
            opening: keys(&secrets.rx)?,
            is_server: matches!(schedule, Schedule::Server(_)),
            schedule: is_13.then_some(schedule),
            records_max: match suite {
                SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
                SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            },
            owes_update: false,
            message: Partial::default(),
            empty_records: 0,
            key_updates: 0,
            warnings: 0,
            renegotiations: 0,
            agreed,
            peer_certificate,
        })
    }

    pub(super) fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.peer_certificate.as_deref()
    }

    /// Appends payload in records.
    ///
    /// # Errors
    /// When the keys have sealed as much as they may, and there are no others (TLS 1.2).
    pub(super) fn send(&mut self, payload: &[u8], wire: &mut Scratch) -> Result<(), Error> {
        let count = payload.len().div_ceil(RECORD_PAYLOAD_MAX) as u64;
        if self.schedule.is_none() && self.sealing.sequence + count >= self.records_max {
            return Err(Error::General("the key of this session has sealed as much as it may".to_owned()));
        }
        if count > 0 && mem::take(&mut self.owes_update) {
            self.update_sealing(wire)?;
        }
        for part in payload.chunks(RECORD_PAYLOAD_MAX) {
            // The last one is left for the update itself.
            if self.sealing.sequence + 1 >= self.records_max {
                self.update_sealing(wire)?;
            }
            self.sealing.seal(APPLICATION_DATA, part, wire)?;
        }
        Ok(())
    }

    /// Appends that no more payload comes.
    ///
    /// # Errors
    /// None that anybody could bring about.
    pub(super) fn finish(&mut self, wire: &mut Scratch) -> Result<(), Error> {
        self.sealing.seal(ALERT, &[WARNING, AlertDescription::CloseNotify.into()], wire)
    }

    /// Appends an alert behind which nothing comes.
    ///
    /// # Errors
    /// None that anybody could bring about.
    pub(super) fn give_up(&mut self, alert: AlertDescription, wire: &mut Scratch) -> Result<(), Error> {
        self.sealing.seal(ALERT, &[FATAL, alert.into()], wire)
    }

    /// Has what is sealed from now on under the next key, and says so.
    fn update_sealing(&mut self, wire: &mut Scratch) -> Result<(), Error> {
        let Some(schedule) = &mut self.schedule else { return Ok(()) };
        let (sequence, secrets) = schedule.next_sealing()?;
        let next = Keys::new(&secrets, sequence, true)?;
        // That the other end does the same is not asked for.
        self.sealing.seal(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], wire)?;
        self.sealing = next;
        Ok(())
    }

    /// Takes a whole record in: appends its payload to `payload`, and to `answer` what there is to say to it, if anything may be
    /// said.
    pub(super) fn take(
        &mut self,
        record: &[u8],
        payload: &mut Scratch,
        answer: Option<&mut Scratch>,
    ) -> Result<Taken, Breach> {
        let (kind, count) = self.opening.open(record, payload)?;
        if kind != HANDSHAKE && !self.message.is_empty() {
            return Err(Breach::unexpected(PeerMisbehaved::MessageInterleavedWithHandshakeMessage));
        }
        match kind {
            APPLICATION_DATA => {
                payload.advance(count);
                if count == 0 {
                    return self.count_empty_record();
                }
                (self.empty_records, self.key_updates) = (0, 0);
                Ok(Taken::Done)
            }
            ALERT => match payload.room(count) {
                &mut [level, description] => self.take_alert(level, description),
                [] => Err(Breach::unexpected(InvalidMessage::InvalidEmptyPayload)),
                _ => {
                    let invalid = InvalidMessage::TrailingData("alert");
                    Err(Breach::told(AlertDescription::DecodeError, invalid))
                }
            },
            HANDSHAKE => self.take_messages(payload.room(count), answer),
            // Also a change of the cipher: there is none after the handshake.
            _ => Err(behind_handshake()),
        }
    }

    fn count_empty_record(&mut self) -> Result<Taken, Breach> {
        if self.empty_records == EMPTY_RECORDS_MAX {
            return Err(Breach::unexpected(PeerMisbehaved::TooManyEmptyFragments));
        }
        self.empty_records += 1;
        Ok(Taken::Done)
    }

    fn take_alert(&mut self, level: u8, description: u8) -> Result<Taken, Breach> {
        let description = AlertDescription::from(description);
        let error = Error::AlertReceived(description);
        if !(WARNING..=FATAL).contains(&level) {
            return Err(Breach::told(AlertDescription::IllegalParameter, error));
        }
        if description == AlertDescription::CloseNotify {
            return Ok(Taken::PeerFinished);
        }
        if level == FATAL {
            return Err(Breach::untold(error));
        }
        if self.warnings == WARNINGS_MAX {
            return Err(Breach::unexpected(PeerMisbehaved::TooManyWarningAlertsReceived));
        }
        self.warnings += 1;
        match self.schedule.is_some() && description != AlertDescription::UserCanceled {
            // All others end a connection, whatever they say of their level (RFC 8446, section 6).
            true => Err(Breach::told(AlertDescription::DecodeError, error)),
            false => Ok(Taken::Done),
        }
    }

    /// Takes messages, or parts of them.
    fn take_messages(&mut self, content: &[u8], mut answer: Option<&mut Scratch>) -> Result<Taken, Breach> {
        if content.is_empty() {
            return Err(Breach::unexpected(InvalidMessage::InvalidEmptyPayload));
        }
        let mut rest = content;
        loop {
            let skipped = self.message.to_skip.min(rest.len());
            self.message.to_skip -= skipped;
            rest = &rest[skipped..];
            let Some((&byte, behind)) = rest.split_first() else { return Ok(Taken::Done) };
            rest = behind;
            match *self.message.push(byte) {
                [kind] => self.check_message(kind)?,
                [kind, high, middle, low] => {
                    let len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                    self.take_head(kind, len, answer.as_deref_mut())?;
                }
                [_, _, _, _, asked] => {
                    self.message = Partial::default();
                    self.take_key_update(asked, rest.is_empty())?;
                }
                _ => {}
            }
        }
    }

    fn take_head(&mut self, kind: u8, len: usize, answer: Option<&mut Scratch>) -> Result<(), Breach> {
        let longest = match kind {
            KEY_UPDATE => 1,
            HELLO_REQUEST => 0,
            _ => MESSAGE_BYTES_MAX,
        };
        if len > longest || (kind == KEY_UPDATE && len == 0) {
            let invalid = InvalidMessage::HandshakePayloadTooLarge;
            return Err(Breach::told(AlertDescription::DecodeError, invalid));
        }
        match kind {
            KEY_UPDATE => Ok(()),
            // Sessions of this end as a client are not gone on with.
            NEW_SESSION_TICKET => {
                self.message.skip(len);
                Ok(())
            }
            _ => {
                self.message.skip(len);
                self.refuse_renegotiation(answer)
            }
        }
    }

    /// Whether a message of this kind may come now.
    fn check_message(&self, kind: u8) -> Result<(), Breach> {
        let is_expected = match (self.schedule.is_some(), self.is_server) {
            (true, true) => kind == KEY_UPDATE,
            (true, false) => kind == KEY_UPDATE || kind == NEW_SESSION_TICKET,
            (false, true) => kind == CLIENT_HELLO,
            (false, false) => kind == HELLO_REQUEST,
        };
        match is_expected {
            true => Ok(()),
            false => Err(behind_handshake()),
        }
    }

    /// RFC 8446, section 4.6.3. What is owed for it goes before the next payload, once for all that came until then: an answer to
    /// each would be queued without bound for somebody who asks and does not read.
    fn take_key_update(&mut self, asked: u8, is_last: bool) -> Result<(), Breach> {
        if asked > 1 {
            return Err(Breach::told(AlertDescription::IllegalParameter, InvalidMessage::InvalidKeyUpdate));
        }
        if !is_last {
            return Err(Breach::unexpected(PeerMisbehaved::KeyEpochWithPendingFragment));
        }
        if self.key_updates == KEY_UPDATES_MAX {
            return Err(Breach::unexpected(PeerMisbehaved::TooManyKeyUpdateRequests));
        }
        self.key_updates += 1;
        self.owes_update |= asked == 1;
        let internal = |error| Breach::told(AlertDescription::InternalError, error);
        if let Some(schedule) = &mut self.schedule {
            let (sequence, secrets) = schedule.next_opening().map_err(internal)?;
            self.opening = Keys::new(&secrets, sequence, true).map_err(internal)?;
        }
        Ok(())
    }

    /// Says that there is none, once (RFC 5246, section 7.2.2).
    fn refuse_renegotiation(&mut self, answer: Option<&mut Scratch>) -> Result<(), Breach> {
        if self.renegotiations == RENEGOTIATIONS_MAX {
            return Err(Breach::told(
                AlertDescription::HandshakeFailure,
                PeerMisbehaved::TooManyRenegotiationRequests,
            ));
        }
        self.renegotiations += 1;
        let Some(answer) = answer else { return Ok(()) };
        let alert = [WARNING, AlertDescription::NoRenegotiation.into()];
        self.sealing.seal(ALERT, &alert, answer).map_err(Breach::untold)
    }
}

impl Schedule {
    fn next_sealing(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Server(connection) => connection.update_tx_secret(),
            Self::Client(connection) => connection.update_tx_secret(),
        }
    }

    fn next_opening(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Server(connection) => connection.update_rx_secret(),
            Self::Client(connection) => connection.update_rx_secret(),
        }
    }
}

/// One direction: a key, and how many records it has sealed or opened.
struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
    shape: Shape,
}

/// How records look on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The kind is inside (RFC 8446, section 5.2).
    Tls13,
    /// A part of the nonce goes before what is sealed (RFC 5288, section 3).
    Tls12Gcm,
    /// The nonce is known (RFC 7905, section 2).
    Tls12Chacha,
}

impl Keys {
    fn new(secrets: &ConnectionTrafficSecrets, sequence: u64, is_13: bool) -> Result<Self, Error> {
        let of_gcm = if is_13 { Shape::Tls13 } else { Shape::Tls12Gcm };
        let of_chacha = if is_13 { Shape::Tls13 } else { Shape::Tls12Chacha };
        let (algorithm, key, iv, shape) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, of_gcm),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, of_gcm),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&CHACHA20_POLY1305, key, iv, of_chacha)
            }
            _ => return Err(Error::General("a cipher suite that is not the provider's".to_owned())),
        };
        let refused = |_| Error::General("a key that is none".to_owned());
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(refused)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::General("a nonce that is none".to_owned()))?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence, shape })
    }

    /// Of the next record (RFC 8446, section 5.3). That of GCM in TLS 1.2 only has to be another one each time: it is made alike.
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, part) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        nonce
    }

    /// What is authenticated beside a payload (RFC 5246, section 6.2.3.3).
    fn beside_12(&self, kind: u8, len: usize) -> [u8; 13] {
        let mut beside = [0; 13];
        beside[..8].copy_from_slice(&self.sequence.to_be_bytes());
        beside[8..11].copy_from_slice(&[kind, 3, 3]);
        // A payload is never longer than a record.
        beside[11..].copy_from_slice(&(len as u16).to_be_bytes());
        beside
    }

    /// Appends a record; `payload` has its place in one.
    fn seal(&mut self, kind: u8, payload: &[u8], wire: &mut Scratch) -> Result<(), Error> {
        let (outer, inner, explicit): (u8, &[u8], usize) = match self.shape {
            Shape::Tls13 => (APPLICATION_DATA, &[kind], 0),
            Shape::Tls12Gcm => (kind, &[], 8),
            Shape::Tls12Chacha => (kind, &[], 0),
        };
        let len = explicit + payload.len() + inner.len() + TAG_BYTES;
        let record = wire.room(HEADER_BYTES + len);
        let (header, rest) = record.split_at_mut(HEADER_BYTES);
        let [high, low] = (len as u16).to_be_bytes();
        header.copy_from_slice(&[outer, 3, 3, high, low]);
        let nonce = self.nonce();
        let (shown, rest) = rest.split_at_mut(explicit);
        shown.copy_from_slice(&nonce[NONCE_LEN - explicit..]);
        let (sealed, end) = rest.split_at_mut(payload.len());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let done = match self.shape {
            Shape::Tls13 => {
                self.key.seal_out_of_place_scatter(nonce, Aad::from(&*header), payload, sealed, inner, end)
            }
            Shape::Tls12Gcm | Shape::Tls12Chacha => {
                let beside = Aad::from(self.beside_12(kind, payload.len()));
                self.key.seal_out_of_place_scatter(nonce, beside, payload, sealed, inner, end)
            }
        };
        done.map_err(|_| Error::EncryptError)?;
        self.sequence += 1;
        wire.advance(HEADER_BYTES + len);
        Ok(())
    }

    /// Opens a whole record into the room of `payload`; gives its kind, and how many bytes it holds.
    fn open(&mut self, record: &[u8], payload: &mut Scratch) -> Result<(u8, usize), Breach> {
        // What is no record may be as short as a byte: nothing more of it is waited for.
        if !record.first().is_some_and(|kind| (20..=23).contains(kind)) {
            return Err(Breach::unexpected(InvalidMessage::InvalidContentType));
        }
        let Some((&[kind, major, minor, high, low], sealed)) = record.split_first_chunk::<HEADER_BYTES>()
        else {
            return Err(Breach::told(AlertDescription::DecodeError, InvalidMessage::MessageTooShort));
        };
        if major != 3 || (self.shape != Shape::Tls13 && minor != 3) {
            let invalid = InvalidMessage::UnknownProtocolVersion;
            return Err(Breach::told(AlertDescription::ProtocolVersion, invalid));
        }
        let len = usize::from(u16::from_be_bytes([high, low]));
        // Of one that is longer than any, nothing more is waited for; all of it may be there.
        if len != sealed.len() || len > RECORD_PAYLOAD_MAX + RECORD_EXPANSION_MAX {
            return Err(Breach::told(AlertDescription::RecordOverflow, InvalidMessage::MessageTooLarge));
        }
        match self.shape {
            Shape::Tls13 => {
                if kind != APPLICATION_DATA {
                    let invalid = InvalidMessage::UnexpectedMessage("a record in the clear");
                    return Err(Breach::unexpected(invalid));
                }
                check_len(sealed.len(), RECORD_PAYLOAD_MAX + EXPANSION_MAX_13)?;
                let room = self.open_body(&record[..HEADER_BYTES], 0, sealed, payload)?;
                // The kind and the padding count, too (RFC 8446, section 5.4).
                check_len(room.len(), RECORD_PAYLOAD_MAX + 1)?;
                // Behind the kind there is padding of zeros.
                let Some(at) = room.iter().rposition(|&byte| byte != 0) else {
                    return Err(Breach::unexpected(PeerMisbehaved::IllegalTlsInnerPlaintext));
                };
                Ok((room[at], at))
            }
            Shape::Tls12Gcm | Shape::Tls12Chacha => {
                let explicit = if self.shape == Shape::Tls12Gcm { 8 } else { 0 };
                let Some(len) = sealed.len().checked_sub(explicit + TAG_BYTES) else {
                    return Err(bad_record());
                };
                check_len(len, RECORD_PAYLOAD_MAX)?;
                self.open_body(&self.beside_12(kind, len), explicit, sealed, payload)?;
                Ok((kind, len))
            }
        }
    }

    fn open_body<'a>(
        &mut self,
        beside: &[u8],
        explicit: usize,
        sealed: &[u8],
        payload: &'a mut Scratch,
    ) -> Result<&'a [u8], Breach> {
        let mut nonce = self.nonce();
        let Some((sealed, tag)) = sealed.split_last_chunk::<TAG_BYTES>() else { return Err(bad_record()) };
        let (shown, sealed) = sealed.split_at_checked(explicit).ok_or_else(bad_record)?;
        nonce[NONCE_LEN - explicit..].copy_from_slice(shown);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let room = payload.room(sealed.len());
        self.key
            .open_separate_gather(nonce, Aad::from(beside), sealed, tag, room)
            .map_err(|_| bad_record())?;
        self.sequence += 1;
        Ok(room)
    }
}

fn check_len(len: usize, longest: usize) -> Result<(), Breach> {
    match len > longest {
        true => Err(Breach::told(AlertDescription::RecordOverflow, Error::PeerSentOversizedRecord)),
        false => Ok(()),
    }
}

fn behind_handshake() -> Breach {
    Breach::unexpected(InvalidMessage::UnexpectedMessage("not expected after the handshake"))
}

fn bad_record() -> Breach {
    Breach::told(AlertDescription::BadRecordMac, Error::DecryptError)
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").field("agreed", &self.agreed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
