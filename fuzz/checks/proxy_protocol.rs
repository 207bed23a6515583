//! PROXY headers, whatever they are: no panic, the same answer from the first moment there is one, and what is read and
//! written again is read the same.
//!
//! Shared by the fuzz target and by the test that replays its seeds.

use ringway_proto::proxy_protocol::{Command, Version, parse, tlv_type, v2::Writer, write_v1};

/// Holds the bytes against that.
pub(crate) fn check(bytes: &[u8]) {
    let whole = parse(bytes);
    let first = (0..=bytes.len()).map(|seen| parse(&bytes[..seen])).find(|answer| *answer != Ok(None));
    assert_eq!(first.unwrap_or(Ok(None)), whole);

    let Ok(Some((header, length))) = whole else { return };
    assert!(length <= bytes.len());
    let mut again = Vec::new();
    match (header.version, header.command) {
        (Version::V1, _) => write_v1(&mut again, &header.addresses),
        (Version::V2, Command::Local) => Writer::local(&mut again).finish(),
        (Version::V2, Command::Proxy) => {
            let mut writer = Writer::proxy(&mut again, &header.addresses);
            for tlv in header.tlvs.clone().filter(|tlv| tlv.kind != tlv_type::CRC32C) {
                writer = writer.tlv(tlv.kind, tlv.value);
            }
            writer.finish_with_checksum();
        }
    }
    let (read, _) = parse(&again).expect("what was written is well-formed").expect("and complete");
    assert_eq!((read.command, read.addresses), (header.command, header.addresses));
}
