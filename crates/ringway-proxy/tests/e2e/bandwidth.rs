//! Bytes a second. That nothing is faster than its limit holds on any machine; how near to it things come is for the
//! simulated clock to say.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, block_on, client, eventually, free_address, spawn};

use crate::reloading::{reload, write_config};
use crate::support::{Engine, NO_CHECKS, access_line, app, field, start};

on_both_engines!(
    transfers_are_whole_and_no_faster_than_their_limit,
    limit_of_an_app_holds_for_all_its_connections_together,
    half_closes_and_resets_are_passed_on_though_bytes_wait,
    reload_limits_open_connections_and_lets_them_go,
);

const MIB: usize = 1 << 20;

fn transfers_are_whole_and_no_faster_than_their_limit(engine: Engine) {
    let backend = Backend::start(Behaviour::Exchange);
    let frontend = free_address();
    let limits = format!("{NO_CHECKS}[app.limits]\nbandwidth_per_connection = \"2MiB\"");
    let ringway = start(engine, &app(frontend, &[backend.address()], &limits));
    let begin = Instant::now();
    block_on(client::exchange(frontend, 1, MIB as u64)).expect("every byte arrives");
    // A tenth of a second's worth goes at once.
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(380), "1 MiB in {took:?}, at 2 MiB a second");
    assert!(took < PATIENCE, "{took:?}");
    assert!(ringway.metric("ringway_bandwidth_waits_total", "") > 0.0);
    eventually("both directions are counted", PATIENCE, || {
        let bytes = |direction| ringway.metric("ringway_relayed_bytes_total", direction) as usize;
        // The head of the exchange goes one way, the verdict the other.
        (bytes("client_to_backend") == MIB + 16 && bytes("backend_to_client") == MIB + 1).then_some(())
    });
}

fn limit_of_an_app_holds_for_all_its_connections_together(engine: Engine) {
    let backend = Backend::start(Behaviour::Exchange);
    let frontend = free_address();
    let limits = format!("{NO_CHECKS}[app.limits]\nbandwidth = \"2MiB\"");
    let _ringway = start(engine, &app(frontend, &[backend.address()], &limits));
    let begin = Instant::now();
    block_on(async {
        let all: Vec<_> =
            (0..8).map(|seed| spawn(client::exchange(frontend, seed, MIB as u64 / 4))).collect();
        for exchange in all {
            exchange.await.expect("an exchange does not panic").expect("every byte arrives");
        }
    });
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(870), "2 MiB in {took:?}, at 2 MiB a second");
}

fn half_closes_and_resets_are_passed_on_though_bytes_wait(engine: Engine) {
    let backend = Backend::start(Behaviour::Count);
    let frontend = free_address();
    let limits = format!("{NO_CHECKS}[app.limits]\nbandwidth_per_connection = \"1MiB\"");
    let ringway = start(engine, &app(frontend, &[backend.address()], &limits));
    let mut stream = client::connect(frontend).expect("it listens");
    let own = stream.local_addr().expect("an address");
    stream.write_all(&vec![b'x'; MIB / 2]).expect("it is taken");
    stream.shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("a clean end");
    assert_eq!(answer, (MIB / 2).to_string(), "the end came after the last byte");
    let line = access_line(&ringway, own);
    assert_eq!((field(&line, "why"), field(&line, "sent")), ("finished", answer.as_str()), "{line}");

    let mut stream = client::connect(frontend).expect("it listens");
    let own = stream.local_addr().expect("an address");
    stream.write_all(&vec![b'x'; MIB / 2]).expect("it is taken");
    eventually("bytes flow", PATIENCE, || (backend.received_bytes() > MIB as u64 / 2).then_some(()));
    client::reset(stream);
    let line = access_line(&ringway, own);
    assert_eq!((field(&line, "by"), field(&line, "why")), ("client", "reset"), "{line}");
    eventually("the backend is told", PATIENCE, || (backend.open() == 0).then_some(()));
}

fn reload_limits_open_connections_and_lets_them_go(engine: Engine) {
    let backend = Backend::start(Behaviour::Flood);
    let frontend = free_address();
    let of = |limits: &str| app(frontend, &[backend.address()], &format!("{NO_CHECKS}{limits}"));
    let ringway = start(engine, &of(""));
    let mut stream = client::connect(frontend).expect("it listens");
    take(&mut stream, 4 * MIB);
    write_config(&ringway, &of("[app.limits]\nbandwidth_per_connection = \"4MiB\""));
    let said = reload(&ringway);
    assert!(
        said.contains("limits.bandwidth_per_connection: none -> ") && said.contains("get the new limit"),
        "{said}"
    );
    // What the kernels on the way hold comes first.
    take(&mut stream, 24 * MIB);
    let begin = Instant::now();
    take(&mut stream, 4 * MIB);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(700), "4 MiB in {took:?}, at 4 MiB a second");
    write_config(&ringway, &of(""));
    reload(&ringway);
    take(&mut stream, 64 * MIB);
    assert_eq!(backend.accepted(), 1, "it is the same connection");
}

/// Reads so many bytes.
fn take(stream: &mut TcpStream, bytes: usize) {
    let mut buffer = vec![0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let most = left.min(buffer.len());
        let count = stream.read(&mut buffer[..most]).expect("it goes on");
        assert_ne!(count, 0, "it ended");
        left -= count;
    }
}
