//! Another process takes over while clients are connected, connect, and send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Pattern, Ringway, Signal, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, PROGRAM, app, command, ringway, status};

on_both_engines!(
    nobody_who_connects_during_upgrades_is_refused,
    new_process_goes_on_with_versions_counters_and_orders,
    what_is_ordered_while_the_new_process_takes_in_copies_is_known_to_it,
    signal_upgrades_as_the_command_does,
    unix_sockets_and_their_files_are_handed_on,
    new_process_that_cannot_take_over_changes_nothing,
    open_connections_move_with_every_byte,
    every_end_is_heard_while_another_process_has_copies_of_the_sockets,
    connections_that_wait_and_dial_move_too,
    connections_whose_route_is_awaited_move_and_stay_counted,
    connections_held_back_to_a_bandwidth_move_with_every_byte_and_are_no_faster,
    endpoint_that_was_left_out_stays_so_for_as_long_as_it_was_to_be,
    a_drain_goes_on_for_the_time_that_is_left_of_it,
    what_stays_in_old_processes_is_listed_with_its_reason_until_it_ends,
    what_stays_in_an_old_process_is_cut_after_the_drain_timeout_and_a_dead_one_is_forgotten,
    one_process_serves_whoever_of_the_two_dies_or_hangs,
);

fn program() -> PathBuf {
    std::env::var_os("RINGWAY_BIN").map_or_else(|| PROGRAM.into(), PathBuf::from)
}

/// `ringway upgrade`; the process that serves then.
pub(crate) fn upgrade(ringway: &Ringway, more: &[&str]) -> u32 {
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

/// What `ringway upgrade` says at its end.
fn upgrade_report(ringway: &Ringway) -> Value {
    let output = command(ringway, &["upgrade", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let last = String::from_utf8(output.stdout).expect("text").lines().last().map(serde_json::from_str);
    let last: Value = last.expect("it says something").expect("JSON");
    last["report"].clone()
}

/// What `ringway upgrade` says when it does not work.
fn refused(ringway: &Ringway, more: &[&str]) -> String {
    let admin = ringway.admin_address().to_string();
    let output = command(ringway, &[&["upgrade", "--admin", &admin], more].concat());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("text")
}

pub(crate) fn pid(ringway: &Ringway) -> u32 {
    // Of a process that started by itself the admin interface listens a moment after the frontends do.
    eventually("the admin interface", PATIENCE, || {
        TcpStream::connect(ringway.admin_address()).ok().map(drop)
    });
    u32::try_from(status(ringway)["pid"].as_u64().expect("a number")).expect("a process id")
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = state.rsplit_once(") ").map(|(_, rest)| rest.chars().next().unwrap_or('X'));
    // One that has ended and was not waited for is not alive.
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

pub(crate) fn wait_gone(pid: u32) {
    eventually("the old process has ended", PATIENCE, || (!is_alive(pid)).then_some(()));
}

pub(crate) fn says(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("it takes bytes");
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, text.as_bytes());
}

pub(crate) fn opened(frontend: SocketAddr) -> TcpStream {
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

fn what_is_ordered_while_the_new_process_takes_in_copies_is_known_to_it(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let (frontend, drained) = (free_address(), free_address());
    let other = app(drained, &[first.address()], NO_CHECKS).replacen("\"app\"", "\"other\"", 1);
    let config = app(frontend, &[first.address(), second.address()], NO_CHECKS) + &other;
    // After it has taken in what the old process knew, and before it says that it is ready.
    let fault = "new.armed=stop";
    let ringway = ringway(engine).config(&config).environment("RINGWAY_UPGRADE_FAULT", fault).start();
    let order = |words: &[&str]| {
        let output = command(&ringway, words);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let (named_first, named_second) = (first.address().to_string(), second.address().to_string());
    order(&["backend", "app", &named_first, "--maintenance"]);
    let mut open = opened(drained);
    let before = pid(&ringway);
    thread::scope(|scope| {
        let upgrading = scope.spawn(|| command(&ringway, &["upgrade", "--timeout", "30s"]));
        let new = eventually("the new process stops", PATIENCE, || {
            let stat = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            processes(&ringway).into_iter().find(|pid| *pid != before && stat(pid).contains(") T "))
        });
        order(&["backend", "app", &named_first, "--ready"]);
        order(&["backend", "app", &named_second, "--maintenance"]);
        let answer = ringway.admin_put("/drain?app=other", "text/plain", "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let go_on = std::process::Command::new("kill").args(["-CONT", &new.to_string()]).status();
        assert!(go_on.expect("there is a kill").success());
        let output = upgrading.join().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(pid(&ringway), new);
    });
    let accepted = (first.accepted(), second.accepted());
    (0..4).for_each(|_| drop(opened(frontend)));
    assert_eq!((first.accepted(), second.accepted()), (accepted.0 + 4, accepted.1), "as was ordered last");
    eventually("nobody listens for the app that is drained", PATIENCE, || client::connect(drained).err());
    says(&mut open, "still here");
    wait_gone(before);
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
    let is_wanted = |line: &str| line.contains("handed over pid=");
    // What it said last may still be in the pipe when it is gone.
    ringway.process().wait_for_line("it says so", PATIENCE, is_wanted);
    assert_eq!(ringway.process().lines().iter().filter(|line| is_wanted(line)).count(), 1);
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

/// Clients that exchange patterns with a backend for as long as they are told to, both ways at once.
struct Talkers {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Talkers {
    fn start(frontend: SocketAddr, count: usize) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..count as u64).map(|seed| {
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            thread::spawn(move || {
                let mut stream = client::connect(frontend)?;
                let (mut sent, mut expected) = (Pattern::new(seed), Pattern::new(seed));
                let mut round = 0_usize;
                while !stop.load(Ordering::Relaxed) {
                    // From a few bytes to more than the kernel's buffers take.
                    round += 1;
                    let length = [3, 1_000, 40_000, 700_000][(round + seed as usize) % 4];
                    let mut bytes = vec![0; length];
                    sent.fill(&mut bytes);
                    let mut writer = stream.try_clone()?;
                    let writing = thread::spawn(move || writer.write_all(&bytes));
                    let mut answer = vec![0; length];
                    stream.read_exact(&mut answer)?;
                    writing.join().expect("no panic")?;
                    let mut wanted = vec![0; length];
                    expected.fill(&mut wanted);
                    if answer != wanted {
                        return Err(std::io::Error::other("other bytes came back"));
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        });
        let threads = threads.collect();
        Self { stop, rounds, threads }
    }

    fn wait_for_more(&self, more: u64) {
        let wanted = self.rounds.load(Ordering::Relaxed) + more;
        eventually("more rounds", PATIENCE, || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a connection broke");
            (self.rounds.load(Ordering::Relaxed) >= wanted).then_some(())
        });
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic").expect("every byte came back");
        }
    }
}

fn open_connections_move_with_every_byte(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let other = if engine == Engine::Epoll { "io_uring" } else { "epoll" };
    let config = |workers: usize, engine: &str| {
        let server = format!("[server]\nworkers = {workers}\nengine = \"{engine}\"\n");
        format!("{server}{}", app(frontend, &[backend.address()], NO_CHECKS))
    };
    let ringway = Ringway::of(PROGRAM).config(&config(1, engine.name())).start();
    let admin = std::fs::read_to_string(ringway.directory().join("ringway.toml")).expect("it is there");
    let admin = admin.split("\n\n").next().expect("it comes first").to_owned();
    let mut idle: Vec<_> = (0..20).map(|_| opened(frontend)).collect();
    let mut half_closed = opened(frontend);
    half_closed.write_all(b"last words").expect("it takes bytes");
    half_closed.shutdown(std::net::Shutdown::Write).expect("it is open");
    let talkers = Talkers::start(frontend, 6);
    talkers.wait_for_more(20);
    let first = pid(&ringway);
    for (workers, engine) in [(2, engine.name()), (4, other), (1, engine.name()), (2, other)] {
        let before = pid(&ringway);
        let text = format!("{admin}\n\n{}", config(workers, engine));
        std::fs::write(ringway.directory().join("ringway.toml"), text).expect("it can be written");
        assert_eq!(command(&ringway, &["reload"]).status.code(), Some(0));
        let report = upgrade_report(&ringway);
        assert!(report["copied_ahead"].as_u64() >= Some(20), "at least the idle ones: {report}");
        wait_gone(before);
        talkers.wait_for_more(30);
        idle.iter_mut().for_each(|stream| says(stream, "still here"));
    }
    talkers.stop();
    let mut said = String::new();
    half_closed.read_to_string(&mut said).expect("the other half is open");
    assert_eq!(said, "last words");
    assert_ne!(pid(&ringway), first);
    assert_eq!(backend.accepted(), 27, "nobody was dialled anew");
    drop(idle);
    eventually("all have one line each", PATIENCE, || {
        let lines = ringway.process().lines();
        let ended = lines.iter().filter(|line| line.contains(" why=finished "));
        let numbers: std::collections::BTreeSet<_> =
            ended.clone().map(|line| crate::support::field(line, "connection").to_owned()).collect();
        (ended.count() == 27 && numbers.len() == 27).then_some(())
    });
    assert_eq!(ringway.metric("ringway_connections_accepted_total", ""), 27.0);
    assert_eq!(ringway.metric("ringway_connections_closed_total", ""), 27.0);
    assert_eq!(ringway.metric("ringway_connections", ""), 0.0);
}

fn every_end_is_heard_while_another_process_has_copies_of_the_sockets(engine: Engine) {
    let backend = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let frontend = free_address();
    let config = app(frontend, &[backend.local_addr().expect("an address")], NO_CHECKS);
    let fault = "new.copied=hang";
    let ringway = ringway(engine).config(&config).environment("RINGWAY_UPGRADE_FAULT", fault).start();
    let connect = || {
        let mut client = client::connect(frontend).expect("the frontend listens");
        client.write_all(b"hello").expect("it takes bytes");
        let (mut server, _) = backend.accept().expect("it is dialled");
        server.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        server.read_exact(&mut [0; 5]).expect("they come");
        (client, server)
    };
    let exchange = |(client, server): &mut (TcpStream, TcpStream)| {
        let hear = |stream: &mut TcpStream| {
            let mut said = [0; 10];
            stream.read_exact(&mut said).expect("they come");
            assert_eq!(&said, b"still here");
        };
        client.write_all(b"still here").expect("it takes bytes");
        hear(server);
        server.write_all(b"still here").expect("it takes bytes");
        hear(client);
    };
    let (mut left, mut ended, broken, mut kept) = (connect(), connect(), connect(), connect());
    let before = pid(&ringway);
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| refused(&ringway, &["--timeout", "5s"]));
        ringway.process().wait_for_line("it has copies", PATIENCE, |line| line.contains("stopped by"));
        exchange(&mut kept);
        drop(left.0);
        assert_eq!(left.1.read(&mut [0]).expect("an end"), 0);
        drop(ended.1);
        assert_eq!(ended.0.read(&mut [0]).expect("an end"), 0);
        let (mut client, server) = broken;
        client::reset(server);
        let error = client.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        exchange(&mut kept);
        assert!(!upgrade.is_finished(), "all that was while it had copies");
        assert!(upgrade.join().expect("no panic").contains("it did not answer in time"));
    });
    assert_eq!(pid(&ringway), before);
    exchange(&mut kept);
    drop(kept.1);
    assert_eq!(kept.0.read(&mut [0]).expect("an end"), 0);
}

fn connections_that_wait_and_dial_move_too(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (direct, headed) = (free_address(), free_address());
    let silent = testkit::backend::BlackHole::start();
    let config = format!(
        "[[app]]\nname = \"dials\"\nlisten = [\"{direct}\"]\nbackends = [\"{}\"]\n\
         [app.timeouts]\nconnect = \"2s\"\n{NO_CHECKS}\n\
         [[app]]\nname = \"headed\"\nlisten = [\"{headed}\"]\nbackends = [\"{}\"]\n\
         proxy_protocol = {{ accept = true, trusted = [\"127.0.0.0/8\"] }}\n{NO_CHECKS}\n",
        silent.address(),
        backend.address()
    );
    let ringway = ringway(engine).config(&config).start();
    let mut dialling = client::connect(direct).expect("the frontend listens");
    let mut heading = client::connect(headed).expect("the frontend listens");
    heading.write_all(b"PROXY TCP4 192.0.2.7 ").expect("it takes bytes");
    crate::support::wait_connections(&ringway, 2);
    let before = pid(&ringway);
    upgrade(&ringway, &[]);
    wait_gone(before);
    heading.write_all(b"198.51.100.1 1000 443\r\nhello").expect("it takes bytes");
    let mut answer = [0; 5];
    heading.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"hello");
    drop(heading);
    let client = "192.0.2.7:1000".parse().expect("an address");
    assert!(crate::support::access_line(&ringway, client).contains(" via="));
    let mut end = Vec::new();
    dialling.read_to_end(&mut end).expect("it is closed in order");
    let client = dialling.local_addr().expect("an address");
    assert!(crate::support::access_line(&ringway, client).contains("in=connect"));
}

fn a_drain_goes_on_for_the_time_that_is_left_of_it(engine: Engine) {
    let time = Duration::from_secs(5);
    let backends = [Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo)];
    let frontends = [free_address(), free_address()];
    let config = |index: usize| app(frontends[index], &[backends[index].address()], NO_CHECKS);
    let other = config(1).replace("\"app\"", "\"other\"");
    let ringway = ringway(engine).config(&format!("{}{other}", config(0))).start();
    let (mut short, mut long) = (opened(frontends[0]), opened(frontends[1]));
    let drain = |arguments: &[&str]| {
        let output = command(&ringway, &[&["drain", "--no-wait"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let asked = |query: &str| -> Value {
        serde_json::from_str(&ringway.admin(&format!("/drain?{query}")).body).expect("JSON")
    };
    let backend = backends[1].address().to_string();
    drain(&["--backend", "other", &backend, "--timeout", "1h"]);
    let begun = Instant::now();
    drain(&["--app", "app", "--timeout", "5s"]);
    upgrade(&ringway, &[]);
    upgrade(&ringway, &[]);
    let long_query = format!("app=other&backend={backend}");
    let left = asked(&long_query)["seconds_left"].as_f64().expect("it has a time");
    assert!(left < 3_600.0 && left > 3_500.0, "{left}");
    // It is ended when it is time: neither at an upgrade, nor later by what that took.
    let error = short.read(&mut [0]).expect_err("it is cut");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(begun.elapsed() >= time, "{:?}", begun.elapsed());
    let ended = eventually("the drain is over", PATIENCE, || {
        let status = asked("app=app");
        (status["state"] == "drained").then_some(status)
    });
    assert_eq!((&ended["cut"], &ended["connections"]), (&1.into(), &0.into()), "{ended}");
    says(&mut long, "still here");
    // What is over stays known to the next one.
    upgrade(&ringway, &[]);
    assert_eq!(asked("app=app")["cut"], 1);
}

fn one_process_serves_whoever_of_the_two_dies_or_hangs(engine: Engine) {
    /// What becomes of the connections that are open.
    #[derive(Clone, Copy, PartialEq)]
    enum Open {
        Live,
        Lost,
    }
    for (fault, open) in [
        ("new.start=kill", Open::Live),
        ("new.configured=kill", Open::Live),
        ("new.ready=kill", Open::Live),
        ("new.copied=kill", Open::Live),
        ("new.armed=kill", Open::Live),
        ("new.armed-and-waiting=kill", Open::Live),
        ("new.prepared=kill", Open::Live),
        ("new.prepared=hang", Open::Live),
        ("new.go=kill", Open::Live),
        ("new.go=hang", Open::Live),
        // It had decided: what it had is gone with it.
        ("new.decided=kill", Open::Lost),
        ("new.serving=kill", Open::Lost),
        // What they were had not crossed yet.
        ("old.hello=kill", Open::Lost),
        ("old.ready=kill", Open::Lost),
        ("old.sent-ahead=kill", Open::Lost),
        ("old.copied=kill", Open::Lost),
        ("old.armed=kill", Open::Lost),
        ("old.frozen=kill", Open::Lost),
        ("old.sending=kill", Open::Live),
        ("old.sent=kill", Open::Live),
        ("old.prepared=kill", Open::Live),
        ("old.go=kill", Open::Live),
        ("old.serving=kill", Open::Live),
    ] {
        let backend = Backend::start(Behaviour::Echo);
        let frontend = free_address();
        let config = app(frontend, &[backend.address()], NO_CHECKS);
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let ringway = ringway(engine)
            .config(&config)
            .environment("RINGWAY_UPGRADE_FAULT", fault)
            .environment("TMPDIR", temporary.path().to_str().expect("text"))
            .start();
        let mut idle: Vec<_> = (0..4).map(|_| opened(frontend)).collect();
        let before = pid(&ringway);
        let talkers = (open == Open::Live).then(|| Talkers::start(frontend, 3));
        if let Some(talkers) = &talkers {
            talkers.wait_for_more(6);
        }
        // What it says is cut off if the old process dies.
        let output = command(&ringway, &["upgrade"]);
        let said = format!("{fault}: {}", String::from_utf8_lossy(&output.stderr));
        let one = eventually(&format!("one process serves after {fault}"), PATIENCE, || {
            let serving: Vec<u32> = processes(&ringway);
            let [one] = serving[..] else { return None };
            let mut stream = client::connect(frontend).ok()?;
            stream.write_all(b"hello").ok()?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).ok().map(|()| one)
        });
        assert_eq!(one == before, fault.starts_with("new."), "{said}");
        if let Some(talkers) = talkers {
            talkers.wait_for_more(6);
            talkers.stop();
            idle.iter_mut().for_each(|stream| says(stream, "still here"));
        } else {
            // Whoever has copies of its socket, a client hears that nobody serves it.
            let has_ended = |stream: &mut TcpStream| match stream.read(&mut [0]) {
                Ok(count) => count == 0,
                Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
            };
            assert!(idle.iter_mut().all(has_ended), "{said}");
        }
        assert_eq!(pid(&ringway), one, "{said}");
        let left = std::fs::read_dir(temporary.path()).expect("it is there").count();
        assert_eq!(left, 0, "nothing is left behind: {said}");
    }
}

/// The processes of a server that live: the one that was started, and those of its group.
fn processes(ringway: &Ringway) -> Vec<u32> {
    let group = ringway.process().id().to_string();
    let all = std::fs::read_dir("/proc").expect("it is there");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_ours = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        fields.split(' ').nth(2) == Some(&group) && is_alive(*pid)
    };
    pids.filter(is_ours).collect()
}

fn connections_whose_route_is_awaited_move_and_stay_counted(engine: Engine) {
    let (own, named) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let config = format!(
        "{}[app.limits]\nhandshakes = 2\n[[app.route]]\nserver_names = [\"a.example\"]\nbackends = [\"{}\"]\n",
        app(frontend, &[own.address()], NO_CHECKS),
        named.address()
    );
    let ringway = ringway(engine).config(&config).start();
    let mut clients: Vec<_> = (0..2)
        .map(|_| {
            let mut client = client::connect(frontend).expect("the frontend listens");
            client.write_all(b"GET / HTTP/1.1\r\nHo").expect("it takes bytes");
            client
        })
        .collect();
    crate::support::wait_connections(&ringway, 2);
    for _ in 0..2 {
        let before = pid(&ringway);
        upgrade(&ringway, &[]);
        wait_gone(before);
        let mut late = client::connect(frontend).expect("the frontend listens");
        assert_eq!(late.read(&mut [0; 1]).expect("it is closed in order"), 0, "two are waited for already");
    }
    for client in &mut clients {
        client.write_all(b"st: a.example\r\n\r\n").expect("it takes bytes");
        let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let mut answer = vec![0; request.len()];
        client.read_exact(&mut answer).expect("it answers");
        assert_eq!(answer, request);
    }
    assert_eq!((own.accepted(), named.accepted()), (0, 2));
    let refused = ringway.metric("ringway_connections_closed_total", "reason=\"limit_handshakes\"");
    assert_eq!(refused, 2.0, "and nobody else");
    for client in clients {
        let own = client.local_addr().expect("an address");
        drop(client);
        let line = crate::support::access_line(&ringway, own);
        assert_eq!(crate::support::field(&line, "route"), "a.example", "{line}");
    }
}

fn connections_held_back_to_a_bandwidth_move_with_every_byte_and_are_no_faster(engine: Engine) {
    const MIB: u64 = 1 << 20;
    let backend = Backend::start(Behaviour::Exchange);
    let (alone, together) = (free_address(), free_address());
    let app_with = |name: &str, frontend: SocketAddr, limit: &str| {
        let app = app(frontend, &[backend.address()], NO_CHECKS);
        let app = app.replacen("\"app\"", &format!("\"{name}\""), 1);
        format!("{app}[app.limits]\n{limit} = \"256KiB\"\n")
    };
    let config =
        app_with("alone", alone, "bandwidth_per_connection") + &app_with("together", together, "bandwidth");
    let ringway = ringway(engine).config(&config).start();
    let begin = Instant::now();
    let exchanges: Vec<_> = [(alone, MIB), (alone, MIB), (together, MIB / 2), (together, MIB / 2)]
        .into_iter()
        .zip(0..)
        .map(|((frontend, bytes), seed)| {
            testkit::spawn(async move {
                client::exchange(frontend, seed, bytes).await.expect("every byte arrives");
                begin.elapsed()
            })
        })
        .collect();
    crate::support::wait_connections(&ringway, 4);
    for round in 0..3 {
        let before = pid(&ringway);
        let report = upgrade_report(&ringway);
        // On a slow machine they may have finished before the later ones.
        let moved =
            report["moved"].as_object().expect("a map").values().filter_map(Value::as_u64).sum::<u64>();
        assert!(moved == 4 || round > 0, "{report}");
        assert_eq!((&report["left"], &report["refused"]), (&serde_json::json!({}), &serde_json::json!({})));
        wait_gone(before);
    }
    // What was kept of before, a tenth of a second's worth, goes at once, and that only once: not after each upgrade.
    let took: Vec<Duration> =
        exchanges.into_iter().map(|exchange| testkit::block_on(exchange).expect("no panic")).collect();
    let together = took[2].max(took[3]);
    for took in [took[0], took[1], together] {
        let limits = Duration::from_millis(3_800)..PATIENCE;
        assert!(limits.contains(&took), "1 MiB in {took:?}, at 256 KiB a second");
    }
}

fn endpoint_that_was_left_out_stays_so_for_as_long_as_it_was_to_be(engine: Engine) {
    let good = Backend::start(Behaviour::Echo);
    let (frontend, bad) = (free_address(), free_address());
    let rules = format!("{NO_CHECKS}[app.health.ejection]\nmin_connections = 2\ntime = \"4s\"\n");
    let config = app(frontend, &[good.address(), bad], &rules);
    let ringway = ringway(engine).config(&config).start();
    eventually("it is left out", PATIENCE, || {
        drop(opened(frontend));
        (crate::support::health(&ringway, bad) == "ejected").then_some(())
    });
    let left_out = Instant::now();
    let before = pid(&ringway);
    upgrade(&ringway, &[]);
    wait_gone(before);
    assert_eq!(crate::support::health(&ringway, bad), "ejected");
    let failures = ringway.metric("ringway_connect_failures_total", "");
    (0..4).for_each(|_| drop(opened(frontend)));
    let page = ringway.admin("/status").body;
    assert!(page.contains("connections failed"), "it says why: {page}");
    assert_eq!(ringway.metric("ringway_connect_failures_total", ""), failures, "it is not dialled");
    crate::support::wait_health(&ringway, bad, "up");
    let after = left_out.elapsed();
    assert!(after >= Duration::from_secs(2) && after < Duration::from_secs(6), "{after:?}");
}

/// What `ringway connections --generation` says, in JSON.
fn old_connections(ringway: &Ringway, generation: &str) -> Value {
    let output = command(ringway, &["connections", "--generation", generation, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Waits until no old process says that it has connections.
fn wait_nothing_left(ringway: &Ringway) {
    eventually("no old process is left", PATIENCE, || {
        old_connections(ringway, "old")["processes"].is_null().then_some(())
    });
}

fn what_stays_in_old_processes_is_listed_with_its_reason_until_it_ends(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (kept, removed) = (free_address(), free_address());
    let of = |name: &str, frontend: SocketAddr| {
        app(frontend, &[backend.address()], NO_CHECKS).replacen("\"app\"", &format!("\"{name}\""), 1)
    };
    let ringway = ringway(engine).config(&(of("kept", kept) + &of("removed", removed))).start();
    let path = ringway.directory().join("ringway.toml");
    let with_both = std::fs::read_to_string(&path).expect("it is there");
    let without = with_both.replace(&of("removed", removed), "");
    let (mut first, mut moves) = (opened(removed), opened(kept));
    // The new process does not have this app, though the old one has a connection of it.
    let remove = || {
        std::fs::write(&path, &without).expect("it can be written");
        assert_eq!(command(&ringway, &["reload"]).status.code(), Some(0));
    };
    remove();
    let oldest = pid(&ringway);
    assert!(old_connections(&ringway, "old")["processes"].is_null());
    let report = upgrade_report(&ringway);
    assert_eq!(report["refused"], serde_json::json!({"relaying: no app of its name": 1}), "{report}");
    assert_eq!(report["drain_seconds"], 30.0);

    let list = old_connections(&ringway, "old");
    assert_eq!(list["matched"], 1, "{list}");
    let one = &list["connections"][0];
    assert_eq!((&one["app"], &one["why"]), (&"removed".into(), &"no app of its name".into()), "{list}");
    assert_eq!(one["client"], first.local_addr().expect("an address").to_string());
    assert_eq!((&one["generation"], &one["bytes_sent"]), (&1.into(), &5.into()), "{list}");
    let process = &list["processes"][0];
    assert_eq!((&process["generation"], &process["pid"]), (&1.into(), &oldest.into()));
    assert!(process["seconds_left"].as_f64().is_some_and(|left| left > 1.0 && left <= 30.0), "{list}");

    // Another one joins it two generations later, and each is found by its number.
    std::fs::write(&path, &with_both).expect("it can be written");
    assert_eq!(command(&ringway, &["reload"]).status.code(), Some(0));
    let mut second = opened(removed);
    remove();
    upgrade(&ringway, &[]);
    let list = old_connections(&ringway, "old");
    assert_eq!((list["matched"].as_u64(), list["processes"].as_array().map(Vec::len)), (Some(2), Some(2)));
    assert_eq!(old_connections(&ringway, "2")["connections"][0]["generation"], 2);
    let table = command(&ringway, &["connections", "--generation", "1"]);
    let table = String::from_utf8(table.stdout).expect("text");
    assert!(table.contains(&format!("process {oldest} of generation 1 cuts what is left in ")), "{table}");
    for (arguments, wanted) in [
        (["connections", "--generation", "7"], "no old process of generation 7 is left"),
        (["connections", "--generation", "new"], "expected old, or the number of a generation"),
        (["kill", "--generation", "old"], "say which connections, or --all"),
    ] {
        let output = command(&ringway, &arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(wanted), "{said}");
    }
    for stream in [&mut first, &mut second, &mut moves] {
        says(stream, "still here");
    }

    // One ends by itself, one by an order; their processes end, and nothing of them is left.
    drop(first);
    wait_gone(oldest);
    assert_eq!(old_connections(&ringway, "old")["matched"], 1);
    let output = command(&ringway, &["kill", "--generation", "2", "--app", "removed"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 connection killed\n");
    assert_eq!(second.read(&mut [0; 1]).map_or(0, |count| count), 0, "it is cut");
    wait_nothing_left(&ringway);
    let output = command(&ringway, &["connections", "--generation", "old"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "no old process is left\n");
    says(&mut moves, "still here");
}

fn what_stays_in_an_old_process_is_cut_after_the_drain_timeout_and_a_dead_one_is_forgotten(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (kept, removed) = (free_address(), free_address());
    let of = |name: &str, frontend: SocketAddr| {
        app(frontend, &[backend.address()], NO_CHECKS).replacen("\"app\"", &format!("\"{name}\""), 1)
    };
    let config = |timeout: &str| {
        let server = format!("[server]\ndrain_timeout = \"{timeout}\"\n");
        format!("{server}{}{}", of("kept", kept), of("removed", removed))
    };
    for kills in [false, true] {
        let timeout = if kills { "30s" } else { "1s" };
        let ringway = ringway(engine).config(&config(timeout)).start();
        let path = ringway.directory().join("ringway.toml");
        let text = std::fs::read_to_string(&path).expect("it is there");
        let mut open = opened(removed);
        std::fs::write(&path, text.replace(&of("removed", removed), "")).expect("it can be written");
        assert_eq!(command(&ringway, &["reload"]).status.code(), Some(0));
        let before = pid(&ringway);
        upgrade(&ringway, &[]);
        if kills {
            assert_eq!(old_connections(&ringway, "old")["matched"], 1);
            let kill = std::process::Command::new("kill").args(["-9", &before.to_string()]).status();
            assert!(kill.expect("there is a kill").success());
        }
        let begin = Instant::now();
        assert_eq!(open.read(&mut [0; 1]).map_or(0, |count| count), 0, "it is cut");
        assert!(begin.elapsed() < PATIENCE);
        wait_gone(before);
        wait_nothing_left(&ringway);
        drop(opened(kept));
    }
}
