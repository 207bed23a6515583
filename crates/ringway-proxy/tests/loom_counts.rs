//! Every interleaving of the counts that workers share, tried by loom.
//!
//! The file of the counts is compiled here once more, with loom's atomics in the place of the standard library's; so
//! an ordinary `cargo test` runs the model.
#![forbid(unsafe_code)]

use loom::sync::Arc;
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, Ordering};
}

#[path = "../src/endpoint/count.rs"]
#[allow(unreachable_pub, dead_code, reason = "the file is part of a library elsewhere")]
mod count;

use count::ExactCount;

#[test]
fn maximum_is_never_passed_and_always_reached() {
    loom::model(|| {
        let count = Arc::new(ExactCount::new());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let count = Arc::clone(&count);
                thread::spawn(move || u32::from(count.try_acquire(2)) + u32::from(count.try_acquire(2)))
            })
            .collect();
        let taken: u32 = workers.into_iter().map(|worker| worker.join().expect("no panic")).sum();
        assert_eq!(taken, 2);
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn place_that_is_given_back_can_be_taken_by_another_worker() {
    loom::model(|| {
        let count = Arc::new(ExactCount::new());
        assert!(count.try_acquire(1));
        let other = {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                let taken = count.try_acquire(1);
                if taken {
                    count.release();
                }
            })
        };
        count.release();
        other.join().expect("no panic");
        assert_eq!(count.get(), 0);
        assert!(count.try_acquire(1));
    });
}

#[test]
fn connections_opened_at_once_land_on_different_backends() {
    loom::model(|| {
        let backends = Arc::new([ExactCount::new(), ExactCount::new()]);
        let open = |backends: &[ExactCount; 2]| {
            // The choice of least connections: the least of all, if its count still holds when it is taken.
            loop {
                let seen = [backends[0].get(), backends[1].get()];
                let least = usize::from(seen[1] < seen[0]);
                if backends[least].acquire_if(seen[least]) {
                    break;
                }
            }
        };
        let other = {
            let backends = Arc::clone(&backends);
            thread::spawn(move || open(&backends))
        };
        open(&backends);
        other.join().expect("no panic");
        assert_eq!([backends[0].get(), backends[1].get()], [1, 1]);
    });
}
