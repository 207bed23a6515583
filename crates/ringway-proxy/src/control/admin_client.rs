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
/// Between two lines of an answer that tells how something goes.
const BETWEEN_LINES: Duration = Duration::from_secs(3_600);
/// A status page of tens of thousands of endpoints is smaller.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum AskError {
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
pub(crate) struct Body<'a> {
    pub(crate) content_type: &'a str,
    pub(crate) bytes: &'a [u8],
}

/// The body of the answer to a request.
pub(crate) fn send(
    admin: &SocketAddress,
    method: &str,
    target: &str,
    body: Option<Body<'_>>,
) -> Result<Vec<u8>, AskError> {
    let response = connect(admin, TIMEOUT).and_then(|mut stream| {
        write_request(&mut stream, method, target, body)?;
        let mut response = Vec::new();
        stream.take(RESPONSE_BYTES_MAX as u64).read_to_end(&mut response)?;
        Ok(response)
    });
    body_of(response.map_err(AskError::Unreachable)?)
}

/// Sends a request, and gives each line of the answer to `on_line` as soon as it is there.
pub(crate) fn follow(
    admin: &SocketAddress,
    method: &str,
    target: &str,
    mut on_line: impl FnMut(&str) -> Result<(), AskError>,
) -> Result<(), AskError> {
    let mut stream = connect(admin, BETWEEN_LINES).map_err(AskError::Unreachable)?;
    write_request(&mut stream, method, target, None).map_err(AskError::Unreachable)?;
    let mut lines = Lines::default();
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece).map_err(AskError::Unreachable)?;
        if length == 0 {
            return lines.end();
        }
        lines.push(&piece[..length]);
        while let Some(line) = lines.next()? {
            on_line(&line)?;
        }
    }
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// `patience`: for each read.
fn connect(admin: &SocketAddress, patience: Duration) -> io::Result<Box<dyn Stream>> {
    Ok(match admin {
        SocketAddress::Inet(address) => {
            let stream = TcpStream::connect_timeout(address, TIMEOUT)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Box::new(stream)
        }
        SocketAddress::Unix(path) => {
            let path = path.as_deref().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            Box::new(stream)
        }
    })
}

fn write_request(
    stream: &mut impl Write,
    method: &str,
    target: &str,
    body: Option<Body<'_>>,
) -> io::Result<()> {
    let mut request = Vec::new();
    let mut headers = vec![("Host", "ringway"), ("Connection", "close"), ("Accept", "application/json")];
    let length = body.map(|body| body.bytes.len().to_string()).unwrap_or_default();
    if let Some(body) = body {
        headers.extend([("Content-Type", body.content_type), ("Content-Length", &length)]);
    }
    write_request_head(&mut request, method, target, &headers);
    request.extend_from_slice(body.map_or(&[], |body| body.bytes));
    stream.write_all(&request)
}

/// An answer that comes in chunks, line by line; any other is an error, as what is refused is.
#[derive(Default)]
struct Lines {
    /// What came and was not read yet; all of it, if the answer is another.
    raw: Vec<u8>,
    /// What was in the chunks and is no whole line yet.
    text: Vec<u8>,
    state: LinesState,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum LinesState {
    #[default]
    AwaitingHead,
    /// It comes whole, and is read at its end.
    AwaitingEnd,
    AwaitingChunk,
    Ended,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
    }

    /// The next whole line.
    fn next(&mut self) -> Result<Option<String>, AskError> {
        if self.raw.len() > RESPONSE_BYTES_MAX {
            return Err(AskError::Answer("it does not end".to_owned()));
        }
        if self.state == LinesState::AwaitingHead {
            self.read_head()?;
        }
        while self.state == LinesState::AwaitingChunk && self.read_chunk()? {}
        let Some(end) = self.text.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.text.drain(..=end).take(end).collect();
        let line = String::from_utf8(line).map_err(|_| AskError::Answer("it is no text".to_owned()))?;
        Ok(Some(line))
    }

    fn read_head(&mut self) -> Result<(), AskError> {
        let mut parser = ResponseParser::default();
        let parsed = parser.parse(&self.raw).map_err(|error| AskError::Answer(error.to_string()))?;
        let Some((head, length)) = parsed else { return Ok(()) };
        if head.status == 200 && matches!(head.body_length(), Ok(BodyLength::Chunked)) {
            self.raw.drain(..length);
            self.state = LinesState::AwaitingChunk;
        } else {
            self.state = LinesState::AwaitingEnd;
        }
        Ok(())
    }

    /// Takes a chunk, if a whole one is there. Source: RFC 9112, section 7.1.
    fn read_chunk(&mut self) -> Result<bool, AskError> {
        let wrong = || AskError::Answer("its chunks are malformed".to_owned());
        let Some(end) = self.raw.windows(2).position(|pair| pair == b"\r\n") else {
            return if self.raw.len() > 32 { Err(wrong()) } else { Ok(false) };
        };
        let size = std::str::from_utf8(&self.raw[..end]).map_err(|_| wrong())?;
        let size = usize::from_str_radix(size, 16).map_err(|_| wrong())?;
        if size > RESPONSE_BYTES_MAX {
            return Err(wrong());
        }
        let Some(chunk) = self.raw.get(end + 2..end + 2 + size + 2) else { return Ok(false) };
        if !chunk.ends_with(b"\r\n") {
            return Err(wrong());
        }
        self.text.extend_from_slice(&chunk[..size]);
        self.raw.drain(..end + 2 + size + 2);
        if size == 0 {
            self.state = LinesState::Ended;
        }
        Ok(true)
    }

    /// No more comes.
    fn end(self) -> Result<(), AskError> {
        match self.state {
            LinesState::Ended => Ok(()),
            LinesState::AwaitingChunk => Err(AskError::Answer("it ends in its body".to_owned())),
            LinesState::AwaitingHead | LinesState::AwaitingEnd => {
                body_of(self.raw)?;
                Err(AskError::Answer("it comes in one piece".to_owned()))
            }
        }
    }
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

    fn lines_of(response: &[u8], pieces: usize) -> Result<Vec<String>, String> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for piece in response.chunks(pieces) {
            lines.push(piece);
            while let Some(line) = lines.next().map_err(|error| error.to_string())? {
                all.push(line);
            }
        }
        lines.end().map_err(|error| error.to_string())?;
        Ok(all)
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[test]
    fn lines_come_out_of_chunks_wherever_those_end() {
        let response = format!("{CHUNKED}5\r\none\nt\r\nc\r\nwo\nthree!!\n\n\r\n0\r\n\r\n");
        for pieces in [1, 2, 7, 1000] {
            let lines = lines_of(response.as_bytes(), pieces).expect("well-formed");
            assert_eq!(lines, ["one", "two", "three!!", ""]);
        }
    }

    #[test]
    fn lines_that_break_off_or_are_refused_are_told() {
        let refused = "HTTP/1.1 409 Conflict\r\nContent-Length: 16\r\n\r\n{\"error\":\"none\"}";
        assert_eq!(lines_of(refused.as_bytes(), 9), Err("none".to_owned()));
        for rest in ["", "5\r\none", "x\r\n", "1\r\naa\r\n", "ffffffffff\r\n"] {
            assert!(lines_of(format!("{CHUNKED}{rest}").as_bytes(), 3).is_err(), "{rest}");
        }
    }

    proptest! {
        #[test]
        fn no_chunks_make_it_panic(rest in prop::collection::vec(any::<u8>(), 0..60), pieces in 1_usize..9) {
            let _ = lines_of(&[CHUNKED.as_bytes(), &rest].concat(), pieces);
        }

        #[test]
        fn nothing_that_answers_makes_it_panic(
            head in prop_oneof![Just("HTTP/1.1 200 OK\r\nContent-Length: "), Just("HTTP/1.1 200"), Just("")],
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = body_of([head.as_bytes(), &rest].concat());
        }
    }
}
