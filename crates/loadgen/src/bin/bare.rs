//! `bare`: a relay that does nothing else, the floor under every proxy that reads from one socket and sends to another.
//!
//! Epoll, edge-triggered; 64 KiB at a time are received and sent, and after two full reads in a row spliced through
//! pipes of 1 MiB, as Ringway does. It chooses backends in turn and knows no timeouts, limits, half-closes, resets or
//! counts: whichever side ends, both are closed. It is measured beside the proxies, and good for nothing else.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;

use clap::Parser;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags};

const EVENTS_PER_TURN: usize = 128;
const ACCEPTS_PER_TURN: usize = 64;
const CHUNKS_PER_TURN: usize = 16;
const READ_BYTES: usize = 64 << 10;
/// Full reads in a row after which a flow is spliced.
const BULK_READS: u8 = 2;
const PIPE_BYTES: usize = 1 << 20;
const BACKLOG: i32 = 4096;

/// Relays between clients and backends, and prints where it listens.
#[derive(Parser)]
#[command(name = "bare", version)]
struct Arguments {
    /// Address to listen on; port 0 lets the system choose
    listen: SocketAddr,
    /// Addresses to dial, in turn
    #[arg(required = true)]
    backends: Vec<SocketAddr>,
}

fn main() -> ExitCode {
    match Bare::open(&Arguments::parse()).and_then(Bare::run) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One socket of a relay; its key is its descriptor.
struct End {
    socket: OwnedFd,
    peer: usize,
    full_reads: u8,
    /// Epoll tells when it can be written to.
    is_write_watched: bool,
    /// It takes no more: what waits for it, copied or in a pipe.
    waiting: Option<Waiting>,
}

enum Waiting {
    Copied(Vec<u8>),
    Piped(Pipe, usize),
}

struct Pipe {
    read_end: OwnedFd,
    write_end: OwnedFd,
}

/// What became of a chunk.
enum Step {
    More,
    Rest,
    Over,
}

struct Bare {
    epoll: OwnedFd,
    listener: OwnedFd,
    backends: Vec<SocketAddr>,
    next_backend: usize,
    ends: Vec<Option<End>>,
    /// Empty ones.
    pipes: Vec<Pipe>,
    buffer: Box<[u8]>,
    /// Closed after the batch, so that no key names another socket within it.
    closing: Vec<OwnedFd>,
}

impl Bare {
    fn open(arguments: &Arguments) -> io::Result<Self> {
        let listener = socket(&arguments.listen)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        rustix::net::bind(&listener, &arguments.listen)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener)?)?;
        println!("{address}");
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, key(&listener), EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            backends: arguments.backends.clone(),
            next_backend: 0,
            ends: Vec::new(),
            pipes: Vec::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            closing: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<std::convert::Infallible> {
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let (place, flags) = (event.data.u64() as usize, event.flags);
                if place == place_of(&self.listener) {
                    self.accept();
                    continue;
                }
                if flags.contains(EventFlags::OUT) {
                    self.flush(place);
                }
                if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                    self.pump(place);
                }
            }
            self.closing.clear();
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(client) = rustix::net::accept_with(&self.listener, flags) else { return };
            let address = self.backends[self.next_backend];
            self.next_backend = (self.next_backend + 1) % self.backends.len();
            let Ok(backend) = socket(&address) else { return };
            if !matches!(rustix::net::connect(&backend, &address), Ok(()) | Err(Errno::INPROGRESS)) {
                continue;
            }
            let places = [place_of(&client), place_of(&backend)];
            for (socket, peer) in [(client, places[1]), (backend, places[0])] {
                self.insert(socket, peer);
            }
        }
    }

    fn insert(&mut self, socket: OwnedFd, peer: usize) {
        let place = place_of(&socket);
        if place >= self.ends.len() {
            self.ends.resize_with(place + 1, || None);
        }
        // Fails only when the kernel is out of memory; the relay then stands still.
        let _ = epoll::add(&self.epoll, &socket, key(&socket), watched(true, false));
        self.ends[place] = Some(End { socket, peer, full_reads: 0, is_write_watched: false, waiting: None });
    }

    fn end(&self, place: usize) -> Option<&End> {
        self.ends.get(place)?.as_ref()
    }

    /// Moves what can be read from an end to its peer.
    fn pump(&mut self, place: usize) {
        for _ in 0..CHUNKS_PER_TURN {
            let Some(source) = self.end(place) else { return };
            let Some(peer) = self.end(source.peer) else { return };
            if peer.waiting.is_some() {
                return;
            }
            let step = if source.full_reads >= BULK_READS { self.splice(place) } else { self.copy(place) };
            match step {
                Step::More => {}
                Step::Rest => return,
                Step::Over => return self.close(place),
            }
        }
        // Changing what is watched has an edge told again.
        self.watch(place);
    }

    fn copy(&mut self, place: usize) -> Step {
        let Self { ends, buffer, .. } = self;
        let Some(source) = ends[place].as_mut() else { return Step::Rest };
        let count = match rustix::net::recv(&source.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Step::Over,
            Ok((count, _)) => count,
            Err(Errno::AGAIN) => return Step::Rest,
            Err(_) => return Step::Over,
        };
        let is_full = count == READ_BYTES;
        source.full_reads = if is_full { source.full_reads + 1 } else { 0 };
        let peer = source.peer;
        let Some(destination) = ends[peer].as_mut() else { return Step::Over };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match rustix::net::send(&destination.socket, &buffer[..count], flags) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(_) => return Step::Over,
        };
        if sent < count {
            destination.waiting = Some(Waiting::Copied(buffer[sent..count].to_vec()));
            self.block(place, peer);
            return Step::Rest;
        }
        if is_full { Step::More } else { Step::Rest }
    }

    fn splice(&mut self, place: usize) -> Step {
        let Some(source) = self.ends[place].as_ref() else { return Step::Rest };
        let Ok(pipe) = self.pipes.pop().map_or_else(Pipe::open, Ok) else { return Step::Over };
        let step = match splice(&source.socket, &pipe.write_end, PIPE_BYTES) {
            Ok(0) => Step::Over,
            Ok(count) => {
                let peer = source.peer;
                let Some(destination) = self.ends[peer].as_mut() else { return Step::Over };
                match drain(&pipe, count, &destination.socket) {
                    Ok(0) => Step::More,
                    Ok(left) => {
                        destination.waiting = Some(Waiting::Piped(pipe, left));
                        self.block(place, peer);
                        return Step::Rest;
                    }
                    // What is in the pipe is lost with it.
                    Err(_) => return Step::Over,
                }
            }
            Err(Errno::AGAIN) => Step::Rest,
            Err(_) => Step::Over,
        };
        self.pipes.push(pipe);
        step
    }

    /// `destination` took no more: wait for it, and hear nothing of what arrives at `source` meanwhile.
    fn block(&mut self, source: usize, destination: usize) {
        if let Some(end) = self.ends[destination].as_mut() {
            end.is_write_watched = true;
        }
        self.watch(destination);
        self.watch(source);
    }

    /// Tells epoll what can be done with an end now.
    fn watch(&self, place: usize) {
        let Some(end) = self.end(place) else { return };
        let is_wanted = self.end(end.peer).is_some_and(|peer| peer.waiting.is_none());
        let flags = watched(is_wanted, end.is_write_watched);
        // Fails never for a socket that is known.
        let _ = epoll::modify(&self.epoll, &end.socket, key(&end.socket), flags);
    }

    /// An end can be written to.
    fn flush(&mut self, place: usize) {
        let Some(end) = self.ends.get_mut(place).and_then(Option::as_mut) else { return };
        let source = end.peer;
        let result = match end.waiting.take() {
            None => return,
            Some(Waiting::Copied(bytes)) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                match rustix::net::send(&end.socket, &bytes, flags) {
                    Ok(sent) if sent == bytes.len() => Ok(None),
                    Ok(sent) => Ok(Some(Waiting::Copied(bytes[sent..].to_vec()))),
                    Err(Errno::AGAIN) => Ok(Some(Waiting::Copied(bytes))),
                    Err(error) => Err(error),
                }
            }
            Some(Waiting::Piped(pipe, count)) => match drain(&pipe, count, &end.socket) {
                Ok(0) => {
                    self.pipes.push(pipe);
                    Ok(None)
                }
                Ok(left) => Ok(Some(Waiting::Piped(pipe, left))),
                Err(error) => Err(error),
            },
        };
        match result {
            Ok(None) => {
                self.watch(source);
                self.pump(source);
            }
            Ok(waiting) => end.waiting = waiting,
            Err(_) => self.close(place),
        }
    }

    fn close(&mut self, place: usize) {
        let Some(end) = self.ends[place].take() else { return };
        let peer = self.ends.get_mut(end.peer).and_then(Option::take);
        self.closing.push(end.socket);
        self.closing.extend(peer.map(|peer| peer.socket));
    }
}

impl Pipe {
    fn open() -> Result<Self, Errno> {
        let (read_end, write_end) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        rustix::pipe::fcntl_setpipe_size(&write_end, PIPE_BYTES)?;
        Ok(Self { read_end, write_end })
    }
}

fn splice(from: &OwnedFd, to: &OwnedFd, count: usize) -> Result<usize, Errno> {
    rustix::pipe::splice(from, None, to, None, count, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
}

/// Moves what a pipe holds to a socket; returns how much is left.
fn drain(pipe: &Pipe, count: usize, to: &OwnedFd) -> Result<usize, Errno> {
    let mut left = count;
    while left > 0 {
        match splice(&pipe.read_end, to, left) {
            Ok(moved) => left -= moved,
            Err(Errno::AGAIN) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

fn socket(address: &SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

fn watched(read: bool, write: bool) -> EventFlags {
    let mut flags = EventFlags::ET | EventFlags::RDHUP;
    flags.set(EventFlags::IN, read);
    flags.set(EventFlags::OUT, write);
    flags
}

fn place_of(socket: &OwnedFd) -> usize {
    usize::try_from(socket.as_raw_fd()).expect("descriptors are not negative")
}

fn key(socket: &OwnedFd) -> EventData {
    EventData::new_u64(place_of(socket) as u64)
}
