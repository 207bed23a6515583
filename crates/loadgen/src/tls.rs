//! TLS on the clients' side: what all clients of a run share, and the session of each.
//!
//! TLS 1.3 with AES-128-GCM and one key exchange, so that every server does the same work. Certificates are believed: the
//! load measures and has nothing to hide. It is rustls itself, beside the product's own TLS, so that no fault of that
//! one is hidden by the same fault here.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    UnbufferedClientConnection,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, HandshakeKind, NamedGroup, SignatureScheme};

use crate::options::{Handshakes, KeyExchange};

/// Bytes before the payload of a record (RFC 8446, section 5.1).
const HEADER_BYTES: usize = 5;
/// What a record is longer than its payload: the header, the type, and the tag of AES-GCM (RFC 8446, section 5.2).
const RECORD_OVERHEAD: usize = HEADER_BYTES + 1 + 16;
/// The longest payload of a record.
const RECORD_PAYLOAD_MAX: usize = 1 << 14;

/// What all clients of a run share.
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    tickets: Arc<Tickets>,
}

impl Tls {
    /// For so many clients.
    ///
    /// # Errors
    /// When the name is none that a client could ask for.
    pub(crate) fn new(
        handshakes: Handshakes,
        key_exchange: KeyExchange,
        name: &str,
        clients: usize,
    ) -> Result<Self, String> {
        let name =
            ServerName::try_from(name.to_owned()).map_err(|_| format!("`{name}` is no name of a server"))?;
        let group = match key_exchange {
            KeyExchange::X25519 => kx_group::X25519,
            KeyExchange::X25519MlKem768 => kx_group::X25519MLKEM768,
        };
        let provider = CryptoProvider {
            cipher_suites: vec![TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![group],
            ..default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believer))
            .with_no_client_auth();
        let tickets = Arc::new(Tickets {
            // Two a handshake are usual; more than these are thrown away.
            most: if handshakes == Handshakes::Resumed { 2 * clients } else { 0 },
            kept: Mutex::default(),
            received: AtomicU64::new(0),
        });
        config.resumption = Resumption::store(Arc::clone(&tickets) as Arc<dyn ClientSessionStore>);
        Ok(Self { config: Arc::new(config), name, tickets })
    }

    /// The session of a connection, and its first message.
    pub(crate) fn begin(&self, wire: &mut Vec<u8>) -> Result<Session, Error> {
        let connection = UnbufferedClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        let mut session =
            Session { connection: Box::new(connection), pending: Vec::new(), is_established: false };
        session.process(&mut [], wire, &mut |_| {})?;
        Ok(session)
    }

    /// Tickets received so far.
    pub(crate) fn tickets(&self) -> u64 {
        self.tickets.received.load(Ordering::Relaxed)
    }
}

/// One connection in TLS, apart from its socket.
pub(crate) struct Session {
    connection: Box<UnbufferedClientConnection>,
    /// Bytes of what is not complete.
    pending: Vec<u8>,
    is_established: bool,
}

impl Session {
    /// The handshake is over.
    pub(crate) fn is_established(&self) -> bool {
        self.is_established
    }

    /// The handshake went on with a session of earlier.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Takes bytes in: what is to be sent is appended to `wire`, payload is handed on as it comes.
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        wire: &mut Vec<u8>,
        mut payload: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut at = 0;
        while !self.pending.is_empty() && at < bytes.len() {
            let count = self.missing().min(bytes.len() - at);
            self.pending.extend_from_slice(&bytes[at..at + count]);
            at += count;
            let mut pending = mem::take(&mut self.pending);
            let done = self.process(&mut pending, wire, &mut payload)?;
            pending.drain(..done);
            self.pending = pending;
        }
        // Whole records are opened where they are.
        let rest = &mut bytes[at..];
        let done = self.process(rest, wire, &mut payload)?;
        self.pending.extend_from_slice(&rest[done..]);
        Ok(())
    }

    /// How many bytes complete the record that is pending, or its header; at least one.
    fn missing(&self) -> usize {
        match self.pending[..] {
            [_, _, _, high, low, ..] => {
                let whole = HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
                whole.saturating_sub(self.pending.len()).max(1)
            }
            ref few => HEADER_BYTES - few.len(),
        }
    }

    /// Has rustls look at `incoming`; says how many of these bytes are done with.
    fn process(
        &mut self,
        incoming: &mut [u8],
        wire: &mut Vec<u8>,
        payload: &mut impl FnMut(&[u8]),
    ) -> Result<usize, Error> {
        let mut done = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut incoming[done..]);
            let mut discard = discard;
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        payload(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(
                        wire,
                        0,
                        |room| data.encode(room),
                        |error| match error {
                            EncodeError::InsufficientSize(size) => Some(size.required_size),
                            EncodeError::AlreadyEncoded => None,
                        },
                    )?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(_) => {
                    self.is_established = true;
                    return Ok(done + discard);
                }
                ConnectionState::BlockedHandshake => return Ok(done + discard),
                // Nothing comes any more; the end of the connection is an event of its own.
                _ => return Ok(incoming.len()),
            }
            done += discard;
        }
    }

    /// Appends `payload`, sealed, to `wire`.
    pub(crate) fn send(&mut self, payload: &[u8], wire: &mut Vec<u8>) -> Result<(), Error> {
        let room = payload.len() + payload.len().div_ceil(RECORD_PAYLOAD_MAX) * RECORD_OVERHEAD;
        let ConnectionState::WriteTraffic(mut traffic) = self.connection.process_tls_records(&mut []).state?
        else {
            return Err(Error::HandshakeNotComplete);
        };
        append(wire, room, |room| traffic.encrypt(payload, room), required)
    }

    /// Appends that no more comes.
    pub(crate) fn finish(&mut self, wire: &mut Vec<u8>) -> Result<(), Error> {
        match self.connection.process_tls_records(&mut []).state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                append(wire, 2 + RECORD_OVERHEAD, |room| traffic.queue_close_notify(room), required)
            }
            _ => Ok(()),
        }
    }
}

fn required(error: &EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Appends to `wire` what `write` puts into the room that it is given: so many bytes, or as many as it says that it needs.
fn append<E: fmt::Display>(
    wire: &mut Vec<u8>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
    required: impl Fn(&E) -> Option<usize>,
) -> Result<(), Error> {
    let begin = wire.len();
    let mut room = room;
    loop {
        wire.resize(begin + room, 0);
        match write(&mut wire[begin..]) {
            Ok(count) => {
                wire.truncate(begin + count);
                return Ok(());
            }
            Err(error) => match required(&error).filter(|&required| required > room) {
                Some(required) => room = required,
                None => return Err(Error::General(error.to_string())),
            },
        }
    }
}

/// Tickets of the one server that there is: each is used once, the oldest first.
struct Tickets {
    most: usize,
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
    received: AtomicU64,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("received", &self.received).finish_non_exhaustive()
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.received.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.most {
            kept.push_back(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Believes every certificate, and looks at no signature.
#[derive(Debug)]
struct Believer;

impl ServerCertVerifier for Believer {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_begins_with_a_hello_that_names_the_server() {
        let tls =
            Tls::new(Handshakes::Full, KeyExchange::X25519MlKem768, "a.example", 1).expect("it is a name");
        let mut wire = Vec::new();
        let session = tls.begin(&mut wire).expect("it begins");
        assert!(!session.is_established());
        // A handshake record with a client hello in it (RFC 8446, sections 5.1 and 4), and all of it.
        assert_eq!((wire[0], wire[5]), (22, 1));
        assert_eq!(wire.len(), HEADER_BYTES + usize::from(u16::from_be_bytes([wire[3], wire[4]])));
        assert!(wire.windows(9).any(|window| window == b"a.example"));
        // The key share of ML-KEM-768 alone has 1,184 bytes.
        assert!(wire.len() > 1_184, "{}", wire.len());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert!(Tls::new(Handshakes::Full, KeyExchange::X25519, "a b", 1).is_err());
    }
}
