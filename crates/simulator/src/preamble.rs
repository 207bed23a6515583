//! PROXY headers before a connection's own bytes: what clients send, and what backends must get.
//!
//! Written and read here by hand, from the document, so that a mistake of the proxy is not made twice.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use ringway::simulated::Random;
use ringway_proxy::model::{AcceptHeader, Network, ProxyProtocol, SendHeader};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The port that a header carries.
const PORT: u16 = 4_000;

/// What all apps of a simulation do about PROXY headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preambles {
    pub(crate) accept: AcceptHeader,
    /// Clients write the binary form.
    pub(crate) accept_v2: bool,
    pub(crate) send: SendHeader,
}

/// What a backend found in front of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Preamble {
    /// More bytes are needed.
    Incomplete,
    /// So many bytes, which name this client; none if the proxy speaks for itself.
    Read(usize, Option<SocketAddrV4>),
    /// Something else.
    Wrong,
}

impl Preambles {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let accept = match random.index(4) {
            0 => AcceptHeader::Required,
            1 => AcceptHeader::Optional,
            _ => AcceptHeader::Never,
        };
        let send = match random.index(4) {
            0 => SendHeader::V1,
            1 => SendHeader::V2,
            _ => SendHeader::None,
        };
        Self { accept, accept_v2: random.chance(0.5), send }
    }

    /// As an app's configuration. All clients dial from 10.0.0.0/8.
    pub(crate) fn model(self) -> ProxyProtocol {
        let trusted = match self.accept {
            AcceptHeader::Never => Vec::new(),
            AcceptHeader::Required | AcceptHeader::Optional => {
                vec![Network::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8)]
            }
        };
        ProxyProtocol { accept: self.accept, send: self.send, trusted, ..ProxyProtocol::default() }
    }

    /// Whether the client with this number sends a header.
    pub(crate) fn is_sent_by(self, number: u32) -> bool {
        match self.accept {
            AcceptHeader::Never => false,
            AcceptHeader::Required => true,
            AcceptHeader::Optional => number.is_multiple_of(2),
        }
    }

    /// The header of the client with this number, if it sends one.
    pub(crate) fn of_client(self, number: u32) -> Vec<u8> {
        let (source, target) = (carried(number), Ipv4Addr::new(192, 0, 2, 1));
        match (self.is_sent_by(number), self.accept_v2) {
            (false, _) => Vec::new(),
            (true, false) => format!("PROXY TCP4 {source} {target} {PORT} 443\r\n").into_bytes(),
            (true, true) => {
                let mut header = SIGNATURE.to_vec();
                // Version 2, PROXY; TCP over IPv4; 12 bytes of addresses and a TLV that nobody knows.
                header.extend([0x21, 0x11, 0, 12 + 3 + 2]);
                header.extend(source.octets());
                header.extend(target.octets());
                header.extend(PORT.to_be_bytes());
                header.extend(443_u16.to_be_bytes());
                header.extend([0xe7, 0, 2, b'h', b'i']);
                header
            }
        }
    }

    /// Reads what a backend got first.
    pub(crate) fn read(self, received: &[u8]) -> Preamble {
        match self.send {
            SendHeader::None => Preamble::Read(0, None),
            SendHeader::V1 => read_v1(received),
            SendHeader::V2 => read_v2(received),
        }
    }

    /// Whether this may be the client with this number.
    pub(crate) fn names(self, number: u32, client: SocketAddrV4) -> bool {
        match self.is_sent_by(number) {
            true => client == SocketAddrV4::new(carried(number), PORT),
            false => IpAddr::V4(*client.ip()) == crate::client::source(number),
        }
    }
}

/// The address that the header of a client carries: 11 where its own has 10.
fn carried(number: u32) -> Ipv4Addr {
    let [_, high, middle, low] = number.to_be_bytes();
    Ipv4Addr::new(11, high, middle, low)
}

fn read_v1(received: &[u8]) -> Preamble {
    let Some(end) = received.iter().position(|byte| *byte == b'\n') else {
        return if received.len() > 107 { Preamble::Wrong } else { Preamble::Incomplete };
    };
    let parse = || {
        let line = str::from_utf8(received.get(..end)?).ok()?.strip_suffix('\r')?;
        let mut words = line.split(' ');
        (words.next()? == "PROXY" && words.next()? == "TCP4").then_some(())?;
        let (ip, _, port) = (words.next()?, words.next()?, words.next()?);
        Some(SocketAddrV4::new(ip.parse().ok()?, port.parse().ok()?))
    };
    parse().map_or(Preamble::Wrong, |client| Preamble::Read(end + 1, Some(client)))
}

fn read_v2(received: &[u8]) -> Preamble {
    let known = received.len().min(SIGNATURE.len());
    if received[..known] != SIGNATURE[..known] {
        return Preamble::Wrong;
    }
    let Some([command, family, high, low]) = received.get(12..16) else { return Preamble::Incomplete };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let Some(body) = received.get(16..16 + length) else { return Preamble::Incomplete };
    match (command, family, body) {
        (0x20, _, _) => Preamble::Read(16 + length, None),
        (0x21, 0x11, [a, b, c, d, _, _, _, _, high, low, ..]) => {
            let client = SocketAddrV4::new(Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes([*high, *low]));
            Preamble::Read(16 + length, Some(client))
        }
        _ => Preamble::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_write_is_what_backends_read() {
        for (accept_v2, send) in [(false, SendHeader::V1), (true, SendHeader::V2)] {
            let preambles = Preambles { accept: AcceptHeader::Required, accept_v2, send };
            let mut header = preambles.of_client(70_000);
            for end in 0..header.len() {
                assert_eq!(preambles.read(&header[..end]), Preamble::Incomplete);
            }
            let length = header.len();
            header.extend(b"what follows");
            let Preamble::Read(read, Some(client)) = preambles.read(&header) else {
                panic!("{:?}", preambles.read(&header))
            };
            assert_eq!(read, length);
            assert!(preambles.names(70_000, client) && !preambles.names(70_001, client));
        }
    }
}
