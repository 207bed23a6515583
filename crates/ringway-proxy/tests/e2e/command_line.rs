//! The command line: `check` and its faults, the seed proxy's file and spellings, the demo.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Process, Ringway, client, eventually, free_address, free_port, http, skip};

use crate::support::PROGRAM;

/// The documented exit code of wrong arguments and configurations.
const MISUSED: i32 = 2;

fn check(name: &str, text: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join(name);
    fs::write(&file, text).expect("it can be written");
    let output = Command::new(PROGRAM).args(["check", "--config"]).arg(&file).env("NO_COLOR", "1").output();
    let Output { status, stdout, stderr } = output.expect("the program starts");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.code(), text)
}

fn echoes(frontend: SocketAddr) -> Option<()> {
    let mut stream = client::connect(frontend).ok()?;
    stream.write_all(b"hello").ok()?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).ok()?;
    (&answer == b"hello").then_some(())
}

#[test]
fn check_passes_a_good_file() {
    let (code, text) =
        check("good.toml", "[[app]]\nname = \"web\"\nlisten = [\":8080\"]\nbackends = [\"10.0.0.1:80\"]\n");
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn check_reports_every_fault_with_its_place_and_the_nearest_name() {
    let faulty = "[server]\nworkers = \"many\"\n\n[[app]]\nname = \"web\"\nlisten = [\":99999\"]\n\
                  balence = \"round-robin\"\nbackends = [\"10.0.0.1:80\"]\n[app.timeouts]\nconnect = 5\n";

    let (code, text) = check("faulty.toml", faulty);

    assert_eq!(code, Some(MISUSED), "{text}");
    for part in
        ["faulty.toml:2", "faulty.toml:6", "faulty.toml:7", "faulty.toml:10", "balance", "workers", "connect"]
    {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
}

#[test]
fn run_refuses_a_faulty_file() {
    let mut ringway = Ringway::of(PROGRAM).config_file("faulty.toml", "[[app]]\nname = 5\n").launch();
    let status = ringway.wait(PATIENCE);
    assert_eq!(status.code(), Some(MISUSED));
    assert!(ringway.process().lines().iter().any(|line| line.contains("faulty.toml:2")));
}

#[test]
fn a_key_of_a_later_feature_is_refused_as_not_supported_yet() {
    let (code, text) = check(
        "later.toml",
        "[[app]]\nname = \"web\"\nlisten = [\":8080\"]\nbackends = [\"10.0.0.1:80\"]\nprotocol = \"udp\"\n",
    );
    assert_eq!(code, Some(MISUSED));
    assert!(text.contains("not supported yet"), "{text}");
}

#[test]
fn the_seed_proxys_file_and_spellings_work_unchanged() {
    let backend = Backend::start(Behaviour::Echo);
    let port = free_port();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("config.json");
    let text = format!(
        "{{\"Apps\":[{{\"Name\":\"first\",\"Ports\":[{port}],\"Targets\":[\"{}\",\"badroute.invalid:6003\"]}}]}}",
        backend.address()
    );
    fs::write(&file, text).expect("it can be written");
    let mut command = Command::new(PROGRAM);
    command.arg("-config").arg(&file).args(["-loglevel", "1"]);
    let _process = Process::spawn(command).expect("the program starts");

    eventually("the seed's app is served", PATIENCE, || echoes(SocketAddr::from(([127, 0, 0, 1], port))));
}

#[test]
fn variables_are_substituted_from_the_environment() {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = "[[app]]\nname = \"app\"\nlisten = [\"${FRONT}\"]\nbackends = [\"${BACK}\"]\n";
    let _ringway = Ringway::of(PROGRAM)
        .config(config)
        .environment("FRONT", &frontend.to_string())
        .environment("BACK", &backend.address().to_string())
        .start();

    assert!(echoes(frontend).is_some());
}

#[test]
fn without_a_configuration_the_demo_runs_and_says_so() {
    // The demo's ports are fixed: they are what its page tells people to try.
    let ports = [8080, 9900].map(|port| TcpListener::bind(("127.0.0.1", port)));
    if ports.iter().any(Result::is_err) {
        skip!("a port of the demo is taken");
    }
    drop(ports);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(PROGRAM);
    command.arg("run").current_dir(directory.path());
    let mut process = Process::spawn(command).expect("the program starts");

    process.wait_for_line("the line to try", PATIENCE, |line| line.contains("curl http://127.0.0.1:8080/"));
    let frontend = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut names = Vec::new();
    eventually("both backends have answered", PATIENCE, || {
        let page = http::get(frontend, "/").ok()?;
        names.extend(["demo-1", "demo-2"].into_iter().filter(|name| page.body.contains(name)));
        (names.contains(&"demo-1") && names.contains(&"demo-2")).then_some(())
    });
    process.signal(testkit::Signal::INT);
    assert!(process.wait(PATIENCE).success());
}
