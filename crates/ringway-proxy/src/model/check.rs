//! What a health check says to a backend, and what it has to answer.

use std::ops::RangeInclusive;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

/// `app.health.check`, with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// None: a backend is always taken for healthy.
    None,
    /// A TCP connection can be opened.
    Tcp,
    /// A handshake of TLS can be made.
    Tls,
    /// A request is answered as expected.
    Http(Arc<HttpCheck>),
    /// Bytes are answered as expected.
    SendExpect(Arc<SendExpect>),
}

impl Check {
    /// Whether anything is checked.
    pub fn is_active(&self) -> bool {
        match self {
            Self::None => false,
            Self::Tcp | Self::Tls | Self::Http(_) | Self::SendExpect(_) => true,
        }
    }
}

/// A request of HTTP/1.1, and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// `GET`, `HEAD` or `OPTIONS`.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// The `Host` header; `None`: the address of the endpoint.
    pub host: Option<String>,
    /// Status codes that are good, as ranges.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the body has to be; `None`: it is not looked at.
    pub body: Option<Expected>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self { method: "GET".into(), path: "/".into(), host: None, status: vec![200..=399], body: None }
    }
}

/// What is sent, and its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct SendExpect {
    /// May be empty: the backend speaks first.
    pub send: Vec<u8>,
    /// What has to come.
    pub expect: Expected,
    /// Sent after a good answer, before the connection is closed.
    pub goodbye: Vec<u8>,
}

/// What has to be received.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// It begins with one of these.
    Start(Vec<Vec<u8>>),
    /// It contains this.
    Text(String),
    /// It contains a match.
    Pattern(Pattern),
}

/// A regular expression over bytes.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// Bytes that a compiled pattern may take: far more than any pattern for a greeting.
const PATTERN_BYTES_MAX: usize = 1 << 20;

impl Pattern {
    /// Compiles `text`.
    ///
    /// # Errors
    /// What is wrong with it, in a line.
    pub fn new(text: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
            // The library draws a picture of several lines; the last one says it.
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default().trim();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
        })
    }

    /// Whether `bytes` contain a match. Takes time in proportion to their number.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl SendExpect {
    /// What `preset` stands for.
    pub fn preset(preset: Preset) -> Self {
        let start = |all: &[&str]| Expected::Start(all.iter().map(|text| text.as_bytes().to_vec()).collect());
        match preset {
            // A server that wants a password first is up as well; one that loads its data says -LOADING.
            Preset::Redis => Self {
                send: b"*1\r\n$4\r\nPING\r\n".to_vec(),
                expect: start(&["+PONG", "-NOAUTH"]),
                goodbye: Vec::new(),
            },
            // SSLRequest (PostgreSQL's documentation, "Message Formats"): answered by one byte before anybody logs in.
            Preset::PostgreSql => Self {
                send: vec![0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f],
                expect: start(&["S", "N"]),
                goodbye: Vec::new(),
            },
            // RFC 5321, section 3.1: a server that is ready greets with 220.
            Preset::Smtp => Self { send: Vec::new(), expect: start(&["220"]), goodbye: b"QUIT\r\n".to_vec() },
        }
    }
}

/// `app.health.preset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// `PING`.
    Redis,
    /// An SSLRequest.
    PostgreSql,
    /// The greeting.
    Smtp,
}
