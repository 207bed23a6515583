//! Heads to send. What goes in is ours: a value that would break the message is a mistake of the program.

use alloc::vec::Vec;

use super::headers::{is_token_byte, is_value_byte};

/// Appends the head of an HTTP/1.1 request to `out`.
///
/// # Panics
/// If method, target or a header hold bytes that must not be there.
pub fn write_request_head(out: &mut Vec<u8>, method: &str, target: &str, headers: &[(&str, &str)]) {
    assert!(!method.is_empty() && method.bytes().all(is_token_byte), "method {method:?}");
    assert!(!target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic()), "target {target:?}");
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    write_headers(out, headers);
}

/// Appends the head of an HTTP/1.1 response to `out`.
///
/// # Panics
/// If the status has not three digits, or reason or a header hold bytes that must not be there.
pub fn write_response_head(out: &mut Vec<u8>, status: u16, reason: &str, headers: &[(&str, &str)]) {
    assert!((100..=999).contains(&status), "status {status}");
    assert!(reason.bytes().all(is_value_byte), "reason {reason:?}");
    out.extend_from_slice(b"HTTP/1.1 ");
    for divisor in [100, 10, 1] {
        // A digit: the cast cannot cut.
        out.push(b'0' + (status / divisor % 10) as u8);
    }
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    write_headers(out, headers);
}

fn write_headers(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    for (name, value) in headers {
        assert!(!name.is_empty() && name.bytes().all(is_token_byte), "header name {name:?}");
        assert!(value.bytes().all(is_value_byte), "header value {value:?}");
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}
