//! What a demo backend says on one connection: answers to HTTP requests, or its own bytes back.

use ringway_proto::http1::{BodyLength, RequestHead, RequestParser, write_response_head};

/// Who answers, for the text of the answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaker<'a> {
    /// The backend.
    pub(super) backend: &'a str,
    /// Number of the connection at this backend, from 1.
    pub(super) connection: u64,
    /// The worker that the connection landed on.
    pub(super) worker: usize,
}

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// More may come.
    Receive,
    /// Close once everything is sent.
    Close,
}

/// One connection's state.
#[derive(Debug)]
pub(super) enum Conversation {
    /// It may become HTTP: these bytes begin like a method.
    Deciding(Vec<u8>),
    /// A request's head is coming in.
    Head {
        /// Bytes since the head began, at most a head and what came with its last byte.
        received: Vec<u8>,
        /// How far they have been read.
        parser: RequestParser,
    },
    /// The body of a request that was answered; so many bytes are left.
    Body(u64),
    /// No HTTP: every byte goes back.
    Echo,
}

/// How requests begin; what begins otherwise is echoed.
const METHODS: [&[u8]; 7] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ", b"OPTIONS "];

impl Default for Conversation {
    fn default() -> Self {
        Self::Deciding(Vec::new())
    }
}

impl Conversation {
    /// Takes `bytes` in and appends what to send to `out`.
    pub(super) fn receive(&mut self, mut bytes: &[u8], speaker: Speaker<'_>, out: &mut Vec<u8>) -> Next {
        while !bytes.is_empty() {
            match self {
                Self::Echo => {
                    out.extend_from_slice(bytes);
                    return Next::Receive;
                }
                Self::Deciding(received) => {
                    received.push(bytes[0]);
                    bytes = &bytes[1..];
                    if METHODS.iter().any(|method| received == method) {
                        let received = std::mem::take(received);
                        *self = Self::Head { received, parser: RequestParser::default() };
                    } else if !METHODS.iter().any(|method| method.starts_with(received)) {
                        out.append(received);
                        *self = Self::Echo;
                    }
                }
                Self::Body(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    *left -= taken as u64;
                    if *left == 0 {
                        *self = Self::next_head();
                    }
                }
                Self::Head { received, parser } => {
                    let before = received.len();
                    received.extend_from_slice(bytes);
                    match parser.parse(received) {
                        Ok(None) => return Next::Receive,
                        Ok(Some((request, length))) => {
                            let Some(body) = answer(&request, speaker, out) else { return Next::Close };
                            bytes = &bytes[length - before..];
                            *self = if body == 0 { Self::next_head() } else { Self::Body(body) };
                        }
                        Err(error) => {
                            let text = format!("{error}\n");
                            respond(400, "Bad Request", &text, true, false, out);
                            return Next::Close;
                        }
                    }
                }
            }
        }
        Next::Receive
    }

    /// What came and, now that nothing follows, is to be echoed after all.
    pub(super) fn unanswered(&self) -> &[u8] {
        match self {
            Self::Deciding(received) => received,
            Self::Head { .. } | Self::Body(_) | Self::Echo => &[],
        }
    }

    fn next_head() -> Self {
        Self::Head { received: Vec::new(), parser: RequestParser::default() }
    }
}

/// Answers a request. Gives the length of its body if the connection is kept.
fn answer(request: &RequestHead<'_>, speaker: Speaker<'_>, out: &mut Vec<u8>) -> Option<u64> {
    let Speaker { backend, connection, worker } = speaker;
    let text = format!("{backend}: connection {connection}, worker {worker}\n");
    // A chunked body is not read: its end is not known, so the connection ends with the answer.
    let kept = match request.body_length() {
        Ok(BodyLength::Bytes(length)) if request.keeps_alive() => Some(length),
        _ => None,
    };
    respond(200, "OK", &text, kept.is_none(), request.method == "HEAD", out);
    kept
}

fn respond(status: u16, reason: &str, text: &str, close: bool, head_only: bool, out: &mut Vec<u8>) {
    let length = text.len().to_string();
    let headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", length.as_str()),
        ("Connection", if close { "close" } else { "keep-alive" }),
    ];
    write_response_head(out, status, reason, &headers);
    if !head_only {
        out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEAKER: Speaker<'static> = Speaker { backend: "demo-a", connection: 3, worker: 1 };
    const TEXT: &str = "demo-a: connection 3, worker 1\n";

    fn said(bytes: &[u8]) -> (String, Next) {
        let mut out = Vec::new();
        let next = Conversation::default().receive(bytes, SPEAKER, &mut out);
        (String::from_utf8(out).expect("text"), next)
    }

    #[test]
    fn a_request_is_answered_with_name_connection_and_worker() {
        let (text, next) = said(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.ends_with(&format!("\r\n\r\n{TEXT}")), "{text}");
        assert_eq!(next, Next::Receive);
    }

    #[test]
    fn requests_follow_each_other_on_a_kept_connection_and_bodies_are_skipped() {
        let (text, next) = said(
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\n",
        );
        assert_eq!(text.matches("200 OK").count(), 3);
        assert_eq!(text.matches(TEXT).count(), 2, "no body follows the answer to HEAD");
        assert_eq!(next, Next::Receive);
    }

    #[test]
    fn the_connection_closes_when_the_client_wants_it_or_the_body_has_no_known_end() {
        for request in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nConnection: close\r\n\r\nrest",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            let (text, next) = said(request.as_bytes());
            assert!(text.contains("Connection: close") && text.contains(TEXT), "{text}");
            assert_eq!(next, Next::Close);
        }
    }

    #[test]
    fn a_malformed_request_is_told_so() {
        let (text, next) = said(b"GET / HTTP/1.1\r\nbad header\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        assert_eq!(next, Next::Close);
    }

    #[test]
    fn other_bytes_go_back_as_they_came() {
        for bytes in ["hello\n", "GETTING\n", "\0\n", "P", "PUTS"] {
            let wanted = if bytes == "P" { "" } else { bytes };
            assert_eq!(said(bytes.as_bytes()), (wanted.to_owned(), Next::Receive));
        }
    }

    #[test]
    fn the_beginning_of_a_method_is_echoed_when_nothing_follows() {
        let mut conversation = Conversation::default();
        assert_eq!(conversation.receive(b"GE", SPEAKER, &mut Vec::new()), Next::Receive);
        assert_eq!(conversation.unanswered(), b"GE");
    }

    proptest! {
        #[test]
        fn any_cutting_of_the_bytes_gives_the_same_answer(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
                    Just(b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..4),
                ],
                0..6,
            ),
            size in 1usize..20,
        ) {
            let bytes = pieces.concat();
            let (mut whole, mut cut) = (Vec::new(), Vec::new());
            let next = Conversation::default().receive(&bytes, SPEAKER, &mut whole);
            let mut conversation = Conversation::default();
            let cut_next = bytes
                .chunks(size)
                .map(|chunk| conversation.receive(chunk, SPEAKER, &mut cut))
                .find(|next| *next == Next::Close);
            prop_assert_eq!(next == Next::Close, cut_next.is_some());
            prop_assert_eq!(whole, cut);
        }
    }
}
