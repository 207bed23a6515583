//! Records as the RFCs have them sealed and opened, by keys that a harness took out of rustls: nothing of ours is in it.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rustls::ConnectionTrafficSecrets;

pub(crate) const TAG_BYTES: usize = 16;

/// Which key of a direction, and which record under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// So many updates were before.
    pub(crate) epoch: usize,
    pub(crate) sequence: u64,
}

impl Place {
    /// Under the next key.
    pub(crate) fn after_update(self) -> Self {
        Self { epoch: self.epoch + 1, sequence: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    Aes128,
    Aes256,
    Chacha,
}

impl Suite {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128 => &AES_128_GCM,
            Self::Aes256 => &AES_256_GCM,
            Self::Chacha => &CHACHA20_POLY1305,
        }
    }

    /// What a record holds before the payload in TLS 1.2: of a nonce, the part that is not agreed on (RFC 5288, section 3).
    pub(crate) fn explicit_bytes_12(self) -> usize {
        if self == Self::Chacha { 0 } else { 8 }
    }
}

/// One direction of a connection: its keys, of which those of TLS 1.3 go on.
pub(crate) struct Keys {
    suite: Suite,
    /// By their epochs, as far as they were needed.
    made: Vec<(LessSafeKey, [u8; 12])>,
    /// In TLS 1.3: what the last of them was made of.
    secret: Option<Vec<u8>>,
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

impl Keys {
    /// `secret`: that of TLS 1.3, which `extracted` came of.
    pub(crate) fn new(suite: Suite, extracted: &ConnectionTrafficSecrets, secret: Option<Vec<u8>>) -> Self {
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = extracted
        else {
            panic!("a suite that nobody offered");
        };
        let first = (key_of(suite, key.as_ref()), iv.as_ref().try_into().expect("twelve bytes"));
        Self { suite, made: vec![first], secret }
    }

    /// RFC 8446, section 7.2 and 7.3.
    fn at(&mut self, epoch: usize) -> &(LessSafeKey, [u8; 12]) {
        while self.made.len() <= epoch {
            let secret = self.secret.as_ref().expect("TLS 1.3");
            let secret = self.expand(secret, "traffic upd", secret.len());
            let key = self.expand(&secret, "key", self.suite.algorithm().key_len());
            let iv = self.expand(&secret, "iv", 12).try_into().expect("twelve bytes");
            self.made.push((key_of(self.suite, &key), iv));
            self.secret = Some(secret);
        }
        &self.made[epoch]
    }

    /// HKDF-Expand-Label without a context (RFC 8446, section 7.1).
    fn expand(&self, secret: &[u8], label: &str, len: usize) -> Vec<u8> {
        let hash = if self.suite == Suite::Aes256 { HKDF_SHA384 } else { HKDF_SHA256 };
        let label = format!("tls13 {label}");
        let info = [&(len as u16).to_be_bytes()[..], &[label.len() as u8], label.as_bytes(), &[0]];
        let mut expanded = vec![0; len];
        Prk::new_less_safe(hash, secret)
            .expand(&info, Len(len))
            .and_then(|made| made.fill(&mut expanded))
            .expect("it is short");
        expanded
    }

    /// A record with this head that holds this: the kind and the padding of TLS 1.3 are in it.
    pub(crate) fn seal(&mut self, place: Place, head: [u8; 3], inner: &[u8]) -> Vec<u8> {
        let (is_13, suite) = (self.secret.is_some(), self.suite);
        let (key, iv) = self.at(place.epoch);
        // Any that was not used before.
        let shown = (!place.sequence).to_be_bytes();
        let shown = if is_13 { &[] } else { &shown[..suite.explicit_bytes_12()] };
        let nonce = nonce(iv, place.sequence, shown);
        let len = shown.len() + inner.len() + TAG_BYTES;
        let mut record = [&head[..], &u16::try_from(len).expect("it has a length").to_be_bytes()].concat();
        let beside = beside(is_13, &record, place.sequence, inner.len());
        let mut sealed = inner.to_vec();
        key.seal_in_place_append_tag(nonce, Aad::from(&beside), &mut sealed).expect("it is short");
        record.extend_from_slice(shown);
        record.append(&mut sealed);
        record
    }

    /// What a record holds that has to be good: its kind and its content.
    pub(crate) fn open(&mut self, place: Place, record: &[u8]) -> (u8, Vec<u8>) {
        let (is_13, suite) = (self.secret.is_some(), self.suite);
        let (key, iv) = self.at(place.epoch);
        let (head, rest) = record.split_at(5);
        let (shown, sealed) = rest.split_at(if is_13 { 0 } else { suite.explicit_bytes_12() });
        let len = sealed.len().checked_sub(TAG_BYTES).expect("it has a tag");
        let beside = beside(is_13, head, place.sequence, len);
        let mut opened = sealed.to_vec();
        let nonce = nonce(iv, place.sequence, shown);
        key.open_in_place(nonce, Aad::from(&beside), &mut opened).expect("it is sealed as it has to be");
        opened.truncate(len);
        if !is_13 {
            assert_eq!(head[1..3], [3, 3]);
            return (head[0], opened);
        }
        assert_eq!(head[..3], [23, 3, 3]);
        let kind = opened.pop().expect("there is a kind");
        assert_ne!(kind, 0, "nobody asked for padding");
        (kind, opened)
    }
}

fn key_of(suite: Suite, key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(suite.algorithm(), key).expect("a key of this length"))
}

/// RFC 8446, section 5.3; RFC 7905, section 2; RFC 5288, section 3.
fn nonce(iv: &[u8; 12], sequence: u64, shown: &[u8]) -> Nonce {
    let mut nonce = *iv;
    match shown.len() {
        0 => (0..8).for_each(|at| nonce[4 + at] ^= (sequence >> (56 - 8 * at)) as u8),
        _ => nonce[4..].copy_from_slice(shown),
    }
    Nonce::assume_unique_for_key(nonce)
}

/// What is authenticated beside a record (RFC 8446, section 5.2; RFC 5246, section 6.2.3.3).
fn beside(is_13: bool, head: &[u8], sequence: u64, len: usize) -> Vec<u8> {
    match is_13 {
        true => head.to_vec(),
        false => [&sequence.to_be_bytes()[..], &head[..3], &(len as u16).to_be_bytes()].concat(),
    }
}
