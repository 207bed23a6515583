//! The first message of a TLS client, read before anybody answers it: who is asked for, and in which protocol.
//!
//! [`parse`] is called with everything that came so far until it answers. It keeps nothing and allocates nothing: what a
//! [`ClientHello`] says is read from the bytes that are there, across any number of TLS records. It reads the message
//! whole and strictly, for whoever guesses at half of it sends a client where another reader would not: what cannot be
//! read is [`Outcome::Unreadable`] with the rule that it breaks, and never a hello without a name.
//! Sources: RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 6066 (server name), RFC 7301 (ALPN), RFC 9849 (ECH).
//!
//! ```
//! use ringway_proto::client_hello::{HelloWriter, Outcome, parse, records};
//! let received = records(&HelloWriter::new().server_name("www.example.com").alpn(&["h2"]).message(), 100);
//! assert_eq!(parse(&received[..20]), Outcome::More);
//! let Outcome::Hello(hello) = parse(&received) else { panic!("it is complete") };
//! assert_eq!(hello.server_name().map(|name| name.as_str()), Some("www.example.com"));
//! assert!(hello.alpn().any(|protocol| protocol.as_bytes() == b"h2"));
//! ```

mod body;
mod error;
mod message;
mod record;
pub mod torture;
mod write;

use core::fmt;

pub use error::HelloError;
pub use message::ClientHello;
pub use write::{HelloWriter, records};

/// The most bytes from the start of the connection to the end of the hello, the heads of records included. The largest
/// in the wild have 2 to 3 KiB, with a post-quantum key share, a ticket and an encrypted hello. HAProxy and nginx look at
/// as many bytes by default.
pub const HELLO_BYTES_MAX: usize = 16 << 10;

/// What the bytes that came so far are.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for the length of a call, and memory is what a hello must not cost"
)]
pub enum Outcome<'a> {
    /// The beginning of a hello, or of nothing yet: more must come.
    More,
    /// A whole hello.
    Hello(ClientHello<'a>),
    /// Something else: no TLS client begins like this.
    NotTls,
    /// A TLS client, which broke this rule.
    Unreadable(HelloError),
}

/// A version of TLS, older ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// SSL 3.0 (RFC 6101).
    Ssl3,
    /// TLS 1.0 (RFC 2246).
    Tls10,
    /// TLS 1.1 (RFC 4346).
    Tls11,
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl Version {
    const ALL: [Self; 5] = [Self::Ssl3, Self::Tls10, Self::Tls11, Self::Tls12, Self::Tls13];

    /// The number of it on the wire.
    pub const fn number(self) -> u16 {
        0x0300 + self as u16
    }

    /// The version of this number; none for one that is not assigned.
    pub fn of_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ssl3 => "SSL 3.0",
            Self::Tls10 => "TLS 1.0",
            Self::Tls11 => "TLS 1.1",
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads a hello. `received` is everything that came, from the first byte of the connection; what follows the hello is
/// not looked at. Once the answer is another than [`Outcome::More`], no further byte changes it.
pub fn parse(received: &[u8]) -> Outcome<'_> {
    match received {
        [] | [record::HANDSHAKE] | [record::HANDSHAKE, record::VERSION_MAJOR, ..] => {
            match record::survey(received) {
                Ok(None) => Outcome::More,
                Ok(Some(body)) => match message::read(body) {
                    Ok(hello) => Outcome::Hello(hello),
                    Err(error) => Outcome::Unreadable(error),
                },
                Err(error) => Outcome::Unreadable(error),
            }
        }
        [0x80..=0xff, ..] => record::look_for_sslv2(received),
        _ => Outcome::NotTls,
    }
}
