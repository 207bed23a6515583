//! What first bytes are: each protocol, what only looks like one, and what holds however bytes are cut.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use ringway_proto::client_hello::{HelloError, HelloWriter, records, torture};
use ringway_proto::http1::HeadError;
use ringway_proto::sniff::{Request, Sniffed, Unreadable, sniff};

fn http(text: &str) -> Request<'_> {
    match sniff(text.as_bytes()) {
        Sniffed::Http1(request) => request,
        other => panic!("{text:?} gave {other:?}"),
    }
}

fn of_http(text: &str) -> (Option<String>, &str, bool) {
    let request = http(text);
    (request.host.map(|host| host.to_string()), request.path, request.is_websocket)
}

const MORE: Sniffed<'_> = Sniffed::More { is_bound: false };
const BOUND: Sniffed<'_> = Sniffed::More { is_bound: true };

#[test]
fn each_protocol_is_told_by_its_first_bytes() {
    let hello = records(&HelloWriter::new().server_name("a.example.com").message(), 1 << 14);
    assert!(matches!(sniff(&hello), Sniffed::Tls(_)));
    assert_eq!(sniff(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Sniffed::Http2);
    assert_eq!(sniff(b"SSH-2.0-OpenSSH_9.6\r\n"), Sniffed::Ssh);
    assert_eq!(sniff(b"SSH-1.99-x"), Sniffed::Ssh);
    for packet in [
        &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f][..],
        &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30],
        &[0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2],
        b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0",
        b"\0\0\0\x29\0\x03\0\x02user\0",
    ] {
        assert_eq!(sniff(packet), Sniffed::PostgreSql, "{packet:?}");
    }
    assert_eq!(of_http("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (Some("a".into()), "/", false));
}

#[test]
fn a_request_says_for_whom_it_is_and_for_what() {
    for (text, expected) in [
        ("GET /a?b HTTP/1.1\r\nhost: WWW.Example.com:8080\r\n\r\n", (Some("www.example.com"), "/a")),
        ("OPTIONS * HTTP/1.1\r\nHost: a.b\r\n\r\n", (Some("a.b"), "*")),
        ("CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n", (Some("a.b"), "")),
        ("GET http://a.b:80/c HTTP/1.1\r\nHost: a.b:80\r\n\r\n", (Some("a.b"), "/c")),
        ("GET HTTP://a.b?x HTTP/1.0\r\n\r\n", (Some("a.b"), "/")),
        ("GET / HTTP/1.0\r\n\r\n", (None, "/")),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", (None, "/")),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n", (None, "/")),
        ("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", (None, "/")),
        ("POST /x HTTP/1.1\r\nHost: a.b.\r\nContent-Length: 3\r\n\r\nabc", (Some("a.b"), "/x")),
    ] {
        let (host, path, is_websocket) = of_http(text);
        assert_eq!(((host.as_deref(), path), is_websocket), (expected, false), "{text:?}");
    }
    let upgrade =
        "GET /chat HTTP/1.1\r\nHost: a.b\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    assert_eq!(of_http(upgrade), (Some("a.b".into()), "/chat", true));
    assert!(!http(&upgrade.replace("GET", "POST")).is_websocket);
    assert!(!http(&upgrade.replace("keep-alive, Upgrade", "close")).is_websocket);
}

#[test]
fn what_breaks_a_rule_of_its_protocol_is_unreadable_and_not_something_else() {
    let host = Unreadable::Host;
    for (text, error) in [
        ("GET / HTTP/1.1\r\n\r\n", host),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", host),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", host),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", host),
        ("GET / HTTP/1.1\r\nHost: a:port\r\n\r\n", host),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", host),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Unreadable::Head(HeadError::Header)),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Unreadable::Head(HeadError::Header)),
        ("GET / HTTP/1.1\nHost: a\n\n", Unreadable::Head(HeadError::LineEnd)),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", Unreadable::Head(HeadError::Version)),
    ] {
        assert_eq!(sniff(text.as_bytes()), Sniffed::Unreadable(error), "{text:?}");
    }
    let hello = records(&HelloWriter::new().server_name("192.0.2.1").message(), 1 << 14);
    assert_eq!(sniff(&hello), Sniffed::Unreadable(Unreadable::Hello(HelloError::IpLiteral)));
}

#[test]
fn what_only_begins_like_a_protocol_is_something_else() {
    for bytes in [
        &b"EHLO a\r\n"[..],
        b"GET key\r\n",
        b"GETS key\r\n",
        b"PUTTY",
        b"SSL",
        b"PRISM",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x05\x01\0",
        &[0, 0, 0, 7, 0, 3, 0, 0],
        &[0, 0, 0x27, 0x11, 0, 3, 0, 0],
        &[0, 0, 0, 9, 0x04, 0xd2, 0x16, 0x2f],
        &[0, 1],
        &[0x80, 1, 2],
        &[22, 2],
    ] {
        assert_eq!(sniff(bytes), Sniffed::Other, "{bytes:?}");
    }
}

#[test]
fn what_may_still_become_one_of_several_asks_for_more_and_says_when_it_is_bound() {
    for bytes in [
        &b""[..],
        b"S",
        b"SSH",
        b"P",
        b"PRI *",
        b"G",
        b"GET",
        b"GET /",
        &[0],
        &[0, 0, 0, 8],
        &[0, 0, 0, 8, 4],
        &[22],
    ] {
        assert_eq!(sniff(bytes), MORE, "{bytes:?}");
    }
    for bytes in [&[22, 3][..], &[22, 3, 1, 0, 5, 1], b"GET / HTTP/1.1\r\nHo"] {
        assert_eq!(sniff(bytes), BOUND, "{bytes:?}");
    }
}

/// Whether it is decided, and by what; without what it borrows.
fn words(bytes: &[u8]) -> Option<String> {
    match sniff(bytes) {
        Sniffed::More { .. } => None,
        other => Some(format!("{other:?}")),
    }
}

fn check_every_cut(bytes: &[u8]) -> Result<(), TestCaseError> {
    let whole = words(bytes);
    let first = (0..=bytes.len()).find_map(|end| words(&bytes[..end]));
    prop_assert_eq!(first, whole);
    Ok(())
}

#[test]
fn hellos_of_the_table_are_told_the_same_way_however_they_are_cut() {
    for case in torture::cases().iter().filter(|case| case.bytes().len() < 1_000) {
        check_every_cut(case.bytes()).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_the_same_however_they_are_cut(
        start in prop::sample::select(vec![
            &b""[..], b"GET / HTTP/1.1\r\n", b"GET ", b"PRI * ", b"SSH-", &[22, 3, 1], &[0, 0, 0], &[0x80],
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        check_every_cut(&[start, &rest].concat())?;
    }

    #[test]
    fn any_request_is_the_same_however_it_is_cut(
        target in "/[a-z?]{0,9}",
        headers in prop::collection::vec(("(Host|host|Upgrade|X)", "[a-z.:0-9]{0,6}"), 0..4),
    ) {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        check_every_cut(format!("GET {target} HTTP/1.1\r\n{lines}\r\nbody").as_bytes())?;
    }
}
