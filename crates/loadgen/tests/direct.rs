//! Each mode, run against its own backends with no proxy between.

use std::process::Command;
use std::time::Duration;

use loadgen::{Direction, Mode, Options, Report, run};

/// A short run of `mode`, clients connected to two backends of the same process.
fn direct(mode: Mode) -> Options {
    Options {
        backends: vec![([127, 0, 0, 1], 0).into(), ([127, 0, 0, 2], 0).into()],
        connections: 4,
        warmup: Duration::from_millis(20),
        seconds: Duration::from_millis(100),
        ..Options::new(mode)
    }
}

fn without_errors(options: &Options) -> Report {
    let report = run(options).expect("the run goes to its end");
    assert_eq!((report.errors, &report.first_error), (0, &None));
    report
}

#[test]
fn round_trips_are_counted_and_timed() {
    let report = without_errors(&Options { size: 1000, ..direct(Mode::Pingpong) });
    assert!(report.units > 0);
    assert_eq!(report.bytes, report.units * 1000);
    assert!(report.latency.is_some_and(|latency| latency.p50_us > 0.0));
}

#[test]
fn bulk_data_flows_down() {
    let report = without_errors(&direct(Mode::Bulk));
    assert!(report.bytes > 0);
    assert_eq!((report.units, report.latency), (0, None));
}

#[test]
fn bulk_data_flows_up() {
    let report = without_errors(&Options { direction: Direction::Up, ..direct(Mode::Bulk) });
    assert!(report.bytes > 0);
}

#[test]
fn connections_come_and_go() {
    let report = without_errors(&Options { sources: 3, ..direct(Mode::Connections) });
    assert!(report.units > 0);
    assert_eq!(report.bytes, report.units * 64);
}

#[test]
fn idle_connections_are_held_at_each_step() {
    let report = without_errors(&Options { steps: vec![3, 10], ..direct(Mode::Idle) });
    assert_eq!(report.connections, 10);
}

#[test]
fn cpu_time_of_a_watched_process_is_reported() {
    // Not this process: what its threads have used is forgotten when they end, and tests that run beside end some.
    let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("there is a shell");
    let options =
        Options { watch: vec![busy.id()], seconds: Duration::from_millis(300), ..direct(Mode::Pingpong) };
    let report = run(&options);
    busy.kill().expect("it runs until it is killed");
    busy.wait().expect("it was killed");
    assert!(
        report.expect("the run goes to its end").watched_cpu_seconds.is_some_and(|seconds| seconds > 0.0)
    );
}

#[test]
fn a_target_that_refuses_is_an_error_that_names_it() {
    // Bound and dropped: nobody listens there now.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let options = Options {
        target: Some(nobody.expect("loopback has a free port")),
        setup_patience: Duration::from_millis(300),
        ..direct(Mode::Pingpong)
    };
    let error = run(&options).expect_err("there is nobody to talk to").to_string();
    assert!(error.contains("0 of 4") && error.contains("refused"), "{error}");
}
