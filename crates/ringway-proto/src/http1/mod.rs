//! HTTP/1 message heads: read as they arrive, written, and what they say about the body (RFC 9112).
//!
//! Heads only: a body is bytes to whoever asked. [`RequestParser`] and [`ResponseParser`] keep no bytes, only how far
//! they have come; each call gets everything received so far. They are strict where leniency has been a way to
//! smuggle requests: a bare LF, a folded line, a space before a colon are errors.
//!
//! ```
//! use ringway_proto::http1::RequestParser;
//! let mut parser = RequestParser::default();
//! assert!(parser.parse(b"GET / HTTP/1.1\r\nHost: a")?.is_none());
//! let received = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
//! let (request, length) = parser.parse(received)?.expect("it is complete");
//! assert_eq!((request.method, request.target, length), ("GET", "/", received.len()));
//! assert_eq!(request.headers.get("host"), Some(&b"a"[..]));
//! # Ok::<(), ringway_proto::http1::HeadError>(())
//! ```

mod headers;
mod parse;
mod write;

use core::fmt;

pub use headers::{BodyLength, Headers};
pub use parse::{RequestParser, ResponseParser};
pub use write::{write_request_head, write_response_head};

/// The most bytes of a head, its empty line included: what common servers allow.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most header lines of a head.
pub const HEADERS_MAX: usize = 100;

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// As sent; methods are case-sensitive (RFC 9110, section 9.1).
    pub method: &'a str,
    /// The request target, as sent (RFC 9112, section 3.2).
    pub target: &'a str,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// The header lines.
    pub headers: Headers<'a>,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase; may be empty, may be no UTF-8.
    pub reason: &'a [u8],
    /// The header lines.
    pub headers: Headers<'a>,
}

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: a connection carries one message unless both ends say `keep-alive`.
    Http10,
    /// HTTP/1.1: a connection is kept unless one end says `close`.
    Http11,
}

impl RequestHead<'_> {
    /// Whether the client wants to send more requests on this connection (RFC 9112, section 9.3).
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.headers)
    }

    /// What follows the head (RFC 9112, section 6.3).
    ///
    /// # Errors
    /// [`HeadError::BodyLength`] when the headers contradict each other; the connection cannot go on.
    pub fn body_length(&self) -> Result<BodyLength, HeadError> {
        self.headers.body_length().map(|found| found.unwrap_or(BodyLength::Bytes(0)))
    }
}

impl ResponseHead<'_> {
    /// Whether the server keeps the connection open (RFC 9112, section 9.3).
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.headers)
    }

    /// What follows the head, if it answers a request that was not HEAD (RFC 9112, section 6.3).
    ///
    /// # Errors
    /// [`HeadError::BodyLength`] when the headers contradict each other.
    pub fn body_length(&self) -> Result<BodyLength, HeadError> {
        match self.status {
            100..=199 | 204 | 304 => Ok(BodyLength::Bytes(0)),
            _ => self.headers.body_length().map(|found| found.unwrap_or(BodyLength::UntilClose)),
        }
    }
}

fn keeps_alive(version: Version, headers: &Headers<'_>) -> bool {
    match version {
        Version::Http10 => headers.has_token("connection", "keep-alive"),
        Version::Http11 => !headers.has_token("connection", "close"),
    }
}

/// What is wrong with a head. The message cannot be understood; answer 400 and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadError {
    /// More than [`HEAD_BYTES_MAX`] bytes or [`HEADERS_MAX`] lines (answer 431).
    TooLarge,
    /// A line that does not end in CRLF (RFC 9112, section 2.2).
    LineEnd,
    /// The first line is no request line or status line (RFC 9112, sections 3 and 4).
    StartLine,
    /// Neither HTTP/1.0 nor 1.1 (answer 505).
    Version,
    /// A header line without a name and colon, or with bytes that must not be there (RFC 9112, section 5).
    Header,
    /// `Content-Length` and `Transfer-Encoding` are malformed or contradict each other (RFC 9112, section 6.3).
    BodyLength,
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the head is too large",
            Self::LineEnd => "a line of the head does not end in CRLF",
            Self::StartLine => "the first line is malformed",
            Self::Version => "the version is neither HTTP/1.0 nor HTTP/1.1",
            Self::Header => "a header line is malformed",
            Self::BodyLength => "the length of the body is malformed or contradictory",
        })
    }
}

impl core::error::Error for HeadError {}
