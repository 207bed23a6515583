//! HTTP/1 heads: what is taken, what is refused, and what holds for any bytes however they are cut.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use ringway_proto::http1::{
    BodyLength, HEAD_BYTES_MAX, HEADERS_MAX, HeadError, RequestParser, ResponseParser, Version,
    write_request_head, write_response_head,
};

fn request_error(bytes: &[u8]) -> HeadError {
    RequestParser::default().parse(bytes).expect_err("an error")
}

fn response_error(bytes: &[u8]) -> HeadError {
    ResponseParser::default().parse(bytes).expect_err("an error")
}

fn body_of_request(headers: &str) -> Result<BodyLength, HeadError> {
    let bytes = format!("POST / HTTP/1.1\r\n{headers}\r\n");
    let mut parser = RequestParser::default();
    parser.parse(bytes.as_bytes()).expect("well-formed").expect("complete").0.body_length()
}

fn keeps_alive(head: &str) -> bool {
    RequestParser::default().parse(head.as_bytes()).expect("well-formed").expect("complete").0.keeps_alive()
}

#[test]
fn a_request_is_read_up_to_its_empty_line() {
    let bytes = b"\r\nPUT /a?b=c HTTP/1.0\r\nHost:  x \r\nX-Odd:\t\xff\r\nEmpty:\r\n\r\nbody";
    let (head, length) = RequestParser::default().parse(bytes).expect("well-formed").expect("complete");
    assert_eq!((head.method, head.target, head.version), ("PUT", "/a?b=c", Version::Http10));
    assert_eq!(&bytes[length..], b"body");
    let headers: Vec<_> = head.headers.iter().collect();
    assert_eq!(headers, [("Host", &b"x"[..]), ("X-Odd", &b"\xff"[..]), ("Empty", &b""[..])]);
    assert_eq!(head.headers.get("x-odd"), Some(&b"\xff"[..]));
    assert_eq!(head.headers.get("missing"), None);
}

#[test]
fn a_response_is_read_with_and_without_a_reason() {
    for (line, status, reason) in [
        ("HTTP/1.1 200 All is well", 200, "All is well"),
        ("HTTP/1.1 204 ", 204, ""),
        ("HTTP/1.0 503", 503, ""),
    ] {
        let bytes = format!("{line}\r\n\r\n");
        let mut parser = ResponseParser::default();
        let (head, length) = parser.parse(bytes.as_bytes()).expect("well-formed").expect("complete");
        assert_eq!((head.status, head.reason, length), (status, reason.as_bytes(), bytes.len()));
    }
}

#[test]
fn malformed_heads_are_refused_as_soon_as_the_line_is_there() {
    for (bytes, error) in [
        (&b"GET / HTTP/1.1\n"[..], HeadError::LineEnd),
        (b"GET  / HTTP/1.1\r\n", HeadError::StartLine),
        (b"GET / \r\n", HeadError::StartLine),
        (b" GET / HTTP/1.1\r\n", HeadError::StartLine),
        (b"GET /\x00 HTTP/1.1\r\n", HeadError::StartLine),
        (b"GET / HTTP/1.1 \r\n", HeadError::StartLine),
        (b"GET / HTTP/2.0\r\n", HeadError::Version),
        (b"GET / HTTP/1.1\r\nNo colon\r\n", HeadError::Header),
        (b"GET / HTTP/1.1\r\nA : b\r\n", HeadError::Header),
        (b"GET / HTTP/1.1\r\n: b\r\n", HeadError::Header),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n", HeadError::Header),
        (b"GET / HTTP/1.1\r\nA: b\rc\r\n", HeadError::Header),
        (b"GET / HTTP/1.1\r\nA: b\n", HeadError::LineEnd),
    ] {
        assert_eq!(request_error(bytes), error, "{:?}", String::from_utf8_lossy(bytes));
    }
    for bytes in [
        &b"HTTP/1.1 20 OK\r\n"[..],
        b"HTTP/1.1 +20 OK\r\n",
        b"HTTP/1.1 2000\r\n",
        b"\r\n",
        b"HTTP/1.1 099 \r\n",
    ] {
        assert_eq!(response_error(bytes), HeadError::StartLine, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn heads_are_bounded_in_bytes_and_in_lines() {
    let long = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; HEAD_BYTES_MAX]].concat();
    assert_eq!(request_error(&long), HeadError::TooLarge);
    let many = ["GET / HTTP/1.1\r\n".to_owned(), "A: b\r\n".repeat(HEADERS_MAX + 1)].concat();
    assert_eq!(request_error(many.as_bytes()), HeadError::TooLarge);
    let empty_lines = "\r\n".repeat(HEAD_BYTES_MAX);
    assert_eq!(request_error(empty_lines.as_bytes()), HeadError::TooLarge);
}

#[test]
fn a_connection_is_kept_as_the_version_and_the_header_say() {
    assert!(keeps_alive("GET / HTTP/1.1\r\n\r\n"));
    assert!(!keeps_alive("GET / HTTP/1.1\r\nConnection: Upgrade, CLOSE\r\n\r\n"));
    assert!(!keeps_alive("GET / HTTP/1.0\r\n\r\n"));
    assert!(keeps_alive("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"));
}

#[test]
fn the_length_of_a_body_is_known_or_refused() {
    assert_eq!(body_of_request(""), Ok(BodyLength::Bytes(0)));
    assert_eq!(body_of_request("Content-Length: 12\r\n"), Ok(BodyLength::Bytes(12)));
    assert_eq!(body_of_request("Content-Length: 12, 12\r\n"), Ok(BodyLength::Bytes(12)));
    assert_eq!(body_of_request("Transfer-Encoding: Chunked\r\n"), Ok(BodyLength::Chunked));
    for bad in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
    ] {
        assert_eq!(body_of_request(bad), Err(HeadError::BodyLength), "{bad}");
    }
}

#[test]
fn a_response_without_a_length_lasts_until_the_connection_ends() {
    for (head, length) in [
        ("HTTP/1.1 200 OK\r\n\r\n", BodyLength::UntilClose),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", BodyLength::Bytes(3)),
        ("HTTP/1.1 204 None\r\nContent-Length: 3\r\n\r\n", BodyLength::Bytes(0)),
    ] {
        let mut parser = ResponseParser::default();
        let (head, _) = parser.parse(head.as_bytes()).expect("well-formed").expect("complete");
        assert_eq!(head.body_length(), Ok(length));
    }
}

#[test]
fn what_is_written_can_be_read() {
    let mut out = Vec::new();
    write_request_head(&mut out, "GET", "/status", &[("Host", "ringway")]);
    let (head, length) = RequestParser::default().parse(&out).expect("well-formed").expect("complete");
    assert_eq!((head.method, head.target, length), ("GET", "/status", out.len()));
    let mut out = Vec::new();
    write_response_head(&mut out, 404, "Not Found", &[("Content-Length", "0")]);
    let (head, _) = ResponseParser::default().parse(&out).expect("well-formed").expect("complete");
    assert_eq!((head.status, head.reason), (404, &b"Not Found"[..]));
}

#[test]
#[should_panic(expected = "header value")]
fn a_header_value_cannot_smuggle_a_line() {
    write_response_head(&mut Vec::new(), 200, "OK", &[("A", "b\r\nC: d")]);
}

/// Bytes that often come near to a head.
fn almost_a_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"A: b".to_vec()),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cutting_of_the_bytes_gives_the_same_answer(
        bytes in almost_a_head(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        // Cut: the first answer that is not "more" counts.
        let (mut requests, mut responses) = (RequestParser::default(), ResponseParser::default());
        let mut request = Ok(None);
        let mut response = Ok(None);
        for end in ends {
            if request == Ok(None) {
                request = requests.parse(&bytes[..end]);
            }
            if response == Ok(None) {
                response = responses.parse(&bytes[..end]);
            }
        }
        prop_assert_eq!(request, RequestParser::default().parse(&bytes));
        prop_assert_eq!(response, ResponseParser::default().parse(&bytes));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = ResponseParser::default().parse(&bytes);
        if let Ok(Some((head, length))) = RequestParser::default().parse(&bytes) {
            prop_assert!(length <= bytes.len());
            let _ = (head.body_length(), head.keeps_alive(), head.headers.iter().count());
        }
    }

    #[test]
    fn a_head_of_any_headers_is_read_back(
        names in prop::collection::vec("[A-Za-z0-9-]{1,12}", 0..20),
        value in "[ -~]{0,40}",
        target in "/[!-~]{0,30}",
    ) {
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        let mut out = Vec::new();
        write_request_head(&mut out, "GET", &target, &headers);
        let (head, length) = RequestParser::default().parse(&out).expect("well-formed").expect("complete");
        prop_assert_eq!(length, out.len());
        prop_assert_eq!(head.target, target.as_str());
        let read: Vec<_> = head.headers.iter().collect();
        let wanted: Vec<_> = headers.iter().map(|(name, value)| (*name, value.trim_ascii().as_bytes())).collect();
        prop_assert_eq!(read, wanted);
    }
}
