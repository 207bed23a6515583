//! An echo server that survives its own replacement: `cargo run -p ringway --example successor -- 127.0.0.1:7000`.
//!
//! It numbers the lines of each client. Type `replace` and Enter: the program is started anew (build another version of it
//! before), takes over, and every client's numbers go on. `replace 127.0.0.1:7000 io_uring 4` starts it with other
//! arguments: the engine, and the number of workers. The end of the input ends the server.

use std::error::Error;
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::process::Command;

use ringway::handover::{Handover, Progress};
use ringway::{
    CloseReason, ConnectionId, EngineKind, EventHandler, ListenerId, Operations, Server, SocketAddress, Token,
};

/// A client that sends a longer line is ended.
const LINE_BYTES_MAX: usize = 4096;
/// Above this the server waits until the client has read.
const QUEUED_BYTES_MAX: usize = 256 << 10;

/// What is kept of a client.
struct Client {
    /// Dead while the connection moves.
    connection: ConnectionId,
    lines: u64,
    /// A line that has begun.
    begun: Vec<u8>,
}

/// Clients by their tokens.
#[derive(Default)]
struct Echo {
    clients: Vec<Option<Client>>,
    /// Places that are free.
    free: Vec<u32>,
}

impl Echo {
    fn insert(&mut self, client: Client) -> Token {
        let place = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() as u32 - 1
        });
        self.clients[place as usize] = Some(client);
        Token(place)
    }

    fn remove(&mut self, token: Token) {
        if self.clients.get_mut(token.0 as usize).and_then(Option::take).is_some() {
            self.free.push(token.0);
        }
    }

    fn client(&mut self, token: Token) -> Option<&mut Client> {
        self.clients.get_mut(token.0 as usize)?.as_mut()
    }
}

impl EventHandler for Echo {
    type Mail = ();

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _listener: ListenerId,
        _token: Token,
        connection: ConnectionId,
        _peer: SocketAddress,
    ) {
        let token = self.insert(Client { connection, lines: 0, begun: Vec::new() });
        ops.set_token(connection, token);
        ops.start_receive(connection);
    }

    fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &mut [u8],
    ) {
        let Some(client) = self.client(token) else { return };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            client.begun.extend_from_slice(part);
            if client.begun.len() > LINE_BYTES_MAX {
                return ops.close(connection);
            }
            if part.ends_with(b"\n") {
                client.lines += 1;
                let mut answer = format!("{} ", client.lines).into_bytes();
                answer.append(&mut client.begun);
                if ops.send(connection, &answer).is_ok_and(|queued| queued > QUEUED_BYTES_MAX) {
                    ops.pause_receive(connection);
                }
            }
        }
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, _token: Token) {
        ops.start_receive(connection);
    }

    fn on_close(&mut self, _: &mut Operations<'_>, _: ConnectionId, token: Token, _: CloseReason) {
        self.remove(token);
    }
}

impl Handover for Echo {
    const STATE_VERSION: u32 = 1;

    fn connections(&self) -> Vec<(ConnectionId, Token)> {
        let clients = (0..).zip(&self.clients);
        clients.filter_map(|(place, client)| Some((client.as_ref()?.connection, Token(place)))).collect()
    }

    fn save(&self, token: Token, state: &mut Vec<u8>) {
        if let Some(client) = &self.clients[token.0 as usize] {
            state.extend_from_slice(&client.lines.to_le_bytes());
            state.extend_from_slice(&client.begun);
        }
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<Token, String> {
        let Some((lines, begun)) = state.split_first_chunk().filter(|_| version == 1) else {
            return Err(format!("state of version {version} is not understood"));
        };
        let (lines, begun) = (u64::from_le_bytes(*lines), begun.to_vec());
        Ok(self.insert(Client { connection: ConnectionId::NONE, lines, begun }))
    }

    fn on_resume(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        if let Some(client) = self.client(token) {
            client.connection = connection;
            ops.start_receive(connection);
        }
    }

    fn on_handed_over(&mut self, token: Token) {
        self.remove(token);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:7000").parse()?;
    let engine = match arguments.next().as_deref() {
        Some("io_uring") => EngineKind::IoUring,
        _ => EngineKind::Epoll,
    };
    let workers = arguments.next().map_or(Ok(2), |count| count.parse())?;
    let server = Server::new().listen(address).engine(engine).workers(workers);
    let mut server = server.start_succession(|_| Echo::default(), fail_on_purpose)?;
    println!("process {} serves on {}", std::process::id(), server.addresses()[0]);

    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        if words.next() != Some("replace") {
            continue;
        }
        let mut arguments: Vec<String> = words.map(str::to_owned).collect();
        if arguments.is_empty() {
            arguments = std::env::args().skip(1).collect();
        }
        // By the name that it was started by, so that it is the file which is there now.
        let program = std::env::args_os().next().ok_or("a program has a name")?;
        let mut command = Command::new(program);
        command.args(arguments);
        match server.hand_over(command) {
            Ok(report) => {
                println!(
                    "process {} goes on with {} clients, which waited for {:?}",
                    report.pid, report.moved, report.paused
                );
                return Ok(server.join()?);
            }
            Err(error) => println!("process {} still serves: {error}", std::process::id()),
        }
    }
    Ok(())
}

/// Dies or hangs after a step of a hand-over, if the environment says so: `SUCCESSOR_DIES="new Decide"`. For the tests.
fn fail_on_purpose(step: Progress) {
    let is_told = |variable| std::env::var(variable).is_ok_and(|wanted| wanted == step.to_string());
    if is_told("SUCCESSOR_DIES") {
        std::process::abort();
    }
    while is_told("SUCCESSOR_HANGS") {
        std::thread::park();
    }
}
