//! Version 1: one line of text, at most 107 bytes with its CRLF.
//!
//! Nothing is decoded before the CRLF is there. The document is strict, and so is this: one space between fields,
//! no leading zeros, no bare CR or LF.

use alloc::vec::Vec;
use core::fmt::Write as _;
use core::net::{SocketAddrV4, SocketAddrV6};
use core::str::FromStr;

use super::{Addresses, Command, Header, HeaderError, Tlvs, Transport, Version};

/// The most bytes of a line, its CRLF included: `UNKNOWN` with the longest of all addresses.
pub const LINE_BYTES_MAX: usize = 107;

pub(super) const PREFIX: &[u8] = b"PROXY ";

/// Reads a line. `received` begins like [`PREFIX`], as far as it goes.
pub(super) fn parse(received: &[u8]) -> Result<Option<(Header<'_>, usize)>, HeaderError> {
    let seen = &received[..received.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if seen.len() == LINE_BYTES_MAX { Err(HeaderError::LineEnd) } else { Ok(None) };
    };
    match seen[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if seen.len() < LINE_BYTES_MAX => return Ok(None),
        _ => return Err(HeaderError::LineEnd),
    }
    let line = seen.get(PREFIX.len()..end).ok_or(HeaderError::Protocol)?;
    let (transport, addresses) = fields(line)?;
    let header =
        Header { version: Version::V1, command: Command::Proxy, transport, addresses, tlvs: Tlvs::NONE };
    Ok(Some((header, end + 2)))
}

fn fields(line: &[u8]) -> Result<(Transport, Addresses<'static>), HeaderError> {
    let mut fields = line.split(|byte| *byte == b' ');
    let protocol = fields.next().unwrap_or_default();
    // Whatever follows `UNKNOWN` is ignored.
    if protocol == b"UNKNOWN" {
        return Ok((Transport::Unspecified, Addresses::Unspecified));
    }
    if protocol != b"TCP4" && protocol != b"TCP6" {
        return Err(HeaderError::Protocol);
    }
    let mut next = || fields.next().ok_or(HeaderError::Fields);
    let [source, destination, source_port, destination_port] = [next()?, next()?, next()?, next()?];
    if fields.next().is_some() {
        return Err(HeaderError::Fields);
    }
    let addresses = if protocol == b"TCP4" {
        let (source, destination) = (address(source)?, address(destination)?);
        Addresses::Inet {
            source: SocketAddrV4::new(source, port(source_port)?),
            destination: SocketAddrV4::new(destination, port(destination_port)?),
        }
    } else {
        let (source, destination) = (address(source)?, address(destination)?);
        Addresses::Inet6 {
            source: SocketAddrV6::new(source, port(source_port)?, 0, 0),
            destination: SocketAddrV6::new(destination, port(destination_port)?, 0, 0),
        }
    };
    Ok((Transport::Stream, addresses))
}

/// The standard parsers take what the document allows: four numbers without leading zeros, or groups of hexadecimal
/// digits with at most one double colon. They take IPv4-mapped addresses with a dotted end too, which is how
/// `inet_ntop` writes them.
fn address<A: FromStr>(field: &[u8]) -> Result<A, HeaderError> {
    core::str::from_utf8(field).ok().and_then(|text| text.parse().ok()).ok_or(HeaderError::Address)
}

fn port(field: &[u8]) -> Result<u16, HeaderError> {
    let is_canonical = match field {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let number = core::str::from_utf8(field).ok().filter(|_| is_canonical).and_then(|text| text.parse().ok());
    number.ok_or(HeaderError::Port)
}

/// Appends a line that announces a TCP connection between `addresses`; `UNKNOWN` if they are not of IP.
pub fn write_v1(out: &mut Vec<u8>, addresses: &Addresses<'_>) {
    let mut line = Line(out);
    // Appending to memory does not fail.
    let _ = match addresses {
        Addresses::Inet { source, destination } => write!(
            line,
            "PROXY TCP4 {} {} {} {}\r\n",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
        Addresses::Inet6 { source, destination } => write!(
            line,
            "PROXY TCP6 {} {} {} {}\r\n",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
        Addresses::Unix { .. } | Addresses::Unspecified => write!(line, "PROXY UNKNOWN\r\n"),
    };
}

struct Line<'a>(&'a mut Vec<u8>);

impl core::fmt::Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
