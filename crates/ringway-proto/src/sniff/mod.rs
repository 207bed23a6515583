//! What a client speaks, told by its first bytes: TLS, HTTP/1, HTTP/2, SSH, PostgreSQL, or something else.
//!
//! [`sniff`] is called with everything that came so far until it answers; it keeps nothing and allocates nothing. Once the
//! bytes can be of one protocol only, they are read by the rules of that protocol: a request of HTTP/1 whose head is
//! malformed is [`Sniffed::Unreadable`], and not something else.
//!
//! ```
//! use ringway_proto::sniff::{Sniffed, sniff};
//! assert_eq!(sniff(b"SSH"), Sniffed::More { is_bound: false });
//! assert_eq!(sniff(b"SSH-2.0-OpenSSH_9.6\r\n"), Sniffed::Ssh);
//! let Sniffed::Http1(request) = sniff(b"GET /chat?x=1 HTTP/1.1\r\nHost: a.example.com:80\r\n\r\n") else { panic!() };
//! assert_eq!((request.host.as_deref(), request.path), (Some("a.example.com"), "/chat"));
//! ```

mod http;
mod postgres;

use core::fmt;

pub use http::Request;

use crate::client_hello::{self, ClientHello, HelloError, Outcome};
use crate::http1::HeadError;

/// The most bytes that are looked at.
pub const SNIFF_BYTES_MAX: usize = client_hello::HELLO_BYTES_MAX;
const _: () = assert!(crate::http1::HEAD_BYTES_MAX <= SNIFF_BYTES_MAX);

/// How a connection of HTTP/2 begins (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How the line of an SSH client begins (RFC 4253, section 4.2).
const SSH_PREFIX: &[u8] = b"SSH-";

/// What the bytes that came so far are.
#[derive(Clone, Debug, PartialEq)]
pub enum Sniffed<'a> {
    /// They do not say yet: more must come.
    More {
        /// They can be of one protocol only, which is not complete; else they may turn out to be nothing that is known.
        is_bound: bool,
    },
    /// TLS.
    Tls(ClientHello<'a>),
    /// A request of HTTP/1.
    Http1(Request<'a>),
    /// HTTP/2 without TLS.
    Http2,
    /// SSH.
    Ssh,
    /// PostgreSQL: a request for TLS or GSSAPI, a startup, or the cancelling of a query.
    PostgreSql,
    /// None of these.
    Other,
    /// TLS or HTTP/1 that breaks a rule.
    Unreadable(Unreadable),
}

/// Why the bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreadable {
    /// As a hello of TLS.
    Hello(HelloError),
    /// As the head of a request.
    Head(HeadError),
    /// The request names no host, several, or a malformed one.
    Host,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello(error) => error.fmt(f),
            Self::Head(error) => error.fmt(f),
            Self::Host => f.write_str("the host of the request is malformed (RFC 9112, section 3.2)"),
        }
    }
}

impl core::error::Error for Unreadable {}

/// Tells what `received` is: everything that came, from the first byte of the connection. Once the answer is another than
/// [`Sniffed::More`], no further byte changes it.
pub fn sniff(received: &[u8]) -> Sniffed<'_> {
    match client_hello::parse(received) {
        Outcome::Hello(hello) => return Sniffed::Tls(hello),
        Outcome::Unreadable(error) => return Sniffed::Unreadable(Unreadable::Hello(error)),
        // The first two bytes of a record are of nothing else.
        Outcome::More => return Sniffed::More { is_bound: received.len() >= 2 && received[0] < 0x80 },
        Outcome::NotTls => {}
    }
    let mut may_be_more = false;
    for (found, answer) in [
        (begins(received, SSH_PREFIX), Sniffed::Ssh),
        (begins(received, HTTP2_PREFACE), Sniffed::Http2),
        (postgres::look(received), Sniffed::PostgreSql),
    ] {
        match found {
            Some(true) => return answer,
            Some(false) => {}
            None => may_be_more = true,
        }
    }
    match http::look(received) {
        Sniffed::Other if may_be_more => Sniffed::More { is_bound: false },
        answer => answer,
    }
}

/// Whether it begins like this; `None` while it is too short to say.
fn begins(received: &[u8], prefix: &[u8]) -> Option<bool> {
    if received.len() >= prefix.len() {
        Some(received.starts_with(prefix))
    } else if prefix.starts_with(received) {
        None
    } else {
        Some(false)
    }
}
