//! The head of a request of HTTP/1, for whom it is, and for what.

use super::{Sniffed, Unreadable};
use crate::host_name::{HostName, HostNameError};
use crate::http1::{HeadError, RequestHead, RequestParser};

/// Methods that are told apart from words of other protocols: those of RFC 9110, section 9, and PATCH (RFC 5789).
const METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// What is known of a request by its head.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'a> {
    /// The host that is asked for, without its port; none if that is an IP address, or the request is of HTTP/1.0 and names
    /// none.
    pub host: Option<HostName>,
    /// The path as it was sent, without its query; `*` and nothing for requests that have no path.
    pub path: &'a str,
    /// It asks for an upgrade to WebSocket (RFC 6455, section 4.1).
    pub is_websocket: bool,
}

/// What it is, as far as HTTP/1 goes.
pub(super) fn look(received: &[u8]) -> Sniffed<'_> {
    let is_method =
        |method: &&[u8]| received.starts_with(method) && received.get(method.len()) == Some(&b' ');
    if !METHODS.iter().any(is_method) {
        let may_be = |method: &&[u8]| {
            let word = [*method, b" "].into_iter().flatten();
            received.len() <= method.len() && received.iter().zip(word).all(|(one, other)| one == other)
        };
        return if METHODS.iter().any(may_be) { Sniffed::More { is_bound: false } } else { Sniffed::Other };
    }
    let head = match RequestParser::default().parse(received) {
        Ok(Some((head, _))) => head,
        Ok(None) => {
            // Other protocols have lines that begin with such a word; none has one that ends like this.
            let has_line = received.contains(&b'\n');
            return Sniffed::More { is_bound: has_line };
        }
        // A line that is no request line: of Redis or memcached, for example.
        Err(HeadError::StartLine) => return Sniffed::Other,
        Err(error) => return Sniffed::Unreadable(Unreadable::Head(error)),
    };
    match request(&head) {
        Some(request) => Sniffed::Http1(request),
        None => Sniffed::Unreadable(Unreadable::Host),
    }
}

/// Nothing if it does not say clearly which host is meant: another reader might take another one.
fn request<'a>(head: &RequestHead<'a>) -> Option<Request<'a>> {
    let mut hosts = head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = hosts.next().map(|(_, value)| value);
    if hosts.next().is_some() {
        return None;
    }
    let (authority, target) = split_target(head);
    // What stands in the target counts (RFC 9112, section 3.2.2), and what stands in the header must be the same.
    let named = match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => return None,
        (Some(authority), _) => Some(authority),
        (None, host) => host,
    };
    let host = match named {
        None if head.version == crate::http1::Version::Http11 => return None,
        None => None,
        // Where the request is for no host (RFC 9110, section 7.2).
        Some([]) => None,
        Some(named) => match HostName::new(without_port(named)?) {
            Ok(name) => Some(name),
            Err(HostNameError::IpLiteral) => None,
            Err(_) => return None,
        },
    };
    let is_websocket = head.method == "GET"
        && head.headers.has_token("upgrade", "websocket")
        && head.headers.has_token("connection", "upgrade");
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Some(Request { host, path, is_websocket })
}

/// The authority of the target, where it has one, and the rest.
fn split_target<'a>(head: &RequestHead<'a>) -> (Option<&'a [u8]>, &'a str) {
    if head.method == "CONNECT" {
        return (Some(head.target.as_bytes()), "");
    }
    let lower =
        |prefix: &str| head.target.get(..prefix.len()).is_some_and(|text| text.eq_ignore_ascii_case(prefix));
    let Some(prefix) = ["http://", "https://", "ws://", "wss://"].into_iter().find(|prefix| lower(prefix))
    else {
        return (None, head.target);
    };
    let rest = &head.target[prefix.len()..];
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    (Some(authority.as_bytes()), if path.starts_with('/') { path } else { "/" })
}

/// The host of an authority; nothing if its port is none.
fn without_port(authority: &[u8]) -> Option<&[u8]> {
    if authority.ends_with(b"]") {
        return Some(authority);
    }
    let Some(colon) = authority.iter().rposition(|byte| *byte == b':') else { return Some(authority) };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    (port.len() <= 5 && port.iter().all(u8::is_ascii_digit)).then_some(host)
}
