//! The servers and backends themselves, with nothing in between.
#![forbid(unsafe_code)]

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use testkit::backend::{Backend, Behaviour, BlackHole};
use testkit::server::{Iperf, Postgres, Redis, need, run};
use testkit::{client, skip};

#[test]
fn postgres_answers() {
    let (server, psql) = match (Postgres::start(), need("psql")) {
        (Ok(server), Ok(psql)) => (server, psql),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let port = server.address().port().to_string();
    let answer =
        run(Command::new(psql).args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Atc", "select 1"]));
    assert_eq!(answer.trim(), "1");
}

#[test]
fn redis_listens() {
    match Redis::start() {
        Ok(server) => drop(TcpStream::connect(server.address()).expect("it said that it is ready")),
        Err(reason) => skip!("{reason}"),
    }
}

#[test]
fn iperf3_listens() {
    match Iperf::start() {
        Ok(server) => drop(TcpStream::connect(server.address()).expect("it said that it is ready")),
        Err(reason) => skip!("{reason}"),
    }
}

#[test]
fn nobody_gets_into_a_black_hole() {
    let hole = BlackHole::start();
    assert!(TcpStream::connect_timeout(&hole.address(), Duration::from_millis(300)).is_err());
}

#[test]
fn readers_that_stop_hold_the_backend_up() {
    let backend = Backend::start(Behaviour::Flood);
    let readers = client::stopped_readers(backend.address(), 10).expect("each gets its first byte");
    assert_eq!(readers.len(), backend.accepted());
}

#[test]
fn a_killed_backend_can_be_revived_at_its_address() {
    let backend = Backend::start(Behaviour::Echo);
    let address = backend.address();
    let _open = client::connect(address).expect("it listens");
    backend.wait_accepted(1, testkit::PATIENCE);
    backend.kill();
    assert!(TcpStream::connect(address).is_err());
    let _backend = Backend::start_at(address, Behaviour::Echo);
    assert!(TcpStream::connect(address).is_ok());
}
