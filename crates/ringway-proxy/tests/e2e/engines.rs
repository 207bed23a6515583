//! Which engine runs, and that the process says which and why.

use std::io::{Read, Write};

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, client, free_address, skip};

use crate::support::{Engine, app, ringway, status};

#[test]
fn where_io_uring_is_forbidden_the_process_falls_back_to_epoll_and_says_so() {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    if cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))) {
        skip!("no filter for this architecture");
    }
    let ringway =
        ringway(Engine::IoUring).config(&app(frontend, &[backend.address()], "")).without_io_uring().start();

    let mut stream = client::connect(frontend).expect("the frontend listens");
    stream.write_all(b"hello").expect("it is read");
    stream.read_exact(&mut [0; 5]).expect("it is echoed");

    let status = status(&ringway);
    assert_eq!(status["engine"], "epoll");
    ringway.process().wait_for_line("epoll and io_uring", PATIENCE, |line| {
        line.contains("epoll") && line.contains("io_uring") && !line.contains(" why=")
    });
}

#[test]
fn the_process_says_which_engine_it_runs_on_and_why() {
    let ringway = ringway(Engine::Epoll).config(&app(free_address(), &[free_address()], "")).start();

    let line = ringway.process().wait_for_line("the engine", PATIENCE, |line| line.contains("epoll"));

    assert!(!line.is_empty());
    assert!(status(&ringway)["engine_reason"].as_str().is_some_and(|reason| !reason.is_empty()));
}
