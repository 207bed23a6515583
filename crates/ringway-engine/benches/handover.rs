//! What moving thousands of connections costs, each way and on both engines: `cargo xtask bench --handover`.
//!
//! Prints microseconds per descriptor, or per relay, which has two: with 4,000 sockets in one engine, and with 16,000, both
//! ends of 8,000 connections on loopback, which is what a process with 20,000 descriptors can hold.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use ringway_engine::handover::{Channel, DESCRIPTORS_MAX, Interest, Message, wait};
use ringway_engine::{
    ConnectionId, Engine, EngineConfig, EngineKind, Event, ExportedConnection, Operations, RelayOptions,
    Sink, Token,
};

const PAIRS: [usize; 2] = [2_000, 8_000];

#[derive(Default)]
struct Log {
    exports: Vec<ExportedConnection>,
    stops: usize,
}

impl Sink for Log {
    fn on_event(&mut self, _: &mut Operations<'_>, event: Event<'_>) {
        match event {
            Event::Exported { exported, .. } => self.exports.push(exported),
            Event::RelayStopped(_) => self.stops += 1,
            _ => {}
        }
    }
}

/// Sockets of connections on loopback, both ends of each after one another.
fn sockets(pairs: usize) -> Vec<OwnedFd> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("its address");
    let mut sockets = Vec::with_capacity(2 * pairs);
    for _ in 0..pairs {
        let dialled = TcpStream::connect(address).expect("somebody listens");
        let (accepted, _) = listener.accept().expect("who dialled");
        sockets.push(OwnedFd::from(dialled));
        sockets.push(OwnedFd::from(accepted));
    }
    sockets
}

fn engine(kind: EngineKind) -> Engine {
    Engine::new(&EngineConfig { kind, ..EngineConfig::default() }).expect("an engine")
}

fn turn(engine: &mut Engine, log: &mut Log) {
    engine.turn(log, Some(Duration::ZERO)).expect("a turn");
}

fn until(engine: &mut Engine, log: &mut Log, done: impl Fn(&Log) -> bool) {
    while !done(log) {
        turn(engine, log);
    }
}

fn tell(kind: EngineKind, what: &str, count: usize, begun: Instant) {
    let each = begun.elapsed().as_nanos() as f64 / 1000.0 / count as f64;
    let kind = format!("{kind:?}");
    println!("{kind:<8} {what:<48} {each:8.2} us");
}

fn adopt(engine: &mut Engine, exports: Vec<ExportedConnection>) -> Vec<ConnectionId> {
    let mut ops = engine.operations();
    exports.into_iter().map(|exported| ops.adopt(exported, Token(1)).expect("to adopt")).collect()
}

/// All that an engine does in a move, there and back again; gives the sockets on.
fn measure(kind: EngineKind, sockets: Vec<OwnedFd>) -> Vec<ExportedConnection> {
    let count = sockets.len();
    let (mut engine, mut log) = (engine(kind), Log::default());
    turn(&mut engine, &mut log);

    let begun = Instant::now();
    let exports = sockets.into_iter().map(|fd| ExportedConnection::from_descriptor(fd).expect("a stream"));
    let exports = exports.collect();
    tell(kind, "look at a descriptor that came", count, begun);
    let begun = Instant::now();
    let connections = adopt(&mut engine, exports);
    tell(kind, "adopt", count, begun);
    let begun = Instant::now();
    for connection in &connections {
        engine.operations().start_receive(*connection);
    }
    turn(&mut engine, &mut log);
    tell(kind, "start to receive", count, begun);
    let begun = Instant::now();
    for connection in &connections {
        engine.operations().export(*connection);
    }
    until(&mut engine, &mut log, |log| log.exports.len() == count);
    tell(kind, "export while receiving", count, begun);

    let relays = count / 2;
    let begun = Instant::now();
    let connections = adopt(&mut engine, std::mem::take(&mut log.exports));
    // Neighbours are the ends of one connection, which is no matter as long as nobody sends.
    for pair in connections.chunks_exact(2) {
        engine.operations().start_relay(pair[0], pair[1], RelayOptions::default());
    }
    turn(&mut engine, &mut log);
    turn(&mut engine, &mut log);
    tell(kind, "adopt two and start to relay", relays, begun);
    let begun = Instant::now();
    for pair in connections.chunks_exact(2) {
        engine.operations().stop_relay(pair[0]);
    }
    until(&mut engine, &mut log, |log| log.stops == relays);
    tell(kind, "stop a relay", relays, begun);
    let begun = Instant::now();
    for connection in &connections {
        engine.operations().export(*connection);
    }
    until(&mut engine, &mut log, |log| log.exports.len() == count);
    tell(kind, "export two", relays, begun);
    // Requests of the ring end with what is submitted next.
    turn(&mut engine, &mut log);
    std::mem::take(&mut log.exports)
}

/// What crosses a channel, to a thread that takes it in.
fn measure_channel(kind: EngineKind, exports: Vec<ExportedConnection>) {
    let count = exports.len().min(2 * DESCRIPTORS_MAX * 4);
    let (mut engine, mut log) = (engine(kind), Log::default());
    let connections = adopt(&mut engine, exports);
    turn(&mut engine, &mut log);
    let connections = &connections[..count];
    let begun = Instant::now();
    let copies: Vec<_> = connections
        .iter()
        .map(|connection| engine.operations().duplicate(*connection).expect("a copy"))
        .collect();
    tell(kind, "copy a descriptor", count, begun);
    let (one, other) = Channel::pair().expect("a pair");
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut message = Message::default();
            let mut taken = 0;
            while taken < count {
                match other.receive(&mut message) {
                    Ok(_) => taken += message.descriptors.len(),
                    Err(_) => drop(wait([(other.as_fd(), Interest::Read)], None)),
                }
            }
        });
        for batch in copies.chunks(DESCRIPTORS_MAX) {
            let borrowed: Vec<_> = batch.iter().map(AsFd::as_fd).collect();
            while one.send(b"a batch", &borrowed).is_err() {
                let _ = wait([(one.as_fd(), Interest::Write)], None);
            }
        }
    });
    tell(kind, "send a descriptor, receive and close it", count, begun);
}

fn main() {
    let (_, limit) = ringway_engine::sys::raise_descriptor_limit().expect("a limit");
    for pairs in PAIRS {
        if limit < 2 * pairs as u64 + 2_100 {
            println!("skipped: {limit} descriptors are too few");
            continue;
        }
        println!("{} sockets", 2 * pairs);
        both(pairs);
    }
}

fn both(pairs: usize) {
    for kind in [EngineKind::Epoll, EngineKind::IoUring] {
        if let Err(reason) = kind.probe() {
            println!("skipped: {reason}");
            continue;
        }
        measure_channel(kind, measure(kind, sockets(pairs)));
    }
}
