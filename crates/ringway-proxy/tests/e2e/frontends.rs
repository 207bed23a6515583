//! Listening: every kind of address, ports that are taken, and want of descriptors.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, client, eventually, free_address, free_port, skip};

use crate::support::{Engine, app, app_of, ringway, start, status};

on_both_engines!(
    every_kind_of_address_is_served,
    a_busy_port_is_retried_until_it_is_free_while_others_serve,
    want_of_descriptors_pauses_accepting_and_everyone_is_served_later,
);

fn echoes(mut stream: impl Read + Write) -> std::io::Result<bool> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"hello")
}

fn every_kind_of_address_is_served(engine: Engine) {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        skip!("this machine has no IPv6");
    }
    let backend = Backend::start(Behaviour::Echo);
    let (v4, v6, dual) = (free_port(), free_port(), free_port());
    let frontends = format!("\"127.0.0.1:{v4}\", \"[::1]:{v6}\", \":{dual}\", \"unix:front.sock\"");
    let ringway = start(engine, &app_of(&frontends, &format!("\"{}\"", backend.address()), ""));

    for address in [
        format!("127.0.0.1:{v4}"),
        format!("[::1]:{v6}"),
        format!("127.0.0.1:{dual}"),
        format!("[::1]:{dual}"),
    ] {
        let address: SocketAddr = address.parse().expect("it is an address");
        let stream = client::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        assert!(echoes(stream).expect("it is served"), "{address}");
    }
    let stream =
        UnixStream::connect(ringway.directory().join("front.sock")).expect("the path counts from the file");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
    assert!(echoes(stream).expect("it is served"));
}

fn a_busy_port_is_retried_until_it_is_free_while_others_serve(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let holder = TcpListener::bind(free_address()).expect("a reserved port is free");
    let busy = holder.local_addr().expect("a listener has an address");
    let free = free_address();
    let frontends = format!("\"{busy}\", \"{free}\"");
    let ringway = start(engine, &app_of(&frontends, &format!("\"{}\"", backend.address()), ""));

    assert!(echoes(client::connect(free).expect("the other frontend listens")).expect("it is served"));
    let frontend = &status(&ringway)["apps"][0]["frontends"][0];
    assert_eq!(frontend["workers"], 0, "{frontend}");
    assert!(frontend["error"].is_string(), "{frontend}");

    drop(holder);
    eventually("the port is taken once it is free", PATIENCE, || {
        TcpStream::connect(busy).ok().and_then(|stream| echoes(stream).ok())
    });
    eventually("all workers listen there", PATIENCE, || {
        (status(&ringway)["apps"][0]["frontends"][0]["workers"] == 2).then_some(())
    });
}

fn want_of_descriptors_pauses_accepting_and_everyone_is_served_later(engine: Engine) {
    const CLIENTS: usize = 100;
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], "");
    let ringway = ringway(engine)
        .config(&format!("[server]\nmax_connections = 1000\n[admin]\nlisten = \"unix:admin.sock\"\n{config}"))
        .descriptor_limit(100)
        .start();

    // Each connection takes two descriptors: not all fit.
    let mut streams: Vec<_> =
        (0..CLIENTS).map(|_| client::connect(frontend).expect("the kernel queues it")).collect();
    for stream in &mut streams {
        stream.write_all(b"hello").expect("the kernel takes it");
    }
    ringway.process().wait_for_line("descriptors", PATIENCE, |line| {
        line.contains("descriptor") || line.contains("Too many open files")
    });
    let before = ringway.process().cpu_time();
    let began = std::time::Instant::now();
    // The first of them are served; as each goes, its descriptors serve another.
    let mut served = 0;
    while let Some(mut stream) = take_ready(&mut streams) {
        let mut answer = [0; 5];
        // Those that were accepted but could not be dialled for are closed: they saw the shortage.
        served += usize::from(stream.read_exact(&mut answer).is_ok_and(|()| &answer == b"hello"));
    }

    assert!(served > 0, "nobody was served");
    let busy = ringway.process().cpu_time() - before;
    assert!(busy < began.elapsed() + std::time::Duration::from_secs(1), "{busy:?} of CPU time: it spins");
    eventually("a newcomer is served", PATIENCE, || {
        client::connect(frontend).and_then(echoes).ok().filter(|is_right| *is_right)
    });
}

/// The client that can be read from first, waiting for one.
fn take_ready(streams: &mut Vec<TcpStream>) -> Option<TcpStream> {
    if streams.is_empty() {
        return None;
    }
    let position = eventually("a client is served", PATIENCE, || {
        streams.iter().position(|stream| {
            stream.set_nonblocking(true).expect("it is a socket");
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false).expect("it is a socket");
            !peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        })
    });
    Some(streams.swap_remove(position))
}
