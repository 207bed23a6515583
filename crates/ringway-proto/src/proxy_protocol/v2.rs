//! Version 2: sixteen bytes that say what it is and how long, addresses, and triples of type, length and value.
//!
//! What cannot become a header any more is refused as soon as the byte that says so is there.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use super::{
    Addresses, Command, HEADER_BYTES_MAX, Header, HeaderError, Tlvs, Transport, UNIX_ADDRESS_BYTES, Version,
    crc32c, tlv_type,
};
use crate::reader::{Incomplete, Reader};

/// How every header of version 2 begins.
pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes before the addresses.
const FIXED_BYTES: usize = 16;
/// Bytes of type and length before a value.
const TLV_HEAD_BYTES: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Unspecified,
    Inet,
    Inet6,
    Unix,
}

impl Family {
    fn address_bytes(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Inet => 2 * (4 + 2),
            Self::Inet6 => 2 * (16 + 2),
            Self::Unix => 2 * UNIX_ADDRESS_BYTES,
        }
    }
}

/// Reads a header. `received` begins like [`SIGNATURE`], as far as it goes.
pub(super) fn parse(received: &[u8]) -> Result<Option<(Header<'_>, usize)>, HeaderError> {
    let mut reader = Reader::new(received);
    let Ok(_) = reader.take(SIGNATURE.len()) else { return Ok(None) };
    let Ok(version_and_command) = reader.u8() else { return Ok(None) };
    let command = match (version_and_command >> 4, version_and_command & 0x0f) {
        (2, 0) => Command::Local,
        (2, 1) => Command::Proxy,
        (2, _) => return Err(HeaderError::Command),
        _ => return Err(HeaderError::Version),
    };
    let Ok(family_and_transport) = reader.u8() else { return Ok(None) };
    // The family of a LOCAL header is ignored, whatever it is.
    let (family, transport) = match command {
        Command::Local => (Family::Unspecified, Transport::Unspecified),
        Command::Proxy => family(family_and_transport)?,
    };
    let Ok(length) = reader.u16() else { return Ok(None) };
    let length = usize::from(length);
    if length < family.address_bytes() {
        return Err(HeaderError::Length);
    }
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let Ok(block) = reader.take(length) else { return Ok(None) };
    let header = &received[..FIXED_BYTES + length];
    let (addresses, tlvs) = match command {
        // All of the block is to be discarded.
        Command::Local => (Addresses::Unspecified, Tlvs::NONE),
        Command::Proxy => {
            let (addresses, rest) = addresses(family, block).map_err(|_| HeaderError::Length)?;
            (addresses, check_tlvs(header, rest, family)?)
        }
    };
    Ok(Some((Header { version: Version::V2, command, transport, addresses, tlvs }, header.len())))
}

fn family(byte: u8) -> Result<(Family, Transport), HeaderError> {
    let family = match byte >> 4 {
        0 => Family::Unspecified,
        1 => Family::Inet,
        2 => Family::Inet6,
        3 => Family::Unix,
        _ => return Err(HeaderError::Family),
    };
    let transport = match byte & 0x0f {
        0 => Transport::Unspecified,
        1 => Transport::Stream,
        2 => Transport::Datagram,
        _ => return Err(HeaderError::Family),
    };
    Ok((family, transport))
}

/// The addresses of a block that is long enough for them, and what follows.
fn addresses(family: Family, block: &[u8]) -> Result<(Addresses<'_>, &[u8]), Incomplete> {
    let mut reader = Reader::new(block);
    let addresses = match family {
        Family::Unspecified => Addresses::Unspecified,
        Family::Inet => {
            let [source, destination] =
                [Ipv4Addr::from(reader.array::<4>()?), Ipv4Addr::from(reader.array::<4>()?)];
            Addresses::Inet {
                source: SocketAddrV4::new(source, reader.u16()?),
                destination: SocketAddrV4::new(destination, reader.u16()?),
            }
        }
        Family::Inet6 => {
            let [source, destination] =
                [Ipv6Addr::from(reader.array::<16>()?), Ipv6Addr::from(reader.array::<16>()?)];
            Addresses::Inet6 {
                source: SocketAddrV6::new(source, reader.u16()?, 0, 0),
                destination: SocketAddrV6::new(destination, reader.u16()?, 0, 0),
            }
        }
        Family::Unix => {
            let mut name = || reader.take(UNIX_ADDRESS_BYTES)?.first_chunk().ok_or(Incomplete);
            Addresses::Unix { source: name()?, destination: name()? }
        }
    };
    Ok((addresses, reader.rest()))
}

/// Sees that the triples end where the header does, and that the checksum, if there is one, is right.
fn check_tlvs<'a>(header: &[u8], bytes: &'a [u8], family: Family) -> Result<Tlvs<'a>, HeaderError> {
    let tlvs = Tlvs::new(bytes);
    let mut walk = tlvs.clone();
    let mut checksum = None;
    while let Some(tlv) = walk.next() {
        if tlv.kind == tlv_type::CRC32C {
            let value: [u8; 4] = tlv.value.try_into().map_err(|_| HeaderError::Tlv)?;
            let end = header.len() - bytes.len() + walk.position();
            if checksum.replace((end, u32::from_be_bytes(value))).is_some() {
                return Err(HeaderError::Tlv);
            }
        }
    }
    if !walk.is_at_end() {
        // After an unspecified family there may be an address that nobody can read.
        return if family == Family::Unspecified { Ok(Tlvs::NONE) } else { Err(HeaderError::Tlv) };
    }
    if let Some((end, expected)) = checksum
        && crc32c(&[&header[..end - 4], &[0; 4], &header[end..]]) != expected
    {
        return Err(HeaderError::Checksum);
    }
    Ok(tlvs)
}

/// Makes a header.
///
/// ```
/// use ringway_proto::proxy_protocol::{Addresses, parse, tlv_type, v2::Writer};
/// let addresses = Addresses::between("[2001:db8::1]:1".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
/// let mut out = Vec::new();
/// Writer::proxy(&mut out, &addresses).tlv(tlv_type::UNIQUE_ID, b"4711").finish_with_checksum();
/// let (header, _) = parse(&out)?.expect("complete");
/// assert_eq!(header.tlvs.get(tlv_type::UNIQUE_ID), Some(&b"4711"[..]));
/// # Ok::<(), ringway_proto::proxy_protocol::HeaderError>(())
/// ```
#[derive(Debug)]
#[must_use = "the length is written at the end"]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    /// Begins a header for the connection of a client over TCP or a Unix socket, behind what `out` holds.
    pub fn proxy(out: &'a mut Vec<u8>, addresses: &Addresses<'_>) -> Self {
        let family_and_transport = match addresses {
            Addresses::Unspecified => 0x00,
            Addresses::Inet { .. } => 0x11,
            Addresses::Inet6 { .. } => 0x21,
            Addresses::Unix { .. } => 0x31,
        };
        let writer = Self::begin(out, 0x21, family_and_transport);
        match addresses {
            Addresses::Unspecified => {}
            Addresses::Inet { source, destination } => {
                writer.out.extend_from_slice(&source.ip().octets());
                writer.out.extend_from_slice(&destination.ip().octets());
                writer.out.extend_from_slice(&source.port().to_be_bytes());
                writer.out.extend_from_slice(&destination.port().to_be_bytes());
            }
            Addresses::Inet6 { source, destination } => {
                writer.out.extend_from_slice(&source.ip().octets());
                writer.out.extend_from_slice(&destination.ip().octets());
                writer.out.extend_from_slice(&source.port().to_be_bytes());
                writer.out.extend_from_slice(&destination.port().to_be_bytes());
            }
            Addresses::Unix { source, destination } => {
                writer.out.extend_from_slice(*source);
                writer.out.extend_from_slice(*destination);
            }
        }
        writer
    }

    /// Begins a header for a connection that is the proxy's own, as a health check is.
    pub fn local(out: &'a mut Vec<u8>) -> Self {
        Self::begin(out, 0x20, 0x00)
    }

    fn begin(out: &'a mut Vec<u8>, version_and_command: u8, family_and_transport: u8) -> Self {
        let start = out.len();
        out.extend_from_slice(SIGNATURE);
        out.extend_from_slice(&[version_and_command, family_and_transport, 0, 0]);
        Self { out, start }
    }

    /// Adds a triple, unless the header would become longer than [`HEADER_BYTES_MAX`] or leave no room for a checksum.
    pub fn tlv(self, kind: u8, value: &[u8]) -> Self {
        let used = self.out.len() - self.start;
        if used + 2 * TLV_HEAD_BYTES + value.len() + 4 <= HEADER_BYTES_MAX {
            self.out.push(kind);
            self.out.extend_from_slice(&(value.len() as u16).to_be_bytes());
            self.out.extend_from_slice(value);
        }
        self
    }

    /// Writes the length.
    pub fn finish(self) {
        let length = (self.out.len() - self.start - FIXED_BYTES) as u16;
        self.out[self.start + FIXED_BYTES - 2..self.start + FIXED_BYTES]
            .copy_from_slice(&length.to_be_bytes());
    }

    /// Adds a CRC32c over the whole header, and writes the length.
    pub fn finish_with_checksum(mut self) {
        self = self.tlv(tlv_type::CRC32C, &[0; 4]);
        let (start, end) = (self.start, self.out.len());
        let length = ((end - start - FIXED_BYTES) as u16).to_be_bytes();
        self.out[start + FIXED_BYTES - 2..start + FIXED_BYTES].copy_from_slice(&length);
        let checksum = crc32c(&[&self.out[start..]]);
        self.out[end - 4..].copy_from_slice(&checksum.to_be_bytes());
    }
}
