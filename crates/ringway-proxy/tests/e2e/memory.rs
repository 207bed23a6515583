//! Memory against readers that stop.

use std::io::{Read, Write};
use std::time::Duration;

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, client, eventually, free_address, raise_descriptor_limit, skip};

use crate::support::{Engine, alone, app, start};

on_both_engines!(five_thousand_readers_that_stop_hold_the_process_under_300_megabytes);

/// The backend is at rest when it has sent nothing for so long.
const REST: Duration = Duration::from_millis(500);

fn five_thousand_readers_that_stop_hold_the_process_under_300_megabytes(engine: Engine) {
    const READERS: usize = 5000;
    const RESIDENT_BYTES_MAX: u64 = 300 << 20;
    let _alone = alone();
    // Both ends of each connection are in this process.
    if raise_descriptor_limit() < READERS as u64 * 2 + 500 {
        skip!("the descriptor limit does not carry {READERS} connections");
    }
    let flood = Backend::start(Behaviour::Flood);
    let echo = Backend::start(Behaviour::Echo);
    let (stopped, served) = (free_address(), free_address());
    let config = format!(
        "{}{}",
        app(stopped, &[flood.address()], ""),
        app(served, &[echo.address()], "").replace("\"app\"", "\"served\"")
    );
    let ringway = start(engine, &config);

    let readers = client::stopped_readers(stopped, READERS).expect("each reader gets its first byte");
    wait_until_at_rest(&flood);

    let resident = ringway.process().resident_bytes();
    assert!(resident < RESIDENT_BYTES_MAX, "{} MiB resident", resident >> 20);
    let mut stream = client::connect(served).expect("the frontend listens");
    stream.write_all(b"hello").expect("it is read");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("others are served while thousands stall");
    assert_eq!(&answer, b"hello");

    drop(readers);
    eventually("all stalled connections are gone", PATIENCE, || {
        (ringway.metric("ringway_connections", "app=\"app\"") == 0.0).then_some(())
    });
}

fn wait_until_at_rest(backend: &Backend) {
    let mut last = (backend.sent_bytes(), std::time::Instant::now());
    eventually("the backend's sends stall", PATIENCE, || {
        let sent = backend.sent_bytes();
        if sent != last.0 {
            last = (sent, std::time::Instant::now());
        }
        (last.1.elapsed() >= REST).then_some(())
    });
}
