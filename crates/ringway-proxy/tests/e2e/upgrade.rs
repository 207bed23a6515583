//! Another process takes over while clients are connected, connect, and send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use serde_json::Value;
use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, Signal, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, PROGRAM, app, command, ringway, status};

on_both_engines!(
    nobody_who_connects_during_upgrades_is_refused,
    new_process_goes_on_with_versions_counters_and_orders,
    signal_upgrades_as_the_command_does,
    unix_sockets_and_their_files_are_handed_on,
    new_process_that_cannot_take_over_changes_nothing,
);

fn program() -> PathBuf {
    std::env::var_os("RINGWAY_BIN").map_or_else(|| PROGRAM.into(), PathBuf::from)
}

/// `ringway upgrade`; the process that serves then.
fn upgrade(ringway: &Ringway, more: &[&str]) -> u32 {
    let before = pid(ringway);
    let admin = ringway.admin_address().to_string();
    let output = command(ringway, &[&["upgrade", "--admin", &admin], more].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let after = pid(ringway);
    assert_ne!(before, after);
    assert!(said.contains(&format!("process {after} serves")), "{said}");
    after
}

/// What `ringway upgrade` says when it does not work.
fn refused(ringway: &Ringway, more: &[&str]) -> String {
    let admin = ringway.admin_address().to_string();
    let output = command(ringway, &[&["upgrade", "--admin", &admin], more].concat());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("text")
}

fn pid(ringway: &Ringway) -> u32 {
    u32::try_from(status(ringway)["pid"].as_u64().expect("a number")).expect("a process id")
}

fn is_alive(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = state.rsplit_once(") ").map(|(_, rest)| rest.chars().next().unwrap_or('X'));
    // One that has ended and was not waited for is not alive.
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

fn wait_gone(pid: u32) {
    eventually("the old process has ended", PATIENCE, || (!is_alive(pid)).then_some(()));
}

fn says(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("it takes bytes");
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, text.as_bytes());
}

fn opened(frontend: SocketAddr) -> TcpStream {
    let mut stream = client::connect(frontend).expect("the frontend listens");
    says(&mut stream, "hello");
    stream
}

/// Clients that come one after the other, say something and leave, until they are stopped.
struct Visitors {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Visitors {
    fn start(frontend: SocketAddr, count: usize) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..count).map(|_| {
            let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    drop(opened(frontend));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Self { stop, served, threads }
    }

    fn wait_for_more(&self, more: u64) {
        let wanted = self.served.load(Ordering::Relaxed) + more;
        eventually("more visitors", PATIENCE, || {
            let has_died = self.threads.iter().any(JoinHandle::is_finished);
            assert!(!has_died, "a visitor was turned away");
            (self.served.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    /// How many were served.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no visitor was turned away"));
        self.served.load(Ordering::Relaxed)
    }
}

fn nobody_who_connects_during_upgrades_is_refused(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let other = if engine == Engine::Epoll { "io_uring" } else { "epoll" };
    // No `--workers` and `--engine`: the configuration says which, and changes before each upgrade.
    let config = |workers: usize, engine: &str| {
        let server = format!("[server]\nworkers = {workers}\nengine = \"{engine}\"\n");
        format!("{server}{}", app(frontend, &[backend.address()], NO_CHECKS))
    };
    let ringway = Ringway::of(PROGRAM).config(&config(1, engine.name())).start();
    let admin = std::fs::read_to_string(ringway.directory().join("ringway.toml")).expect("it is there");
    let admin = admin.split("\n\n").next().expect("it comes first").to_owned();
    let visitors = Visitors::start(frontend, 4);
    visitors.wait_for_more(20);
    for (workers, engine) in [(2, engine.name()), (4, other), (1, engine.name()), (2, other)] {
        let before = pid(&ringway);
        let text = format!("{admin}\n\n{}", config(workers, engine));
        std::fs::write(ringway.directory().join("ringway.toml"), text).expect("it can be written");
        assert_eq!(command(&ringway, &["reload"]).status.code(), Some(0));
        upgrade(&ringway, &[]);
        visitors.wait_for_more(50);
        let page = status(&ringway);
        assert_eq!(page["workers"], workers);
        wait_gone(before);
    }
    let served = visitors.stop();
    eventually("all are counted", PATIENCE, || {
        (ringway.metric("ringway_connections_accepted_total", "") as u64 >= served).then_some(())
    });
}

fn new_process_goes_on_with_versions_counters_and_orders(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let config = app(frontend, &[first.address(), second.address()], NO_CHECKS);
    let ringway = ringway(engine).config(&config).start();
    (0..6).for_each(|_| drop(opened(frontend)));
    let named = first.address().to_string();
    let maintenance = command(&ringway, &["backend", "app", &named, "--maintenance"]);
    assert_eq!(maintenance.status.code(), Some(0));
    let put = "[[app]]\nname = \"other\"\nlisten = [\"127.0.0.1:0\"]\nbackends = [\"127.0.0.1:1\"]\n";
    let text = std::fs::read_to_string(ringway.directory().join("ringway.toml")).expect("it is there");
    let answer = ringway.admin_put("/config", "application/toml", &format!("{text}{put}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    eventually("all are counted", PATIENCE, || {
        (ringway.metric("ringway_connections_closed_total", "app=\"app\"") == 6.0).then_some(())
    });
    let before = pid(&ringway);
    upgrade(&ringway, &[]);

    let versions: Value = serde_json::from_str(&ringway.admin("/versions").body).expect("JSON");
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(2), "{versions}");
    assert_eq!(versions["versions"][1]["origin"], "PUT");
    assert_eq!(versions["binaries"][0]["pid"], before);
    assert_eq!(versions["binaries"][1]["generation"], 2);
    assert_eq!(ringway.metric("ringway_connections_accepted_total", "app=\"app\""), 6.0);
    assert_eq!(ringway.metric("ringway_connections_closed_total", "reason=\"finished\""), 6.0);
    let accepted = (first.accepted(), second.accepted());
    (0..4).for_each(|_| drop(opened(frontend)));
    assert_eq!((first.accepted(), second.accepted()), (accepted.0, accepted.1 + 4), "still in maintenance");
    wait_gone(before);

    let rollback = command(&ringway, &["rollback"]);
    assert_eq!(rollback.status.code(), Some(0), "{}", String::from_utf8_lossy(&rollback.stderr));
    let page = status(&ringway);
    assert_eq!((&page["config"]["version"], &page["config"]["origin"]), (&3.into(), &"rollback to 1".into()));
    assert_eq!(page["apps"].as_array().map(Vec::len), Some(1));
}

fn signal_upgrades_as_the_command_does(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = ringway(engine).config(&app(frontend, &[backend.address()], NO_CHECKS)).start();
    let before = pid(&ringway);
    ringway.process().signal(Signal::USR2);
    eventually("another process", PATIENCE, || (pid(&ringway) != before).then_some(()));
    drop(opened(frontend));
    wait_gone(before);
    assert_eq!(ringway.process().lines().iter().filter(|line| line.contains("handed over pid=")).count(), 1);
}

fn unix_sockets_and_their_files_are_handed_on(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (frontend, admin) = (directory.path().join("frontend"), directory.path().join("admin"));
    let config = format!(
        "[admin]\nlisten = \"unix:{}\"\n\n[[app]]\nname = \"app\"\nlisten = [\"unix:{}\"]\nbackends = [\"{}\"]\n{NO_CHECKS}",
        admin.display(),
        frontend.display(),
        backend.address()
    );
    let ringway = ringway(engine).config(&config).start();
    let says_hello = || {
        let mut stream = std::os::unix::net::UnixStream::connect(&frontend).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        stream.write_all(b"hello").expect("it takes bytes");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("it answers");
    };
    says_hello();
    for _ in 0..2 {
        let output = command(&ringway, &["upgrade"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        says_hello();
    }
    let versions = command(&ringway, &["versions", "--json"]);
    let versions: Value = serde_json::from_slice(&versions.stdout).expect("JSON");
    let binaries = versions["binaries"].as_array().expect("a list").clone();
    assert_eq!(binaries.len(), 3);
    for old in &binaries[..2] {
        wait_gone(u32::try_from(old["pid"].as_u64().expect("a number")).expect("a process id"));
    }
    assert!(frontend.exists() && admin.exists(), "whoever left has not taken them along");
    says_hello();
    assert_eq!(command(&ringway, &["drain"]).status.code(), Some(0));
    eventually("the last one removes them", PATIENCE, || {
        (!frontend.exists() && !admin.exists()).then_some(())
    });
}

/// An executable script.
fn script(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("it can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.to_str().expect("it is text").to_owned()
}

fn new_process_that_cannot_take_over_changes_nothing(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let name = "RINGWAY_TEST_BACKEND";
    let config = format!(
        "[[app]]\nname = \"app\"\nlisten = [\"{frontend}\"]\nbackends = [\"${{{name}}}\"]\n{NO_CHECKS}"
    );
    let address = backend.address().to_string();
    let ringway = ringway(engine).config(&config).environment(name, &address).start();
    let directory = ringway.directory();
    let mut open = opened(frontend);
    let (before, visitors) = (pid(&ringway), Visitors::start(frontend, 2));
    let plain = directory.join("plain");
    std::fs::write(&plain, "").expect("it can be written");
    let crash = script(directory, "crash", "exit 7");
    let hang = script(directory, "hang", "exec sleep 600");
    let other = script(directory, "other", &format!("unset {name}\nexec {} \"$@\"", program().display()));
    for (arguments, said) in [
        (vec!["--binary", "missing"], "there is no such file"),
        (vec!["--binary", plain.to_str().expect("text")], "it is not executable"),
        (vec!["--binary", &crash], "exit status: 7"),
        (vec!["--binary", &hang, "--timeout", "300ms"], "it said nothing in time"),
        (vec!["--binary", &other], name),
        (vec!["--timeout", "soon"], "expected a duration"),
    ] {
        let text = refused(&ringway, &arguments);
        assert!(text.contains(said), "no {said} in {text}");
        assert_eq!(pid(&ringway), before);
        says(&mut open, "still here");
        visitors.wait_for_more(5);
    }
    let children = std::fs::read_to_string(format!("/proc/{before}/task/{before}/children"));
    assert_eq!(children.expect("the kernel tells"), "", "nobody that was started is left");
    upgrade(&ringway, &[]);
    visitors.stop();
}
