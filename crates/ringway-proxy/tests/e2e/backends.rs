//! Which backend a connection gets, and what happens when backends go away and come back.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use testkit::backend::{Backend, Behaviour, BlackHole};
use testkit::{PATIENCE, client, eventually, free_address};

use crate::support::{
    Engine, NO_CHECKS, QUICK_CHECKS, access_line, app, app_of, field, health, start, wait_connections,
    wait_health,
};

on_both_engines!(
    a_backend_killed_and_revived_under_load_costs_only_its_own_connections,
    a_refused_dial_goes_to_another_backend,
    a_dial_that_times_out_goes_to_another_backend,
    with_no_backend_the_client_is_closed_at_once_and_the_log_says_why,
    a_client_that_leaves_while_its_backend_is_dialled_cancels_the_dial,
);

fn named(name: &str) -> Backend {
    Backend::start(Behaviour::Named(name.into()))
}

/// Opens a connection and says which backend it got.
fn open(frontend: SocketAddr) -> io::Result<(TcpStream, String)> {
    let mut stream = client::connect(frontend)?;
    let name = client::read_line(&mut stream)?;
    Ok((stream, name))
}

/// One short connection: name, a few bytes there and back.
fn visit(frontend: SocketAddr) -> (Option<String>, io::Result<()>) {
    let (mut stream, name) = match open(frontend) {
        Ok(opened) => opened,
        Err(error) => return (None, Err(error)),
    };
    let mut back = [0; 1000];
    let outcome = stream.write_all(&[7; 1000]).and_then(|()| stream.read_exact(&mut back));
    (Some(name), outcome)
}

fn a_backend_killed_and_revived_under_load_costs_only_its_own_connections(engine: Engine) {
    let (one, two, three) = (named("one"), named("two"), named("three"));
    let address = two.address();
    let frontend = free_address();
    let backends = [one.address(), address, three.address()];
    let ringway = start(engine, &app(frontend, &backends, QUICK_CHECKS));
    // Held over the kill: these must not notice, unless they are the killed one's own.
    let mut held: Vec<_> = (0..12).map(|_| open(frontend).expect("all backends are up")).collect();

    let is_over = AtomicBool::new(false);
    let visits = AtomicUsize::new(0);
    let failures = std::thread::scope(|scope| {
        // Also when a look below fails: the scope waits for its threads.
        let stop = SetOnDrop(&is_over);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    while !is_over.load(Relaxed) {
                        let began = Instant::now();
                        if let (name, Err(error)) = visit(frontend) {
                            failures.push((began, name, error));
                        }
                        visits.fetch_add(1, Relaxed);
                    }
                    failures
                })
            })
            .collect();
        let more_visits = |count| {
            let goal = visits.load(Relaxed) + count;
            eventually("clients are served", PATIENCE, || (visits.load(Relaxed) >= goal).then_some(()));
        };
        more_visits(50);

        two.kill();
        let killed = Instant::now();
        eventually("the killed backend is left out", PATIENCE, || {
            (health(&ringway, address) != "up").then_some(())
        });
        more_visits(100);

        let two = Backend::start_at(address, Behaviour::Named("two".into()));
        wait_health(&ringway, address, "up");
        two.wait_accepted(20, PATIENCE);
        drop(stop);
        let failures: Vec<_> =
            clients.into_iter().flat_map(|client| client.join().expect("no client panics")).collect();
        for (began, name, error) in &failures {
            assert!(*began <= killed, "a connection opened after the kill failed: {name:?}: {error}");
            assert!(matches!(name.as_deref(), None | Some("two")), "{name:?} was not killed: {error}");
        }
        failures.len()
    });
    // Each client has one connection at a time, so the kill breaks at most one of each.
    assert!(failures <= 4, "{failures} broken connections");

    for (stream, name) in &mut held {
        let outcome = stream.write_all(b"still").and_then(|()| stream.read_exact(&mut [0; 5]));
        assert_eq!(outcome.is_ok(), name != "two", "{name}: {outcome:?}");
    }
}

fn a_refused_dial_goes_to_another_backend(engine: Engine) {
    let good = named("good");
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[free_address(), good.address()], NO_CHECKS));

    for _ in 0..20 {
        let (_stream, name) = open(frontend).expect("the refusal is not seen");
        assert_eq!(name, "good");
    }

    assert!(ringway.metric("ringway_connect_retries_total", "") >= 1.0);
    assert!(ringway.metric("ringway_connect_failures_total", "") >= 1.0);
}

fn a_dial_that_times_out_goes_to_another_backend(engine: Engine) {
    let hole = BlackHole::start();
    let good = named("good");
    let frontend = free_address();
    let more = format!("[app.timeouts]\nconnect = \"200ms\"\n{NO_CHECKS}");
    let ringway = start(engine, &app(frontend, &[hole.address(), good.address()], &more));

    // Both are dialled: of two connections held at once, one must start at the hole.
    let held: Vec<_> = (0..2).map(|_| open(frontend).expect("the time-out is not seen")).collect();

    assert!(held.iter().all(|(_, name)| name == "good"));
    assert!(ringway.metric("ringway_connect_failures_total", "") >= 1.0);
}

fn with_no_backend_the_client_is_closed_at_once_and_the_log_says_why(engine: Engine) {
    let nobody = free_address();
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[nobody], QUICK_CHECKS));
    wait_health(&ringway, nobody, "down");

    let mut stream = client::connect(frontend).expect("the frontend listens");
    let client = stream.local_addr().expect("it is connected");
    let read = stream.read(&mut [0]);

    assert!(matches!(read, Ok(0)) || read.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset));
    let line = access_line(&ringway, client);
    assert_eq!(
        (field(&line, "by"), field(&line, "in"), field(&line, "why")),
        ("ringway", "accept", "no_backend")
    );
}

fn a_client_that_leaves_while_its_backend_is_dialled_cancels_the_dial(engine: Engine) {
    let hole = BlackHole::start();
    let frontend = free_address();
    let more = format!("[app.timeouts]\nconnect = \"1h\"\n{NO_CHECKS}");
    let ringway = start(engine, &app(frontend, &[hole.address()], &more));
    let leave: [fn(TcpStream); 2] = [drop, client::reset];

    for (round, leave) in leave.into_iter().enumerate() {
        let stream = client::connect(frontend).expect("the frontend listens");
        let client = stream.local_addr().expect("it is connected");
        eventually("the backend is dialled", PATIENCE, || {
            (ringway.metric("ringway_connect_attempts_total", "") as usize == round + 1).then_some(())
        });
        leave(stream);

        let line = access_line(&ringway, client);
        assert_eq!(
            (field(&line, "by"), field(&line, "in"), field(&line, "why")),
            ("client", "connect", "left")
        );
    }
    wait_connections(&ringway, 0);
    assert_eq!(ringway.metric("ringway_endpoint_connections", "") as usize, 0);
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn connections_opened_one_after_another_land_on_the_true_minimum() {
    let backends: Vec<_> = ["a", "b", "c", "d"].map(named).into();
    let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
    let frontend = free_address();
    let _ringway = start(Engine::Epoll, &app(frontend, &addresses, NO_CHECKS));

    let held: Vec<_> = (0..40).map(|_| open(frontend).expect("all backends are up")).collect();

    let mut counts = BTreeMap::new();
    for (_, name) in &held {
        *counts.entry(name.as_str()).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [10; 4]);
}

#[test]
fn round_robin_follows_the_weights_exactly_over_all_workers() {
    let (heavy, light) = (named("heavy"), named("light"));
    let frontend = free_address();
    let backends = format!("{{ address = \"{}\", weight = 3 }}, \"{}\"", heavy.address(), light.address());
    let config = app_of(&format!("\"{frontend}\""), &backends, "balance = \"round-robin\"");
    let _ringway = start(Engine::Epoll, &config);

    let heavies = (0..40).filter(|_| open(frontend).expect("all are up").1 == "heavy").count();

    assert_eq!(heavies, 30);
}

#[test]
fn a_backup_serves_only_while_no_other_backend_is_up() {
    let (main, backup) = (named("main"), named("backup"));
    let address = main.address();
    let frontend = free_address();
    let backends = format!("\"{address}\", {{ address = \"{}\", backup = true }}", backup.address());
    let ringway = start(Engine::Epoll, &app_of(&format!("\"{frontend}\""), &backends, QUICK_CHECKS));

    assert!((0..10).all(|_| open(frontend).expect("main is up").1 == "main"));
    main.kill();
    wait_health(&ringway, address, "down");
    assert_eq!(open(frontend).expect("the backup serves").1, "backup");
    let _main = Backend::start_at(address, Behaviour::Named("main".into()));
    wait_health(&ringway, address, "up");
    assert_eq!(open(frontend).expect("main is up again").1, "main");
}

#[test]
fn a_name_that_does_not_resolve_is_an_unavailable_backend_and_no_failure_to_start() {
    let good = named("good");
    let frontend = free_address();
    let backends = format!("\"badroute.invalid:6003\", \"{}\"", good.address());
    let ringway = start(Engine::Epoll, &app_of(&format!("\"{frontend}\""), &backends, ""));

    assert_eq!(open(frontend).expect("the other backend is up").1, "good");
    assert!(!ringway.process().has_ended());
}

#[test]
fn a_host_name_is_resolved() {
    let good = named("good");
    let frontend = free_address();
    let backends = format!("\"localhost:{}\"", good.address().port());
    let _ringway = start(Engine::Epoll, &app_of(&format!("\"{frontend}\""), &backends, ""));

    let name = eventually("localhost is resolved", PATIENCE, || open(frontend).ok().map(|(_, name)| name));

    assert_eq!(name, "good");
}
