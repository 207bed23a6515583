//! What a client's first bytes say: for whom it connects.
//!
//! The bytes are looked at where they wait and only the header is taken, so that what follows is relayed as it came.

use std::collections::HashMap;
use std::net::SocketAddr;

use ringway::SocketAddress;
use ringway_proto::proxy_protocol::{self, HeaderError};

use crate::admission::AddressList;
use crate::model::{AcceptHeader, ProxyProtocol};
use crate::session::CarriedAddresses;

/// Whose headers are taken, of an app.
#[derive(Debug)]
pub(super) struct PrefaceRule {
    accept: AcceptHeader,
    trusted: AddressList,
    trusts_unix: bool,
}

/// What is to be done about a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inspection {
    /// Its first bytes are to be looked at.
    Read,
    /// It is served as it is.
    Pass,
    /// It is turned away.
    Refuse,
}

/// What the bytes that came so far say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More must come.
    More,
    /// There is no header, and need not be one.
    None,
    /// A header of so many bytes; the addresses of the client and of what it connected to, where it has any.
    Header(usize, Option<(SocketAddr, SocketAddr)>),
    /// The client finished before it was complete.
    Left,
    /// It is wrong, or missing.
    Malformed(HeaderError),
}

impl PrefaceRule {
    pub(super) fn new(model: &ProxyProtocol) -> Self {
        Self {
            accept: model.accept,
            trusted: AddressList::new(&model.trusted),
            trusts_unix: model.trusts_unix,
        }
    }

    pub(super) fn inspect(&self, peer: &SocketAddress) -> Inspection {
        let is_trusted = match peer.inet() {
            Some(address) => self.trusted.contains(address.ip()),
            None => self.trusts_unix,
        };
        match self.accept {
            AcceptHeader::Never => Inspection::Pass,
            AcceptHeader::Required | AcceptHeader::Optional if is_trusted => Inspection::Read,
            AcceptHeader::Required => Inspection::Refuse,
            // Whatever it claims to be is payload.
            AcceptHeader::Optional => Inspection::Pass,
        }
    }

    pub(super) fn judge(&self, bytes: &[u8], ended: bool) -> Verdict {
        match proxy_protocol::parse(bytes) {
            Ok(Some((header, length))) => Verdict::Header(length, header.source().zip(header.destination())),
            Ok(None) if ended => Verdict::Left,
            Ok(None) => Verdict::More,
            Err(HeaderError::NotProxy) if self.accept == AcceptHeader::Optional => Verdict::None,
            Err(error) => Verdict::Malformed(error),
        }
    }

    /// Whether a client that has not sent a byte in time is served: it may wait for the backend to speak first.
    pub(super) fn allows_silence(&self) -> bool {
        self.accept == AcceptHeader::Optional
    }
}

/// What is known of the connections that have to do with headers, by the place of their session.
#[derive(Debug, Default)]
pub(super) struct Prefaces {
    known: HashMap<u32, Preface>,
}

/// A connection whose header is awaited or was read.
#[derive(Debug)]
pub(super) enum Preface {
    /// Whether some of it came.
    Awaited { has_bytes: bool },
    /// It named another client.
    Carried(CarriedAddresses),
}

impl Prefaces {
    pub(super) fn set(&mut self, place: u32, preface: Preface) {
        self.known.insert(place, preface);
    }

    pub(super) fn note_bytes(&mut self, place: u32) {
        if let Some(Preface::Awaited { has_bytes }) = self.known.get_mut(&place) {
            *has_bytes = true;
        }
    }

    /// Whether nothing came of a header that is awaited.
    pub(super) fn is_silent(&self, place: u32) -> bool {
        matches!(self.known.get(&place), Some(Preface::Awaited { has_bytes: false }))
    }

    /// What the client connected to, where a header says so.
    pub(super) fn destination(&self, place: u32) -> Option<SocketAddress> {
        match self.known.get(&place)? {
            Preface::Carried(carried) => Some(carried.destination.into()),
            Preface::Awaited { .. } => None,
        }
    }

    /// What a header said, where it named another client.
    pub(super) fn carried(&self, place: u32) -> Option<&CarriedAddresses> {
        match self.known.get(&place)? {
            Preface::Carried(carried) => Some(carried),
            Preface::Awaited { .. } => None,
        }
    }

    /// The session at `place` ended, or leaves. Gives what a header said, where it named another client.
    pub(super) fn remove(&mut self, place: u32) -> Option<CarriedAddresses> {
        if self.known.is_empty() {
            return None;
        }
        match self.known.remove(&place)? {
            Preface::Carried(carried) => Some(carried),
            Preface::Awaited { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;

    fn rule(accept: AcceptHeader) -> PrefaceRule {
        let trusted = vec![Network::parse("10.0.0.0/8").expect("a network")];
        PrefaceRule::new(&ProxyProtocol { accept, trusted, ..ProxyProtocol::default() })
    }

    fn peer(text: &str) -> SocketAddress {
        SocketAddress::Inet(text.parse().expect("an address"))
    }

    #[test]
    fn only_trusted_sources_are_listened_to() {
        let (trusted, other, unix) = (peer("10.1.2.3:4"), peer("192.0.2.1:4"), SocketAddress::Unix(None));
        let inspect = |accept, peer: &SocketAddress| rule(accept).inspect(peer);
        assert_eq!(inspect(AcceptHeader::Required, &trusted), Inspection::Read);
        assert_eq!(inspect(AcceptHeader::Required, &peer("[::ffff:10.1.2.3]:4")), Inspection::Read);
        assert_eq!(inspect(AcceptHeader::Required, &other), Inspection::Refuse);
        assert_eq!(inspect(AcceptHeader::Required, &unix), Inspection::Refuse);
        assert_eq!(inspect(AcceptHeader::Optional, &trusted), Inspection::Read);
        assert_eq!(inspect(AcceptHeader::Optional, &other), Inspection::Pass);
        assert_eq!(inspect(AcceptHeader::Never, &trusted), Inspection::Pass);
    }

    #[test]
    fn payload_without_a_header_passes_only_where_it_is_optional() {
        let judge = |accept, bytes: &[u8], ended| rule(accept).judge(bytes, ended);
        let not_proxy = Verdict::Malformed(HeaderError::NotProxy);
        assert_eq!(judge(AcceptHeader::Optional, b"GET /", false), Verdict::None);
        assert_eq!(judge(AcceptHeader::Required, b"GET /", false), not_proxy);
        assert_eq!(judge(AcceptHeader::Optional, b"PROXY TCP9 ", false), Verdict::More);
        let malformed = Verdict::Malformed(HeaderError::Protocol);
        assert_eq!(judge(AcceptHeader::Optional, b"PROXY TCP9 \r\n", false), malformed);
        assert_eq!(judge(AcceptHeader::Required, b"PROXY", true), Verdict::Left);
        assert_eq!(judge(AcceptHeader::Required, b"PROXY UNKNOWN\r\n", true), Verdict::Header(15, None));
    }
}
