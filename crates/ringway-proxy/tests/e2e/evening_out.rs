//! Workers that hold unequally many connections even out, and nobody notices.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;
use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, client, eventually, free_address};

use crate::support::{Engine, PROGRAM, app, field, ringway, start, status, wait_connections};

on_both_engines!(
    idle_connections_of_a_full_worker_go_to_an_empty_one_and_flow_on,
    workers_are_left_as_they_are_where_that_is_wanted,
);

/// Bytes that a backend of the second app sends before it ends its direction.
const GREETING: usize = 100_000;

/// What a command prints that must not fail.
fn printed(ringway: &Ringway, arguments: &[&str]) -> String {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg("--config").arg(ringway.directory().join("ringway.toml"));
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn listed(ringway: &Ringway) -> Vec<Value> {
    let list: Value = serde_json::from_str(&printed(ringway, &["connections", "--json"])).expect("JSON");
    list["connections"].as_array().expect("a list").clone()
}

/// Client and frontend: one client's port may be used for both frontends.
type Ends = (SocketAddr, SocketAddr);

/// The number and the worker of each connection, by its ends.
fn connections(ringway: &Ringway) -> BTreeMap<Ends, (u64, u64)> {
    listed(ringway)
        .iter()
        .map(|row| {
            let address = |key: &str| row[key].as_str().expect("text").parse().expect("an address");
            (
                (address("client"), address("frontend")),
                (row["id"].as_u64().expect("a number"), row["worker"].as_u64().expect("a number")),
            )
        })
        .collect()
}

fn by_worker(ringway: &Ringway) -> Vec<u64> {
    let counts = status(ringway)["worker_connections"].clone();
    counts.as_array().expect("a list").iter().map(|count| count.as_u64().expect("a number")).collect()
}

fn address_of(stream: &TcpStream) -> SocketAddr {
    stream.local_addr().expect("it is connected")
}

fn ends_of(stream: &TcpStream) -> Ends {
    (address_of(stream), stream.peer_addr().expect("it is connected"))
}

/// Bytes that are different for each connection and each call.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|index| (index.wrapping_mul(31) ^ seed.wrapping_mul(131)) as u8).collect()
}

fn echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("it is read");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("it is echoed");
    assert!(back == bytes, "other bytes came back");
}

/// Clients of one worker, and none of the other: who came to that one has left.
fn all_on_one(ringway: &Ringway, streams: &mut Vec<TcpStream>) -> u64 {
    let seen = connections(ringway);
    let on = |stream: &TcpStream, worker| seen[&ends_of(stream)].1 == worker;
    let kept = u64::from(streams.iter().filter(|stream| on(stream, 1)).count() * 2 > streams.len());
    streams.retain(|stream| on(stream, kept));
    kept
}

fn idle_connections_of_a_full_worker_go_to_an_empty_one_and_flow_on(engine: Engine) {
    let (echoing, ending) =
        (Backend::start(Behaviour::Echo), Backend::start(Behaviour::SendThenEnd(GREETING)));
    let frontends = [free_address(), free_address()];
    let apps = [
        app(frontends[0], &[echoing.address()], ""),
        app(frontends[1], &[ending.address()], "").replace("\"app\"", "\"ending\""),
    ];
    // Nobody moves before the connections are made and looked at.
    let off = format!("[server]\neven_workers = false\n{}", apps.concat());
    let ringway = ringway(engine).config(&off).start();
    let mut open: Vec<TcpStream> =
        (0..90).map(|_| client::connect(frontends[0]).expect("the frontend listens")).collect();
    for (seed, stream) in open.iter_mut().enumerate() {
        echo(stream, &pattern(1_000, seed));
    }
    let mut half_closed: Vec<TcpStream> =
        (0..50).map(|_| client::connect(frontends[1]).expect("the frontend listens")).collect();
    for stream in &mut half_closed {
        let mut greeting = Vec::new();
        stream.read_to_end(&mut greeting).expect("it ends");
        assert_eq!(greeting.len(), GREETING);
    }
    let full = all_on_one(&ringway, &mut open);
    let seen = connections(&ringway);
    half_closed.retain(|stream| seen[&ends_of(stream)].1 == full);
    let count = open.len() + half_closed.len();
    wait_connections(&ringway, count);
    let before = connections(&ringway);
    assert!(before.values().all(|(_, worker)| *worker == full), "{before:?}");

    let file = ringway.directory().join("ringway.toml");
    let text = std::fs::read_to_string(&file).expect("it was started with it");
    let on = text.replace("even_workers = false", "even_workers = true");
    std::fs::write(&file, on).expect("the directory can be written to");
    printed(&ringway, &["reload"]);
    // Looks that fall into a round see some of it.
    let label = format!("worker=\"{}\"", 1 - full);
    let after = eventually("workers with about as many connections", PATIENCE, || {
        let (counts, after) = (by_worker(&ringway), connections(&ringway));
        let moved = after.values().filter(|(_, worker)| *worker != full).count() as f64;
        let is_even = counts[0].abs_diff(counts[1]) <= 16 && counts.iter().sum::<u64>() == count as u64;
        let is_counted = ringway.metric("ringway_connections_moved_total", "") == moved
            && ringway.metric("ringway_worker_connections", &label) == moved;
        (is_even && is_counted).then_some(after)
    });

    let numbers = |seen: &BTreeMap<Ends, (u64, u64)>| -> BTreeSet<u64> {
        seen.values().map(|(number, _)| *number).collect()
    };
    assert_eq!(numbers(&before), numbers(&after), "everybody keeps its number");
    for (seed, stream) in open.iter_mut().enumerate() {
        echo(stream, &pattern(200_000, 1_000 + seed));
    }
    for (index, mut stream) in half_closed.into_iter().enumerate() {
        let wanted = format!(" connection={} ", before[&ends_of(&stream)].0);
        stream.write_all(&pattern(1_000 + index, index)).expect("it is read");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let is_its = |line: &str| line.contains(&wanted) && line.contains(" why=");
        let line = ringway.process().wait_for_line(&wanted, PATIENCE, is_its);
        assert_eq!((field(&line, "by"), field(&line, "why")), ("backend", "finished"));
        assert_eq!(field(&line, "sent"), (1_000 + index).to_string(), "{line}");
        assert_eq!(field(&line, "received"), GREETING.to_string(), "{line}");
    }
    drop(open);
    wait_connections(&ringway, 0);
    assert_eq!(by_worker(&ringway), [0, 0]);
    assert_eq!(ringway.metric("ringway_endpoint_connections", ""), 0.0);
}

fn workers_are_left_as_they_are_where_that_is_wanted(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], "");
    let ringway = start(engine, &format!("[server]\neven_workers = false\n{config}"));
    let mut streams: Vec<TcpStream> =
        (0..60).map(|_| client::connect(frontend).expect("the frontend listens")).collect();
    for stream in &mut streams {
        echo(stream, b"hello");
    }
    let full = all_on_one(&ringway, &mut streams);
    wait_connections(&ringway, streams.len());
    assert_eq!(by_worker(&ringway)[full as usize], streams.len() as u64);
    eventually("connections that have been idle for some rounds", PATIENCE, || {
        let idle = |row: &Value| row["idle_seconds"].as_f64().is_some_and(|idle| idle > 2.5);
        listed(&ringway).iter().all(idle).then_some(())
    });
    assert_eq!(by_worker(&ringway)[full as usize], streams.len() as u64);
    for stream in &mut streams {
        echo(stream, b"hello again");
    }
    assert_eq!(ringway.metric("ringway_connections_moved_total", ""), 0.0);
}
