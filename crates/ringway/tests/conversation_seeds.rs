//! What the fuzzer of conversations begins with, and has found worth keeping: `fuzz/seeds/conversation`, replayed.
#![forbid(unsafe_code)]
#![cfg(feature = "tls")]

#[path = "../../../fuzz/checks/conversation/mod.rs"]
mod check;

#[test]
fn ends_that_are_cut_and_tampered_with_hear_the_begin_of_what_was_said() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/conversation");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the seeds are there") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check::check(&std::fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count >= 10, "only {count} seeds");
}
