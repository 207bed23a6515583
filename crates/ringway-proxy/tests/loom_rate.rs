//! Every interleaving of workers that take from one rate, tried by loom.
//!
//! The file is compiled here once more, with loom's atomics in the place of the standard library's.
#![forbid(unsafe_code)]

use loom::sync::Arc;
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../src/admission/rate.rs"]
#[allow(unreachable_pub, dead_code, reason = "the file is part of a library elsewhere")]
mod rate;

use rate::Rate;

#[test]
fn no_more_are_taken_than_there_are_and_none_is_left() {
    loom::model(|| {
        let rate = Arc::new(Rate::new());
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let rate = Arc::clone(&rate);
                // The clocks of workers differ a little.
                let now = 10_000_000_000 + worker;
                thread::spawn(move || (0..2).filter(|_| rate.try_take(now, 3)).count())
            })
            .collect();
        let taken: usize = workers.into_iter().map(|worker| worker.join().expect("no panic")).sum();
        assert_eq!(taken, 3);
    });
}
