//! SIGTERM and SIGINT: what waits is served, what runs may finish, what stays is cut.

use std::io::{Read, Write};
use std::net::TcpStream;

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Signal, client, eventually, free_address};

use crate::support::{Engine, access_line, app, field, start};

on_both_engines!(
    connections_that_wait_in_the_queue_are_served_and_not_reset,
    open_connections_may_finish_and_then_the_process_ends,
    what_stays_past_the_drain_timeout_is_cut,
    a_second_signal_ends_it_now,
);

/// The documented exit code of a process that had to cut connections.
const CUT: i32 = 3;

fn echoes(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])
}

fn connections_that_wait_in_the_queue_are_served_and_not_reset(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let mut ringway = start(engine, &app(frontend, &[backend.address()], ""));

    // While the process is stopped the kernel completes handshakes and queues them.
    ringway.process().signal(Signal::STOP);
    let mut streams: Vec<_> =
        (0..50).map(|_| client::connect(frontend).expect("the kernel accepts for it")).collect();
    ringway.terminate();
    ringway.process().signal(Signal::CONT);

    for (index, stream) in streams.iter_mut().enumerate() {
        echoes(stream).unwrap_or_else(|error| panic!("queued connection {index}: {error}"));
    }
    drop(streams);
    assert!(ringway.wait(PATIENCE).success());
}

fn open_connections_may_finish_and_then_the_process_ends(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let mut ringway = start(engine, &app(frontend, &[backend.address()], ""));
    let mut stream = client::connect(frontend).expect("the frontend listens");
    echoes(&mut stream).expect("it is served");

    ringway.terminate();
    eventually("new connections are refused", PATIENCE, || {
        TcpStream::connect(frontend).is_err().then_some(())
    });
    echoes(&mut stream).expect("an open connection goes on");
    assert!(!ringway.process().has_ended());
    drop(stream);

    assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
    let last =
        ringway.process().lines().into_iter().rfind(|line| !line.contains(" why=")).unwrap_or_default();
    assert!(last.contains("ended: all connections finished"), "{last}");
}

fn what_stays_past_the_drain_timeout_is_cut(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], "");
    let mut ringway = start(engine, &format!("[server]\ndrain_timeout = \"200ms\"\n\n{config}"));
    let mut stream = client::connect(frontend).expect("the frontend listens");
    let client = stream.local_addr().expect("it is connected");
    echoes(&mut stream).expect("it is served");

    ringway.terminate();
    let status = ringway.wait(PATIENCE);

    assert!(status.code().is_some_and(|code| code != 0), "the exit code tells of the cut: {status}");
    let last =
        ringway.process().lines().into_iter().rfind(|line| !line.contains(" why=")).unwrap_or_default();
    assert!(last.contains('1'), "the last line tells how many were cut: {last}");
    let line = access_line(&ringway, client);
    assert_eq!((field(&line, "by"), field(&line, "in")), ("ringway", "relay"), "{line}");
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)), "the client sees the end");
}

fn a_second_signal_ends_it_now(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], "");
    let mut ringway = start(engine, &format!("[server]\ndrain_timeout = \"1h\"\n\n{config}"));
    let mut stream = client::connect(frontend).expect("the frontend listens");
    echoes(&mut stream).expect("it is served");

    ringway.process().signal(Signal::INT);
    eventually("new connections are refused", PATIENCE, || {
        TcpStream::connect(frontend).is_err().then_some(())
    });
    assert!(!ringway.process().has_ended());
    ringway.terminate();

    assert_eq!(ringway.wait(PATIENCE).code(), Some(CUT));
}
