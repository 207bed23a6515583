//! What the fuzzer of upgrades begins with, and has found: `fuzz/seeds/upgrade`, replayed.
#![forbid(unsafe_code)]

#[path = "../../../fuzz/checks/upgrade.rs"]
mod check;

#[test]
fn seeds_of_the_fuzzer_are_understood_or_refused() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/upgrade");
    let mut kinds = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(directory).expect("the seeds are there") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a file");
        kinds.extend(bytes.first().map(|kind| kind % 7));
        println!("{}", path.display());
        check::check(&bytes);
    }
    assert_eq!(kinds.len(), 7, "a seed of each kind");
}
