//! Hellos, whatever they are: no panic, the same answer from the first moment there is one, and the same hello in records of
//! other sizes.
//!
//! Shared by the fuzz target and by the test that replays its seeds.

use ringway_proto::client_hello::{HELLO_BYTES_MAX, Outcome, parse, records};

/// Holds the bytes against that.
pub(crate) fn check(bytes: &[u8]) {
    let whole = parse(bytes);
    let first = (0..=bytes.len()).map(|end| parse(&bytes[..end])).find(|answer| *answer != Outcome::More);
    assert_eq!(first.unwrap_or(Outcome::More), whole);

    let Outcome::Hello(hello) = whole else { return };
    // Made of the records that were read, and as long as its own head says.
    let mut message = Vec::new();
    let mut rest = bytes;
    while message.len() < 4 || message.len() < 4 + length(&message[1..4]) {
        let size = length(&rest[3..5]);
        message.extend_from_slice(&rest[5..5 + size]);
        rest = &rest[5 + size..];
    }
    assert!(bytes.len() - rest.len() <= HELLO_BYTES_MAX);
    for size in [1, 2, 5, 64, 1 << 14] {
        let wire = records(&message, size);
        if wire.len() <= HELLO_BYTES_MAX {
            let Outcome::Hello(again) = parse(&wire) else { panic!("in records of {size} bytes it is none") };
            assert_eq!(format!("{hello:?}"), format!("{again:?}"));
        }
    }
}

fn length(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}
