//! Every interleaving of workers that make room and wait for it, tried by loom: no call is lost.
//!
//! The files of the queue and of its count are compiled here once more, with loom's atomics and lock in the place of the
//! standard library's.
#![forbid(unsafe_code)]

use std::sync::Arc;

use loom::sync::atomic::AtomicU32;
use loom::thread;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, Ordering, fence};
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

#[path = "../src/admission/count.rs"]
#[allow(unreachable_pub, dead_code, reason = "the file is part of a library elsewhere")]
mod count;

#[path = "../src/admission/queue.rs"]
#[allow(unreachable_pub, dead_code, reason = "the file is part of a library elsewhere")]
mod queue;

use count::ExactCount;
use queue::{Bell, Call, Queue, Seat};

/// A backend with one place, and the line of those that wait for it.
struct Backend {
    active: ExactCount,
    queue: Arc<Queue>,
    calls: Arc<Calls>,
}

/// Counts the calls.
struct Calls(AtomicU32);

impl Bell for Calls {
    fn ring(&self, _: Call) {
        self.0.fetch_add(1, sync::Ordering::SeqCst);
    }
}

impl Backend {
    /// One that is full.
    fn full() -> Arc<Self> {
        let active = ExactCount::new();
        active.acquire();
        Arc::new(Self { active, queue: Arc::default(), calls: Arc::new(Calls(AtomicU32::new(0))) })
    }

    fn release(&self) {
        self.active.release();
        self.queue.call();
    }

    fn has_room(&self) -> bool {
        self.active.get() == 0
    }

    fn look_again(&self) {
        if self.has_room() {
            self.queue.call();
        }
    }

    /// A newcomer: a place, or a seat in the line.
    fn choose_or_join(&self, place: u32) -> Option<Seat> {
        if self.queue.waiting() == 0 && self.active.try_acquire(1) {
            return None;
        }
        let bell: Arc<dyn Bell> = Arc::clone(&self.calls) as _;
        let seat = Queue::join(&self.queue, &bell, place, 9).expect("there is room in the line");
        self.look_again();
        Some(seat)
    }

    fn calls(&self) -> u32 {
        self.calls.0.load(sync::Ordering::SeqCst)
    }
}

#[test]
fn who_joins_while_room_is_made_is_called() {
    loom::model(|| {
        let backend = Backend::full();
        let other = Arc::clone(&backend);
        let releases = thread::spawn(move || other.release());
        let seat = backend.choose_or_join(1);
        releases.join().expect("no panic");
        assert!(seat.is_none() || backend.calls() > 0, "nobody will ever call it");
    });
}

#[test]
fn who_stays_while_room_is_made_is_called_again() {
    loom::model(|| {
        let backend = Backend::full();
        let seat = backend.choose_or_join(1).expect("it is full");
        // Called, for a place that somebody else has taken meanwhile.
        backend.queue.call();
        let other = Arc::clone(&backend);
        let releases = thread::spawn(move || other.release());
        let got_in = backend.active.try_acquire(1);
        if got_in {
            seat.leave_for_place(false);
        } else {
            seat.stay();
            backend.look_again();
        }
        releases.join().expect("no panic");
        assert!(got_in || backend.calls() > 1, "nobody will ever call it");
    });
}

#[test]
fn call_of_one_that_leaves_goes_to_the_next_who_comes_meanwhile() {
    loom::model(|| {
        let backend = Backend::full();
        let first = backend.choose_or_join(1).expect("it is full");
        backend.release();
        assert_eq!(backend.calls(), 1);
        let other = Arc::clone(&backend);
        // It was called, and its client left.
        let leaves = thread::spawn(move || drop((first, other)));
        let second = backend.choose_or_join(2);
        leaves.join().expect("no panic");
        assert!(second.is_none() || backend.calls() > 1, "nobody will ever call it");
    });
}
