//! What an operator does to a running process by the command line: list, kill, weigh, drain.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, PROGRAM, access_line, app, field, start, status, wait_connections};

on_both_engines!(
    connections_are_listed_with_what_they_do,
    filters_choose_which_connections_are_listed,
    backend_in_maintenance_keeps_its_connections_and_gets_no_new_ones,
    weight_changes_at_run_time_and_is_seen,
    killed_connections_end_with_that_reason_and_the_others_go_on,
    drained_backend_lets_its_connections_finish_and_then_the_command_ends,
    what_outlasts_the_drain_of_a_backend_is_closed_with_that_reason,
    drained_app_closes_its_listeners_and_listens_again_when_told,
    drained_process_ends_when_its_connections_have_finished,
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

/// Starts a command that waits.
fn waiting(ringway: &Ringway, arguments: &[&str]) -> std::process::Child {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg("--config").arg(ringway.directory().join("ringway.toml"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// The end of a command that was waited for.
fn ended(child: std::process::Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it was started");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn wait_duty(ringway: &Ringway, pointer: &str, wanted: &str) {
    eventually(&format!("{pointer} is {wanted}"), PATIENCE, || {
        (status(ringway).pointer(pointer)? == wanted).then_some(())
    });
}

fn drained_backend_lets_its_connections_finish_and_then_the_command_ends(engine: Engine) {
    let backends = [Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo)];
    let addresses = backends.each_ref().map(Backend::address);
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &addresses, NO_CHECKS));
    let first = addresses[0].to_string();
    let mut streams: Vec<_> = (0..4).map(|_| served(frontend)).collect();

    let child = waiting(&ringway, &["drain", "--backend", "app", &first, "--timeout", "1h"]);

    wait_duty(&ringway, "/apps/0/backends/0/duty", "draining");
    streams.extend((0..4).map(|_| served(frontend)));
    assert_eq!((connections_to(&ringway, addresses[0]), connections_to(&ringway, addresses[1])), (2, 6));
    streams.iter_mut().for_each(echo);
    drop(streams);
    assert_eq!(ended(child), (Some(0), "drained, 0 connections open\n".to_owned()));
    let again = printed(&ringway, &["undrain", "--backend", "app", &first]);
    assert_eq!(again, "ready, 0 connections open\n");
    let _streams: Vec<_> = (0..4).map(|_| served(frontend)).collect();
    assert_eq!(connections_to(&ringway, addresses[0]), 2);
}

fn what_outlasts_the_drain_of_a_backend_is_closed_with_that_reason(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[backend.address()], NO_CHECKS));
    let stream = served(frontend);
    let name = backend.address().to_string();

    let child = waiting(&ringway, &["drain", "--backend", "app", &name, "--timeout", "50ms"]);

    let text = "drained, 1 connection closed because the time was over\n".to_owned();
    assert_eq!(ended(child), (Some(3), text));
    let line = access_line(&ringway, address_of(&stream));
    assert_eq!(
        (field(&line, "by"), field(&line, "in"), field(&line, "why")),
        ("ringway", "relay", "drained")
    );
}

fn drained_app_closes_its_listeners_and_listens_again_when_told(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let [frontend, other] = [free_address(), free_address()];
    let config = app(frontend, &[backend.address()], NO_CHECKS);
    let second = app(other, &[backend.address()], NO_CHECKS).replace("\"app\"", "\"other\"");
    let ringway = start(engine, &format!("{config}\n{second}"));
    let mut stream = served(frontend);

    let child = waiting(&ringway, &["drain", "--app", "app"]);

    eventually("the app refuses new connections", PATIENCE, || {
        client::connect(frontend).is_err().then_some(())
    });
    echo(&mut stream);
    served(other);
    drop(stream);
    assert_eq!(ended(child), (Some(0), "drained, 0 connections open\n".to_owned()));
    assert_eq!(status(&ringway)["apps"][0]["duty"], "draining");
    let file = ringway.directory().join("ringway.toml");
    let config = std::fs::read_to_string(&file).expect("it is there");
    let config = config.replace("name = \"app\"\n", "name = \"app\"\nconnect_attempts = 2\n");
    std::fs::write(&file, config).expect("it can be written");
    printed(&ringway, &["reload"]);
    assert!(client::connect(frontend).is_err(), "a reload does not open it again");
    printed(&ringway, &["undrain", "--app", "app"]);
    eventually("the app serves again", PATIENCE, || client::connect(frontend).ok());
    echo(&mut served(frontend));
    assert!(!command(&ringway, &["undrain"]).status.success(), "nothing says what");
}

fn drained_process_ends_when_its_connections_have_finished(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let mut ringway = start(engine, &app(frontend, &[backend.address()], NO_CHECKS));
    let mut stream = served(frontend);

    let text = printed(&ringway, &["drain", "--no-wait"]);

    assert!(text.starts_with("draining"), "{text}");
    printed(&ringway, &["drain", "--no-wait"]);
    eventually("new connections are refused", PATIENCE, || client::connect(frontend).is_err().then_some(()));
    echo(&mut stream);
    let child = waiting(&ringway, &["drain"]);
    drop(stream);
    assert!(ringway.wait(PATIENCE).success());
    // It may have come too late to find anybody.
    ended(child);
}
