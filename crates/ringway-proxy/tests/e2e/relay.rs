//! Bytes both ways: all of them, in order, with ends and resets as they were.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use testkit::backend::{Backend, Behaviour, Ending};
use testkit::{
    PATIENCE, PatternChecker, block_on, client, eventually, free_address, raise_descriptor_limit, spawn,
};

use crate::support::{Engine, NO_CHECKS, access_line, alone, app, field, start, wait_connections};

on_both_engines!(
    two_thousand_connections_at_once_move_checked_bytes,
    bulk_arrives_whole_in_both_directions_at_once,
    the_end_of_the_client_is_passed_on_and_the_backend_may_still_answer,
    the_end_of_the_backend_is_passed_on_and_the_client_may_still_send,
    what_came_before_a_reset_of_the_backend_is_handed_on_and_then_the_reset,
    a_reset_of_the_client_resets_the_backend,
);

fn two_thousand_connections_at_once_move_checked_bytes(engine: Engine) {
    const CONNECTIONS: usize = 2000;
    const BYTES: u64 = 100_000;
    let _alone = alone();
    raise_descriptor_limit();
    let backends = [Backend::start(Behaviour::Exchange), Backend::start(Behaviour::Exchange)];
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[backends[0].address(), backends[1].address()], NO_CHECKS));

    block_on(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(tokio::net::TcpStream::connect(frontend).await.expect("the frontend listens"));
        }
        // All are open before the first byte moves.
        let exchanges: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(seed, stream)| spawn(client::exchange_on(stream, seed as u64, BYTES)))
            .collect();
        for (seed, exchange) in exchanges.into_iter().enumerate() {
            let outcome = exchange.await.expect("an exchange does not panic");
            outcome.unwrap_or_else(|wrong| panic!("connection {seed}: {wrong}"));
        }
    });

    for backend in &backends {
        // Two workers that choose at the same moment may leave the two backends two apart, and no more.
        let accepted = backend.accepted();
        assert!(accepted.abs_diff(CONNECTIONS / 2) <= 1, "least connections spreads evenly: {accepted}");
        let endings = backend.wait_endings(accepted, PATIENCE);
        assert!(endings.iter().all(|ending| *ending == Ending::End), "{endings:?}");
    }
    wait_connections(&ringway, 0);
    assert_eq!(ringway.metric("ringway_endpoint_connections", "") as usize, 0);
    // The head of each exchange goes one way, the verdict the other.
    let sent = ringway.metric("ringway_relayed_bytes_total", "client_to_backend") as u64;
    let received = ringway.metric("ringway_relayed_bytes_total", "backend_to_client") as u64;
    assert_eq!(sent, CONNECTIONS as u64 * (BYTES + 16));
    assert_eq!(received, CONNECTIONS as u64 * (BYTES + 1));
}

fn bulk_arrives_whole_in_both_directions_at_once(engine: Engine) {
    const BYTES: u64 = 48 << 20;
    let backend = Backend::start(Behaviour::Exchange);
    let frontend = free_address();
    let _ringway = start(engine, &app(frontend, &[backend.address()], NO_CHECKS));

    block_on(client::exchange(frontend, 1, BYTES)).expect("every byte arrives");

    assert_eq!(backend.wait_endings(1, PATIENCE), [Ending::End]);
}

fn the_end_of_the_client_is_passed_on_and_the_backend_may_still_answer(engine: Engine) {
    let backend = Backend::start(Behaviour::Count);
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[backend.address()], NO_CHECKS));
    let mut stream = client::connect(frontend).expect("the frontend listens");

    stream.write_all(&[7; 70_000]).expect("it is read");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer comes after the client's end");

    assert_eq!(answer, "70000");
    let line = access_line(&ringway, stream.local_addr().expect("it was connected"));
    assert_eq!((field(&line, "by"), field(&line, "why")), ("client", "finished"), "{line}");
}

fn the_end_of_the_backend_is_passed_on_and_the_client_may_still_send(engine: Engine) {
    let backend = Backend::start(Behaviour::SendThenEnd(50_000));
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[backend.address()], NO_CHECKS));
    let mut stream = client::connect(frontend).expect("the frontend listens");

    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("the backend ends its direction");
    PatternChecker::new(0).feed(&received).expect("the bytes are the backend's");
    assert_eq!(received.len(), 50_000);
    stream.write_all(&[7; 70_000]).expect("this direction is still open");
    stream.shutdown(Shutdown::Write).expect("it is open");

    assert_eq!(backend.wait_endings(1, PATIENCE), [Ending::End]);
    assert_eq!(backend.received_bytes(), 70_000);
    let line = access_line(&ringway, stream.local_addr().expect("it was connected"));
    assert_eq!((field(&line, "by"), field(&line, "why")), ("backend", "finished"), "{line}");
}

fn what_came_before_a_reset_of_the_backend_is_handed_on_and_then_the_reset(engine: Engine) {
    const BYTES: usize = 100_000;
    let backend = Backend::start(Behaviour::SendThenReset(BYTES));
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[backend.address()], NO_CHECKS));
    let mut stream = client::connect(frontend).expect("the frontend listens");
    let client = stream.local_addr().expect("it is connected");

    stream.write_all(b"x").expect("it is read");
    let mut checker = PatternChecker::new(0);
    let mut buffer = [0; 4096];
    let error = loop {
        match stream.read(&mut buffer) {
            Ok(0) => panic!("an end instead of a reset after {} bytes", checker.bytes()),
            Ok(count) => checker.feed(&buffer[..count]).expect("the bytes are the backend's"),
            Err(error) => break error,
        }
    };

    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(checker.bytes(), BYTES as u64);
    let line = access_line(&ringway, client);
    assert_eq!((field(&line, "by"), field(&line, "why")), ("backend", "reset"), "{line}");
    assert_eq!(field(&line, "received"), BYTES.to_string());
}

fn a_reset_of_the_client_resets_the_backend(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[backend.address()], NO_CHECKS));
    let mut stream = client::connect(frontend).expect("the frontend listens");
    let client = stream.local_addr().expect("it is connected");
    stream.write_all(b"hello").expect("it is read");
    stream.read_exact(&mut [0; 5]).expect("it is echoed");

    client::reset(stream);

    assert_eq!(backend.wait_endings(1, PATIENCE), [Ending::Broken(ErrorKind::ConnectionReset)]);
    let line = access_line(&ringway, client);
    assert_eq!((field(&line, "by"), field(&line, "why")), ("client", "reset"), "{line}");
    eventually("no connection is left", PATIENCE, || {
        (ringway.metric("ringway_connections", "") == 0.0).then_some(())
    });
}
