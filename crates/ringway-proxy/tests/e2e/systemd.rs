//! What the service manager hears, and two processes on one port while one takes over from the other.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Process, Signal, client, eventually, free_address, skip};

use crate::support::{Engine, NO_CHECKS, PROGRAM, app, command, ringway, status};

on_both_engines!(
    the_service_manager_hears_of_start_reload_watchdog_and_end,
    a_second_process_takes_over_a_port_while_the_first_finishes,
    another_user_gets_nothing_of_a_port_that_is_served,
    the_service_manager_hears_which_process_an_upgrade_left_in_charge,
);

/// A service manager's socket.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// Waits for a message with a line that starts so, and returns it.
    fn wait_for(&mut self, line: &str) -> String {
        loop {
            let mut buffer = [0; 1_000];
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("no message with {line}: {error}; heard before: {:?}", self.heard)
            });
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(message.clone());
            if message.lines().any(|other| other.starts_with(line)) {
                return message;
            }
        }
    }
}

fn the_service_manager_hears_of_start_reload_watchdog_and_end(engine: Engine) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("the directory can be written to");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    let mut manager = Manager { socket, heard: Vec::new() };
    let config = app(free_address(), &[free_address()], NO_CHECKS);
    let mut ringway = ringway(engine)
        .config(&config)
        .environment("NOTIFY_SOCKET", path.to_str().expect("it is text"))
        .environment("WATCHDOG_USEC", "200000")
        .start();

    assert_eq!(manager.wait_for("READY="), "READY=1\nSTATUS=serving 1 apps");
    assert_eq!(manager.wait_for("WATCHDOG="), "WATCHDOG=1");

    let file = ringway.directory().join("ringway.toml");
    let text = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, text.replace("name = \"app\"", "name = \"other\"")).expect("it can be written");
    ringway.process().signal(Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1");
    let micros = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(
        micros.and_then(|micros| micros.parse::<u64>().ok()).is_some_and(|micros| micros > 0),
        "{reloading}"
    );
    assert_eq!(manager.wait_for("READY="), "READY=1\nSTATUS=serving version 2");

    fs::write(&file, "[[app]]\nname = 3\n").expect("it can be written");
    ringway.process().signal(Signal::HUP);
    manager.wait_for("RELOADING=1");
    assert!(
        manager.wait_for("READY=").contains("serving version 2; the configuration read last was refused")
    );
    manager.wait_for("WATCHDOG=1");

    ringway.terminate();
    assert!(manager.wait_for("STOPPING=1").contains("STATUS=draining"));
    assert!(ringway.wait(PATIENCE).success());
}

fn a_second_process_takes_over_a_port_while_the_first_finishes(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], NO_CHECKS);
    let echo = |stream: &mut std::net::TcpStream| {
        stream.write_all(b"hello").expect("it is read");
        stream.read_exact(&mut [0; 5]).expect("it is echoed");
    };
    let mut first = ringway(engine).config(&config).start();
    let mut held = client::connect(frontend).expect("the first listens");
    echo(&mut held);

    let second = ringway(engine).config(&config).start();
    assert_eq!(status(&second)["apps"][0]["frontends"][0]["workers"], 2, "both listen on one port");
    first.terminate();
    first.process().wait_for_line("the drain", PATIENCE, |line| line.contains("draining"));
    eventually("the first listens no more", PATIENCE, || {
        (status(&first)["apps"][0]["frontends"][0]["workers"] == 0).then_some(())
    });
    // The kernel spreads over those that listen: all of these are the second's.
    for _ in 0..50 {
        echo(&mut client::connect(frontend).expect("the second listens"));
    }
    assert!(second.metric("ringway_connections_accepted_total", "") >= 50.0);
    echo(&mut held);
    assert!(!first.process().has_ended(), "a connection is still open");

    drop(held);
    assert!(first.wait(PATIENCE + Duration::from_secs(30)).success(), "nothing was cut");
    echo(&mut client::connect(frontend).expect("the second listens"));
}

/// The kernel lets only processes of one user share a port.
fn another_user_gets_nothing_of_a_port_that_is_served(engine: Engine) {
    /// `nobody` of Debian; any user but root will do.
    const OTHER: u32 = 65_534;
    if fs::metadata("/proc/self").expect("there is procfs").uid() != 0 {
        skip!("only root can start a process of another user");
    }
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], NO_CHECKS);
    let first = ringway(engine).config(&config).start();

    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("ringway.toml");
    fs::write(&file, &config).expect("it can be written");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let mut command = Command::new(std::env::var_os("RINGWAY_BIN").unwrap_or_else(|| PROGRAM.into()));
    command.args(["run", "--workers", "2", "--engine", engine.name(), "--config"]).arg(&file);
    command.current_dir("/").env("NO_COLOR", "1").uid(OTHER).gid(OTHER);
    let second = match Process::spawn(command) {
        Ok(second) => second,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            skip!("another user may not run the program where it lies");
        }
        Err(error) => panic!("it starts: {error}"),
    };
    second.wait_for_line("that it cannot listen", PATIENCE, |line| {
        line.contains("cannot listen") && line.contains("Address already in use")
    });

    for _ in 0..20 {
        let mut stream = client::connect(frontend).expect("the first listens");
        stream.write_all(b"hello").expect("it is read");
        stream.read_exact(&mut [0; 5]).expect("it is echoed");
    }
    assert!(first.metric("ringway_connections_accepted_total", "") >= 20.0, "all are the first's");
}

fn the_service_manager_hears_which_process_an_upgrade_left_in_charge(engine: Engine) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("the directory can be written to");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    let mut manager = Manager { socket, heard: Vec::new() };
    let config = app(free_address(), &[free_address()], NO_CHECKS);
    let ringway = ringway(engine)
        .config(&config)
        .environment("NOTIFY_SOCKET", path.to_str().expect("it is text"))
        .environment("WATCHDOG_USEC", "200000")
        .start();
    manager.wait_for("READY=");
    assert_eq!(command(&ringway, &["upgrade"]).status.code(), Some(0));
    let new = status(&ringway)["pid"].as_u64().expect("a number");
    assert_eq!(manager.wait_for("MAINPID="), format!("MAINPID={new}"));
    assert!(!manager.heard.iter().any(|message| message.starts_with("STOPPING")), "{:?}", manager.heard);
    manager.wait_for("WATCHDOG=");
}
