//! What clients say first, where that decides where they go: hellos of TLS, requests of HTTP/1, and what is neither.
//!
//! Written here by hand, from RFC 8446 and RFC 9112, so that a mistake of the proxy's reader is not made twice. Every
//! opening carries the number of its client, so that a backend knows from whom it must be.

use std::rc::Rc;
use std::time::Duration;

use ringway::simulated::Random;

use crate::tls::Manner;

/// Of all clients, by their numbers; empty ones where nothing goes by them.
pub(crate) type Openings = Rc<[Opening]>;

/// The first bytes of a client, and how it sends them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    pub(crate) bytes: Vec<u8>,
    pub(crate) says: Says,
    /// It says them within TLS that the proxy ends, like everything else.
    pub(crate) tls: Option<Manner>,
    /// So long it sends nothing.
    pub(crate) silence: Duration,
    /// The client sends so many bytes and no more.
    pub(crate) stops_at: Option<u64>,
    /// It sends pieces of so many bytes at most, with pauses now and then.
    pub(crate) piece_max: u64,
}

/// What an opening is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Says {
    #[default]
    Nothing,
    /// A hello.
    Tls {
        name: Option<&'static str>,
        alpn: &'static [&'static str],
        /// It knows TLS 1.2 only.
        is_old: bool,
    },
    /// A request of HTTP/1.
    Http {
        name: &'static str,
    },
    Ssh,
    /// No protocol that anybody knows.
    Other,
    /// The same, and it comes late: who waits for it may have given up.
    Late,
    /// A hello that breaks a rule.
    Broken,
    /// The first part of a hello.
    Part,
}

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowd {
    Mixed,
    /// Most of them speak TLS, or what looks so.
    MostlyTls,
    /// They do, and with the proxy.
    Secured,
}

/// Hosts that are asked for, some by nobody's route.
const NAMES: [&str; 5] = ["a.test", "www.b.test", "x.y.b.test", "b.test", "nowhere.invalid"];
const PROTOCOLS: [&[&str]; 4] = [&[], &["h2", "http/1.1"], &["http/1.1"], &["sim/1", "h2"]];
/// The longest piece that a client sends of what it says first.
const PIECES: [u64; 5] = [5, 100, 100, 20_000, 20_000];
/// A record of a handshake, of the version that all hellos name here.
const RECORD: [u8; 3] = [22, 3, 1];
/// More than the proxy looks at is refused.
const HELLO_BYTES_MAX: usize = 15_000;

impl Opening {
    /// That of the client with this number. `sniff`: after which silence the server is to speak.
    pub(crate) fn draw(number: u32, sniff: Duration, crowd: Crowd, random: &mut Random) -> Self {
        let name = NAMES[random.index(NAMES.len())];
        let alpn = PROTOCOLS[random.index(PROTOCOLS.len())];
        let named = random.chance(0.8).then_some(name);
        let kind = match crowd {
            Crowd::Secured if random.chance(0.8) => {
                let manner = Manner::draw(random);
                let bytes = format!("within {number:08x} ").into_bytes();
                let says = Says::Tls { name: named, alpn, is_old: manner.is_old };
                let piece_max = PIECES[random.index(PIECES.len())];
                return Self { bytes, says, tls: Some(manner), piece_max, ..Self::default() };
            }
            // No hello that is whole: its client would have to go on.
            Crowd::Secured => random.between(15, 29) as usize,
            Crowd::MostlyTls if random.chance(0.5) => 0,
            Crowd::Mixed | Crowd::MostlyTls => random.index(30),
        };
        let (bytes, says) = match kind {
            0..=14 => (hello(number, named, alpn, random), Says::Tls { name: named, alpn, is_old: false }),
            15..=19 => (request(number, name, random), Says::Http { name }),
            20 | 21 => (format!("SSH-2.0-simulated_{number}\r\n").into_bytes(), Says::Ssh),
            22 | 23 => (garbage(number, random), Says::Other),
            24 => (sslv2(number), Says::Broken),
            25 => (forged(number, random), Says::Broken),
            26..=28 => (garbage(number, random), Says::Late),
            _ => (hello(number, named, alpn, random), Says::Part),
        };
        let silence = match says {
            Says::Late => sniff.mul_f64(random.between(2, 30) as f64 / 10.0),
            _ => Duration::ZERO,
        };
        let stops_at = (says == Says::Part).then(|| random.between(6, bytes.len() as u64 - 1));
        let piece_max = PIECES[random.index(PIECES.len())];
        Self { bytes, says, tls: None, silence, stops_at, piece_max }
    }

    /// Whether it ends before it can be told from what is no TLS.
    pub(crate) fn says_little(&self) -> bool {
        self.little().is_some()
    }

    /// So few bytes of a hello are sent, and no more, that a backend may get them as they are.
    pub(crate) fn little(&self) -> Option<u64> {
        self.tls.and_then(|manner| manner.cut_at).filter(|at| *at < 6)
    }

    /// Whether a backend may get this of it first, before more comes.
    pub(crate) fn may_begin(&self, first: &[u8]) -> bool {
        let is_little = self.little().is_some_and(|little| first.len() as u64 <= little);
        let head = &first[..first.len().min(RECORD.len())];
        self.bytes.starts_with(first) || is_little && RECORD.starts_with(head)
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// A hello of TLS 1.3, or one that looks so, in records of any size (RFC 8446, sections 4.1.2 and 5.1).
fn hello(number: u32, name: Option<&str>, alpn: &[&str], random: &mut Random) -> Vec<u8> {
    let message = message(number, name, alpn, random);
    let fragment_max = [60, 700, 16_384][random.index(3)];
    let mut records = Vec::new();
    let mut rest = &message[..];
    while !rest.is_empty() {
        // Heads of many small records would make the whole too long.
        let room = HELLO_BYTES_MAX.saturating_sub(records.len() + 5 + rest.len());
        let least = if room < 2_000 { rest.len() } else { 1 };
        let len = (random.between(1, fragment_max) as usize).max(least).min(rest.len());
        records.extend(RECORD);
        records.extend((len as u16).to_be_bytes());
        records.extend(&rest[..len]);
        rest = &rest[len..];
    }
    records
}

fn message(number: u32, name: Option<&str>, alpn: &[&str], random: &mut Random) -> Vec<u8> {
    let mut body = vec![3, 3];
    // The 32 bytes of chance.
    body.extend(number.to_be_bytes());
    body.extend((0..28).map(|_| random.below(256) as u8));
    let session = if random.chance(0.5) { 32 } else { 0 };
    body.push(session);
    body.extend((0..session).map(|_| random.below(256) as u8));
    // Suites: one that means nothing (RFC 8701) and two of TLS 1.3. No compression.
    body.extend([0, 6, 0x3a, 0x3a, 0x13, 0x01, 0x13, 0x02, 1, 0]);
    let mut extensions = vec![extension(0x4a4a, &[])];
    if let Some(name) = name {
        // In whatever case it was typed.
        let name = if random.chance(0.2) { name.to_ascii_uppercase() } else { name.to_owned() };
        let entry = [&[0][..], &sized(name.as_bytes())].concat();
        extensions.push(extension(0, &sized(&entry)));
    }
    if !alpn.is_empty() {
        let each = alpn.iter().map(|name| [&[name.len() as u8][..], name.as_bytes()].concat());
        extensions.push(extension(16, &sized(&each.collect::<Vec<_>>().concat())));
    }
    // Versions: a meaningless one and 1.3.
    extensions.push(extension(43, &[4, 0x5a, 0x5a, 3, 4]));
    // Groups: X25519MLKEM768 and X25519, with the share of the first, of 1,216 bytes, or of the second.
    extensions.push(extension(10, &sized(&[0x11, 0xec, 0, 0x1d])));
    let (group, len) = if random.chance(0.5) { (0x11ec_u16, 1_216) } else { (0x001d, 32) };
    let key: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
    let share = [&group.to_be_bytes()[..], &sized(&key)].concat();
    extensions.push(extension(51, &sized(&share)));
    if random.chance(0.3) {
        // A ticket or an encrypted hello of several KiB, or what will be invented.
        let unknown: Vec<u8> = (0..random.between(1, 9_000)).map(|at| at as u8).collect();
        extensions.push(extension(0x7a01, &unknown));
    }
    let turn = random.index(extensions.len());
    extensions.rotate_left(turn);
    body.extend(sized(&extensions.concat()));
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    [&[1][..], &length, &body].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(data)].concat()
}

/// Behind its length, in two bytes.
fn sized(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u16).to_be_bytes()[..], data].concat()
}

/// A hello that cannot be one: it names an address, or pretends to be longer than any.
fn forged(number: u32, random: &mut Random) -> Vec<u8> {
    if random.chance(0.5) {
        return hello(number, Some("192.0.2.1"), &[], random);
    }
    let mut bytes = vec![22, 3, 1, 0, 200, 1, 0xff, 0xff, 0xff, 3, 3];
    bytes.extend(number.to_be_bytes());
    bytes
}

/// A hello as SSL 2 had it (RFC 5246, appendix E.2).
fn sslv2(number: u32) -> Vec<u8> {
    let mut bytes = vec![0x80, 28, 1, 3, 1, 0, 3, 0, 0, 0, 16, 0, 0, 0x2f];
    bytes.extend(number.to_be_bytes());
    bytes.extend([7; 12]);
    bytes
}

fn request(number: u32, name: &str, random: &mut Random) -> Vec<u8> {
    let mut head = format!("GET /{number} HTTP/1.1\r\nHost: {name}\r\n");
    for field in 0..random.below(20) {
        head.push_str(&format!("X-Field-{field}: {}\r\n", "v".repeat(random.below(200) as usize)));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// Its first byte is that of nothing which is known.
fn garbage(number: u32, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![7];
    bytes.extend(number.to_be_bytes());
    bytes.extend((0..random.below(300)).map(|_| random.below(256) as u8));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_opening_is_the_beginning_of_another() {
        let mut random = Random::new(5);
        let draw = |number| {
            let crowd = [Crowd::Mixed, Crowd::MostlyTls, Crowd::Secured][number as usize % 3];
            Opening::draw(number, Duration::from_secs(1), crowd, &mut random)
        };
        let all: Vec<Opening> = (0..300).map(draw).collect();
        for (number, one) in all.iter().enumerate() {
            assert!(!one.bytes.is_empty());
            let same = all.iter().filter(|other| other.bytes.starts_with(&one.bytes)).count();
            assert_eq!(same, 1, "client {number}");
        }
        let hellos = all.iter().filter(|one| matches!(one.says, Says::Tls { .. } | Says::Part));
        let hellos = hellos.filter(|one| one.tls.is_none());
        assert!(hellos.clone().all(|one| one.bytes.len() <= HELLO_BYTES_MAX));
        assert!(hellos.clone().any(|one| one.bytes.len() > 8_000));
    }
}
