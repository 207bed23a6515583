//! Hellos and what is none, each with the answer that is right: the table that the tests and `ringway selftest` go by.
//!
//! A case is checked in the ways in which its bytes can come: cut at any place, and, where it is a whole message, in
//! records of several sizes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::record::{FRAGMENT_BYTES_MAX, HANDSHAKE};
use super::write::{push_record, push_vector};
use super::{HELLO_BYTES_MAX, HelloError, HelloWriter, Outcome, Version, parse, records};

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is.
    pub name: &'static str,
    bytes: Vec<u8>,
    /// The message, where the bytes are no more than that.
    message: Option<Vec<u8>>,
    expected: Expected,
}

/// The right answer.
#[derive(Clone, Debug, PartialEq)]
enum Expected {
    More,
    NotTls,
    Unreadable(HelloError),
    Hello {
        server_name: Option<&'static str>,
        alpn: &'static [&'static str],
        highest: Option<Version>,
        has_ech: bool,
    },
}

impl Expected {
    fn of(outcome: &Outcome<'_>) -> String {
        match outcome {
            Outcome::More => "more".to_string(),
            Outcome::NotTls => "not TLS".to_string(),
            Outcome::Unreadable(error) => format!("unreadable: {error}"),
            Outcome::Hello(hello) => {
                let alpn: Vec<String> = hello.alpn().map(|protocol| protocol.to_string()).collect();
                let name = hello.server_name().map(|name| name.as_str());
                Self::hello(name, &alpn.join(","), hello.highest_version(), hello.has_ech())
            }
        }
    }

    fn hello(name: Option<&str>, alpn: &str, highest: Option<Version>, has_ech: bool) -> String {
        let highest = highest.map_or("no version", Version::as_str);
        let ech = if has_ech { ", encrypted hello" } else { "" };
        let alpn = if alpn.is_empty() { "-" } else { alpn };
        format!("hello: {}, alpn {alpn}, {highest}{ech}", name.unwrap_or("no name"))
    }
}

impl core::fmt::Display for Expected {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&match self {
            Self::More => Self::of(&Outcome::More),
            Self::NotTls => Self::of(&Outcome::NotTls),
            Self::Unreadable(error) => Self::of(&Outcome::Unreadable(*error)),
            Self::Hello { server_name, alpn, highest, has_ech } => {
                Self::hello(*server_name, &alpn.join(","), *highest, *has_ech)
            }
        })
    }
}

impl Case {
    /// Bytes of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The right answer, in words.
    pub fn expected(&self) -> String {
        self.expected.to_string()
    }

    /// Reads it in the ways in which it can come; says how many those were.
    ///
    /// # Errors
    /// The first way in which the answer was another one, and that answer.
    pub fn check(&self) -> Result<usize, String> {
        let mut ways = self.check_cuts(&self.bytes)?;
        for fragment_bytes in [1, 2, 3, 4, 5, 37, 1_000, FRAGMENT_BYTES_MAX] {
            let Some(message) = &self.message else { break };
            let wire = records(message, fragment_bytes);
            // In tiny records a long hello is too long.
            if wire.len() <= HELLO_BYTES_MAX {
                let with_size = |problem| format!("in records of {fragment_bytes} bytes {problem}");
                ways += self.check_cuts(&wire).map_err(with_size)?;
            }
        }
        Ok(ways)
    }

    /// Reads `wire` cut after each byte, or in the middle of long bytes after some: until there is an answer there is
    /// none, and then it stays.
    fn check_cuts(&self, wire: &[u8]) -> Result<usize, String> {
        let mut is_decided = false;
        let mut ways = 0;
        let is_middle = |end: usize| end > EVERY_CUT_BYTES && end + EVERY_CUT_BYTES < wire.len();
        for end in (0..=wire.len()).filter(|end| !is_middle(*end) || end.is_multiple_of(CUT_STEP)) {
            ways += 1;
            let outcome = parse(&wire[..end]);
            if outcome == Outcome::More && !is_decided && end < wire.len() {
                continue;
            }
            is_decided = outcome != Outcome::More;
            let found = Expected::of(&outcome);
            if found != self.expected() {
                return Err(format!("after {end} of {} bytes: {found}", wire.len()));
            }
        }
        Ok(ways)
    }
}

/// As many bytes from each end are cut after each.
const EVERY_CUT_BYTES: usize = 400;
/// In between, one cut in so many: no divisor of the sizes of records.
const CUT_STEP: usize = 89;

/// Types that mean nothing and must be ignored (RFC 8701).
const GREASE: [u16; 2] = [0x0a0a, 0xfafa];
/// KeyShareEntry of X25519MLKEM768: the key of 1,184 bytes and that of X25519 (draft-ietf-tls-ecdhe-mlkem).
const HYBRID_SHARE_BYTES: usize = 1_216;
const KEY_SHARE: u16 = 51;
const PRE_SHARED_KEY: u16 = 41;
const PADDING: u16 = 21;
const TLS13: &[u16] = &[0x0304, 0x0303];

/// All rows.
pub fn cases() -> Vec<Case> {
    let mut cases = good();
    cases.extend(broken_messages());
    cases.extend(broken_records());
    cases.extend(something_else());
    cases
}

fn hello(name: &'static str, writer: &HelloWriter, expected: Expected) -> Case {
    let message = writer.message();
    Case { name, bytes: records(&message, FRAGMENT_BYTES_MAX), message: Some(message), expected }
}

fn raw(name: &'static str, bytes: Vec<u8>, expected: Expected) -> Case {
    Case { name, bytes, message: None, expected }
}

fn asks(server_name: Option<&'static str>, alpn: &'static [&'static str], highest: Version) -> Expected {
    Expected::Hello { server_name, alpn, highest: Some(highest), has_ech: false }
}

fn named() -> HelloWriter {
    HelloWriter::new().server_name("www.example.com")
}

fn modern() -> HelloWriter {
    let mut shares = Vec::new();
    let mut entry = 0x11ec_u16.to_be_bytes().to_vec();
    push_vector(&mut entry, 2, &[0x3c; HYBRID_SHARE_BYTES]);
    entry.extend_from_slice(&0x001d_u16.to_be_bytes());
    push_vector(&mut entry, 2, &[0x25; 32]);
    push_vector(&mut shares, 2, &entry);
    named().alpn(&["h2", "http/1.1"]).supported_versions(TLS13).extension(KEY_SHARE, &shares)
}

fn good() -> Vec<Case> {
    let www = Some("www.example.com");
    let grease = HelloWriter::new()
        .cipher_suites(&[GREASE[0], 0x1301])
        .extension(GREASE[0], &[])
        .server_name("www.example.com")
        .supported_versions(&[GREASE[1], 0x0304])
        .alpn(&["\u{a}\u{a}", "h2"])
        .extension(GREASE[1], &[0]);
    let large = modern().ech(2_000).extension(PADDING, &[0; 1_500]).extension(PRE_SHARED_KEY, &[0; 1_400]);
    vec![
        hello("TLS 1.2 with a name", &named(), asks(www, &[], Version::Tls12)),
        hello(
            "TLS 1.3 with a post-quantum key share",
            &modern(),
            asks(www, &["h2", "http/1.1"], Version::Tls13),
        ),
        hello(
            "6 KiB: key shares, encrypted hello, padding, ticket",
            &large,
            Expected::Hello {
                server_name: www,
                alpn: &["h2", "http/1.1"],
                highest: Some(Version::Tls13),
                has_ech: true,
            },
        ),
        hello("grease in every list", &grease, asks(www, &["\\n\\n", "h2"], Version::Tls13)),
        hello("SSL 3.0", &HelloWriter::new().legacy_version(Version::Ssl3), asks(None, &[], Version::Ssl3)),
        hello("TLS 1.0 with a name", &named().legacy_version(Version::Tls10), asks(www, &[], Version::Tls10)),
        hello(
            "TLS 1.1 without extensions",
            &HelloWriter::new().legacy_version(Version::Tls11),
            asks(None, &[], Version::Tls11),
        ),
        hello("no name", &HelloWriter::new().alpn(&["h2"]), asks(None, &["h2"], Version::Tls12)),
        hello(
            "an empty list of extensions",
            &HelloWriter::new().no_extensions(),
            asks(None, &[], Version::Tls12),
        ),
        hello(
            "a name in upper case",
            &HelloWriter::new().server_name("WWW.Example.COM"),
            asks(www, &[], Version::Tls12),
        ),
        hello(
            "a name with a trailing dot",
            &HelloWriter::new().server_name("www.example.com."),
            asks(www, &[], Version::Tls12),
        ),
        hello(
            "a name with an underscore",
            &HelloWriter::new().server_name("a_b.example.com"),
            asks(Some("a_b.example.com"), &[], Version::Tls12),
        ),
        hello(
            "unknown extensions, one of them long",
            &named().extension(0xff00, &[7; 4_000]).extension(0xff01, &[0]),
            asks(www, &[], Version::Tls12),
        ),
        hello(
            "only versions that nobody knows",
            &named().supported_versions(&[GREASE[0], 0x0305]),
            Expected::Hello { server_name: www, alpn: &[], highest: None, has_ech: false },
        ),
        raw(
            "a hello, and early data after it",
            {
                let mut wire = records(&modern().message(), FRAGMENT_BYTES_MAX);
                push_record(&mut wire, 20, &[1]);
                push_record(&mut wire, 23, &[0xda; 900]);
                wire
            },
            asks(www, &["h2", "http/1.1"], Version::Tls13),
        ),
        {
            // The rest is one extension, so long that the record ends where no byte more is read.
            let head = records(&named().extension(PADDING, &[]).message(), FRAGMENT_BYTES_MAX).len();
            let padding = vec![0; HELLO_BYTES_MAX - head];
            hello(
                "as long as a hello may be",
                &named().extension(PADDING, &padding),
                asks(www, &[], Version::Tls12),
            )
        },
    ]
}

/// Messages that come whole and break a rule.
fn broken_messages() -> Vec<Case> {
    let server_name = |list: &[u8]| HelloWriter::new().extension(0, list);
    let alpn = |list: &[u8]| HelloWriter::new().extension(16, list);
    let versions = |list: &[u8]| HelloWriter::new().extension(43, list);
    let unreadable = Expected::Unreadable;
    let broken = |name, change: &dyn Fn(&mut Vec<u8>), error| {
        let mut message = named().message();
        change(&mut message);
        let length = (message.len() - 4) as u32;
        message[1..4].copy_from_slice(&length.to_be_bytes()[1..]);
        let bytes = records(&message, FRAGMENT_BYTES_MAX);
        Case { name, bytes, message: Some(message), expected: Expected::Unreadable(error) }
    };
    // In the message: 4 of head, 2 of version, 32 of random, 1 + 32 of session, 2 + 4 of suites, 2 of compression, 2 of
    // the extensions' length.
    let (version, session, suites, compression, extensions) = (4, 38, 71, 77, 79);
    vec![
        hello(
            "an IPv4 address for a name",
            &HelloWriter::new().server_name("192.0.2.1"),
            unreadable(HelloError::IpLiteral),
        ),
        hello(
            "an IPv6 address for a name",
            &HelloWriter::new().server_name("2001:db8::1"),
            unreadable(HelloError::IpLiteral),
        ),
        hello(
            "a name with a zero byte",
            &HelloWriter::new().server_name("www.example.com\0.evil"),
            unreadable(HelloError::ServerName),
        ),
        hello(
            "a name that is not ASCII",
            &HelloWriter::new().server_name("bücher.example"),
            unreadable(HelloError::ServerName),
        ),
        hello("an empty name", &HelloWriter::new().server_name(""), unreadable(HelloError::ServerName)),
        hello(
            "a wildcard for a name",
            &HelloWriter::new().server_name("*.example.com"),
            unreadable(HelloError::ServerName),
        ),
        hello(
            "a name of 300 bytes",
            &server_name(&{
                let mut entry = vec![0];
                push_vector(&mut entry, 2, &[b'a'; 300]);
                let mut list = Vec::new();
                push_vector(&mut list, 2, &entry);
                list
            }),
            unreadable(HelloError::ServerName),
        ),
        hello("no name in the list of names", &server_name(&[0, 0]), unreadable(HelloError::NoServerName)),
        hello(
            "a name of another type",
            &server_name(&[0, 4, 1, 0, 1, b'a']),
            unreadable(HelloError::ServerNameType),
        ),
        hello(
            "two names in the list of names",
            &server_name(&[0, 8, 0, 0, 1, b'a', 0, 0, 1, b'b']),
            unreadable(HelloError::SeveralServerNames),
        ),
        hello(
            "a list of names longer than its extension",
            &server_name(&[0, 9, 0, 0, 1, b'a']),
            unreadable(HelloError::Length),
        ),
        hello(
            "bytes after the list of names",
            &server_name(&[0, 4, 0, 0, 1, b'a', 0]),
            unreadable(HelloError::Length),
        ),
        hello(
            "two extensions with a name",
            &named().server_name("other.example"),
            unreadable(HelloError::RepeatedExtension),
        ),
        hello(
            "an unknown extension twice",
            &named().extension(0xff00, &[]).extension(0xff00, &[]),
            unreadable(HelloError::RepeatedExtension),
        ),
        hello("an empty list of protocols", &alpn(&[0, 0]), unreadable(HelloError::Alpn)),
        hello("an empty protocol", &alpn(&[0, 4, 0, 2, b'h', b'2']), unreadable(HelloError::Alpn)),
        hello("a protocol longer than its list", &alpn(&[0, 3, 9, b'h', b'2']), unreadable(HelloError::Alpn)),
        hello("half of a version", &versions(&[3, 3, 4, 3]), unreadable(HelloError::SupportedVersions)),
        hello("no version", &versions(&[0]), unreadable(HelloError::SupportedVersions)),
        broken("version 2.1", &|message| message[version] = 2, HelloError::Version),
        broken(
            "a session identifier of 33 bytes",
            &|message| {
                message[session] = 33;
                message.insert(session + 1, 0);
            },
            HelloError::SessionId,
        ),
        broken(
            "an odd list of cipher suites",
            &|message| {
                message[suites + 1] = 3;
                message.remove(suites + 2);
            },
            HelloError::CipherSuites,
        ),
        broken(
            "no cipher suite",
            &|message| {
                message[suites + 1] = 0;
                message.drain(suites + 2..suites + 6);
            },
            HelloError::CipherSuites,
        ),
        broken(
            "no compression method",
            &|message| {
                message[compression] = 0;
                message.remove(compression + 1);
            },
            HelloError::Compression,
        ),
        broken(
            "extensions longer than the message",
            &|message| message[extensions + 1] += 1,
            HelloError::Length,
        ),
        broken("bytes after the extensions", &|message| message.push(0), HelloError::Length),
        broken(
            "an extension longer than all of them",
            &|message| message[extensions + 5] += 1,
            HelloError::Length,
        ),
        broken(
            "a message that ends within its random bytes",
            &|message| message.truncate(20),
            HelloError::Length,
        ),
        broken("an empty message", &|message| message.truncate(4), HelloError::Length),
    ]
}

/// Records that are wrong, whatever is in them.
fn broken_records() -> Vec<Case> {
    let message = named().message();
    let (first, rest) = message.split_at(30);
    let with = |build: &dyn Fn(&mut Vec<u8>)| {
        let mut wire = Vec::new();
        build(&mut wire);
        wire
    };
    let after_first = |build: &dyn Fn(&mut Vec<u8>)| {
        with(&|wire| {
            push_record(wire, HANDSHAKE, first);
            build(wire);
        })
    };
    let unreadable = |name, bytes, error| raw(name, bytes, Expected::Unreadable(error));
    vec![
        unreadable(
            "an empty record",
            after_first(&|wire| push_record(wire, HANDSHAKE, &[])),
            HelloError::EmptyRecord,
        ),
        unreadable(
            "an alert within the hello",
            after_first(&|wire| push_record(wire, 21, &[1, 0])),
            HelloError::Interleaved,
        ),
        unreadable(
            "data within the hello",
            after_first(&|wire| push_record(wire, 23, rest)),
            HelloError::Interleaved,
        ),
        unreadable(
            "a record of another protocol within the hello",
            after_first(&|wire| {
                wire.extend_from_slice(&[HANDSHAKE, 9, 9, 0, 1, 0]);
            }),
            HelloError::RecordVersion,
        ),
        unreadable(
            "a record of 16385 bytes",
            with(&|wire| push_record(wire, HANDSHAKE, &[1; FRAGMENT_BYTES_MAX + 1])),
            HelloError::RecordTooLong,
        ),
        unreadable(
            "a forged length of 16 MiB",
            with(&|wire| push_record(wire, HANDSHAKE, &[1, 0xff, 0xff, 0xff])),
            HelloError::TooLong,
        ),
        unreadable(
            "a hello that is a byte too long",
            with(&|wire| push_record(wire, HANDSHAKE, &[1, 0, 0x3f, 0xf8])),
            HelloError::TooLong,
        ),
        unreadable(
            "a long hello in tiny records",
            records(&modern().extension(PADDING, &[0; 3_000]).message(), 1),
            HelloError::TooLong,
        ),
        unreadable(
            "another message after the hello",
            with(&|wire| {
                push_record(wire, HANDSHAKE, &[&message[..], &[1]].concat());
            }),
            HelloError::Trailing,
        ),
        unreadable(
            "a ServerHello",
            with(&|wire| push_record(wire, HANDSHAKE, &[2, 0, 0, 40])),
            HelloError::NotClientHello,
        ),
        unreadable(
            "a message that does not begin",
            with(&|wire| push_record(wire, HANDSHAKE, &[0; 4])),
            HelloError::NotClientHello,
        ),
        unreadable(
            "a hello of SSL 2.0",
            vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10],
            HelloError::Sslv2,
        ),
        unreadable(
            "a hello of TLS 1.0 in the shape of SSL 2.0",
            vec![0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10],
            HelloError::Sslv2,
        ),
        raw(
            "a hello without its last byte",
            {
                let mut wire = records(&message, FRAGMENT_BYTES_MAX);
                wire.pop();
                wire
            },
            Expected::More,
        ),
        raw("a hello without its last record", after_first(&|_| {}), Expected::More),
        raw("nothing", Vec::new(), Expected::More),
    ]
}

fn something_else() -> Vec<Case> {
    let cases: [(&str, &[u8]); 9] = [
        ("an HTTP/1 request", b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n"),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("an SSH client", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("a PROXY header that is not taken", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        ("a request for TLS to PostgreSQL", &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]),
        ("an alert", &[21, 3, 1, 0, 2, 1, 0]),
        ("a record of the handshake of version 2", &[HANDSHAKE, 2, 0, 0, 5]),
        ("a high byte and no hello of SSL 2.0", &[0x80, 0x2e, 1, 0, 3]),
        ("zeros", &[0; 64]),
    ];
    cases.into_iter().map(|(name, bytes)| raw(name, bytes.to_vec(), Expected::NotTls)).collect()
}
