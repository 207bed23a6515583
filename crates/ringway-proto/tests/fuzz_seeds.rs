//! What the fuzzers begin with, and have found worth keeping: `fuzz/seeds`, replayed by what their targets demand.

use std::path::{Path, PathBuf};

use ringway_proto::certificate::Certificate;
use ringway_proto::http1::RequestParser;
use ringway_proto::proxy_protocol::{self, Version, write_v1};
use ringway_proto::sniff::{Sniffed, sniff};

/// Looks at each seed of a target; says which one does not hold.
fn replay(target: &str, check: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&directory).expect("the seeds are there");
    let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    assert!(paths.len() >= 20, "only {} seeds of {target}", paths.len());
    for path in paths {
        let bytes = std::fs::read(&path).expect("a file");
        let outcome = std::panic::catch_unwind(|| check(&bytes));
        assert!(outcome.is_ok(), "{} does not hold", path.display());
    }
}

#[test]
fn first_bytes_have_one_answer_from_the_first_moment_there_is_one() {
    replay("sniff", |bytes| {
        let is_decided = |answer: &Sniffed<'_>| !matches!(answer, Sniffed::More { .. });
        let first = (0..=bytes.len()).map(|end| sniff(&bytes[..end])).find(is_decided);
        let whole = sniff(bytes);
        let first = first.map_or_else(|| "none".to_owned(), |answer| format!("{answer:?}"));
        let whole = if is_decided(&whole) { format!("{whole:?}") } else { "none".to_owned() };
        assert_eq!(first, whole);
    });
}

#[test]
fn proxy_headers_have_one_answer_and_are_read_again_as_they_were_written() {
    replay("proxy_protocol", |bytes| {
        let parse = proxy_protocol::parse;
        let first = (0..=bytes.len()).map(|seen| parse(&bytes[..seen])).find(|answer| *answer != Ok(None));
        assert_eq!(first.unwrap_or(Ok(None)), parse(bytes));
        let Ok(Some((header, length))) = parse(bytes) else { return };
        assert!(length <= bytes.len());
        if header.version == Version::V1 {
            let mut again = Vec::new();
            write_v1(&mut again, &header.addresses);
            let (read, _) = parse(&again).expect("what was written is well-formed").expect("and complete");
            assert_eq!(read.addresses, header.addresses);
        }
    });
}

#[test]
fn heads_of_requests_are_the_same_at_once_and_in_pieces_of_any_size() {
    replay("http1_heads", |bytes| {
        let whole = format!("{:?}", RequestParser::default().parse(bytes));
        for step in 1..=bytes.len().min(64) {
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
            if whole.starts_with("Ok(Some") || pieces.starts_with("Ok(Some") {
                assert_eq!(whole, pieces, "in steps of {step}");
            }
        }
    });
}

#[test]
fn certificates_have_names_that_are_text_and_miss_no_byte() {
    replay("certificate", |bytes| {
        let Ok(certificate) = Certificate::parse(bytes) else { return };
        let names = certificate.dns_names().chain(certificate.uris()).chain(certificate.mail_addresses());
        for name in names.chain(certificate.common_name()) {
            assert!(!name.is_empty() && !name.chars().any(char::is_control));
        }
        assert!(certificate.serial().len() + certificate.public_key().len() < bytes.len());
        assert!(Certificate::parse(&bytes[..bytes.len() - 1]).is_err());
    });
}
