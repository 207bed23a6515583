//! The message itself (RFC 8446, section 4.1.2), read whole.

use core::fmt;

use super::body::Body;
use super::record::MESSAGE_HEAD_BYTES;
use super::{HelloError, Version};
use crate::host_name::{HOST_NAME_BYTES_MAX, HostName};

/// Types of extensions that are read.
pub(super) mod extension {
    /// RFC 6066, section 3.
    pub(in crate::client_hello) const SERVER_NAME: u16 = 0;
    /// RFC 7301, section 3.1.
    pub(in crate::client_hello) const ALPN: u16 = 16;
    /// RFC 8446, section 4.2.1.
    pub(in crate::client_hello) const SUPPORTED_VERSIONS: u16 = 43;
    /// RFC 9849, section 5.
    pub(in crate::client_hello) const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
}

const HOST_NAME: u8 = 0;
const SESSION_ID_BYTES_MAX: usize = 32;
const RANDOM_BYTES: usize = 32;

/// What a client says before anybody answers. Borrows the bytes that it came in.
#[derive(Clone, PartialEq)]
pub struct ClientHello<'a> {
    server_name: Option<HostName>,
    alpn: Body<'a>,
    /// A bit for each version.
    versions: u8,
    has_ech: bool,
}

/// The name of an application protocol: any bytes, as `h2`.
#[derive(Clone, Copy)]
pub struct Protocol {
    bytes: [u8; 255],
    len: u8,
}

impl ClientHello<'_> {
    /// The host that is asked for, if one is. With an encrypted hello this is its outer name.
    pub fn server_name(&self) -> Option<&HostName> {
        self.server_name.as_ref()
    }

    /// The application protocols that the client speaks, the ones it likes best first.
    pub fn alpn(&self) -> impl Iterator<Item = Protocol> + '_ {
        let mut list = self.alpn;
        core::iter::from_fn(move || if list.is_empty() { None } else { protocol(&mut list).ok() })
    }

    /// Whether the client speaks a version. One without a list of versions speaks some up to the one it names.
    pub fn offers(&self, version: Version) -> bool {
        self.versions & bit(version) != 0
    }

    /// The highest version that the client speaks; none if it lists only some that nobody knows.
    pub fn highest_version(&self) -> Option<Version> {
        Version::ALL.into_iter().rev().find(|version| self.offers(*version))
    }

    /// Whether there is an encrypted hello within this one, or what is to look like one.
    pub fn has_ech(&self) -> bool {
        self.has_ech
    }
}

impl fmt::Debug for ClientHello<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct List<'a>(&'a ClientHello<'a>);
        impl fmt::Debug for List<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.0.alpn()).finish()
            }
        }
        f.debug_struct("ClientHello")
            .field("server_name", &self.server_name)
            .field("alpn", &List(self))
            .field("highest_version", &self.highest_version())
            .field("has_ech", &self.has_ech)
            .finish()
    }
}

impl Protocol {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_bytes().escape_ascii(), f)
    }
}

/// Reads a whole message.
pub(super) fn read(mut message: Body<'_>) -> Result<ClientHello<'_>, HelloError> {
    message.skip(MESSAGE_HEAD_BYTES)?;
    let legacy_version = message.u16()?;
    if legacy_version >> 8 != 3 {
        return Err(HelloError::Version);
    }
    message.skip(RANDOM_BYTES)?;
    if message.vector8()?.len() > SESSION_ID_BYTES_MAX {
        return Err(HelloError::SessionId);
    }
    let suites = message.vector16()?;
    if suites.is_empty() || !suites.len().is_multiple_of(2) {
        return Err(HelloError::CipherSuites);
    }
    if message.vector8()?.is_empty() {
        return Err(HelloError::Compression);
    }
    let mut hello = ClientHello {
        server_name: None,
        alpn: Body::new(&[], 0),
        versions: up_to(legacy_version),
        has_ech: false,
    };
    // Clients of TLS 1.2 and before may have no extensions at all (RFC 5246, section 7.4.1.2).
    if message.is_empty() {
        return Ok(hello);
    }
    let mut extensions = message.vector16()?;
    if !message.is_empty() {
        return Err(HelloError::Length);
    }
    let mut seen = Seen([0; _]);
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vector16()?;
        if !seen.insert(kind) {
            return Err(HelloError::RepeatedExtension);
        }
        match kind {
            extension::SERVER_NAME => hello.server_name = Some(server_name(data)?),
            extension::ALPN => hello.alpn = alpn(data)?,
            extension::SUPPORTED_VERSIONS => hello.versions = versions(data)?,
            extension::ENCRYPTED_CLIENT_HELLO => hello.has_ech = true,
            _ => {}
        }
    }
    Ok(hello)
}

/// A bit for each type of extension: 8 KiB of stack, and no limit to their number but the length of the message.
struct Seen([u64; 1 << 10]);

impl Seen {
    /// Whether it was not in yet.
    fn insert(&mut self, kind: u16) -> bool {
        let (word, bit) = (&mut self.0[usize::from(kind >> 6)], 1 << (kind & 63));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

fn server_name(mut data: Body<'_>) -> Result<HostName, HelloError> {
    let mut list = data.vector16()?;
    if !data.is_empty() {
        return Err(HelloError::Length);
    }
    if list.is_empty() {
        return Err(HelloError::NoServerName);
    }
    if list.u8()? != HOST_NAME {
        // How long a name of another type is, nobody has said.
        return Err(HelloError::ServerNameType);
    }
    let mut name = list.vector16()?;
    if !list.is_empty() {
        return Err(HelloError::SeveralServerNames);
    }
    // With a trailing dot.
    let mut bytes = [0; HOST_NAME_BYTES_MAX + 1];
    let bytes = bytes.get_mut(..name.len()).ok_or(HelloError::ServerName)?;
    name.copy(bytes)?;
    Ok(HostName::new(bytes)?)
}

/// The list, in which every name is well-formed.
fn alpn(mut data: Body<'_>) -> Result<Body<'_>, HelloError> {
    let list = data.vector16()?;
    if !data.is_empty() || list.is_empty() {
        return Err(HelloError::Alpn);
    }
    let mut rest = list;
    while !rest.is_empty() {
        if rest.vector8().map_err(|_| HelloError::Alpn)?.is_empty() {
            return Err(HelloError::Alpn);
        }
    }
    Ok(list)
}

fn protocol(list: &mut Body<'_>) -> Result<Protocol, HelloError> {
    let mut name = list.vector8()?;
    let mut protocol = Protocol { bytes: [0; 255], len: 0 };
    protocol.len = name.len() as u8;
    name.copy(&mut protocol.bytes[..name.len()])?;
    Ok(protocol)
}

/// Those of the list that are known; the others are grease, or of a time to come.
fn versions(mut data: Body<'_>) -> Result<u8, HelloError> {
    let mut list = data.vector8()?;
    if !data.is_empty() || list.is_empty() || !list.len().is_multiple_of(2) {
        return Err(HelloError::SupportedVersions);
    }
    let mut versions = 0;
    while !list.is_empty() {
        versions |= Version::of_number(list.u16()?).map_or(0, bit);
    }
    Ok(versions)
}

/// The versions of a client that names its highest one. 1.3 is spoken only where a list of versions says so.
fn up_to(number: u16) -> u8 {
    let spoken =
        Version::ALL.iter().filter(|version| version.number() <= number && **version < Version::Tls13);
    spoken.fold(0, |versions, version| versions | bit(*version))
}

fn bit(version: Version) -> u8 {
    1 << version as u8
}
