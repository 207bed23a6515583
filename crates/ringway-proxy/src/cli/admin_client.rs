//! Asks a running ringway's admin interface.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ringway::SocketAddress;
use ringway_proto::http1::{BodyLength, ResponseParser, write_request_head};
use serde::Deserialize;

/// For each step: connecting, sending, each read. A change of the configuration is answered when all workers have it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A status page of tens of thousands of endpoints is smaller.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Why there is no page.
#[derive(Debug)]
pub(super) enum AskError {
    /// Nobody answers there.
    Unreachable(io::Error),
    /// Somebody else answers there, or something went wrong on its side.
    Answer(String),
    /// It says no, and why.
    Refused(String),
    /// The configuration is faulty; all faults, as lines.
    Faulty(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "no ringway answers: {error}"),
            Self::Refused(why) | Self::Faulty(why) => f.write_str(why),
            Self::Answer(problem) => write!(f, "that is no answer of ringway: {problem}"),
        }
    }
}

/// What is sent with a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    pub(super) content_type: &'a str,
    pub(super) bytes: &'a [u8],
}

/// The body of the answer to a request.
pub(super) fn send(
    admin: &SocketAddress,
    method: &str,
    target: &str,
    body: Option<Body<'_>>,
) -> Result<Vec<u8>, AskError> {
    let response = match admin {
        SocketAddress::Inet(address) => TcpStream::connect_timeout(address, TIMEOUT).and_then(|stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            exchange(stream, method, target, body)
        }),
        SocketAddress::Unix(path) => {
            let path = path.as_deref().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput));
            path.and_then(UnixStream::connect).and_then(|stream| {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                exchange(stream, method, target, body)
            })
        }
    };
    body_of(response.map_err(AskError::Unreachable)?)
}

/// Sends the request and reads until the other side closes.
fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    target: &str,
    body: Option<Body<'_>>,
) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut headers = vec![("Host", "ringway"), ("Connection", "close"), ("Accept", "application/json")];
    let length = body.map(|body| body.bytes.len().to_string()).unwrap_or_default();
    if let Some(body) = body {
        headers.extend([("Content-Type", body.content_type), ("Content-Length", &length)]);
    }
    write_request_head(&mut request, method, target, &headers);
    request.extend_from_slice(body.map_or(&[], |body| body.bytes));
    stream.write_all(&request)?;
    let mut response = Vec::new();
    stream.take(RESPONSE_BYTES_MAX as u64).read_to_end(&mut response)?;
    Ok(response)
}

fn body_of(mut response: Vec<u8>) -> Result<Vec<u8>, AskError> {
    let answer = |problem: &str| AskError::Answer(problem.to_owned());
    let mut parser = ResponseParser::default();
    let parsed = parser.parse(&response).map_err(|error| answer(&error.to_string()))?;
    let Some((head, length)) = parsed else { return Err(answer("it ends in its head")) };
    let status = head.status;
    let body_length = head.body_length().map_err(|error| answer(&error.to_string()))?;
    let mut body = response.split_off(length);
    let body = match body_length {
        BodyLength::Bytes(expected) => {
            let expected = usize::try_from(expected).unwrap_or(usize::MAX);
            if body.len() < expected {
                return Err(answer("it ends in its body"));
            }
            body.truncate(expected);
            Ok(body)
        }
        BodyLength::UntilClose => Ok(body),
        BodyLength::Chunked => Err(answer("it comes in chunks")),
    }?;
    if status == 200 {
        return Ok(body);
    }
    match serde_json::from_slice(&body) {
        Ok(Refused { error }) if status == 422 => Err(AskError::Faulty(error)),
        Ok(Refused { error }) => Err(AskError::Refused(error)),
        Err(_) => Err(AskError::Answer(format!("status {status}"))),
    }
}

/// What a refusal looks like.
#[derive(Deserialize)]
struct Refused {
    error: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(response: &str) -> Result<Vec<u8>, String> {
        body_of(response.as_bytes().to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_body_is_as_long_as_its_head_says() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there"), Ok(b"hi".to_vec()));
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\nhi there"), Ok(b"hi there".to_vec()));
    }

    #[test]
    fn an_answer_that_is_not_whole_or_not_good_is_no_page() {
        for response in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
        ] {
            assert!(body(response).is_err(), "{response}");
        }
    }

    #[test]
    fn a_refusal_is_told_as_it_is() {
        let response = "HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n{\"error\":\"none\"}";
        assert_eq!(body(response), Err("none".to_owned()));
    }

    proptest! {
        #[test]
        fn nothing_that_answers_makes_it_panic(
            head in prop_oneof![Just("HTTP/1.1 200 OK\r\nContent-Length: "), Just("HTTP/1.1 200"), Just("")],
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = body_of([head.as_bytes(), &rest].concat());
        }
    }
}
