//! The header lines of a head that was found to be well-formed.

use super::HeadError;
use crate::reader::Reader;

/// Header lines, in the order in which they came. Made by the parsers, so every line is well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Whole lines, each with its CRLF, without the empty line.
    lines: &'a [u8],
}

/// How long the body after a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes.
    Bytes(u64),
    /// In chunks, each with its length before it.
    Chunked,
    /// Everything until the connection ends; only responses.
    UntilClose,
}

impl<'a> Headers<'a> {
    pub(super) fn new(lines: &'a [u8]) -> Self {
        Self { lines }
    }

    /// Name and value of each line. Values are without the white space around them; they may be no UTF-8.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.lines);
        core::iter::from_fn(move || {
            let line = reader.take_until(b'\n').ok()?;
            split_line(line.strip_suffix(b"\r").unwrap_or(line))
        })
    }

    /// The value of the first line of this name; letter case of names does not matter.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Whether a line of this name lists `token`, as `Connection: close, upgrade` does. Letter case does not matter.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// What the headers say about the body; nothing if they do not mention it.
    pub(super) fn body_length(&self) -> Result<Option<BodyLength>, HeadError> {
        let mut length = None;
        for value in self.all("content-length") {
            // Repeated equal values are allowed, in one line or several (RFC 9110, section 8.6).
            for item in value.split(|byte| *byte == b',') {
                let found = parse_length(item.trim_ascii()).ok_or(HeadError::BodyLength)?;
                if length.is_some_and(|earlier| earlier != found) {
                    return Err(HeadError::BodyLength);
                }
                length = Some(found);
            }
        }
        let mut encodings = self.all("transfer-encoding").peekable();
        if encodings.peek().is_none() {
            return Ok(length.map(BodyLength::Bytes));
        }
        // Both together are how requests are smuggled; other encodings than chunked are not understood here.
        if length.is_some() || !encodings.all(|value| value.eq_ignore_ascii_case(b"chunked")) {
            return Err(HeadError::BodyLength);
        }
        Ok(Some(BodyLength::Chunked))
    }

    fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Splits a header line without its CRLF; nothing if it is malformed (RFC 9112, section 5).
pub(super) fn split_line(line: &[u8]) -> Option<(&str, &[u8])> {
    let mut reader = Reader::new(line);
    let name = reader.take_while(is_token_byte);
    if name.is_empty() || !reader.skip(b":") {
        return None;
    }
    let value = reader.rest();
    if !value.iter().all(|byte| is_value_byte(*byte)) {
        return None;
    }
    Some((core::str::from_utf8(name).ok()?, value.trim_ascii()))
}

/// `tchar` (RFC 9110, section 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Visible characters, bytes above ASCII, space and tab (RFC 9110, section 5.5).
pub(super) fn is_value_byte(byte: u8) -> bool {
    byte >= 0x80 || byte == b'\t' || (0x20..0x7f).contains(&byte)
}

fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}
