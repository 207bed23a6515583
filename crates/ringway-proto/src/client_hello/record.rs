//! The layer of records: from received bytes to the bytes of the first message.

use super::body::Body;
use super::{HELLO_BYTES_MAX, HelloError, Outcome};
use crate::reader::Reader;

/// The kind of record that handshakes come in (RFC 8446, section 5.1).
pub(super) const HANDSHAKE: u8 = 22;
/// How the version of every record begins; the rest of it means nothing (RFC 8446, section 5.1).
pub(super) const VERSION_MAJOR: u8 = 3;
/// Bytes before those that a record carries.
pub(super) const HEAD_BYTES: usize = 5;
/// The most that a record carries in plaintext (RFC 8446, section 5.1).
pub(super) const FRAGMENT_BYTES_MAX: usize = 1 << 14;
/// Bytes of type and length before those of a message.
pub(super) const MESSAGE_HEAD_BYTES: usize = 4;
/// The type of a hello (RFC 8446, section 4).
pub(super) const CLIENT_HELLO: u8 = 1;

/// The first message, once it is there whole. Whatever is wrong with the records is said as soon as the byte that
/// makes it wrong is there.
pub(super) fn survey(received: &[u8]) -> Result<Option<Body<'_>>, HelloError> {
    let mut reader = Reader::new(received);
    let mut head = [0; MESSAGE_HEAD_BYTES];
    // Bytes of the message in the records before this one.
    let mut before = 0;
    loop {
        let Ok(kind) = reader.u8() else { return Ok(None) };
        if kind != HANDSHAKE {
            return Err(HelloError::Interleaved);
        }
        let Ok(major) = reader.u8() else { return Ok(None) };
        if major != VERSION_MAJOR {
            return Err(HelloError::RecordVersion);
        }
        let (Ok(_), Ok(length)) = (reader.u8(), reader.u16()) else { return Ok(None) };
        let length = usize::from(length);
        if length == 0 {
            return Err(HelloError::EmptyRecord);
        }
        if length > FRAGMENT_BYTES_MAX {
            return Err(HelloError::RecordTooLong);
        }
        let there = &reader.rest()[..length.min(reader.rest().len())];
        if let Some(open) = head.get_mut(before..) {
            open.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        }
        let known = before + there.len();
        if known > 0 && head[0] != CLIENT_HELLO {
            return Err(HelloError::NotClientHello);
        }
        if known >= MESSAGE_HEAD_BYTES {
            let [_, length_bytes @ ..] = head;
            let [a, b, c] = length_bytes.map(usize::from);
            let whole = MESSAGE_HEAD_BYTES + (a << 16 | b << 8 | c);
            // The head alone may have come in more bytes than a message without a body has.
            let missing = whole.saturating_sub(before);
            if reader.position() + missing > HELLO_BYTES_MAX {
                return Err(HelloError::TooLong);
            }
            if length > missing {
                return Err(HelloError::Trailing);
            }
            if there.len() == missing {
                // Without what follows, of which the message must know nothing.
                return Ok(Some(Body::new(&received[..reader.position() + missing], whole)));
            }
        }
        if reader.take(length).is_err() {
            return Ok(None);
        }
        before += length;
    }
}

/// What bytes are that begin as a record of SSL 2.0 does, with its highest bit set: a hello has 1 after the two bytes
/// of its length, and a version of SSL 2.0 or TLS.
pub(super) fn look_for_sslv2(received: &[u8]) -> Outcome<'_> {
    let rest = received.get(2..).unwrap_or_default();
    match rest {
        [] | [CLIENT_HELLO] | [CLIENT_HELLO, 0] => Outcome::More,
        [CLIENT_HELLO, 0, 2, ..] | [CLIENT_HELLO, VERSION_MAJOR, ..] => {
            Outcome::Unreadable(HelloError::Sslv2)
        }
        _ => Outcome::NotTls,
    }
}
