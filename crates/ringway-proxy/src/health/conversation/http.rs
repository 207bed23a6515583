//! One request of HTTP/1.1, and whether its answer has the status and the body that are expected.

use std::sync::Arc;

use ringway_proto::http1::{BodyLength, ResponseParser, write_request_head};

use super::{Step, describe, is_met, show};
use crate::model::HttpCheck;

/// Bytes of a body that are looked at, as they come, chunk headers included.
const BODY_BYTES_MAX: usize = 64 << 10;

/// A request and its answer.
#[derive(Debug)]
pub struct HttpConversation {
    check: Arc<HttpCheck>,
    host: String,
    parser: ResponseParser,
    /// Bytes of the head, until it is complete, then of the body.
    received: Vec<u8>,
    /// How the body ends, once the head was good.
    body: Option<BodyLength>,
}

impl HttpConversation {
    pub(super) fn new(check: &Arc<HttpCheck>, address: &str) -> Self {
        let host = check.host.clone().unwrap_or_else(|| address.to_owned());
        let parser = ResponseParser::default();
        Self { check: Arc::clone(check), host, parser, received: Vec::new(), body: None }
    }

    pub(super) fn handle_connected(&self) -> Step {
        let mut request = Vec::new();
        let agent = concat!("ringway/", env!("CARGO_PKG_VERSION"));
        let headers =
            [("Host", &*self.host), ("User-Agent", agent), ("Accept", "*/*"), ("Connection", "close")];
        write_request_head(&mut request, &self.check.method, &self.check.path, &headers);
        Step::Send(request)
    }

    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) -> Step {
        // A head that is longer than the parser allows is an error of it; a body is cut.
        let room = match self.body {
            None => bytes.len(),
            Some(_) => BODY_BYTES_MAX.saturating_sub(self.received.len()),
        };
        self.received.extend_from_slice(&bytes[..bytes.len().min(room)]);
        while self.body.is_none() {
            let (head, length) = match self.parser.parse(&self.received) {
                Ok(None) => return Step::Wait,
                Err(error) => return Step::Failed(format!("no answer of HTTP/1: {error}")),
                Ok(Some(complete)) => complete,
            };
            let (status, body) = (head.status, head.body_length());
            self.received.drain(..length);
            self.parser = ResponseParser::default();
            if (100..=199).contains(&status) && status != 101 {
                // An interim answer; the final one follows.
                continue;
            }
            if !self.check.status.iter().any(|range| range.contains(&status)) {
                return Step::Failed(format!("expected status {}, got {status}", self.statuses()));
            }
            if self.check.body.is_none() {
                return Step::PASSED;
            }
            match body {
                Ok(length) => self.body = Some(length),
                Err(error) => return Step::Failed(format!("no answer of HTTP/1: {error}")),
            }
        }
        self.received.truncate(BODY_BYTES_MAX);
        self.check_body(false)
    }

    pub(super) fn handle_end(&mut self) -> Step {
        match self.body {
            None => Step::Failed(self.missing("the connection ended")),
            Some(_) => self.check_body(true),
        }
    }

    /// Why it failed if nothing more comes.
    pub(super) fn missing(&self, why: &str) -> String {
        match &self.check.body {
            Some(expected) if self.body.is_some() => {
                format!("expected a body with {}, got {}: {why}", describe(expected), show(&self.received))
            }
            _ => format!("expected status {}, got {}: {why}", self.statuses(), show(&self.received)),
        }
    }

    fn check_body(&self, is_ended: bool) -> Step {
        let (Some(length), Some(expected)) = (self.body, &self.check.body) else { return Step::PASSED };
        let (body, is_all) = match length {
            BodyLength::Bytes(count) => {
                let end = usize::try_from(count).unwrap_or(usize::MAX).min(self.received.len());
                (self.received[..end].to_vec(), end as u64 == count)
            }
            BodyLength::Chunked => unchunked(&self.received),
            BodyLength::UntilClose => (self.received.clone(), false),
        };
        let is_all = is_all || is_ended || self.received.len() >= BODY_BYTES_MAX;
        match is_met(expected, &body, is_all) {
            Some(true) => Step::PASSED,
            Some(false) => {
                Step::Failed(format!("expected a body with {}, got {}", describe(expected), show(&body)))
            }
            None => Step::Wait,
        }
    }

    fn statuses(&self) -> String {
        let range = |range: &std::ops::RangeInclusive<u16>| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        self.check.status.iter().map(range).collect::<Vec<_>>().join(" or ")
    }
}

/// The data of the chunks that are there (RFC 9112, section 7.1), and whether that is all or nothing more is understood.
fn unchunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    loop {
        let Some(line_end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
            return (data, false);
        };
        let line = &bytes[..line_end];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&line[..digits]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()).filter(|size| *size > 0)
        else {
            // The last chunk, or no chunk at all.
            return (data, true);
        };
        bytes = &bytes[line_end + 2..];
        data.extend_from_slice(&bytes[..size.min(bytes.len())]);
        // Each chunk is followed by a line end.
        let Some(rest) = size.checked_add(2).and_then(|end| bytes.get(end..)) else {
            return (data, false);
        };
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Conversation;
    use super::*;
    use crate::model::{Check, Expected};

    fn conversation(check: HttpCheck) -> Conversation {
        Conversation::new(&Check::Http(Arc::new(check)), "10.0.0.1:80").expect("it is a check")
    }

    fn with_body(text: &str) -> HttpCheck {
        HttpCheck { body: Some(Expected::Text(text.into())), ..HttpCheck::default() }
    }

    /// What comes of an answer that is received in pieces of at most `piece` bytes, and then ends.
    fn result(check: &HttpCheck, answer: &str, piece: usize) -> Step {
        let mut conversation = conversation(check.clone());
        for bytes in answer.as_bytes().chunks(piece) {
            match conversation.handle_bytes(bytes) {
                Step::Wait => {}
                decided => return decided,
            }
        }
        conversation.handle_end()
    }

    fn failed(reason: &str) -> Step {
        Step::Failed(reason.to_owned())
    }

    #[test]
    fn the_request_names_its_host_and_asks_to_close() {
        let check = HttpCheck { path: "/ready?deep=1".into(), ..HttpCheck::default() };
        let Step::Send(request) = conversation(check).handle_connected() else { panic!("it speaks first") };
        let request = String::from_utf8(request).expect("it is text");
        assert!(request.starts_with("GET /ready?deep=1 HTTP/1.1\r\n"), "{request}");
        assert!(
            request.contains("\r\nHost: 10.0.0.1:80\r\n") && request.contains("\r\nConnection: close\r\n")
        );
    }

    #[test]
    fn the_status_decides_and_the_reason_names_both() {
        let check = HttpCheck { status: vec![200..=200, 204..=299], ..HttpCheck::default() };
        let answer = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        for piece in [1, 1_000] {
            assert_eq!(result(&check, &answer("200 OK"), piece), Step::PASSED);
            assert_eq!(result(&check, &answer("206 Partial"), piece), Step::PASSED);
            assert_eq!(
                result(&check, &answer("503 Sorry"), piece),
                failed("expected status 200 or 204-299, got 503")
            );
            let interim = format!("HTTP/1.1 103 Early\r\nLink: x\r\n\r\n{}", answer("200 OK"));
            assert_eq!(result(&check, &interim, piece), Step::PASSED);
        }
        assert_eq!(
            result(&check, "HTTP/1.1 200", 100),
            failed("expected status 200 or 204-299, got \"HTTP/1.1 200\": the connection ended")
        );
        assert_eq!(
            result(&check, "SSH-2.0-OpenSSH_9.2\r\n\r\n", 100),
            failed("no answer of HTTP/1: the first line is malformed")
        );
    }

    #[test]
    fn the_body_is_found_however_it_is_framed() {
        for frame in [
            "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{BODY}",
            "HTTP/1.1 200 OK\r\n\r\n{BODY}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall i\r\n6;x=1\r\ns well\r\n0\r\n\r\n",
        ] {
            let answer = frame.replace("{BODY}", "all is well");
            for piece in [1, 7, 1_000] {
                assert_eq!(result(&with_body("is well"), &answer, piece), Step::PASSED, "{answer:?}");
                assert_eq!(
                    result(&with_body("broken"), &answer, piece),
                    failed("expected a body with \"broken\", got \"all is well\""),
                    "{answer:?}"
                );
            }
        }
    }

    #[test]
    fn bytes_behind_the_body_do_not_belong_to_it() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 ready";
        assert!(matches!(result(&with_body("ready"), answer, 1_000), Step::Failed(_)));
    }

    #[test]
    fn a_body_without_end_is_not_kept() {
        let mut endless = conversation(with_body("ready"));
        assert_eq!(endless.handle_bytes(b"HTTP/1.1 200 OK\r\n\r\n"), Step::Wait);
        let steps: Vec<Step> = (0..20).map(|_| endless.handle_bytes(&[b'.'; 8 << 10])).collect();
        assert!(matches!(steps.last(), Some(Step::Failed(_))));
        let Conversation::Http(http) = endless else { panic!("it is one") };
        assert_eq!(http.received.len(), BODY_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic_and_keep_no_more_than_allowed(
            start in "(HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n)?",
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..20),
        ) {
            let mut check = HttpConversation::new(&Arc::new(with_body("x")), "a");
            let _ = check.handle_bytes(start.as_bytes());
            for piece in pieces {
                if check.handle_bytes(&piece) != Step::Wait {
                    break;
                }
                prop_assert!(check.received.len() <= BODY_BYTES_MAX.max(16 << 10));
            }
            let _ = check.handle_end();
        }
    }
}
