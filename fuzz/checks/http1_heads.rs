//! Heads of HTTP/1, whatever they are: no panic, and the same answer whether they come at once or in pieces.
//!
//! Shared by the fuzz target and by the test that replays its seeds. The last byte says how long the pieces are.

use ringway_proto::http1::{RequestParser, ResponseParser};

/// Holds the bytes against that.
pub(crate) fn check(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_last() else { return };
    let step = usize::from(*step).max(1);

    let whole = format!("{:?}", RequestParser::default().parse(bytes));
    let mut parser = RequestParser::default();
    let mut pieces = String::new();
    for end in (step..bytes.len()).step_by(step).chain([bytes.len()]) {
        let outcome = parser.parse(&bytes[..end]);
        let is_final = !matches!(outcome, Ok(None));
        pieces = format!("{outcome:?}");
        if is_final {
            break;
        }
    }
    // A fault may be seen before the end of a head; what is accepted must be accepted either way, and the same.
    if whole.starts_with("Ok(Some") || pieces.starts_with("Ok(Some") {
        assert_eq!(whole, pieces);
    }

    let mut parser = ResponseParser::default();
    if let Ok(Some((head, length))) = parser.parse(bytes) {
        assert!(length <= bytes.len());
        // Read, so that every part is looked at.
        let _ = (head.keeps_alive(), head.body_length(), head.headers.iter().count());
    }
}
