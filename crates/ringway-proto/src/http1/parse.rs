//! The parsers: they remember how far they have come, so that a head that trickles in is read once.

use super::headers::{is_token_byte, is_value_byte, split_line};
use super::{HEAD_BYTES_MAX, HEADERS_MAX, HeadError, Headers, RequestHead, ResponseHead, Version};
use crate::reader::Reader;

/// Reads the head of one request. Use a new one for the next.
#[derive(Clone, Debug, Default)]
pub struct RequestParser {
    lines: Lines,
}

/// Reads the head of one response. Use a new one for the next.
#[derive(Clone, Debug, Default)]
pub struct ResponseParser {
    lines: Lines,
}

impl RequestParser {
    /// Reads on. `received` is everything that came, from the first byte of the message; calls see the same bytes as
    /// before, and more. Gives the head and its length in bytes, or nothing while it is incomplete.
    ///
    /// # Errors
    /// [`HeadError`] as soon as a line is wrong, complete head or not.
    pub fn parse<'a>(&mut self, received: &'a [u8]) -> Result<Option<(RequestHead<'a>, usize)>, HeadError> {
        // An empty line before a request is to be ignored (RFC 9112, section 2.2).
        let Some(found) = self.lines.read(received, true, |line| request_line(line).map(|_| ()))? else {
            return Ok(None);
        };
        let (method, target, version) = request_line(found.start_line)?;
        Ok(Some((RequestHead { method, target, version, headers: found.headers }, found.length)))
    }
}

impl ResponseParser {
    /// Reads on, as [`RequestParser::parse`] does.
    ///
    /// # Errors
    /// [`HeadError`] as soon as a line is wrong, complete head or not.
    pub fn parse<'a>(&mut self, received: &'a [u8]) -> Result<Option<(ResponseHead<'a>, usize)>, HeadError> {
        let Some(found) = self.lines.read(received, false, |line| status_line(line).map(|_| ()))? else {
            return Ok(None);
        };
        let (version, status, reason) = status_line(found.start_line)?;
        Ok(Some((ResponseHead { version, status, reason, headers: found.headers }, found.length)))
    }
}

/// How far a head has been read, line by line.
#[derive(Clone, Debug, Default)]
struct Lines {
    /// Where the first line that is not yet complete begins.
    line_start: usize,
    /// Up to where its end was looked for.
    searched: usize,
    /// Where the start line begins and where the headers do; none while it is not complete.
    start_line: Option<(usize, usize)>,
    headers: usize,
}

struct Found<'a> {
    start_line: &'a [u8],
    headers: Headers<'a>,
    length: usize,
}

impl Lines {
    fn read<'a>(
        &mut self,
        received: &'a [u8],
        skip_empty: bool,
        check_start: impl Fn(&[u8]) -> Result<(), HeadError>,
    ) -> Result<Option<Found<'a>>, HeadError> {
        let seen = &received[..received.len().min(HEAD_BYTES_MAX)];
        loop {
            let unsearched = seen.get(self.searched..).unwrap_or_default();
            let Some(offset) = unsearched.iter().position(|byte| *byte == b'\n') else {
                self.searched = seen.len();
                return if seen.len() == HEAD_BYTES_MAX { Err(HeadError::TooLarge) } else { Ok(None) };
            };
            let end = self.searched + offset;
            let line = &seen[self.line_start..end];
            let line = line.strip_suffix(b"\r").ok_or(HeadError::LineEnd)?;
            let begin = self.line_start;
            self.line_start = end + 1;
            self.searched = end + 1;
            match self.start_line {
                None if line.is_empty() && skip_empty => {}
                None => {
                    check_start(line)?;
                    self.start_line = Some((begin, end + 1));
                }
                Some((start, headers)) if line.is_empty() => {
                    return Ok(Some(Found {
                        start_line: seen[start..headers].strip_suffix(b"\r\n").ok_or(HeadError::LineEnd)?,
                        headers: Headers::new(&seen[headers..begin]),
                        length: end + 1,
                    }));
                }
                Some(_) => {
                    self.headers += 1;
                    if self.headers > HEADERS_MAX {
                        return Err(HeadError::TooLarge);
                    }
                    split_line(line).ok_or(HeadError::Header)?;
                }
            }
        }
    }
}

/// `method SP request-target SP HTTP-version` (RFC 9112, section 3).
fn request_line(line: &[u8]) -> Result<(&str, &str, Version), HeadError> {
    let mut reader = Reader::new(line);
    let method = reader.take_while(is_token_byte);
    if method.is_empty() || !reader.skip(b" ") {
        return Err(HeadError::StartLine);
    }
    let target = reader.take_while(|byte| byte.is_ascii_graphic());
    if target.is_empty() || !reader.skip(b" ") {
        return Err(HeadError::StartLine);
    }
    let version = version(&mut reader)?;
    if !reader.is_empty() {
        return Err(HeadError::StartLine);
    }
    Ok((ascii(method)?, ascii(target)?, version))
}

/// `HTTP-version SP status-code SP [ reason-phrase ]` (RFC 9112, section 4); the last space may be missing.
fn status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), HeadError> {
    let mut reader = Reader::new(line);
    let version = version(&mut reader)?;
    if !reader.skip(b" ") {
        return Err(HeadError::StartLine);
    }
    let digits = reader.take(3).map_err(|_| HeadError::StartLine)?;
    let status = ascii(digits)?.parse().map_err(|_| HeadError::StartLine)?;
    let has_reason = reader.skip(b" ");
    let reason = reader.rest();
    let reason_is_good = (has_reason || reason.is_empty()) && reason.iter().all(|byte| is_value_byte(*byte));
    if !(100..=999).contains(&status) || !digits.iter().all(u8::is_ascii_digit) || !reason_is_good {
        return Err(HeadError::StartLine);
    }
    Ok((version, status, reason))
}

fn version(reader: &mut Reader<'_>) -> Result<Version, HeadError> {
    if !reader.skip(b"HTTP/") {
        return Err(HeadError::StartLine);
    }
    match reader.take(3) {
        Ok(b"1.1") => Ok(Version::Http11),
        Ok(b"1.0") => Ok(Version::Http10),
        Ok([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(HeadError::Version)
        }
        _ => Err(HeadError::StartLine),
    }
}

fn ascii(bytes: &[u8]) -> Result<&str, HeadError> {
    core::str::from_utf8(bytes).map_err(|_| HeadError::StartLine)
}
