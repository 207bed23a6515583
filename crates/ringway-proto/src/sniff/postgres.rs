//! How a client of PostgreSQL begins: a length and a code (PostgreSQL's documentation, "Message Formats").

/// The longest startup packet that PostgreSQL takes (`MAX_STARTUP_PACKET_LENGTH`).
const LENGTH_MAX: u32 = 10_000;
/// Major version of the protocol, in the higher half of the code.
const VERSION: u32 = 3;
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENCRYPTION_REQUEST: u32 = 80_877_104;

/// Whether it is such a beginning; `None` while it is too short to say.
pub(super) fn look(received: &[u8]) -> Option<bool> {
    let Some((length, rest)) = received.split_first_chunk() else {
        // No length that is taken has anything in its higher half.
        return if received.iter().take(2).all(|byte| *byte == 0) { None } else { Some(false) };
    };
    let length = u32::from_be_bytes(*length);
    if !(8..=LENGTH_MAX).contains(&length) {
        return Some(false);
    }
    let code = u32::from_be_bytes(*rest.first_chunk()?);
    Some(match code {
        SSL_REQUEST | GSS_ENCRYPTION_REQUEST => length == 8,
        // Its key has four bytes, and up to 256 since version 3.2.
        CANCEL_REQUEST => (16..=268).contains(&length),
        version => version >> 16 == VERSION,
    })
}
