//! What an operator does to a running process by the command line: list, kill.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};

use serde_json::Value;
use testkit::backend::{Backend, Behaviour};
use testkit::{Ringway, client, free_address};

use crate::support::{Engine, NO_CHECKS, PROGRAM, access_line, app, field, start, status, wait_connections};

on_both_engines!(
    connections_are_listed_with_what_they_do,
    filters_choose_which_connections_are_listed,
    backend_in_maintenance_keeps_its_connections_and_gets_no_new_ones,
    weight_changes_at_run_time_and_is_seen,
    killed_connections_end_with_that_reason_and_the_others_go_on,
);

/// Runs a command of the program against a running one.
fn command(ringway: &Ringway, arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg("--config").arg(ringway.directory().join("ringway.toml"));
    command.output().expect("the program starts")
}

/// What a command prints that must not fail.
fn printed(ringway: &Ringway, arguments: &[&str]) -> String {
    let output = command(ringway, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// The connections that a list holds, as JSON.
fn listed(ringway: &Ringway, filters: &[&str]) -> Vec<Value> {
    let text = printed(ringway, &[&["connections", "--json"], filters].concat());
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let connections = list["connections"].as_array().expect("a list").clone();
    assert_eq!(list["matched"], connections.len());
    connections
}

/// A client whose connection has carried bytes both ways.
fn served(frontend: SocketAddr) -> TcpStream {
    let mut stream = client::connect(frontend).expect("the frontend listens");
    echo(&mut stream);
    stream
}

fn echo(stream: &mut TcpStream) {
    stream.write_all(b"hello").expect("it is read");
    stream.read_exact(&mut [0; 5]).expect("it is echoed");
}

fn address_of(stream: &TcpStream) -> SocketAddr {
    stream.local_addr().expect("it is connected")
}

fn connections_are_listed_with_what_they_do(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[backend.address()], ""));
    assert_eq!(printed(&ringway, &["connections"]), "0 connections\n");

    let stream = served(frontend);

    let connections = listed(&ringway, &[]);
    let [connection] = &connections[..] else { panic!("one connection: {connections:?}") };
    assert_eq!(connection["client"], address_of(&stream).to_string());
    assert_eq!((&connection["app"], &connection["frontend"]), (&"app".into(), &frontend.to_string().into()));
    assert_eq!(connection["backend"], backend.address().to_string());
    assert_eq!(connection["phase"], "relaying");
    assert_eq!((&connection["bytes_sent"], &connection["bytes_received"]), (&5.into(), &5.into()));
    let age = connection["age_seconds"].as_f64().expect("an age");
    assert!(connection["idle_seconds"].as_f64().expect("bytes flow") <= age);
    let id = connection["id"].to_string();
    drop(stream);
    wait_connections(&ringway, 0);
    let line = access_line(&ringway, connection["client"].as_str().expect("text").parse().expect("address"));
    assert_eq!(field(&line, "connection"), id, "the number is that of the access log");
}

fn filters_choose_which_connections_are_listed(engine: Engine) {
    let backends = [Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo)];
    let addresses = backends.each_ref().map(Backend::address);
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &addresses, ""));
    let _streams: Vec<_> = (0..4).map(|_| served(frontend)).collect();

    let first = addresses[0].to_string();
    for (filters, wanted) in [
        (&["--app", "app"][..], 4),
        (&["--backend", &first], 2),
        (&["--source", "127.0.0.0/8", "--backend", &first], 2),
        (&["--source", "127.0.0.1"], 4),
        (&["--source", "10.0.0.0/8"], 0),
        (&["--older-than", "1h"], 0),
        (&["--older-than", "0s"], 4),
    ] {
        assert_eq!(listed(&ringway, filters).len(), wanted, "{filters:?}");
    }
    let text = printed(&ringway, &["connections", "--limit", "1"]);
    assert!(text.ends_with("1 of 4 connections; --limit lists more\n"), "{text}");
    let wrong = command(&ringway, &["connections", "--app", "ap"]);
    let errors = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(errors.contains("no app is called \"ap\"; did you mean \"app\"?"), "{errors}");
}

fn killed_connections_end_with_that_reason_and_the_others_go_on(engine: Engine) {
    let backends = [Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo)];
    let addresses = backends.each_ref().map(Backend::address);
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &addresses, ""));
    let mut streams: Vec<_> = (0..6).map(|_| served(frontend)).collect();
    let doomed: Vec<SocketAddr> = listed(&ringway, &["--backend", &addresses[0].to_string()])
        .iter()
        .map(|connection| connection["client"].as_str().expect("text").parse().expect("an address"))
        .collect();
    assert_eq!(doomed.len(), 3);

    let text = printed(&ringway, &["kill", "--backend", &addresses[0].to_string()]);

    assert_eq!(text, "3 connections killed\n");
    for client in &doomed {
        let line = access_line(&ringway, *client);
        assert_eq!(
            (field(&line, "by"), field(&line, "in"), field(&line, "why")),
            ("ringway", "relay", "killed")
        );
    }
    for stream in &mut streams {
        if doomed.contains(&address_of(stream)) {
            assert!(!matches!(stream.read(&mut [0]), Ok(1..)));
        } else {
            echo(stream);
        }
    }
    assert_eq!(ringway.metric("ringway_connections_closed_total", "reason=\"killed\""), 3.0);
    wait_connections(&ringway, 3);

    let careless = command(&ringway, &["kill"]);
    assert_eq!(careless.status.code(), Some(2), "nothing says which");
    wait_connections(&ringway, 3);
    let id = listed(&ringway, &[])[0]["id"].to_string();
    assert_eq!(printed(&ringway, &["kill", "--id", &id]), "1 connection killed\n");
    assert_eq!(printed(&ringway, &["kill", "--all", "--json"]), "{\"killed\":2}\n");
    wait_connections(&ringway, 0);
}

/// Backends of so many connections, by address.
fn connections_to(ringway: &Ringway, backend: SocketAddr) -> usize {
    listed(ringway, &["--backend", &backend.to_string()]).len()
}

fn backend_in_maintenance_keeps_its_connections_and_gets_no_new_ones(engine: Engine) {
    let backends = [Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo)];
    let addresses = backends.each_ref().map(Backend::address);
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &addresses, NO_CHECKS));
    let [first, second] = addresses.map(|address| address.to_string());
    let mut streams: Vec<_> = (0..4).map(|_| served(frontend)).collect();

    let text = printed(&ringway, &["backend", "app", &first, "--maintenance"]);

    assert!(text.contains("maintenance"), "{text}");
    streams.iter_mut().for_each(echo);
    streams.extend((0..4).map(|_| served(frontend)));
    assert_eq!((connections_to(&ringway, addresses[0]), connections_to(&ringway, addresses[1])), (2, 6));
    assert_eq!(status(&ringway)["apps"][0]["backends"][0]["duty"], "maintenance");
    assert_eq!(ringway.metric("ringway_backend_weight", &format!("backend=\"{first}\"")), 0.0);

    printed(&ringway, &["backend", "app", &first, "--ready"]);
    streams.extend((0..4).map(|_| served(frontend)));
    assert_eq!((connections_to(&ringway, addresses[0]), connections_to(&ringway, addresses[1])), (6, 6));
    printed(&ringway, &["backend", "app", &second, "--maintenance"]);
    printed(&ringway, &["backend", "app", &first, "--maintenance"]);
    let mut refused = client::connect(frontend).expect("the frontend listens");
    let line = access_line(&ringway, address_of(&refused));
    assert_eq!((field(&line, "in"), field(&line, "why")), ("accept", "no_backend"));
    assert!(!matches!(refused.read(&mut [0]), Ok(1..)));
}

fn weight_changes_at_run_time_and_is_seen(engine: Engine) {
    let backends = [Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo)];
    let addresses = backends.each_ref().map(Backend::address);
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &addresses, NO_CHECKS));
    let first = addresses[0].to_string();

    printed(&ringway, &["backend", "app", &first, "--weight", "3"]);

    let _streams: Vec<_> = (0..8).map(|_| served(frontend)).collect();
    assert_eq!((connections_to(&ringway, addresses[0]), connections_to(&ringway, addresses[1])), (6, 2));
    let text = printed(&ringway, &["status"]);
    assert!(text.contains("3 (configured: 1)"), "{text}");
    let shown = printed(&ringway, &["backend", "app", &first, "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["weight"], &shown["weight_override"]), (&1.into(), &3.into()));
    let text = printed(&ringway, &["backend", "app", &first, "--weight", "configured"]);
    assert!(!text.contains("configured"), "{text}");
    let wrong = command(&ringway, &["backend", "app", &first, "--weight", "heavy"]);
    let errors = String::from_utf8_lossy(&wrong.stderr);
    assert!(errors.contains("weight: \"heavy\"; expected a number from 0 to 256, or configured"), "{errors}");
}
