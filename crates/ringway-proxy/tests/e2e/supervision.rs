//! `--supervise`: a process beside the server that starts it again.

use std::io::{Read, Write};
use std::net::SocketAddr;

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Signal, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, app, command, ringway};
use crate::upgrade::{is_alive, opened, pid, says, upgrade, wait_gone};

on_both_engines!(
    supervisor_follows_upgrades_and_starts_a_crashed_server_again,
    supervisor_hears_of_the_server_while_old_processes_live_and_ends_after_the_last,
    server_that_dies_before_it_has_said_that_it_serves_is_started_again,
);

fn supervisor_follows_upgrades_and_starts_a_crashed_server_again(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], NO_CHECKS);
    let mut ringway = ringway(engine).config(&config).argument("--supervise").start();
    let supervisor = ringway.process().id();
    let first = pid(&ringway);
    assert_ne!(first, supervisor);
    let mut open = opened(frontend);
    let second = upgrade(&ringway, &[]);
    wait_gone(first);
    says(&mut open, "still here");
    ringway.process().wait_for_line("who serves", PATIENCE, |line| {
        line.contains(&format!("supervisor: process {second} serves now"))
    });
    let kill = std::process::Command::new("kill").args(["-9", &second.to_string()]).status();
    assert!(kill.expect("there is a kill").success());
    ringway.process().wait_for_line("a crash", PATIENCE, |line| {
        line.contains(&format!("supervisor: process {second} was ended by signal 9"))
    });
    eventually("it serves again", PATIENCE, || {
        let mut stream = client::connect(frontend).ok()?;
        stream.write_all(b"x").ok()?;
        stream.read_exact(&mut [0]).ok()
    });
    let third = pid(&ringway);
    assert!(third != second && is_alive(supervisor));
    // A signal is the server's, and its end is the supervisor's.
    ringway.terminate();
    assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
    assert!(!is_alive(third));
}

fn supervisor_hears_of_the_server_while_old_processes_live_and_ends_after_the_last(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    for waits in [true, false] {
        let (kept, removed) = (free_address(), free_address());
        let of = |name: &str, frontend: SocketAddr| {
            app(frontend, &[backend.address()], NO_CHECKS).replacen("\"app\"", &format!("\"{name}\""), 1)
        };
        let config = of("kept", kept) + &of("removed", removed);
        let mut ringway = ringway(engine).config(&config).argument("--supervise").start();
        let path = ringway.directory().join("ringway.toml");
        let text = std::fs::read_to_string(&path).expect("it is there");
        let mut open = opened(removed);
        std::fs::write(&path, text.replace(&of("removed", removed), "")).expect("it can be written");
        assert_eq!(command(&ringway, &["reload"]).status.code(), Some(0));
        let old = pid(&ringway);
        let new = upgrade(&ringway, &[]);
        ringway.process().wait_for_line("who serves", PATIENCE, |line| {
            line.contains(&format!("supervisor: process {new} serves now"))
        });
        // The server is a child of the old process, which lives.
        if waits {
            let kill = std::process::Command::new("kill").args(["-9", &new.to_string()]).status();
            assert!(kill.expect("there is a kill").success());
            ringway.process().wait_for_line("a crash", PATIENCE, |line| {
                line.contains(&format!("supervisor: process {new} was ended by signal 9"))
            });
            eventually("it serves again", PATIENCE, || {
                let mut stream = client::connect(kept).ok()?;
                stream.write_all(b"x").ok()?;
                stream.read_exact(&mut [0]).ok()
            });
            assert!(is_alive(old) && pid(&ringway) != new);
        }

        ringway.terminate();
        ringway.process().wait_for_line("who is waited for", PATIENCE, |line| {
            line.contains("connections finish in old ones")
        });
        // A reload or an upgrade that nobody is left to do ends nothing.
        for signal in [Signal::HUP, Signal::USR2] {
            ringway.process().signal(signal);
            ringway.process().wait_for_line("that it heard", PATIENCE, |line| {
                line.contains(&format!("supervisor: signal {} is the server's", signal.as_raw()))
            });
        }
        says(&mut open, "still here");
        assert!(is_alive(old) && is_alive(ringway.process().id()));
        if !waits {
            ringway.terminate();
            wait_gone(ringway.process().id());
            assert!(is_alive(old), "it goes on without a supervisor");
        }
        // The old process holds the output, too.
        drop(open);
        wait_gone(old);
        assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
    }
}

fn server_that_dies_before_it_has_said_that_it_serves_is_started_again(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], NO_CHECKS);
    let ringway = ringway(engine).config(&config).argument("--supervise");
    let mut ringway = ringway.environment("RINGWAY_UPGRADE_FAULT", "new.served=kill").start();
    let old = pid(&ringway);
    // The old process has handed over, and ends content. What it prints may be cut off.
    drop(command(&ringway, &["upgrade"]));
    ringway.process().wait_for_line("a crash", PATIENCE, |line| {
        line.contains("supervisor: process ") && line.contains("was ended by signal 9; it is started again")
    });
    eventually("it serves again", PATIENCE, || {
        let mut stream = client::connect(frontend).ok()?;
        stream.write_all(b"x").ok()?;
        stream.read_exact(&mut [0]).ok()
    });
    wait_gone(old);
    ringway.terminate();
    assert_eq!(ringway.wait(PATIENCE).code(), Some(0));
}
