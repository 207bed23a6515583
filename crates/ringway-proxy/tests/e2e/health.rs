//! Active checks that look at answers: HTTP, presets for real servers, and texts.

use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};

use testkit::backend::{Backend, Behaviour};
use testkit::server::{Postgres, Redis};
use testkit::{PATIENCE, Ringway, client, eventually, free_address, skip};

use crate::support::{Engine, access_line, app, field, health, start, status, wait_health};

on_both_engines!(
    a_page_that_turns_to_500_takes_its_backend_out_and_back_and_the_reason_is_shown,
    a_body_without_the_text_takes_the_backend_out,
    redis_is_checked_by_ping_and_what_is_no_redis_is_down,
    postgresql_is_checked_before_anybody_logs_in,
    a_backend_that_says_nothing_or_something_else_is_down,
    connections_of_a_backend_that_goes_down_are_kept_or_closed_as_told,
    a_backend_that_hangs_up_on_most_is_left_out_though_its_checks_are_good,
);

/// As quick as a busy machine keeps up with: a check may take an interval.
const QUICK: &str = "interval = \"400ms\"\nrise = 1\nfall = 1\n";

fn quick(check: &str) -> String {
    format!("[app.health]\n{QUICK}{check}\n")
}

/// Why the only endpoint is down.
fn reason(ringway: &Ringway) -> String {
    let status = status(ringway);
    status["apps"][0]["backends"][0]["endpoints"][0]["reason"].as_str().unwrap_or("none").to_owned()
}

fn wait_reason(ringway: &Ringway, wanted: &str) {
    eventually(&format!("the reason is {wanted}"), PATIENCE, || (reason(ringway) == wanted).then_some(()));
}

fn a_page_that_turns_to_500_takes_its_backend_out_and_back_and_the_reason_is_shown(engine: Engine) {
    let good = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned();
    let answer = Arc::new(Mutex::new(good.clone()));
    let backend = Backend::start(Behaviour::Answer(Arc::clone(&answer)));
    let check = quick("check = \"http\"\npath = \"/healthz\"\nstatus = 200");
    let ringway = start(engine, &app(free_address(), &[backend.address()], &check));
    backend.wait_accepted(2, PATIENCE);
    wait_health(&ringway, backend.address(), "up");

    *answer.lock().expect("nobody panicked") = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".into();
    wait_health(&ringway, backend.address(), "down");
    wait_reason(&ringway, "expected status 200, got 500");
    ringway.process().wait_for_line("the reason", PATIENCE, |line| {
        line.contains("backend is down") && line.contains("expected status 200, got 500")
    });
    *answer.lock().expect("nobody panicked") = "HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n".into();
    wait_reason(&ringway, "expected status 200, got 503");

    *answer.lock().expect("nobody panicked") = good;
    wait_health(&ringway, backend.address(), "up");
    wait_reason(&ringway, "none");
}

fn a_body_without_the_text_takes_the_backend_out(engine: Engine) {
    let page = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n");
    let answer = Arc::new(Mutex::new(page("3\r\nrea\r\n2\r\ndy\r\n")));
    let backend = Backend::start(Behaviour::Answer(Arc::clone(&answer)));
    let check = quick("check = \"http\"\nbody_regex = \"^ready$\"");
    let ringway = start(engine, &app(free_address(), &[backend.address()], &check));
    backend.wait_accepted(2, PATIENCE);
    wait_health(&ringway, backend.address(), "up");

    *answer.lock().expect("nobody panicked") = page("4\r\nbusy\r\n");
    wait_health(&ringway, backend.address(), "down");
    wait_reason(&ringway, "expected a body with a match of /^ready$/, got \"busy\"");
}

fn redis_is_checked_by_ping_and_what_is_no_redis_is_down(engine: Engine) {
    let server = match Redis::start() {
        Ok(server) => server,
        Err(reason) => skip!("{reason}"),
    };
    let config =
        app(free_address(), &[server.address()], &quick("check = \"send-expect\"\npreset = \"redis\""));
    let ringway = start(engine, &config);
    wait_passed(&ringway, 3);
    wait_health(&ringway, server.address(), "up");

    let config =
        app(free_address(), &[server.address()], &quick("check = \"send-expect\"\npreset = \"smtp\""));
    let ringway = start(engine, &config);
    wait_health(&ringway, server.address(), "down");
    wait_reason(&ringway, "expected \"220\", got nothing: no more came in time");
}

fn postgresql_is_checked_before_anybody_logs_in(engine: Engine) {
    let server = match Postgres::start() {
        Ok(server) => server,
        Err(reason) => skip!("{reason}"),
    };
    let check = quick("check = \"send-expect\"\npreset = \"postgresql\"");
    let ringway = start(engine, &app(free_address(), &[server.address()], &check));
    wait_passed(&ringway, 3);
    wait_health(&ringway, server.address(), "up");

    let check = quick("check = \"http\"");
    let ringway = start(engine, &app(free_address(), &[server.address()], &check));
    wait_health(&ringway, server.address(), "down");
    assert!(!reason(&ringway).is_empty());
}

/// Its checks are good all the time: a connection can be opened.
fn a_backend_that_hangs_up_on_most_is_left_out_though_its_checks_are_good(engine: Engine) {
    let bad = Backend::start(Behaviour::SendThenEnd(0));
    let good = Backend::start(Behaviour::Named("good".into()));
    let frontend = free_address();
    let rules = "[app.health.ejection]\nmin_connections = 4\nearly_close = true\ntime = \"3s\"\n";
    let config = app(
        frontend,
        &[bad.address(), good.address()],
        &format!("balance = \"round-robin\"\n{}{rules}", quick("")),
    );
    let ringway = start(engine, &config);
    wait_passed(&ringway, 2);
    let come = || {
        let mut stream = client::connect(frontend).expect("the frontend listens");
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            said.push(byte[0]);
        }
        said
    };
    let is_out = || health(&ringway, bad.address()) == "ejected";
    eventually("it is left out", PATIENCE, || {
        come();
        is_out().then_some(())
    });
    ringway.process().wait_for_line("the reason", PATIENCE, |line| {
        line.contains("too many of its connections failed") && line.contains(&bad.address().to_string())
    });
    let status = status(&ringway);
    let endpoint = &status["apps"][0]["backends"][0]["endpoints"][0];
    assert!(endpoint["reason"].as_str().is_some_and(|reason| reason.ends_with("connections failed")));
    assert!(endpoint["ejected_seconds_left"].as_f64().is_some_and(|left| left <= 3.0), "{endpoint}");
    assert_eq!(ringway.metric("ringway_backend_ejections_total", "cause=\"failure_ratio\""), 1.0);
    let said: Vec<_> = (0..6).map(|_| come()).collect();
    // A slow machine may have taken longer than it is out.
    if is_out() {
        assert!(said.iter().all(|said| said == b"good\n"), "{said:?}");
    }
    wait_health(&ringway, bad.address(), "up");
}

/// Waits until so many checks were good.
fn wait_passed(ringway: &Ringway, count: usize) {
    eventually(&format!("{count} good checks"), PATIENCE, || {
        let passed = ringway.metric("ringway_health_checks_total", "result=\"passed\"");
        (passed as usize >= count).then_some(())
    });
}

fn a_backend_that_says_nothing_or_something_else_is_down(engine: Engine) {
    let named = Backend::start(Behaviour::Named("two".into()));
    for (check, wanted) in [
        ("expect = \"one\"", "expected \"one\", got \"two\\n\""),
        ("expect_hex = \"74776f0a31\"", "expected \"two\\n1\", got \"two\\n\": no more came in time"),
        (
            "send = \"x\"\nexpect_regex = \"y\"",
            "expected a match of /y/, got \"two\\nx\": no more came in time",
        ),
    ] {
        let check = quick(&format!("check = \"send-expect\"\n{check}"));
        let ringway = start(engine, &app(free_address(), &[named.address()], &check));
        wait_health(&ringway, named.address(), "down");
        wait_reason(&ringway, wanted);
    }
}

/// A server that is up for its check as long as a key is not set, which the client's connection does.
fn connections_of_a_backend_that_goes_down_are_kept_or_closed_as_told(engine: Engine) {
    for (on_down, is_closed) in [("close", true), ("keep", false)] {
        let server = match Redis::start() {
            Ok(server) => server,
            Err(reason) => skip!("{reason}"),
        };
        let frontend = free_address();
        let check = quick(&format!(
            "check = \"send-expect\"\nsend = \"GET up\\r\\n\"\nexpect = \"$-1\"\non_down = \"{on_down}\""
        ));
        let ringway = start(engine, &app(frontend, &[server.address()], &check));
        wait_passed(&ringway, 1);
        let mut held = client::connect(frontend).expect("the frontend listens");
        let local = held.local_addr().expect("it is connected");
        held.write_all(b"SET up 1\r\n").expect("it is relayed");
        held.read_exact(&mut [0; 5]).expect("it is answered");

        wait_health(&ringway, server.address(), "down");
        if is_closed {
            let read = held.read(&mut [0]);
            assert!(matches!(read, Ok(0)) || read.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
            let line = access_line(&ringway, local);
            assert_eq!(
                (field(&line, "by"), field(&line, "in"), field(&line, "why")),
                ("ringway", "relay", "backend_down")
            );
        } else {
            held.write_all(b"DEL up\r\n").expect("it is relayed");
            held.read_exact(&mut [0; 4]).expect("it is answered");
            wait_health(&ringway, server.address(), "up");
        }
    }
}
