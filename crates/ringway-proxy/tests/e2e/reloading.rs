//! Other configurations while connections are open: by SIGHUP and by `ringway reload`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, Signal, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, PROGRAM, start, status};

on_both_engines!(
    backends_of_a_reload_get_new_connections_and_open_ones_go_on,
    hangup_reads_the_file_again,
    apps_come_and_go_and_the_others_are_not_touched,
    faulty_file_is_refused_whole_with_every_fault,
);

/// An app of this name.
fn app(name: &str, frontend: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "[[app]]\nname = \"{name}\"\nlisten = [\"{frontend}\"]\nbackends = [\"{backend}\"]\n{NO_CHECKS}\n"
    )
}

/// Writes another configuration in the place of the one that runs; its first lines, with `[admin]`, stay.
fn write_config(ringway: &Ringway, text: &str) {
    let file = ringway.directory().join("ringway.toml");
    let before = std::fs::read_to_string(&file).expect("it was started with it");
    let admin = before.split("\n\n").next().expect("the admin section comes first");
    std::fs::write(&file, format!("{admin}\n\n{text}")).expect("the directory can be written to");
}

fn command(ringway: &Ringway, arguments: &[&str]) -> Output {
    let program = std::env::var_os("RINGWAY_BIN").unwrap_or_else(|| PROGRAM.into());
    let mut command = Command::new(Path::new(&program));
    command.args(arguments).current_dir(ringway.directory());
    command.output().expect("the program can be started")
}

/// `ringway reload`; what it prints.
fn reload(ringway: &Ringway) -> String {
    let output = command(ringway, &["reload"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
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

fn backends_of_a_reload_get_new_connections_and_open_ones_go_on(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let ringway = start(engine, &app("web", frontend, first.address()));
    let mut old: Vec<_> = (0..20).map(|_| opened(frontend)).collect();
    write_config(&ringway, &app("web", frontend, second.address()));
    assert_eq!(reload(&ringway), "version 2 runs\nchanged app web\n");
    let mut new: Vec<_> = (0..20).map(|_| opened(frontend)).collect();
    old.iter_mut().chain(&mut new).for_each(|stream| says(stream, "still here"));
    assert_eq!((first.accepted(), second.accepted()), (20, 20));
    assert_eq!(ringway.metric("ringway_connections_accepted_total", "app=\"web\""), 40.0);
    assert_eq!(reload(&ringway), "version 2 runs: nothing has changed\n");
}

fn hangup_reads_the_file_again(engine: Engine) {
    let (first, second) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let ringway = start(engine, &app("web", frontend, first.address()));
    let mut old = opened(frontend);
    write_config(&ringway, &app("web", frontend, second.address()));
    ringway.process().signal(Signal::HUP);
    eventually("the second version", PATIENCE, || (status(&ringway)["config"]["version"] == 2).then_some(()));
    assert_eq!(status(&ringway)["config"]["origin"], "SIGHUP");
    let _new = opened(frontend);
    says(&mut old, "still here");
    assert_eq!((first.accepted(), second.accepted()), (1, 1));
}

fn apps_come_and_go_and_the_others_are_not_touched(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let (kept, gone, new) = (free_address(), free_address(), free_address());
    let (kept_app, gone_app) = (app("kept", kept, backend.address()), app("gone", gone, backend.address()));
    let ringway = start(engine, &format!("{kept_app}{gone_app}"));
    let (mut first, mut second) = (opened(kept), opened(gone));
    write_config(&ringway, &format!("{}{kept_app}", app("new", new, backend.address())));
    assert_eq!(reload(&ringway), "version 2 runs\nadded app new\nremoved app gone\n");
    let _third = opened(new);
    says(&mut first, "still here");
    says(&mut second, "still here");
    eventually("the address is closed", PATIENCE, || TcpStream::connect(gone).is_err().then_some(()));
    assert_eq!(ringway.metric("ringway_connections", "app=\"gone\""), 1.0);
    drop(second);
    eventually("nothing is left of it", PATIENCE, || {
        (!ringway.admin("/metrics").body.contains("app=\"gone\"")).then_some(())
    });
    assert_eq!(ringway.metric("ringway_connections_accepted_total", "app=\"kept\""), 1.0);
}

fn faulty_file_is_refused_whole_with_every_fault(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = start(engine, &app("web", frontend, backend.address()));
    let faulty = format!(
        "{}listn = []\nbalance = \"fair\"\n",
        "[[app]]\nname = \"new\"\nlisten = [\"127.0.0.1:70000\"]\nbackends = [\"127.0.0.1:1\"]\n"
    );
    write_config(&ringway, &format!("{}{faulty}", app("web", free_address(), backend.address())));
    let output = command(&ringway, &["reload"]);
    let check = command(&ringway, &["check"]);
    assert_eq!((output.status.code(), check.status.code()), (Some(2), Some(2)));
    let (said, checked) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&check.stderr));
    for fault in ["70000", "listn", "fair", "3 faults"] {
        assert!(said.contains(fault), "no {fault} in {said}");
    }
    let faults =
        |text: &str| text.lines().filter(|line| line.contains(" | ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(faults(&said), faults(&checked), "reload says what check says");
    assert_eq!(status(&ringway)["config"]["version"], 1);
    let _still = opened(frontend);
}
