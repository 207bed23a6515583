//! Limits of time: each ends the connection, and the log says which.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use testkit::backend::{Backend, Behaviour};
use testkit::{client, free_address};

use crate::support::{Engine, NO_CHECKS, access_line, app, field, start};

on_both_engines!(
    an_idle_connection_is_closed_after_its_timeout,
    a_half_closed_connection_is_closed_after_its_timeout,
    a_busy_connection_is_closed_at_the_end_of_its_lifetime,
);

fn echoes(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])
}

/// Connects through an app with these timeouts, does something, and expects the end by Ringway for `why`.
fn expect_end(engine: Engine, behaviour: Behaviour, timeouts: &str, act: fn(&mut TcpStream), why: &str) {
    let backend = Backend::start(behaviour);
    let frontend = free_address();
    let more = format!("[app.timeouts]\n{timeouts}\n{NO_CHECKS}");
    let ringway = start(engine, &app(frontend, &[backend.address()], &more));
    let mut stream = client::connect(frontend).expect("the frontend listens");
    let client = stream.local_addr().expect("it is connected");

    act(&mut stream);
    // An end or a reset, and no waiting for ever.
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)));

    let line = access_line(&ringway, client);
    assert_eq!(
        (field(&line, "by"), field(&line, "in"), field(&line, "why")),
        ("ringway", "relay", why),
        "{line}"
    );
}

fn an_idle_connection_is_closed_after_its_timeout(engine: Engine) {
    // On a busy machine the answer may come too late: then it was idle before.
    let act = |stream: &mut TcpStream| drop(echoes(stream));
    expect_end(engine, Behaviour::Echo, "idle = \"200ms\"", act, "idle");
}

fn a_half_closed_connection_is_closed_after_its_timeout(engine: Engine) {
    let act = |stream: &mut TcpStream| {
        stream.write_all(b"hello").expect("it is read");
        stream.shutdown(Shutdown::Write).expect("it is open");
    };
    // The backend reads one byte and then nothing any more: it never answers the end.
    expect_end(engine, Behaviour::Stall, "half_close = \"200ms\"", act, "half_close");
}

fn a_busy_connection_is_closed_at_the_end_of_its_lifetime(engine: Engine) {
    let act = |stream: &mut TcpStream| while echoes(stream).is_ok() {};
    expect_end(engine, Behaviour::Echo, "lifetime = \"300ms\"", act, "lifetime");
}
