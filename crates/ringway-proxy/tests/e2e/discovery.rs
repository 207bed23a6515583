//! Backends by name, at a real DNS server whose records change under load.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;
use testkit::backend::{Backend, Behaviour};
use testkit::server::Dns;
use testkit::{PATIENCE, Ringway, client, eventually, free_address, free_port, skip};

use crate::support::{Engine, NO_CHECKS, app_of, ringway, status};

on_both_engines!(
    connections_follow_the_records_of_a_name_and_no_byte_is_lost,
    connections_follow_the_records_of_a_service_and_no_byte_is_lost,
);

/// Addresses of loopback that nobody else uses.
fn own_loopback(network: u8) -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, network, high, low).into()
}

fn echo(stream: &mut (impl Read + Write), byte: u8) {
    let sent = [byte; 1_000];
    let mut received = [0; 1_000];
    stream.write_all(&sent).expect("it is read");
    stream.read_exact(&mut received).expect("it is echoed");
    assert_eq!(sent, received);
}

/// What keeps talking until it is told to stop; each thread panics at the first byte that is missing or wrong.
struct Load {
    is_over: Arc<AtomicBool>,
    /// Echoes over connections that stay open, and connections that came and went.
    echoes: Arc<AtomicU64>,
    short: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(frontend: SocketAddr) -> Self {
        let mut load = Self {
            is_over: Arc::default(),
            echoes: Arc::default(),
            short: Arc::default(),
            threads: Vec::new(),
        };
        for byte in 1..=3 {
            let (is_over, echoes) = (Arc::clone(&load.is_over), Arc::clone(&load.echoes));
            let mut stream = client::connect(frontend).expect("the frontend listens");
            echo(&mut stream, byte);
            load.threads.push(std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    echo(&mut stream, byte);
                    echoes.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        let (is_over, short) = (Arc::clone(&load.is_over), Arc::clone(&load.short));
        load.threads.push(std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                echo(&mut client::connect(frontend).expect("the frontend listens"), 9);
                short.fetch_add(1, Ordering::Relaxed);
            }
        }));
        load
    }

    /// Waits until both kinds have gone on for a while from now.
    fn goes_on(&self) {
        let count = || [&self.echoes, &self.short].map(|count| count.load(Ordering::Relaxed));
        let before = count();
        eventually("old and new connections go on", PATIENCE, || {
            let now = count();
            (now[0] >= before[0] + 10 && now[1] >= before[1] + 10).then_some(())
        });
    }

    fn stop(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no byte was lost");
        }
    }
}

fn connections_follow_the_records_of_a_name_and_no_byte_is_lost(engine: Engine) {
    let port = free_port();
    let (first, second) = (own_loopback(77), own_loopback(78));
    let dns = match Dns::start(&[("db.test", first)]) {
        Ok(dns) => dns,
        Err(reason) => skip!("{reason}"),
    };
    let backends = [first, second].map(|ip| Backend::start_at(SocketAddr::new(ip, port), Behaviour::Echo));
    let frontend = free_address();
    let server = format!("[server]\nresolvers = [\"{}\"]\nresolve_timeout = \"500ms\"\n", dns.address());
    let app = app_of(&format!("\"{frontend}\""), &format!("\"db.test:{port}\""), NO_CHECKS);
    let ringway = ringway(engine).config(&format!("{server}{app}")).start();
    let load = Load::start(frontend);
    load.goes_on();
    assert_eq!(backends[1].accepted(), 0);

    dns.set_records(&[("db.test", second)]);
    eventually("new connections go to the new address", PATIENCE, || {
        (backends[1].accepted() > 0).then_some(())
    });
    // The other worker may hear of it later, and connections may be on their way.
    load.goes_on();
    let before = backends[0].accepted();
    load.goes_on();
    assert_eq!(backends[0].accepted(), before, "the old address gets no more of them");
    assert_eq!(backends[0].open(), 3, "those that were open stay where they are");

    // From IPv4 to IPv6, and then to both.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let third = IpAddr::from(Ipv6Addr::LOCALHOST);
        let backend = Backend::start_at(SocketAddr::new(third, port), Behaviour::Echo);
        dns.set_records(&[("db.test", third)]);
        eventually("an AAAA record takes over", PATIENCE, || (backend.accepted() > 0).then_some(()));
        load.goes_on();
        dns.set_records(&[("db.test", second), ("db.test", third)]);
        let before = backends[1].accepted();
        eventually("both are used", PATIENCE, || (backends[1].accepted() > before).then_some(()));
        load.goes_on();
        drop(dns);
        ringway.process().wait_for_line("trouble with the name", PATIENCE, |line| {
            line.contains("its last addresses are kept")
        });
        load.goes_on();
        // While the backend is still there.
        return load.stop();
    }
    load.stop();
}

/// `address weight`, and whether it is a backup, of each endpoint of the service, sorted.
fn ranks(ringway: &Ringway) -> Vec<String> {
    let status = status(ringway);
    let endpoints = status["apps"][0]["backends"][0]["endpoints"].as_array().cloned().unwrap_or_default();
    let text = |endpoint: &Value| {
        let backup = if endpoint["backup"] == true { " backup" } else { "" };
        format!("{} {}{backup}", endpoint["address"].as_str().unwrap_or_default(), endpoint["weight"])
    };
    let mut ranks: Vec<String> = endpoints.iter().map(text).collect();
    ranks.sort();
    ranks
}

fn connections_follow_the_records_of_a_service_and_no_byte_is_lost(engine: Engine) {
    const NAME: &str = "_echo._tcp.db.test";
    let ip = own_loopback(79);
    let [first, second, third] = [(); 3].map(|()| Backend::start_at(SocketAddr::new(ip, 0), Behaviour::Echo));
    let record = |backend: &Backend, priority: u16, weight: u16| {
        format!("{NAME},host.test,{},{priority},{weight}", backend.address().port())
    };
    let records = [record(&first, 10, 30), record(&second, 10, 10), record(&third, 20, 5)];
    let hosts = [("host.test", ip)];
    let mut dns = match Dns::start_with_services(&hosts, &records.each_ref().map(String::as_str)) {
        Ok(dns) => dns,
        Err(reason) => skip!("{reason}"),
    };
    let frontend = free_address();
    let server = format!("[server]\nresolvers = [\"{}\"]\nresolve_timeout = \"500ms\"\n", dns.address());
    let backend = format!("{{ srv = \"{NAME}\" }}");
    let app =
        app_of(&format!("\"{frontend}\""), &backend, &format!("balance = \"round-robin\"\n{NO_CHECKS}"));
    let ringway = ringway(engine).config(&format!("{server}{app}")).start();
    let rank = |backend: &Backend, rank: &str| format!("{} {rank}", backend.address());
    let sorted = |mut ranks: Vec<String>| {
        ranks.sort();
        ranks
    };
    assert_eq!(
        ranks(&ringway),
        sorted(vec![rank(&first, "30"), rank(&second, "10"), rank(&third, "5 backup")])
    );
    let load = Load::start(frontend);
    // As the weights say, three of four; what else comes meanwhile may be between the two looks.
    for _ in 0..40 {
        echo(&mut client::connect(frontend).expect("the frontend listens"), 5);
    }
    let (many, few) = (first.accepted(), second.accepted());
    assert!(many > 2 * few && many < 4 * few, "{many} and {few}");
    assert_eq!(third.accepted(), 0, "a lower priority stands in only");

    // Other weights, another port, and nobody answers for a moment.
    let records = [record(&first, 10, 1), record(&third, 10, 1)];
    dns.restart(&hosts, &records.each_ref().map(String::as_str));
    eventually("the new records", PATIENCE, || {
        (ranks(&ringway) == sorted(vec![rank(&first, "1"), rank(&third, "1")])).then_some(())
    });
    // The page tells of it before the workers do, and connections may be on their way.
    load.goes_on();
    let before = second.accepted();
    load.goes_on();
    assert!(third.accepted() > 0);
    assert_eq!(second.accepted(), before, "it gets no more connections");
    drop(dns);
    ringway.process().wait_for_line("trouble with the service", PATIENCE, |line| {
        line.contains("its last records are kept")
    });
    load.goes_on();
    load.stop();
}
