//! The examples do what their pages say.
#![forbid(unsafe_code)]

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Process, block_on, client, skip};

/// Cargo builds examples together with tests, into a directory beside theirs.
fn example(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("it lies in target/PROFILE/deps");
    profile.join("examples").join(name)
}

/// Whether the examples are there: `cargo test --test examples` alone does not build them.
fn are_built() -> bool {
    example("echo").exists() && example("proxy").exists()
}

/// Starts an example and returns the address that it says first.
fn start(name: &str, arguments: &[&str]) -> (Process, SocketAddr) {
    let mut command = Command::new(example(name));
    command.args(arguments);
    let process = Process::spawn(command).unwrap_or_else(|error| panic!("{name}: {error}"));
    let line = process.wait_for_line("an address", PATIENCE, |line| address_in(line).is_some());
    let address = address_in(&line).expect("the line was taken for its address");
    (process, address)
}

fn address_in(line: &str) -> Option<SocketAddr> {
    line.split_whitespace().find_map(|word| word.parse().ok())
}

#[test]
fn the_echo_server_echoes() {
    use std::io::{Read, Write};
    if !are_built() {
        skip!("the examples are not built: cargo build --examples");
    }
    let (_process, address) = start("echo", &["127.0.0.1:0"]);
    let mut stream = client::connect(address).expect("it said that it listens");
    stream.write_all(b"hello").expect("it is read");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("it is echoed");
    assert_eq!(&answer, b"hello");
}

#[test]
fn the_proxy_relays() {
    if !are_built() {
        skip!("the examples are not built: cargo build --examples");
    }
    let backend = Backend::start(Behaviour::Exchange);
    let (_process, address) = start("proxy", &["127.0.0.1:0", &backend.address().to_string()]);
    block_on(client::exchange(address, 1, 1_000_000)).expect("every byte arrives");
}
