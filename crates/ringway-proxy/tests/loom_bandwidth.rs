//! Every interleaving of workers that share a bandwidth, tried by loom.
//!
//! The file is compiled here once more, with loom's atomics in the place of the standard library's.
#![forbid(unsafe_code)]

use loom::sync::Arc;
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../src/admission/bandwidth.rs"]
#[allow(unreachable_pub, dead_code, reason = "the file is part of a library elsewhere")]
mod bandwidth;

use bandwidth::Pacer;

#[test]
fn no_two_slices_overlap_and_none_is_lost() {
    loom::model(|| {
        let pacer = Arc::new(Pacer::new());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let pacer = Arc::clone(&pacer);
                thread::spawn(move || [(); 2].map(|()| pacer.reserve(7_000_000_000, 10, 1_000_000_000)))
            })
            .collect();
        let mut starts: Vec<u64> =
            workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect();
        starts.sort_unstable();
        let first = 6_900_000_000;
        assert_eq!(starts, [first, first + 10, first + 20, first + 30]);
    });
}
