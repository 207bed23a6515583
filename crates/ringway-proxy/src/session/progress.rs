//! How far a relayed connection has come, as bytes: what is left to tell another process that has its record already, and
//! copies of its sockets.
//!
//! A record is `version: u16, length: u32`, and so many bytes, all little-endian, as those of whole connections are (see
//! `session::record`). `docs/internals/upgrade.md` has the fields.

use ringway::{Ends, Time, Underway};

use super::record::{HEAD, Reader, Writer};

/// The version that is written.
pub const VERSION: u16 = 1;
/// The versions that are read.
pub const VERSIONS: &[u16] = &[VERSION];

/// How far a connection has come whose record was sent ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its number in the process, by which its record is found.
    pub number: u64,
    /// One side has finished sending.
    pub half_closed: bool,
    /// As in [`SessionFacts`](super::SessionFacts).
    pub bytes: [u64; 2],
    /// As in [`SessionFacts`](super::SessionFacts).
    pub last_activity: Time,
    /// What is under way at the client's socket.
    pub client: Underway,
    /// What is under way at the backend's socket.
    pub backend: Underway,
}

/// Bits of the flags: of the connection, then of both of its ends.
const HALF_CLOSED: u8 = 1;
const ENDED: [u8; 2] = [1 << 1, 1 << 3];
const SHUT: [u8; 2] = [1 << 2, 1 << 4];

/// Writes a record behind what is in `out`.
pub fn write(progress: &Progress, out: &mut Vec<u8>) {
    let Progress { number, half_closed, bytes, last_activity, client, backend } = progress;
    let start = out.len();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let mut writer = Writer(out);
    writer.long(*number);
    let mut flags = if *half_closed { HALF_CLOSED } else { 0 };
    for (side, end) in [client, backend].into_iter().enumerate() {
        flags |= if end.ends.ended { ENDED[side] } else { 0 };
        flags |= if end.ends.shut { SHUT[side] } else { 0 };
    }
    writer.byte(flags);
    bytes.iter().for_each(|bytes| writer.long(*bytes));
    writer.long(last_activity.as_nanos());
    for end in [client, backend] {
        writer.bytes(&end.received);
        writer.bytes(&end.queued);
    }
    // Bounded by what the engine queues for two connections.
    let length = u32::try_from(out.len() - start - HEAD).expect("a record of less than 4 GiB");
    out[start + 2..start + HEAD].copy_from_slice(&length.to_le_bytes());
}

/// Reads all records of a message; `None` if it is not whole records of a version that is read.
pub fn read_all(mut bytes: &[u8]) -> Option<Vec<Progress>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let length = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
        let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let mut reader = Reader(body);
        let is_known = VERSIONS.contains(&u16::from_le_bytes([head[0], head[1]]));
        let found = is_known.then(|| read(&mut reader)).flatten();
        all.push(found.filter(|_| reader.0.is_empty())?);
        bytes = rest;
    }
    Some(all)
}

fn read(reader: &mut Reader<'_>) -> Option<Progress> {
    let number = reader.long()?;
    let flags = reader.byte()?;
    if flags >= 1 << 5 {
        return None;
    }
    let bytes = [reader.long()?, reader.long()?];
    let last_activity = Time::from_nanos(reader.long()?);
    let mut end = |side: usize| {
        let (received, queued) = (reader.bytes()?, reader.bytes()?);
        let ends = Ends { ended: flags & ENDED[side] != 0, shut: flags & SHUT[side] != 0 };
        Some(Underway { received, queued, ends })
    };
    let (client, backend) = (end(0)?, end(1)?);
    Some(Progress { number, half_closed: flags & HALF_CLOSED != 0, bytes, last_activity, client, backend })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn half_closed() -> Progress {
        Progress {
            number: 7,
            half_closed: true,
            bytes: [1 << 40, 17],
            last_activity: Time::from_nanos(2_000_000_011),
            client: Underway {
                received: Vec::new(),
                queued: b"tail".to_vec(),
                ends: Ends { ended: true, shut: false },
            },
            backend: Underway {
                received: b"head".to_vec(),
                queued: Vec::new(),
                ends: Ends { ended: false, shut: true },
            },
        }
    }

    fn plain() -> Progress {
        let at_rest = Underway::default;
        Progress { number: 8, half_closed: false, client: at_rest(), backend: at_rest(), ..half_closed() }
    }

    fn written(records: &[Progress]) -> Vec<u8> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| write(record, &mut bytes));
        bytes
    }

    /// As a program wrote them. They are never changed: a change of the format is a new version, and a new file. To write the
    /// file of a new version run this test with RINGWAY_UPDATE_GOLDEN=1.
    #[test]
    fn records_are_read_and_written_as_ever() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/progress-v1.bin");
        let records = [half_closed(), plain()];
        if std::env::var_os("RINGWAY_UPDATE_GOLDEN").is_some() && !std::path::Path::new(path).exists() {
            std::fs::write(path, written(&records)).expect("the directory is there");
        }
        let bytes = std::fs::read(path).expect("it is kept");
        assert_eq!(written(&records), bytes);
        assert_eq!(read_all(&bytes).as_deref(), Some(&records[..]));
    }

    #[test]
    fn what_is_no_whole_record_of_a_known_version_is_refused() {
        let bytes = written(&[plain()]);
        assert_eq!(read_all(&bytes[..bytes.len() - 1]), None);
        for (place, byte) in [(0, 99), (14, 1 << 5)] {
            let mut damaged = bytes.clone();
            damaged[place] = byte;
            assert_eq!(read_all(&damaged), None);
        }
        assert_eq!(read_all(&[]), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_all(&bytes);
        }

        #[test]
        fn damaged_records_are_read_or_refused(place in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
            let mut bytes = written(&[half_closed(), plain()]);
            let place = place % bytes.len();
            bytes[place] = byte;
            let _ = read_all(&bytes);
            bytes.truncate(cut);
            let _ = read_all(&bytes);
        }
    }
}
