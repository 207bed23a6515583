//! The PROXY protocol: the first bytes of a connection, by which a proxy tells on whose behalf it connects.
//!
//! Version 1 is a line of text, version 2 is binary. [`parse`] reads either; it keeps nothing, and is called with
//! everything that came so far until it answers. [`write_v1`] and [`v2::Writer`] make one.
//! Source: HAProxy's `proxy-protocol.txt` of 2020-03-05, sections 2.1 and 2.2.
//!
//! ```
//! use ringway_proto::proxy_protocol::{Addresses, parse};
//! assert!(parse(b"PROXY TCP4 192.0.2.1 ")?.is_none());
//! let (header, length) = parse(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nhello")?.expect("complete");
//! assert_eq!(length, 45);
//! assert_eq!(header.source(), Some("192.0.2.1:56324".parse().unwrap()));
//! # Ok::<(), ringway_proto::proxy_protocol::HeaderError>(())
//! ```

mod checksum;
mod tlv;
mod v1;
pub mod v2;

use core::fmt;
use core::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

pub use checksum::crc32c;
pub use tlv::{Tlv, Tlvs, tlv_type};
pub use v1::{LINE_BYTES_MAX, write_v1};

/// The most bytes of a header that is taken. The document means headers to fit into 536 bytes; this leaves room for
/// Unix addresses and generous TLVs, and is far below the 64 KiB that a header of version 2 could announce.
pub const HEADER_BYTES_MAX: usize = 4 << 10;

/// Bytes of an address of a Unix socket.
pub const UNIX_ADDRESS_BYTES: usize = 108;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Which form it had.
    pub version: Version,
    /// For whom the connection was made.
    pub command: Command,
    /// What the client spoke to the proxy.
    pub transport: Transport,
    /// The two ends of the client's connection.
    pub addresses: Addresses<'a>,
    /// What else a header of version 2 carries.
    pub tlvs: Tlvs<'a>,
}

impl Header<'_> {
    /// The client's address, if it is one of a TCP connection. None: the address of the connection itself counts.
    pub fn source(&self) -> Option<SocketAddr> {
        Some(self.stream_addresses()?.0)
    }

    /// The address that the client connected to, if it is one of a TCP connection.
    pub fn destination(&self) -> Option<SocketAddr> {
        Some(self.stream_addresses()?.1)
    }

    fn stream_addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        let is_relayed_stream = self.command == Command::Proxy && self.transport == Transport::Stream;
        match self.addresses {
            Addresses::Inet { source, destination } if is_relayed_stream => {
                Some((source.into(), destination.into()))
            }
            Addresses::Inet6 { source, destination } if is_relayed_stream => {
                Some((source.into(), destination.into()))
            }
            Addresses::Inet { .. }
            | Addresses::Inet6 { .. }
            | Addresses::Unix { .. }
            | Addresses::Unspecified => None,
        }
    }
}

/// The form of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// A line of text (section 2.1).
    V1,
    /// Binary (section 2.2).
    V2,
}

/// For whom a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// For the proxy itself, as for a health check: the addresses of the connection count.
    Local,
    /// On behalf of a client.
    Proxy,
}

/// What the client spoke to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Unknown, or neither of the others.
    Unspecified,
    /// TCP, or a stream over a Unix socket.
    Stream,
    /// UDP, or datagrams over a Unix socket.
    Datagram,
}

/// The two ends of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addresses<'a> {
    /// The sender does not say, or it is a health check.
    Unspecified,
    /// IPv4.
    Inet {
        /// The client.
        source: SocketAddrV4,
        /// What it connected to.
        destination: SocketAddrV4,
    },
    /// IPv6.
    Inet6 {
        /// The client.
        source: SocketAddrV6,
        /// What it connected to.
        destination: SocketAddrV6,
    },
    /// Unix sockets, as they came: names end at the first zero byte.
    Unix {
        /// The client.
        source: &'a [u8; UNIX_ADDRESS_BYTES],
        /// What it connected to.
        destination: &'a [u8; UNIX_ADDRESS_BYTES],
    },
}

impl Addresses<'static> {
    /// These two ends. Where only one is IPv6, the other is written as an IPv4-mapped address, for a header has room
    /// for one family only.
    pub fn between(source: SocketAddr, destination: SocketAddr) -> Self {
        match (source, destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => Self::Inet { source, destination },
            (source, destination) => {
                Self::Inet6 { source: to_inet6(source), destination: to_inet6(destination) }
            }
        }
    }
}

fn to_inet6(address: SocketAddr) -> SocketAddrV6 {
    match address {
        SocketAddr::V4(address) => SocketAddrV6::new(address.ip().to_ipv6_mapped(), address.port(), 0, 0),
        SocketAddr::V6(address) => address,
    }
}

/// What is wrong with a header. The connection is to be closed: nothing after it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderError {
    /// The bytes are the beginning of no PROXY header.
    NotProxy,
    /// Version 1: there is no CRLF within 107 bytes, or a CR or LF stands alone.
    LineEnd,
    /// Version 1: the word after `PROXY` is neither `TCP4`, `TCP6` nor `UNKNOWN`.
    Protocol,
    /// Version 1: an address is not one of the family that was announced, or not in its canonical form.
    Address,
    /// Version 1: a port is not a number from 0 to 65535 without leading zeros.
    Port,
    /// Version 1: there is more or less in the line than two addresses and two ports.
    Fields,
    /// Version 2: a version other than 2.
    Version,
    /// Version 2: a command other than LOCAL and PROXY.
    Command,
    /// Version 2: an address family or transport that is not assigned.
    Family,
    /// Version 2: the length is less than the addresses of the family need.
    Length,
    /// Version 2: the header would be longer than [`HEADER_BYTES_MAX`].
    TooLong,
    /// Version 2: a TLV does not end where the header does, or its length is wrong for its type.
    Tlv,
    /// Version 2: the CRC32c of the header is not the one it carries.
    Checksum,
}

impl HeaderError {
    /// What is wrong, in words for a log line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotProxy => "no PROXY header",
            Self::LineEnd => "the line does not end in CRLF within 107 bytes",
            Self::Protocol => "the protocol is neither TCP4, TCP6 nor UNKNOWN",
            Self::Address => "an address is malformed",
            Self::Port => "a port is malformed",
            Self::Fields => "the line has too few or too many fields",
            Self::Version => "the version is not 2",
            Self::Command => "the command is neither LOCAL nor PROXY",
            Self::Family => "the address family or transport is not known",
            Self::Length => "the length is too small for the addresses",
            Self::TooLong => "the header is too long",
            Self::Tlv => "a TLV is malformed",
            Self::Checksum => "the checksum is wrong",
        }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for HeaderError {}

/// Reads a header of either version. `received` is everything that came, from the first byte of the connection. Gives
/// the header and its length in bytes, or nothing while it is incomplete.
///
/// # Errors
/// [`HeaderError`] as soon as the bytes cannot become a header any more, complete or not.
pub fn parse(received: &[u8]) -> Result<Option<(Header<'_>, usize)>, HeaderError> {
    if begins_like(received, v2::SIGNATURE) {
        v2::parse(received)
    } else if begins_like(received, v1::PREFIX) {
        v1::parse(received)
    } else {
        Err(HeaderError::NotProxy)
    }
}

/// Whether `received` may be the beginning of a header, complete or not; no bytes at all may be one.
pub fn may_begin(received: &[u8]) -> bool {
    begins_like(received, v2::SIGNATURE) || begins_like(received, v1::PREFIX)
}

/// Whether the two agree as far as both go.
fn begins_like(received: &[u8], prefix: &[u8]) -> bool {
    received.iter().zip(prefix).all(|(byte, expected)| byte == expected)
}
