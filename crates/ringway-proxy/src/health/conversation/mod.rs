//! What a check says on its connection, and what the answer means. Pure: bytes in, [`Step`]s out; driven by `prober`.

mod http;
mod send_expect;

use crate::model::{Check, Expected};
use http::HttpConversation;
use send_expect::SendExpectConversation;

/// Bytes of an answer that are shown in a reason.
const SHOWN_BYTES: usize = 40;

/// The conversation of one check.
#[derive(Debug)]
pub enum Conversation {
    /// Nothing is said: that the connection was opened is enough.
    Connect,
    /// A request and its answer.
    Http(HttpConversation),
    /// Some bytes and their answer.
    SendExpect(SendExpectConversation),
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for more.
    Wait,
    /// Send this, then wait for an answer.
    Send(Vec<u8>),
    /// The check is good. What is to be sent before the connection is closed may be empty.
    Passed {
        /// Last words.
        goodbye: Vec<u8>,
    },
    /// The check is bad, and why: what was expected, and what came.
    Failed(String),
}

impl Step {
    const PASSED: Self = Self::Passed { goodbye: Vec::new() };
}

impl Conversation {
    /// The conversation of `check` with the endpoint at `address`; `None` where there are no checks.
    pub fn new(check: &Check, address: &str) -> Option<Self> {
        match check {
            Check::None => None,
            // Of TLS the prober takes care.
            Check::Tcp | Check::Tls => Some(Self::Connect),
            Check::Http(http) => Some(Self::Http(HttpConversation::new(http, address))),
            Check::SendExpect(expect) => Some(Self::SendExpect(SendExpectConversation::new(expect))),
        }
    }

    /// The connection is open.
    pub fn handle_connected(&mut self) -> Step {
        match self {
            Self::Connect => Step::PASSED,
            Self::Http(http) => http.handle_connected(),
            Self::SendExpect(expect) => expect.handle_connected(),
        }
    }

    /// More bytes came.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Step {
        match self {
            Self::Connect => Step::PASSED,
            Self::Http(http) => http.handle_bytes(bytes),
            Self::SendExpect(expect) => expect.handle_bytes(bytes),
        }
    }

    /// No more bytes will come: the backend finished.
    pub fn handle_end(&mut self) -> Step {
        match self {
            Self::Connect => Step::PASSED,
            Self::Http(http) => http.handle_end(),
            Self::SendExpect(expect) => Step::Failed(expect.missing("the connection ended")),
        }
    }

    /// Why it failed if no answer came in time after the connection was opened.
    pub fn timed_out(&self) -> String {
        let late = "no more came in time";
        match self {
            Self::Connect => late.to_owned(),
            Self::Http(http) => http.missing(late),
            Self::SendExpect(expect) => expect.missing(late),
        }
    }
}

/// Whether `received` is as expected; `None`: more bytes may decide it.
fn is_met(expected: &Expected, received: &[u8], is_all: bool) -> Option<bool> {
    let met = match expected {
        Expected::Start(starts) => {
            let begins = |start: &Vec<u8>| received.starts_with(start);
            let may_begin = |start: &Vec<u8>| start.starts_with(received);
            match starts.iter().any(begins) {
                false if !starts.iter().any(may_begin) => return Some(false),
                met => met,
            }
        }
        Expected::Text(text) => {
            text.is_empty() || received.windows(text.len()).any(|window| window == text.as_bytes())
        }
        Expected::Pattern(pattern) => pattern.matches(received),
    };
    (met || is_all).then_some(met)
}

/// What was expected, for a reason.
fn describe(expected: &Expected) -> String {
    match expected {
        Expected::Start(starts) => {
            let shown: Vec<String> = starts.iter().map(|start| show(start)).collect();
            shown.join(" or ")
        }
        Expected::Text(text) => show(text.as_bytes()),
        Expected::Pattern(pattern) => format!("a match of /{}/", pattern.as_str()),
    }
}

/// The first bytes of what came, as text that is fit for a log.
fn show(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    let text = shown.iter().flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from);
    format!("\"{}\"{more}", text.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pattern;

    #[test]
    fn beginnings_are_decided_as_soon_as_they_can_be() {
        let expected = Expected::Start(vec![b"+PONG".to_vec(), b"-NOAUTH".to_vec()]);
        for (received, is_all, met) in [
            ("", false, None),
            ("", true, Some(false)),
            ("+PO", false, None),
            ("+PO", true, Some(false)),
            ("+PONG\r\n", false, Some(true)),
            ("-NOAUTH x", false, Some(true)),
            ("-LOADING", false, Some(false)),
        ] {
            assert_eq!(is_met(&expected, received.as_bytes(), is_all), met, "{received:?}");
        }
    }

    #[test]
    fn text_and_patterns_may_stand_anywhere() {
        let text = Expected::Text("ready".into());
        let pattern = Expected::Pattern(Pattern::new("re[a-z]{2}y").expect("it is one"));
        for expected in [text, pattern] {
            assert_eq!(is_met(&expected, b"not yet", false), None);
            assert_eq!(is_met(&expected, b"not yet", true), Some(false));
            assert_eq!(is_met(&expected, b"now ready.", false), Some(true));
        }
    }

    #[test]
    fn what_came_is_shown_in_a_few_characters_that_are_fit_for_a_log() {
        assert_eq!(show(b""), "nothing");
        assert_eq!(show(b"a\r\n\x1b[31m\"\xff"), r#""a\r\n\x1b[31m\"\xff""#);
        assert_eq!(show(&[b'x'; 41]), format!("\"{}\"…", "x".repeat(40)));
    }
}
