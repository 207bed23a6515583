//! What can be seen of a running process: access log, admin interface, `ringway status`.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, client, eventually, free_address, http, server};

use crate::support::{Engine, PROGRAM, access_line, app, field, ringway, start, status};

fn visit(frontend: std::net::SocketAddr) -> std::net::SocketAddr {
    let mut stream = client::connect(frontend).expect("the frontend listens");
    stream.write_all(b"hello").expect("it is read");
    stream.read_exact(&mut [0; 5]).expect("it is echoed");
    stream.local_addr().expect("it is connected")
}

#[test]
fn a_connection_leaves_one_line_that_says_all() {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = start(Engine::Epoll, &app(frontend, &[backend.address()], ""));

    let client = visit(frontend);
    let line = access_line(&ringway, client);

    assert_eq!(field(&line, "app"), "app");
    assert_eq!(field(&line, "frontend"), frontend.to_string());
    assert_eq!(field(&line, "backend"), backend.address().to_string());
    assert_eq!(field(&line, "endpoint"), backend.address().to_string());
    assert_eq!((field(&line, "sent"), field(&line, "received")), ("5", "5"));
    assert_eq!(
        (field(&line, "by"), field(&line, "in"), field(&line, "why")),
        ("client", "relay", "finished")
    );
    for duration in ["queue", "connect", "total"] {
        assert!(field(&line, duration).ends_with("ms"), "{line}");
    }
    let lines = ringway.process().lines();
    assert_eq!(lines.iter().filter(|line| line.contains(&format!(" client={client} "))).count(), 1);
}

#[test]
fn the_log_can_be_json() {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], "");
    let ringway = start(Engine::Epoll, &format!("[server]\nlog_format = \"json\"\n\n{config}"));

    let client = visit(frontend);
    let wanted = format!("\"client\":\"{client}\"");
    let line = ringway.process().wait_for_line("the client", PATIENCE, |line| line.contains(&wanted));

    let line: Value = serde_json::from_str(&line).expect("the line is JSON");
    assert_eq!((&line["app"], &line["reason"]), (&"app".into(), &"finished".into()));
    assert_eq!((line["bytes_sent"].as_u64(), line["bytes_received"].as_u64()), (Some(5), Some(5)));
    for line in ringway.process().lines() {
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "not JSON: {line}");
    }
}

#[test]
fn the_access_log_can_be_switched_off() {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], "");
    let ringway = start(Engine::Epoll, &format!("[server]\naccess_log = false\n\n{config}"));

    visit(frontend);
    eventually("the connection is counted", PATIENCE, || {
        (ringway.metric("ringway_connections_closed_total", "finished") == 1.0).then_some(())
    });

    assert!(!ringway.process().lines().iter().any(|line| line.contains(" why=")));
}

#[test]
fn the_admin_interface_tells_health_status_and_metrics() {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = start(Engine::Epoll, &app(frontend, &[backend.address()], ""));
    let mut held = client::connect(frontend).expect("the frontend listens");
    held.write_all(b"x").expect("it is read");
    held.read_exact(&mut [0]).expect("it is echoed");

    assert_eq!(ringway.admin("/healthz").status, 200);
    assert_eq!(ringway.admin("/nothing").status, 404);
    let status = status(&ringway);
    assert_eq!((&status["engine"], &status["workers"]), (&"epoll".into(), &2.into()));
    assert_eq!(status["apps"][0]["connections"], 1);
    assert_eq!(status["apps"][0]["backends"][0]["endpoints"][0]["connections"], 1);
    assert_eq!(ringway.metric("ringway_connections", "app=\"app\""), 1.0);
    assert_eq!(ringway.metric("ringway_connections_accepted_total", "app=\"app\""), 1.0);
    let page = ringway.admin("/metrics");
    assert!(page.head.contains("text/plain"), "{}", page.head);
    for line in page.body.lines() {
        assert!(line.starts_with("# ") || line.starts_with("ringway_"), "{line}");
    }
}

#[test]
fn the_admin_interface_can_be_a_unix_socket_of_the_owner_only() {
    let backend = Backend::start(Behaviour::Echo);
    let config = app(free_address(), &[backend.address()], "");
    let ringway = start(Engine::Epoll, &format!("[admin]\nlisten = \"unix:admin.sock\"\n\n{config}"));
    let socket = ringway.directory().join("admin.sock");

    let page =
        eventually("the admin interface answers", PATIENCE, || http::get_unix(&socket, "/healthz").ok());

    assert_eq!(page.status, 200);
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

#[test]
fn ringway_status_prints_apps_frontends_backends_and_counts() {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = start(Engine::Epoll, &app(frontend, &[backend.address()], ""));

    let text = server::run(
        Command::new(PROGRAM).args(["status", "--config"]).arg(ringway.directory().join("ringway.toml")),
    );

    for part in ["app", &frontend.to_string(), &backend.address().to_string(), "up"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}

#[test]
fn a_log_that_nobody_reads_stalls_no_connection() {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("ringway.toml");
    std::fs::write(&file, app(frontend, &[backend.address()], "")).expect("it can be written");
    let mut child = Command::new(PROGRAM)
        .args(["run", "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    eventually("the frontend listens", PATIENCE, || client::connect(frontend).ok());

    // Some 200 bytes a line: a pipe of 64 KiB is full after a few hundred.
    for _ in 0..1000 {
        visit(frontend);
    }

    child.kill().expect("it still runs");
    child.wait().expect("it was a child");
}

#[test]
fn a_refused_connection_is_logged_and_counted_too() {
    let frontend = free_address();
    let more = "[app.health]\ncheck = \"none\"\n";
    let ringway = ringway(Engine::Epoll).config(&app(frontend, &[free_address()], more)).start();

    let mut stream = client::connect(frontend).expect("the frontend listens");
    let client = stream.local_addr().expect("it is connected");
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)));

    let line = access_line(&ringway, client);
    assert_eq!((field(&line, "in"), field(&line, "sent")), ("connect", "0"), "{line}");
    assert_eq!(ringway.metric("ringway_connections_closed_total", "phase=\"connect\""), 1.0);
}
