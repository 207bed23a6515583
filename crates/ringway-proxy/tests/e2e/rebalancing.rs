//! Open connections that spread to a backend which joins.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, client, eventually, free_address};

use crate::support::{Engine, NO_CHECKS, PROGRAM, app, start};

on_both_engines!(
    clients_that_come_back_spread_to_a_backend_that_joins,
    connections_that_are_too_young_are_left_alone,
);

fn rules(min_age: &str) -> String {
    format!(
        "{NO_CHECKS}[app.rebalance]\ninterval = \"100ms\"\nshare = 0.25\nmax_closed = 5\nmin_age = \"{min_age}\"\nwithin = \"20s\"\n"
    )
}

/// Connected, and answered by a backend.
fn opened(frontend: SocketAddr) -> TcpStream {
    let mut stream = client::connect(frontend).expect("the frontend listens");
    stream.write_all(b"x").expect("it takes bytes");
    stream.read_exact(&mut [0]).expect("it answers");
    stream.set_nonblocking(true).expect("it can be");
    stream
}

fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(0) => true,
        Ok(_) => panic!("nobody sent anything"),
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Another backend joins.
fn reload(ringway: &Ringway, more: SocketAddr) {
    let file = ringway.directory().join("ringway.toml");
    let text = std::fs::read_to_string(&file).expect("it was started with it");
    let text = text.replace("backends = [", &format!("backends = [\"{more}\", "));
    std::fs::write(&file, text).expect("it can be written");
    let program = std::env::var_os("RINGWAY_BIN").unwrap_or_else(|| PROGRAM.into());
    let output = Command::new(program).arg("reload").current_dir(ringway.directory()).output();
    assert!(output.expect("the program can be started").status.success());
}

fn clients_that_come_back_spread_to_a_backend_that_joins(engine: Engine) {
    let (old, new) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let ringway = start(engine, &app(frontend, &[old.address()], &rules("1ms")));
    let mut clients: Vec<TcpStream> = (0..40).map(|_| opened(frontend)).collect();

    reload(&ringway, new.address());
    let mut came_back = 0;
    eventually("they are balanced", PATIENCE, || {
        for client in &mut clients {
            if is_closed(client) {
                *client = opened(frontend);
                came_back += 1;
            }
        }
        ringway.process().lines().iter().any(|line| line.contains("backends are balanced")).then_some(())
    });
    let open = [old.open(), new.open()];
    assert!(open.iter().all(|open| (18..=22).contains(open)), "{open:?}");
    let closed = ringway.metric("ringway_connections_closed_total", "reason=\"rebalanced\"") as usize;
    assert!((18..=26).contains(&closed) && came_back <= closed, "{closed} closed, {came_back} came back");
    let why = |line: &&String| line.contains(" by=ringway in=relay why=rebalanced ");
    ringway.process().wait_for_line("an access-log line", PATIENCE, |line| why(&&line.to_owned()));
}

fn connections_that_are_too_young_are_left_alone(engine: Engine) {
    let (old, new) = (Backend::start(Behaviour::Echo), Backend::start(Behaviour::Echo));
    let frontend = free_address();
    let rules = rules("1h").replace("within = \"20s\"", "within = \"1s\"");
    let ringway = start(engine, &app(frontend, &[old.address()], &rules));
    let mut clients: Vec<TcpStream> = (0..10).map(|_| opened(frontend)).collect();
    reload(&ringway, new.address());
    ringway
        .process()
        .wait_for_line("the end", PATIENCE, |line| line.contains("the time to rebalance is over"));
    assert!(clients.iter_mut().all(|client| !is_closed(client)));
    assert_eq!((old.open(), new.open()), (10, 0));
}
