//! Limits on who comes, how many, and how fast.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, Signal, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, access_line, app, app_of, field, start, status, wait_connections};

on_both_engines!(
    connections_over_a_limit_are_closed_and_say_which,
    full_backends_refuse_and_take_again_when_there_is_room,
    denied_networks_of_a_file_do_not_get_in,
    clients_wait_in_line_while_backends_are_full,
    lines_end_with_their_time_their_clients_and_their_process,
);

fn limited(engine: Engine, frontend: SocketAddr, backend: &Backend, limits: &str) -> Ringway {
    start(engine, &app(frontend, &[backend.address()], &format!("{NO_CHECKS}[app.limits]\n{limits}\n")))
}

/// A client that is served: it got an answer.
fn served(frontend: SocketAddr) -> TcpStream {
    let mut stream = client::connect(frontend).expect("it listens");
    stream.write_all(b"x").expect("it is taken");
    stream.read_exact(&mut [0; 1]).expect("it is echoed");
    stream
}

/// A client that is turned away.
fn refused(frontend: SocketAddr) -> SocketAddr {
    let mut stream = client::connect(frontend).expect("it listens");
    let own = stream.local_addr().expect("an address");
    match stream.read(&mut [0; 1]) {
        Ok(count) => assert_eq!(count, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    own
}

fn connections_over_a_limit_are_closed_and_say_which(engine: Engine) {
    for (limit, count, why) in [
        ("connections = 3", 3, "limit_connections"),
        ("connections_per_source = 2", 2, "limit_source"),
        ("connections_per_second = 2", 2, "limit_rate"),
        ("connections_per_second_per_source = 1", 1, "limit_source_rate"),
    ] {
        let backend = Backend::start(Behaviour::Echo);
        let frontend = free_address();
        let ringway = limited(engine, frontend, &backend, limit);
        // A rate fills up again while the test looks; so clients come until one is refused.
        let mut open = Vec::new();
        let line = loop {
            let mut stream = client::connect(frontend).expect("it listens");
            let own = stream.local_addr().expect("an address");
            let _ = stream.write_all(b"x");
            match stream.read_exact(&mut [0; 1]) {
                Ok(()) => open.push(stream),
                Err(_) => break access_line(&ringway, own),
            }
        };
        assert_eq!((field(&line, "why"), field(&line, "in")), (why, "accept"), "{line}");
        assert!(open.len() >= count, "{} of {count}: {line}", open.len());
        if !why.contains("rate") {
            assert_eq!(open.len(), count);
        }
        assert_eq!(backend.accepted(), open.len(), "no backend was dialled for the refused one");
        let counted = ringway.metric("ringway_connections_closed_total", &format!("reason=\"{why}\""));
        assert_eq!(counted as usize, 1);
        if !why.contains("rate") {
            // The next one takes the place of one that left.
            drop(open.pop());
            wait_connections(&ringway, count - 1);
            open.push(served(frontend));
        }
    }
}

fn full_backends_refuse_and_take_again_when_there_is_room(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let backends = format!("{{ address = \"{}\", max_connections = 2 }}", backend.address());
    let ringway = start(engine, &app_of(&format!("\"{frontend}\""), &backends, NO_CHECKS));
    let mut open = vec![served(frontend), served(frontend)];
    let line = access_line(&ringway, refused(frontend));
    assert_eq!(field(&line, "why"), "backends_full", "{line}");
    drop(open.pop());
    wait_connections(&ringway, 1);
    open.push(served(frontend));
    assert_eq!(backend.open(), 2);
}

fn denied_networks_of_a_file_do_not_get_in(engine: Engine) {
    let directory = tempfile::tempdir().expect("a directory");
    let list = directory.path().join("networks.txt");
    std::fs::write(&list, "# Some.\n192.0.2.0/24\n127.0.0.0/8 # This one.\n").expect("it is written");
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = limited(engine, frontend, &backend, &format!("deny = [{{ file = {list:?} }}]"));
    let line = access_line(&ringway, refused(frontend));
    assert_eq!(field(&line, "why"), "denied", "{line}");
    assert_eq!(backend.accepted(), 0);
    eventually("it is counted", PATIENCE, || {
        let denied = ringway.metric("ringway_connections_closed_total", "reason=\"denied\"");
        (denied as usize == 1).then_some(())
    });
}

/// One backend that takes `max` connections, and a line before it.
fn with_queue(engine: Engine, frontend: SocketAddr, backend: &Backend, max: u32, queue: &str) -> Ringway {
    let backends = format!("{{ address = \"{}\", max_connections = {max} }}", backend.address());
    start(
        engine,
        &app_of(&format!("\"{frontend}\""), &backends, &format!("{NO_CHECKS}[app.limits]\n{queue}")),
    )
}

/// Waits until so many are in the line.
fn wait_queued(ringway: &Ringway, count: usize) {
    eventually(&format!("{count} in the line"), PATIENCE, || {
        (ringway.metric("ringway_queued_connections", "") as usize == count).then_some(())
    });
}

/// A client that has said something and waits.
fn waiting(ringway: &Ringway, frontend: SocketAddr, place: usize) -> TcpStream {
    let mut stream = client::connect(frontend).expect("it listens");
    stream.write_all(b"x").expect("it is taken");
    wait_queued(ringway, place);
    stream
}

fn is_served(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 1]).expect("it is echoed");
}

fn clients_wait_in_line_while_backends_are_full(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = with_queue(engine, frontend, &backend, 1, "queue = 20\nqueue_timeout = \"1h\"");
    let mut at_the_backend = served(frontend);
    let line: Vec<_> = (1..=8).map(|place| waiting(&ringway, frontend, place)).collect();
    assert_eq!(status(&ringway)["apps"][0]["queued"], 8);
    assert_eq!(backend.accepted(), 1);
    // Whichever workers they are at: one after the other, in the order in which they came.
    for (index, mut next) in line.into_iter().enumerate() {
        drop(at_the_backend);
        is_served(&mut next);
        wait_queued(&ringway, 7 - index);
        assert_eq!(backend.accepted(), index + 2, "no other was let in");
        at_the_backend = next;
    }
    let own = at_the_backend.local_addr().expect("an address");
    drop(at_the_backend);
    let line = access_line(&ringway, own);
    let waited: f64 = field(&line, "queue").trim_end_matches("ms").parse().expect("a number");
    assert!(waited > 0.0, "{line}");
    assert_eq!(ringway.metric("ringway_connections_queued_total", "") as usize, 8);
}

fn lines_end_with_their_time_their_clients_and_their_process(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = with_queue(engine, frontend, &backend, 1, "queue = 2\nqueue_timeout = \"300ms\"");
    let _at_the_backend = served(frontend);
    let mut late = client::connect(frontend).expect("it listens");
    let own = late.local_addr().expect("an address");
    assert_eq!(late.read(&mut [0; 1]).expect("a clean end"), 0);
    let line = access_line(&ringway, own);
    assert_eq!((field(&line, "why"), field(&line, "in")), ("queue_timeout", "accept"), "{line}");
    drop(ringway);

    let frontend = free_address();
    let ringway = with_queue(engine, frontend, &backend, 1, "queue = 2\nqueue_timeout = \"1h\"");
    let _at_the_backend = served(frontend);
    let (first, second) = (waiting(&ringway, frontend, 1), waiting(&ringway, frontend, 2));
    let line = access_line(&ringway, refused(frontend));
    assert_eq!(field(&line, "why"), "queue_full", "{line}");
    let own = first.local_addr().expect("an address");
    client::reset(first);
    let line = access_line(&ringway, own);
    assert_eq!((field(&line, "by"), field(&line, "why")), ("client", "left_queue"), "{line}");
    wait_queued(&ringway, 1);
    ringway.process().signal(Signal::TERM);
    ringway.process().signal(Signal::INT);
    let line = access_line(&ringway, second.local_addr().expect("an address"));
    assert_eq!((field(&line, "in"), field(&line, "why")), ("accept", "shutdown"), "{line}");
}
