//! Every interleaving of the counts that workers share, tried by loom.
//!
//! The file of the counts is compiled here once more, with loom's atomics in the place of the standard library's; so
//! an ordinary `cargo test` runs the model.
#![forbid(unsafe_code)]

use loom::sync::Arc;
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

#[path = "../src/admission/count.rs"]
#[allow(unreachable_pub, dead_code, reason = "the file is part of a library elsewhere")]
mod count;

#[path = "../src/balance/table/bounds.rs"]
#[allow(unreachable_pub, dead_code, reason = "the file is part of a library elsewhere")]
mod bounds;

use bounds::Bounds;
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

/// The choice of least connections among groups of one endpoint each: the group with the lowest bound, whose count
/// goes into the bound; taken if all others' bounds are no lower and its count still holds.
fn open_in_groups(backends: &[ExactCount; 2], bounds: &Bounds) -> usize {
    loop {
        let seen = [bounds.get(0), bounds.get(1)];
        let least = usize::from(seen[1].key() < seen[0].key());
        let count = backends[least].get();
        if u64::from(count) > seen[least].key() {
            bounds.raise(least, seen[least], count.into());
        }
        if u64::from(count) <= seen[1 - least].key() && backends[least].acquire_if(count) {
            return least;
        }
    }
}

#[test]
fn connections_opened_at_once_in_groups_land_on_different_backends() {
    loom::model(|| {
        let shared = Arc::new(([ExactCount::new(), ExactCount::new()], Bounds::new(2)));
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || open_in_groups(&shared.0, &shared.1))
        };
        open_in_groups(&shared.0, &shared.1);
        other.join().expect("no panic");
        assert_eq!([shared.0[0].get(), shared.0[1].get()], [1, 1]);
    });
}

#[test]
fn a_bound_raised_while_a_connection_ends_is_not_above_the_truth() {
    loom::model(|| {
        let shared = Arc::new(([ExactCount::new(), ExactCount::new()], Bounds::new(2)));
        let (backends, bounds) = (&shared.0, &shared.1);
        // Two at the first, one at the second: the next goes to the second, unless one of the first ends before.
        backends[0].acquire();
        backends[0].acquire();
        backends[1].acquire();
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (backends, bounds) = (&shared.0, &shared.1);
                for _ in 0..2 {
                    backends[0].release();
                    bounds.lower(0, backends[0].get().into());
                }
            })
        };
        open_in_groups(backends, bounds);
        other.join().expect("no panic");
        for (group, backend) in backends.iter().enumerate() {
            assert!(bounds.get(group).key() <= backend.get().into());
        }
    });
}
