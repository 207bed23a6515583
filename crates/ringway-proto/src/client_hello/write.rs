//! Hellos, written: for tests, simulations and checks of the reader.

use alloc::vec::Vec;

use super::Version;
use super::message::extension;
use super::record::{CLIENT_HELLO, FRAGMENT_BYTES_MAX, HANDSHAKE, VERSION_MAJOR};

/// Writes a hello. It is well-formed unless [`extension`](Self::extension) is given something that is not.
#[derive(Clone, Debug)]
pub struct HelloWriter {
    legacy_version: Version,
    session_id_bytes: u8,
    cipher_suites: Vec<u16>,
    /// None: the hello ends before the length of its extensions.
    extensions: Option<Vec<u8>>,
}

impl Default for HelloWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl HelloWriter {
    /// A hello of TLS 1.2 without a name or anything else.
    pub fn new() -> Self {
        // TLS_AES_128_GCM_SHA256 and TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256.
        let cipher_suites = [0x1301, 0xc02b].to_vec();
        Self { legacy_version: Version::Tls12, session_id_bytes: 32, cipher_suites, extensions: None }
    }

    /// Another version in the field that every hello has.
    #[must_use]
    pub fn legacy_version(mut self, version: Version) -> Self {
        self.legacy_version = version;
        self
    }

    /// Another list of cipher suites.
    #[must_use]
    pub fn cipher_suites(mut self, suites: &[u16]) -> Self {
        self.cipher_suites = suites.to_vec();
        self
    }

    /// Asks for a host.
    #[must_use]
    pub fn server_name(self, name: &str) -> Self {
        let mut entry = [0].to_vec();
        push_vector(&mut entry, 2, name.as_bytes());
        let mut list = Vec::new();
        push_vector(&mut list, 2, &entry);
        self.extension(extension::SERVER_NAME, &list)
    }

    /// Lists application protocols.
    #[must_use]
    pub fn alpn(self, protocols: &[&str]) -> Self {
        let mut names = Vec::new();
        for protocol in protocols {
            push_vector(&mut names, 1, protocol.as_bytes());
        }
        let mut list = Vec::new();
        push_vector(&mut list, 2, &names);
        self.extension(extension::ALPN, &list)
    }

    /// Lists versions, by their numbers.
    #[must_use]
    pub fn supported_versions(self, versions: &[u16]) -> Self {
        let numbers: Vec<u8> = versions.iter().flat_map(|version| version.to_be_bytes()).collect();
        let mut list = Vec::new();
        push_vector(&mut list, 1, &numbers);
        self.extension(extension::SUPPORTED_VERSIONS, &list)
    }

    /// Has what looks like an encrypted hello of so many bytes in it.
    #[must_use]
    pub fn ech(self, bytes: usize) -> Self {
        let filled = alloc::vec![0xec; bytes];
        self.extension(extension::ENCRYPTED_CLIENT_HELLO, &filled)
    }

    /// Has a list of extensions, even if nothing comes to stand in it.
    #[must_use]
    pub fn no_extensions(mut self) -> Self {
        self.extensions.get_or_insert_default();
        self
    }

    /// Any extension.
    #[must_use]
    pub fn extension(mut self, kind: u16, data: &[u8]) -> Self {
        let extensions = self.extensions.get_or_insert_default();
        extensions.extend_from_slice(&kind.to_be_bytes());
        push_vector(extensions, 2, data);
        self
    }

    /// The message, without records around it.
    pub fn message(&self) -> Vec<u8> {
        let mut body = self.legacy_version.number().to_be_bytes().to_vec();
        body.extend((0..32).map(|byte| byte * 7));
        push_vector(&mut body, 1, &alloc::vec![0x5e; self.session_id_bytes.into()]);
        let suites: Vec<u8> = self.cipher_suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        push_vector(&mut body, 2, &suites);
        push_vector(&mut body, 1, &[0]);
        if let Some(extensions) = &self.extensions {
            push_vector(&mut body, 2, extensions);
        }
        let mut message = [CLIENT_HELLO].to_vec();
        push_vector(&mut message, 3, &body);
        message
    }
}

/// A length of `width` bytes, and the content.
pub(super) fn push_vector(to: &mut Vec<u8>, width: usize, content: &[u8]) {
    let length = (content.len() as u64).to_be_bytes();
    to.extend_from_slice(&length[length.len() - width..]);
    to.extend_from_slice(content);
}

/// `message` in records of at most so many bytes each, as it goes over the wire.
///
/// # Panics
/// If that is zero.
pub fn records(message: &[u8], fragment_bytes: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for fragment in message.chunks(fragment_bytes.min(FRAGMENT_BYTES_MAX)) {
        push_record(&mut wire, HANDSHAKE, fragment);
    }
    wire
}

pub(super) fn push_record(wire: &mut Vec<u8>, kind: u8, fragment: &[u8]) {
    // Clients say 1.0 here for the sake of servers that are older than they are.
    wire.extend_from_slice(&[kind, VERSION_MAJOR, 1]);
    push_vector(wire, 2, fragment);
}
