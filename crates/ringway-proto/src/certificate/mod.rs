//! What a certificate says of itself: its names, how long it holds, what kind of key it has.
//!
//! Nothing is verified: a certificate from the network is read after somebody else has done so, one from a file belongs to
//! whoever reads it. Source: RFC 5280, section 4.1, and X.690.

mod der;
mod time;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::reader::Incomplete;
use der::{Value, Values, constructed, primitive};

/// It is not in the form of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateError;

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is not in the form of a certificate")
    }
}

impl core::error::Error for CertificateError {}

impl From<Incomplete> for CertificateError {
    fn from(_: Incomplete) -> Self {
        Self
    }
}

/// A certificate, lent from the bytes that it was read from.
///
/// ```
/// use ringway_proto::certificate::{Certificate, KeyKind};
/// let bytes = include_bytes!("../../tests/certificates/names.der");
/// let certificate = Certificate::parse(bytes)?;
/// assert_eq!(certificate.common_name(), Some("www.example.com"));
/// assert_eq!(certificate.dns_names().next(), Some("www.example.com"));
/// assert_eq!(certificate.key_kind(), KeyKind::Ecdsa);
/// # Ok::<(), ringway_proto::certificate::CertificateError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    serial: &'a [u8],
    subject: &'a [u8],
    not_before: i64,
    not_after: i64,
    public_key: &'a [u8],
    key_kind: KeyKind,
    /// The names in its extension, empty if it has none.
    alternative_names: &'a [u8],
}

/// What its public key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// ECDSA, on whatever curve.
    Ecdsa,
    /// RSA.
    Rsa,
    /// Ed25519 or Ed448.
    EdDsa,
    /// Something else.
    Other,
}

/// subjectAltName (RFC 5280, section 4.2.1.6): 2.5.29.17.
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// commonName (X.520): 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// id-ecPublicKey (RFC 5480): 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// rsaEncryption (RFC 8017): 1.2.840.113549.1.1.1.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// id-Ed25519 (RFC 8410): 1.3.101.112.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
/// id-Ed448 (RFC 8410): 1.3.101.113.
const ED448: &[u8] = &[0x2b, 0x65, 0x71];

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CertificateError> {
        let mut outer = Values::new(bytes);
        let mut certificate = Values::new(outer.take(der::SEQUENCE)?);
        let mut body = Values::new(certificate.take(der::SEQUENCE)?);
        let is_whole = outer.is_empty();
        body.take_if(constructed(0))?;
        let serial = body.take(der::INTEGER)?;
        let _signature = body.take(der::SEQUENCE)?;
        let _issuer = body.take(der::SEQUENCE)?;
        let mut validity = Values::new(body.take(der::SEQUENCE)?);
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        let subject = body.take(der::SEQUENCE)?;
        let public_key = body.whole(der::SEQUENCE)?;
        let key_kind = key_kind(public_key)?;
        body.take_if(primitive(1))?;
        body.take_if(primitive(2))?;
        let mut alternative_names: &[u8] = &[];
        if let Some(extensions) = body.take_if(constructed(3))? {
            let mut extensions = Values::new(Values::new(extensions).take(der::SEQUENCE)?);
            while !extensions.is_empty() {
                let mut extension = Values::new(extensions.take(der::SEQUENCE)?);
                let id = extension.take(der::OBJECT_IDENTIFIER)?;
                extension.take_if(der::BOOLEAN)?;
                let value = extension.take(der::OCTET_STRING)?;
                if id == SUBJECT_ALTERNATIVE_NAME {
                    alternative_names = Values::new(value).take(der::SEQUENCE)?;
                }
            }
        }
        if !is_whole || !body.is_empty() {
            return Err(CertificateError);
        }
        // What is iterated over later is good then.
        each(alternative_names)?;
        for set in sets(subject)? {
            each(set)?;
        }
        Ok(Self { serial, subject, not_before, not_after, public_key, key_kind, alternative_names })
    }

    /// Its number, given by who issued it; the highest byte first.
    pub fn serial(&self) -> &'a [u8] {
        self.serial
    }

    /// The second from which it holds, counted from the beginning of 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// The last second in which it holds, counted from the beginning of 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The kind of its key.
    pub fn key_kind(&self) -> KeyKind {
        self.key_kind
    }

    /// Its key, as SubjectPublicKeyInfo in DER.
    pub fn public_key(&self) -> &'a [u8] {
        self.public_key
    }

    /// The hosts that it is for, as they are written: also `*.example.com`.
    pub fn dns_names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.texts(2)
    }

    /// The URIs that it is for, as SPIFFE uses them.
    pub fn uris(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.texts(6)
    }

    /// The addresses of mail that it is for.
    pub fn mail_addresses(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.texts(1)
    }

    /// The IP addresses that it is for.
    pub fn ip_addresses(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let address = |bytes: &[u8]| {
            <[u8; 4]>::try_from(bytes)
                .map(|bytes| Ipv4Addr::from(bytes).into())
                .or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into()))
                .ok()
        };
        self.alternative(7).filter_map(address)
    }

    /// The common name of its subject: the last one, which is the most specific, if it is text without control characters.
    pub fn common_name(&self) -> Option<&'a str> {
        let mut found = None;
        for set in sets(self.subject).ok()? {
            for attribute in values(set) {
                let mut parts = Values::new(attribute.content);
                if parts.take(der::OBJECT_IDENTIFIER) == Ok(COMMON_NAME) {
                    found = parts.any().ok();
                }
            }
        }
        text(found?)
    }

    fn texts(&self, tag: u8) -> impl Iterator<Item = &'a str> + use<'a> {
        // IA5String: ASCII.
        let is_text = |bytes: &&[u8]| bytes.iter().all(u8::is_ascii_graphic) && !bytes.is_empty();
        self.alternative(tag).filter(is_text).filter_map(|bytes| core::str::from_utf8(bytes).ok())
    }

    fn alternative(&self, tag: u8) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        values(self.alternative_names)
            .filter(move |value| value.tag == primitive(tag))
            .map(|value| value.content)
    }
}

/// The text of a DirectoryString. Of its forms those are read that are UTF-8 as they are (ASCII among them).
fn text(value: Value<'_>) -> Option<&str> {
    const UTF8_STRING: u8 = 0x0c;
    const PRINTABLE_STRING: u8 = 0x13;
    const IA5_STRING: u8 = 0x16;
    if !matches!(value.tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING) {
        return None;
    }
    let text = core::str::from_utf8(value.content).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

fn key_kind(public_key: &[u8]) -> Result<KeyKind, CertificateError> {
    let mut key = Values::new(Values::new(public_key).take(der::SEQUENCE)?);
    let id = Values::new(key.take(der::SEQUENCE)?).take(der::OBJECT_IDENTIFIER)?;
    Ok(match id {
        EC_PUBLIC_KEY => KeyKind::Ecdsa,
        RSA_ENCRYPTION => KeyKind::Rsa,
        ED25519 | ED448 => KeyKind::EdDsa,
        _ => KeyKind::Other,
    })
}

fn time(values: &mut Values<'_>) -> Result<i64, CertificateError> {
    let value = values.any()?;
    match value.tag {
        der::UTC_TIME => time::utc(value.content),
        der::GENERALIZED_TIME => time::generalized(value.content),
        _ => Err(CertificateError),
    }
}

/// Whether `bytes` are values to their end.
fn each(bytes: &[u8]) -> Result<(), CertificateError> {
    let mut values = Values::new(bytes);
    while !values.is_empty() {
        values.any()?;
    }
    Ok(())
}

/// The values of which `bytes` are made, up to the first that is none.
fn values(bytes: &[u8]) -> impl Iterator<Item = Value<'_>> {
    let mut values = Values::new(bytes);
    core::iter::from_fn(move || values.any().ok())
}

/// The sets of attributes that a name is made of.
fn sets(name: &[u8]) -> Result<impl Iterator<Item = &[u8]>, CertificateError> {
    each(name)?;
    Ok(values(name).filter(|value| value.tag == der::SET).map(|value| value.content))
}
