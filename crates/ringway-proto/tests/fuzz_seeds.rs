//! What the fuzzers begin with, and have found worth keeping: `fuzz/seeds`, held against what their targets demand.

#[path = "../../../fuzz/checks/certificate.rs"]
mod certificate;
#[path = "../../../fuzz/checks/client_hello.rs"]
mod client_hello;
#[path = "../../../fuzz/checks/http1_heads.rs"]
mod http1_heads;
#[path = "../../../fuzz/checks/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "../../../fuzz/checks/replay.rs"]
mod replay;
#[path = "../../../fuzz/checks/sniff.rs"]
mod sniff;

use replay::replay;

#[test]
fn certificates_have_names_that_are_text_and_miss_no_byte() {
    replay("certificate", certificate::check);
}

#[test]
fn hellos_have_one_answer_in_records_of_any_size() {
    replay("client_hello", client_hello::check);
}

#[test]
fn heads_are_the_same_at_once_and_in_pieces() {
    replay("http1_heads", |bytes| {
        (1..=64).for_each(|step| http1_heads::check(&[bytes, &[step]].concat()));
    });
}

#[test]
fn proxy_headers_are_read_again_as_they_were_written() {
    replay("proxy_protocol", proxy_protocol::check);
}

#[test]
fn first_bytes_have_one_answer_from_the_first_moment_there_is_one() {
    replay("sniff", sniff::check);
}
