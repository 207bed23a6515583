//! What the fuzzers of TLS begin with, and have found worth keeping: `fuzz/seeds`, replayed.
#![forbid(unsafe_code)]
#![cfg(feature = "tls")]

#[path = "../../../fuzz/checks/conversation/mod.rs"]
mod conversation;
#[path = "../../../fuzz/checks/records/mod.rs"]
mod records;
#[path = "../../../fuzz/checks/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn ends_that_are_cut_and_tampered_with_hear_the_begin_of_what_was_said() {
    replay("conversation", conversation::check);
}

#[test]
fn an_established_end_makes_of_records_what_the_rules_say_however_they_are_cut() {
    replay("records", |bytes| {
        records::check(bytes);
        // On either side, and in pieces of other sizes: all that comes; bytes; some, and then a record and more.
        let Some((&[setup, _, _], script)) = bytes.split_first_chunk() else { return };
        for side in [0, 1] {
            for sizes in [[0, 0], [1, 1], [7, 200]] {
                records::check(&[&[setup ^ side, sizes[0], sizes[1]], script].concat());
            }
        }
    });
}
