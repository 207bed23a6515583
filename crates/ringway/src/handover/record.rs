//! The bodies of the messages between two servers of the framework: little-endian numbers, and bytes behind their length.
//!
//! Bounded by construction: nothing is taken that is longer than what came, and nothing is allocated for more.

use std::fmt;

/// The order of the messages and what they mean. Another one is refused.
pub(super) const PROTOCOL: u32 = 1;

/// What came is not what was expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message that is not understood")
    }
}

/// The first word of the new process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    /// What its handlers save and, at least, restore.
    pub(super) state_version: u32,
}

/// The answer to it; the commit word's descriptor comes along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Welcome {
    pub(super) protocol: u32,
    pub(super) clock_origin: u64,
    /// How many addresses are listened at.
    pub(super) addresses: u32,
    /// How many descriptors are open, most of which will come.
    pub(super) descriptors: u32,
}

/// One connection; its descriptor comes along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionRecord {
    /// What the refusal names it by.
    pub(super) number: u64,
    pub(super) state_version: u32,
    pub(super) ended: bool,
    pub(super) shut: bool,
    pub(super) received: Vec<u8>,
    pub(super) queued: Vec<u8>,
    pub(super) state: Vec<u8>,
}

const ENDED: u8 = 1 << 0;
const SHUT: u8 = 1 << 1;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        let length = self.u32()?;
        Ok(self.take(length as usize)?.to_vec())
    }

    fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// So many items, each of which has at least one byte.
    fn items<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// Nothing may be left over.
    fn end<T>(self, value: T) -> Result<T, Malformed> {
        if self.0.is_empty() { Ok(value) } else { Err(Malformed) }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("what one connection holds is bounded far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).expect("fewer than descriptors can be").to_le_bytes());
}

impl Hello {
    pub(super) fn write(&self) -> Vec<u8> {
        [self.protocol.to_le_bytes(), self.state_version.to_le_bytes()].concat()
    }

    /// Reads what is known of it in every version; later ones may say more.
    pub(super) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        Ok(Self { protocol: reader.u32()?, state_version: reader.u32()? })
    }
}

impl Welcome {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = self.protocol.to_le_bytes().to_vec();
        out.extend_from_slice(&self.clock_origin.to_le_bytes());
        out.extend_from_slice(&self.addresses.to_le_bytes());
        out.extend_from_slice(&self.descriptors.to_le_bytes());
        out
    }

    pub(super) fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(body);
        let welcome = Self {
            protocol: reader.u32()?,
            clock_origin: reader.u64()?,
            addresses: reader.u32()?,
            descriptors: reader.u32()?,
        };
        reader.end(welcome)
    }
}

impl ConnectionRecord {
    pub(super) fn write_all(records: &[Self]) -> Vec<u8> {
        let mut out = Vec::new();
        put_count(&mut out, records.len());
        for record in records {
            out.extend_from_slice(&record.number.to_le_bytes());
            out.extend_from_slice(&record.state_version.to_le_bytes());
            out.push(if record.ended { ENDED } else { 0 } | if record.shut { SHUT } else { 0 });
            for bytes in [&record.received, &record.queued, &record.state] {
                put_bytes(&mut out, bytes);
            }
        }
        out
    }

    pub(super) fn read_all(body: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut reader = Reader(body);
        let records = reader.items(|reader| {
            let (number, state_version, flags) = (reader.u64()?, reader.u32()?, reader.byte()?);
            if flags & !(ENDED | SHUT) != 0 {
                return Err(Malformed);
            }
            Ok(Self {
                number,
                state_version,
                ended: flags & ENDED != 0,
                shut: flags & SHUT != 0,
                received: reader.bytes()?,
                queued: reader.bytes()?,
                state: reader.bytes()?,
            })
        })?;
        reader.end(records)
    }
}

/// The places of the listening sockets that come along.
pub(super) fn write_places(places: &[u32]) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, places.len());
    out.extend(places.iter().flat_map(|place| place.to_le_bytes()));
    out
}

pub(super) fn read_places(body: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut reader = Reader(body);
    let places = reader.items(Reader::u32)?;
    reader.end(places)
}

/// Connections that the new process does not take, and why.
pub(super) fn write_refused(refused: &[(u64, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, refused.len());
    for (number, reason) in refused {
        out.extend_from_slice(&number.to_le_bytes());
        put_bytes(&mut out, reason.as_bytes());
    }
    out
}

pub(super) fn read_refused(body: &[u8]) -> Result<Vec<(u64, String)>, Malformed> {
    let mut reader = Reader(body);
    let refused = reader.items(|reader| Ok((reader.u64()?, reader.text()?)))?;
    reader.end(refused)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// State as protocol 1 writes it. What a later one writes differs in the protocol's number, and this is still read.
    const GOLDEN: &[u8] = b"\x02\0\0\0\
        \x01\0\0\0\0\0\0\0\x03\0\0\0\x01\x02\0\0\0in\x03\0\0\0out\x05\0\0\0state\
        \x00\0\0\0\x01\0\0\0\x03\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0";

    fn golden() -> Vec<ConnectionRecord> {
        vec![
            ConnectionRecord {
                number: 1,
                state_version: 3,
                ended: true,
                shut: false,
                received: b"in".to_vec(),
                queued: b"out".to_vec(),
                state: b"state".to_vec(),
            },
            ConnectionRecord { number: 1 << 32, state_version: 3, shut: true, ..ConnectionRecord::default() },
        ]
    }

    #[test]
    fn records_are_written_and_read_as_in_protocol_1() {
        assert_eq!(ConnectionRecord::write_all(&golden()), GOLDEN);
        assert_eq!(ConnectionRecord::read_all(GOLDEN), Ok(golden()));
        for cut in 0..GOLDEN.len() {
            assert_eq!(ConnectionRecord::read_all(&GOLDEN[..cut]), Err(Malformed));
        }
        assert_eq!(ConnectionRecord::read_all(&[GOLDEN, b"x"].concat()), Err(Malformed));
    }

    #[test]
    fn the_other_messages_are_read_as_they_were_written() {
        let hello = Hello { protocol: 1, state_version: 7 };
        assert_eq!(Hello::read(&hello.write()), Ok(hello.clone()));
        assert_eq!(Hello::read(&[hello.write(), b"of a later version".to_vec()].concat()), Ok(hello));
        let welcome = Welcome { protocol: 1, clock_origin: u64::MAX, addresses: 2, descriptors: 9 };
        assert_eq!(Welcome::read(&welcome.write()), Ok(welcome));
        assert_eq!(read_places(&write_places(&[0, 1, 1])), Ok(vec![0, 1, 1]));
        let refused = vec![(9, "unknown version 4".to_owned())];
        assert_eq!(read_refused(&write_refused(&refused)), Ok(refused));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Hello::read(&bytes);
            let _ = Welcome::read(&bytes);
            let _ = ConnectionRecord::read_all(&bytes);
            let _ = read_places(&bytes);
            let _ = read_refused(&bytes);
        }
    }
}
