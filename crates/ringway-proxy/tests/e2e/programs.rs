//! Real programs through Ringway: PostgreSQL, Redis, curl, iperf3.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use testkit::backend::{Backend, Behaviour};
use testkit::server::{Iperf, Postgres, Redis, need, run};
use testkit::{free_address, skip};

use crate::support::{Engine, NO_CHECKS, app, start};

on_both_engines!(
    psql_and_pgbench_work,
    redis_benchmark_works,
    curl_fetches_small_and_large_pages,
    iperf3_works_in_both_directions,
);

fn psql_and_pgbench_work(engine: Engine) {
    let server = match Postgres::start() {
        Ok(server) => server,
        Err(reason) => skip!("{reason}"),
    };
    let (psql, pgbench) = match (need("psql"), need("pgbench")) {
        (Ok(psql), Ok(pgbench)) => (psql, pgbench),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let frontend = free_address();
    let _ringway = start(engine, &app(frontend, &[server.address()], ""));
    let client = |program| {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &frontend.port().to_string(),
        ]);
        command
    };

    let answer = run(client(&psql).args(["-d", "postgres", "-Atc", "select 6 * 7"]));
    assert_eq!(answer.trim(), "42");
    let answer = run(client(&psql).args(["-d", "postgres", "-Atc", "select repeat('x', 5000000)"]));
    assert_eq!(answer.trim().len(), 5_000_000);

    run(client(&pgbench).args(["--initialize", "--quiet", "postgres"]));
    for arguments in
        [["--jobs=2", "--client=8", "--time=2"], ["--connect", "--client=4", "--transactions=25"]]
    {
        let report = run(client(&pgbench).args(arguments).arg("postgres"));
        assert!(report.contains("number of failed transactions: 0"), "{report}");
    }
}

fn redis_benchmark_works(engine: Engine) {
    let server = match Redis::start() {
        Ok(server) => server,
        Err(reason) => skip!("{reason}"),
    };
    let benchmark = match need("redis-benchmark") {
        Ok(program) => program,
        Err(reason) => skip!("{reason}"),
    };
    let frontend = free_address();
    let _ringway = start(engine, &app(frontend, &[server.address()], ""));

    for pipeline in ["1", "16"] {
        let report = run(Command::new(&benchmark)
            .args(["-h", "127.0.0.1", "-p", &frontend.port().to_string()])
            .args(["-t", "ping,set,get", "-c", "50", "-n", "5000", "-q", "-P", pipeline]));
        assert!(report.contains("GET: ") && report.contains("requests per second"), "{report}");
        assert!(!report.contains("Error"), "{report}");
    }
}

fn curl_fetches_small_and_large_pages(engine: Engine) {
    let curl = match need("curl") {
        Ok(program) => program,
        Err(reason) => skip!("{reason}"),
    };
    for length in [5, 3_000_000] {
        let body = "page ".repeat(length / 5);
        let backend = Backend::start(Behaviour::Http(body.clone()));
        let frontend = free_address();
        let _ringway = start(engine, &app(frontend, &[backend.address()], ""));
        for _ in 0..3 {
            let page = run(Command::new(&curl).args([
                "--silent",
                "--fail",
                "--noproxy",
                "*",
                "--max-time",
                "30",
                &format!("http://{frontend}/"),
            ]));
            assert!(page == body, "{} bytes instead of {}", page.len(), body.len());
        }
    }
}

fn iperf3_works_in_both_directions(engine: Engine) {
    let iperf = match need("iperf3") {
        Ok(program) => program,
        Err(reason) => skip!("{reason}"),
    };
    for direction in [None, Some("--reverse")] {
        // One for each: between two tests it closes its listening socket for a moment, and refuses who comes.
        let server = match Iperf::start() {
            Ok(server) => server,
            Err(reason) => skip!("{reason}"),
        };
        let frontend = free_address();
        // The server takes whoever connects for its next client, a check too.
        let _ringway = start(engine, &app(frontend, &[server.address()], NO_CHECKS));
        let bytes = iperf_bytes(Command::new(&iperf).args(direction), frontend);
        assert!(bytes > 1_000_000, "{direction:?}: {bytes} bytes in a second");
    }
}

fn iperf_bytes(command: &mut Command, frontend: SocketAddr) -> u64 {
    command.args(["--client", "127.0.0.1", "--port", &frontend.port().to_string()]);
    let text = run(command.args(["--parallel", "4", "--time", "1", "--json"]));
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(report["error"].is_null(), "{text}");
    report["end"]["sum_received"]["bytes"].as_u64().unwrap_or_else(|| panic!("no sum in {text}"))
}
