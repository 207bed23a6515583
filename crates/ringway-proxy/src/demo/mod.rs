//! The embedded demo backends: something to balance over on a fresh machine.
//!
//! Each answers HTTP requests with its name, the number of the connection and the worker that it landed on, and
//! sends other bytes back. They run on workers of the framework, listening on the loopback interface only.

mod conversation;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use ringway::{
    CloseReason, ConnectionId, Engine, EngineConfig, EventHandler, ListenOptions, ListenerId, Mailer,
    Operations, SocketAddress, Token, Worker,
};

use conversation::{Conversation, Next, Speaker};

/// Workers that the backends run on: enough to see that there are several.
const WORKERS: usize = 2;
/// A client that does not read its answers is not read from while more than this waits for it.
const QUEUED_BYTES_MAX: usize = 256 << 10;

/// Demo backends that run until they are stopped.
pub struct Demo {
    addresses: Vec<SocketAddress>,
    workers: Vec<(Mailer<Stop>, JoinHandle<io::Result<()>>)>,
}

/// Tells a demo worker to end, its connections with it.
struct Stop;

impl Demo {
    /// Starts a backend for each of `names`, on ports that the system chooses.
    ///
    /// # Errors
    /// When an engine cannot be made, or no port or thread is left.
    pub fn start(names: &[String], engine: &EngineConfig) -> io::Result<Self> {
        let backends: Arc<[Backend]> =
            names.iter().map(|name| Backend { name: name.clone(), connections: AtomicU64::new(0) }).collect();
        let mut demo = Self {
            addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(); names.len()],
            workers: Vec::new(),
        };
        for index in 0..WORKERS {
            // The first worker's ports are the others', too.
            let (addresses, mailer, thread) =
                start_worker(index, Arc::clone(&backends), demo.addresses.clone(), engine.clone())?;
            demo.addresses = addresses;
            demo.workers.push((mailer, thread));
        }
        Ok(demo)
    }

    /// Where each backend listens, in the order of the names.
    pub fn addresses(&self) -> &[SocketAddress] {
        &self.addresses
    }

    /// Ends the backends and cuts their connections.
    ///
    /// # Errors
    /// When an engine had failed before.
    pub fn stop(self) -> io::Result<()> {
        let mut result = Ok(());
        for (mailer, thread) in self.workers {
            mailer.send(Stop);
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a demo worker panicked")));
            result = result.and(ended);
        }
        result
    }
}

type Started = (Vec<SocketAddress>, Mailer<Stop>, JoinHandle<io::Result<()>>);

/// Starts a thread with an engine that listens on `addresses`. Gives them with the ports that the system chose.
fn start_worker(
    index: usize,
    backends: Arc<[Backend]>,
    addresses: Vec<SocketAddress>,
    engine: EngineConfig,
) -> io::Result<Started> {
    let (started, start) = mpsc::sync_channel(1);
    // An engine stays on the thread that made it.
    let thread = std::thread::Builder::new().name(format!("demo-{index}")).spawn(move || {
        let worker = Engine::new(&engine)
            .and_then(|engine| listen(Worker::new(engine, DemoHandler::new(index, backends)), addresses));
        match worker {
            Ok((worker, addresses)) => {
                // The receiver waits for just this.
                let _ = started.send(Ok((addresses, worker.mailer())));
                worker.run().map(drop)
            }
            Err(error) => {
                let _ = started.send(Err(error));
                Ok(())
            }
        }
    })?;
    let ended = || Err(io::Error::other("a demo worker ended before it began"));
    let (addresses, mailer) = start.recv().unwrap_or_else(|_| ended())?;
    Ok((addresses, mailer, thread))
}

fn listen(
    mut worker: Worker<DemoHandler>,
    mut addresses: Vec<SocketAddress>,
) -> io::Result<(Worker<DemoHandler>, Vec<SocketAddress>)> {
    let (_, mut ops) = worker.parts();
    for (place, address) in addresses.iter_mut().enumerate() {
        let listener = ops.bind(address, &ListenOptions::default())?;
        *address = listener.address().clone();
        ops.start_accept(listener, token_of(place))?;
    }
    Ok((worker, addresses))
}

struct Backend {
    name: String,
    /// Connections so far, over all workers.
    connections: AtomicU64,
}

struct DemoHandler {
    worker: usize,
    backends: Arc<[Backend]>,
    /// By the token of the connection.
    connections: Vec<Option<Connection>>,
    /// Empty places in `connections`.
    free: Vec<usize>,
    /// What to send; its memory is used again.
    out: Vec<u8>,
    stopped: bool,
}

struct Connection {
    backend: usize,
    number: u64,
    conversation: Conversation,
    paused: bool,
}

fn token_of(place: usize) -> Token {
    // There are never four thousand million of anything here: descriptors run out before.
    Token(u32::try_from(place).unwrap_or(u32::MAX))
}

fn place_of(token: Token) -> usize {
    token.0 as usize
}

impl DemoHandler {
    fn new(worker: usize, backends: Arc<[Backend]>) -> Self {
        Self { worker, backends, connections: Vec::new(), free: Vec::new(), out: Vec::new(), stopped: false }
    }

    fn forget(&mut self, token: Token) {
        if self.connections.get_mut(place_of(token)).and_then(Option::take).is_some() {
            self.free.push(place_of(token));
        }
    }
}

impl EventHandler for DemoHandler {
    type Mail = Stop;

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _listener: ListenerId,
        token: Token,
        connection: ConnectionId,
        _peer: SocketAddress,
    ) {
        let backend = place_of(token);
        let number = self.backends[backend].connections.fetch_add(1, Ordering::Relaxed) + 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.connections[place] =
            Some(Connection { backend, number, conversation: Conversation::default(), paused: false });
        ops.set_token(connection, token_of(place));
        ops.start_receive(connection);
    }

    fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &mut [u8],
    ) {
        let Some(Some(state)) = self.connections.get_mut(place_of(token)) else { return };
        let backend = &self.backends[state.backend].name;
        let speaker = Speaker { backend, connection: state.number, worker: self.worker };
        self.out.clear();
        let next = state.conversation.receive(bytes, speaker, &mut self.out);
        // An error means that the connection is over already; its last event follows.
        let queued = ops.send(connection, &self.out).unwrap_or(0);
        if next == Next::Close {
            ops.close(connection);
        } else if queued > QUEUED_BYTES_MAX {
            state.paused = true;
            ops.pause_receive(connection);
        }
    }

    fn on_end(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        if let Some(Some(state)) = self.connections.get_mut(place_of(token)) {
            // An error means that the connection is over already; its last event follows.
            let _ = ops.send(connection, state.conversation.unanswered());
        }
        ops.close(connection);
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        if let Some(Some(state)) = self.connections.get_mut(place_of(token))
            && std::mem::take(&mut state.paused)
        {
            ops.start_receive(connection);
        }
    }

    fn on_close(
        &mut self,
        _ops: &mut Operations<'_>,
        _connection: ConnectionId,
        token: Token,
        _reason: CloseReason,
    ) {
        self.forget(token);
    }

    fn on_mail(&mut self, _ops: &mut Operations<'_>, Stop: Stop) {
        self.stopped = true;
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    fn start() -> Demo {
        Demo::start(&["one".to_owned(), "two".to_owned()], &EngineConfig::default()).expect("it starts")
    }

    fn connect(demo: &Demo, backend: usize) -> TcpStream {
        let stream = TcpStream::connect(demo.addresses()[backend].inet().expect("TCP")).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a live socket");
        stream
    }

    #[test]
    fn each_backend_answers_with_its_own_name_and_counts_its_connections() {
        let demo = start();
        for (backend, wanted) in
            [(0, "one: connection 1, "), (1, "two: connection 1, "), (1, "two: connection 2, ")]
        {
            let mut stream = connect(&demo, backend);
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it reads");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it answers and closes");
            assert!(answer.contains(wanted), "{answer}");
        }
        demo.stop().expect("its engines work");
    }

    #[test]
    fn a_client_that_sends_far_more_than_it_reads_gets_every_byte_back() {
        let demo = start();
        let mut stream = connect(&demo, 0);
        let bytes: Vec<u8> = (0..8u32 << 20).map(|index| (index % 251) as u8).collect();
        let mut sender = stream.try_clone().expect("a descriptor");
        let to_send = bytes.clone();
        let sending = std::thread::spawn(move || {
            sender.write_all(&to_send).expect("it reads on");
            sender.shutdown(std::net::Shutdown::Write).expect("a live socket");
        });
        let mut echoed = Vec::new();
        stream.read_to_end(&mut echoed).expect("it answers and closes");
        sending.join().expect("all was sent");
        assert!(echoed == bytes, "{} of {} bytes came back", echoed.len(), bytes.len());
        demo.stop().expect("its engines work");
    }
}
