//! First bytes of clients from arbitrary bytes: no panic, and the same answer from the first moment there is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_proto::sniff::{SNIFF_BYTES_MAX, Sniffed, sniff};

fuzz_target!(|bytes: &[u8]| {
    let whole = sniff(bytes);
    let is_decided = |answer: &Sniffed<'_>| !matches!(answer, Sniffed::More { .. });
    let first = (0..=bytes.len()).map(|end| sniff(&bytes[..end])).find(is_decided);
    match first {
        Some(first) => assert_eq!(format!("{first:?}"), format!("{whole:?}")),
        None => assert!(!is_decided(&whole) && bytes.len() < SNIFF_BYTES_MAX),
    }
});
