//! Interleavings of senders and an engine that parks, tried by loom: no mail is left lying.
//!
//! The file of the mailbox is compiled here once more, with loom's types in the place of the standard library's; so
//! an ordinary `cargo test` runs the model. The event descriptor is modelled as the drivers use it: edge-triggered,
//! and never read.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::OwnedFd;

use loom::sync::{Condvar, Mutex};
use loom::thread;

mod sync {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
}

mod sys {
    use std::os::fd::BorrowedFd;

    /// An edge of the event descriptor.
    pub(crate) fn signal_event(_: BorrowedFd<'_>) {
        let (edge, changed) = &*super::EDGE;
        *edge.lock().expect("no panic") = true;
        changed.notify_one();
    }
}

#[path = "../src/mailbox.rs"]
#[allow(unreachable_pub, dead_code, reason = "the file is part of a library elsewhere")]
mod mailbox;

use mailbox::Waker;
use sync::Arc;

loom::lazy_static! {
    static ref EDGE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
}

/// What a parked engine waits for.
fn park() {
    let (edge, changed) = &*EDGE;
    let mut edge = edge.lock().expect("no panic");
    while !*edge {
        edge = changed.wait(edge).expect("no panic");
    }
    *edge = false;
}

#[test]
fn mail_of_two_senders_is_always_found_by_an_engine_that_parks() {
    let mut model = loom::model::Builder::new();
    // All with at most three preemptions: a second instead of ten.
    model.preemption_bound = Some(3);
    model.check(|| {
        let null: OwnedFd = File::open("/dev/null").expect("it is there").into();
        let waker = Waker::new(Some(null));
        let mail = Arc::new(Mutex::new(VecDeque::new()));
        let senders: Vec<_> = (0..2)
            .map(|number| {
                let (waker, mail) = (waker.clone(), Arc::clone(&mail));
                thread::spawn(move || {
                    mail.lock().expect("no panic").push_back(number);
                    waker.wake();
                })
            })
            .collect();

        let mut found = Vec::new();
        // A wake-up that gets lost leaves this loop parked for ever, which loom reports.
        while found.len() < 2 {
            park();
            if waker.take() {
                found.extend(mail.lock().expect("no panic").drain(..));
            }
        }

        for sender in senders {
            sender.join().expect("no panic");
        }
        found.sort_unstable();
        assert_eq!(found, [0, 1]);
    });
}
