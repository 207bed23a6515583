//! For the tests that hold what the fuzzers begin with against what their targets demand.

use std::path::Path;

/// Looks at each seed of a target, and tells which.
pub(crate) fn replay(target: &str, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the seeds are there") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        check(&std::fs::read(&path).expect("a file"));
        count += 1;
    }
    assert!(count >= 10, "only {count} seeds of {target}");
}
