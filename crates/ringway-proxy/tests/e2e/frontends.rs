//! Listening: every kind of address, ports that are taken, and want of descriptors.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, Ringway, client, eventually, free_address, free_port, skip};

use crate::support::{Engine, NO_CHECKS, PROGRAM, app, app_of, start, status, wait_connections};

/// How long a process without descriptors is watched for spinning.
const SPIN_LOOK: Duration = Duration::from_millis(400);

on_both_engines!(
    every_kind_of_address_is_served,
    a_range_of_ports_is_served_on_each_with_a_name_of_its_own,
    a_busy_port_is_retried_until_it_is_free_while_others_serve,
    over_the_connection_limit_clients_wait_and_are_served_as_others_leave,
    want_of_descriptors_pauses_accepting_and_it_resumes_when_some_are_free,
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

fn a_range_of_ports_is_served_on_each_with_a_name_of_its_own(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    // An address of loopback that nobody else uses: what stands beside a free port may not be free.
    let [.., high, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 77, high, low);
    let first = free_port().min(u16::MAX - 2);
    let frontends = format!("\"{host}:{first}-{}\"", first + 2);
    let ringway = start(engine, &app_of(&frontends, &format!("\"{}\"", backend.address()), NO_CHECKS));

    for port in first..=first + 2 {
        let address = SocketAddr::from((host, port));
        let stream = client::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        assert!(echoes(stream).expect("it is served"), "{address}");
    }
    let status = status(&ringway);
    let names: Vec<&str> = status["apps"][0]["frontends"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|f| f["name"].as_str())
        .collect();
    assert_eq!(names, [first, first + 1, first + 2].map(|port| format!("{host}:{port}")));
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

fn over_the_connection_limit_clients_wait_and_are_served_as_others_leave(engine: Engine) {
    const LIMIT: usize = 10;
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let config = app(frontend, &[backend.address()], "");
    let ringway = start(engine, &format!("[server]\nmax_connections = {LIMIT}\n\n{config}"));

    let mut streams: Vec<_> =
        (0..LIMIT * 5).map(|_| client::connect(frontend).expect("the kernel queues it")).collect();
    for stream in &mut streams {
        stream.write_all(b"hello").expect("the kernel takes it");
    }
    let open = || ringway.metric("ringway_endpoint_connections", "");
    eventually("the limit is reached", PATIENCE, || (open() == LIMIT as f64).then_some(()));
    let mut served = 0;
    while let Some(mut stream) = take_ready(&mut streams) {
        // Not what the backend has open: it may see a newcomer before the end of who left.
        assert!(open() <= LIMIT as f64, "{} connections", open());
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("everyone is served in the end");
        assert_eq!(&answer, b"hello");
        served += 1;
    }

    assert_eq!(served, LIMIT * 5);
    wait_connections(&ringway, 0);
}

fn want_of_descriptors_pauses_accepting_and_it_resumes_when_some_are_free(engine: Engine) {
    const CLIENTS: usize = 3;
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    // One worker: of two, each could take a last descriptor for a client and none would be left to dial with.
    let ringway = Ringway::of(PROGRAM)
        .config(&app(frontend, &[backend.address()], NO_CHECKS))
        .argument("--engine")
        .argument(engine.name())
        .argument("--workers")
        .argument("1")
        .start();
    let mut first = client::connect(frontend).expect("it listens");
    first.write_all(b"hello").expect("it is read");
    first.read_exact(&mut [0; 5]).expect("it is echoed");

    // Behind the back of the limit that it derived at its start: nothing more can be opened until the first is gone.
    ringway.process().forbid_more_descriptors();
    let mut streams: Vec<_> =
        (0..CLIENTS).map(|_| client::connect(frontend).expect("the kernel queues it")).collect();
    for stream in &mut streams {
        stream.write_all(b"hello").expect("the kernel takes it");
    }
    ringway.process().wait_for_line("want of descriptors", PATIENCE, |line| line.contains("accept"));
    let (cpu_before, began) = (ringway.process().cpu_time(), Instant::now());
    eventually("a while has passed", PATIENCE, || (began.elapsed() > SPIN_LOOK).then_some(()));
    let cpu = ringway.process().cpu_time() - cpu_before;
    assert!(cpu < SPIN_LOOK / 2, "{cpu:?} of CPU time in {SPIN_LOOK:?}: it spins");

    drop(first);
    while let Some(mut stream) = take_ready(&mut streams) {
        // Who is accepted with the last descriptor cannot be dialled for and sees an end; nobody hangs.
        let _ = stream.read_exact(&mut [0; 5]);
    }
    eventually("a newcomer is served", PATIENCE, || {
        client::connect(frontend).and_then(echoes).ok().filter(|is_right| *is_right)
    });
    eventually("the pauses are counted", PATIENCE, || {
        (ringway.metric("ringway_accept_pauses_total", "") >= 1.0).then_some(())
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
