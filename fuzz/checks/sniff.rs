//! First bytes of clients, whatever they are: no panic, and the same answer from the first moment there is one.
//!
//! Shared by the fuzz target and by the test that replays its seeds.

use ringway_proto::sniff::{SNIFF_BYTES_MAX, Sniffed, sniff};

/// Holds the bytes against that.
pub(crate) fn check(bytes: &[u8]) {
    let whole = sniff(bytes);
    let is_decided = |answer: &Sniffed<'_>| !matches!(answer, Sniffed::More { .. });
    let first = (0..=bytes.len()).map(|end| sniff(&bytes[..end])).find(is_decided);
    match first {
        Some(first) => assert_eq!(format!("{first:?}"), format!("{whole:?}")),
        None => assert!(!is_decided(&whole) && bytes.len() < SNIFF_BYTES_MAX),
    }
}
