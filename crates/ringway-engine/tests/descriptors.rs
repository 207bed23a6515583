//! A process that has too few descriptors for what a message brings. The limit holds for a whole process, so the test runs
//! in one of its own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use ringway_engine::handover::{Channel, Message};

#[test]
fn descriptors_that_do_not_fit_are_an_error_and_not_a_short_message() {
    let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
    // SAFETY: the pointer is to a whole `rlimit` that lives for the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    let (one, other) = Channel::pair().expect("a pair");
    let file = File::open("/dev/null").expect("a file");
    one.send(b"many", &[file.as_fd(); 100]).expect("to send");
    one.send(b"few", &[file.as_fd()]).expect("to send");
    let mut message = Message::default();
    let error = other.receive(&mut message).expect_err("half of them do not fit");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(message.descriptors.is_empty(), "those that did were closed");
    assert!(other.receive(&mut message).expect("there is room again"));
    assert_eq!((message.bytes.as_slice(), message.descriptors.len()), (&b"few"[..], 1));
}
