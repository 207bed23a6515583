//! Type-length-value triples at the end of a header of version 2, read one by one when somebody asks for them.

use crate::reader::Reader;

/// The types that the document assigns.
pub mod tlv_type {
    /// The protocol above, as in the TLS extension of that name (RFC 7301).
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for, as in TLS server_name.
    pub const AUTHORITY: u8 = 0x02;
    /// CRC32c of the whole header, with zeros in the place of its value.
    pub const CRC32C: u8 = 0x03;
    /// Padding.
    pub const NOOP: u8 = 0x04;
    /// Names the connection over several proxies; up to 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// What the proxy knows of the client's TLS.
    pub const SSL: u8 = 0x20;
    /// Within [`SSL`]: the version, as `TLSv1.3`.
    pub const SSL_VERSION: u8 = 0x21;
    /// Within [`SSL`]: the common name of the client's certificate.
    pub const SSL_CN: u8 = 0x22;
    /// Within [`SSL`]: the cipher suite.
    pub const SSL_CIPHER: u8 = 0x23;
    /// The network namespace of the client's connection.
    pub const NETNS: u8 = 0x30;
}

/// One triple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// What it is; see [`tlv_type`].
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

/// The triples of a header, in their order. They were found to be well-formed when the header was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlvs<'a> {
    rest: Reader<'a>,
}

impl<'a> Tlvs<'a> {
    /// None at all.
    pub(super) const NONE: Self = Self { rest: Reader::EMPTY };

    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: Reader::new(bytes) }
    }

    /// The value of the first triple of this type.
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        self.clone().find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }

    /// How many bytes were read so far.
    pub(super) fn position(&self) -> usize {
        self.rest.position()
    }

    /// Whether everything was read.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let mut reader = self.rest.clone();
        let kind = reader.u8().ok()?;
        let length = reader.u16().ok()?;
        let value = reader.take(usize::from(length)).ok()?;
        self.rest = reader;
        Some(Tlv { kind, value })
    }
}
