//! A TCP proxy in one screen: `cargo run -p ringway --example proxy -- 127.0.0.1:7001 127.0.0.1:7000`.

use std::error::Error;

use ringway::{
    ConnectOptions, ConnectionId, Engine, EngineConfig, EventHandler, ListenOptions, ListenerId, Operations,
    RelayEnd, RelayOptions, SocketAddress, Token, Worker,
};

struct Proxy {
    listen: SocketAddress,
    backend: SocketAddress,
    /// The client of each dial that is under way; the place is the dial's token.
    waiting: Vec<Option<ConnectionId>>,
}

impl EventHandler for Proxy {
    type Mail = ();

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        let listener = ops.bind(&self.listen, &ListenOptions::default()).expect("the address is free");
        println!("{} → {} with {}", listener.address(), self.backend, ops.kind_name());
        ops.start_accept(listener, Token(0)).expect("memory for one socket");
    }

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _listener: ListenerId,
        _token: Token,
        client: ConnectionId,
        _peer: SocketAddress,
    ) {
        let place = self.waiting.iter().position(Option::is_none).unwrap_or_else(|| {
            self.waiting.push(None);
            self.waiting.len() - 1
        });
        self.waiting[place] = Some(client);
        ops.connect(&self.backend, &ConnectOptions::default(), Token(place as u32));
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, backend: ConnectionId, token: Token) {
        if let Some(client) = self.waiting[token.0 as usize].take() {
            ops.start_relay(client, backend, RelayOptions::default());
        }
    }

    fn on_connect_failed(
        &mut self,
        ops: &mut Operations<'_>,
        _connection: ConnectionId,
        token: Token,
        error: std::io::Error,
    ) {
        eprintln!("{}: {error}", self.backend);
        if let Some(client) = self.waiting[token.0 as usize].take() {
            ops.close(client);
        }
    }

    fn on_read(&mut self, _: &mut Operations<'_>, _: ConnectionId, _: Token, _: &mut [u8]) {}

    fn on_relay_ended(&mut self, _: &mut Operations<'_>, end: RelayEnd) {
        println!("{} bytes there, {} back, {:?} by {:?}", end.bytes[0], end.bytes[1], end.cause, end.side);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:7001".to_owned()).parse()?;
    let backend = arguments.next().unwrap_or_else(|| "127.0.0.1:7000".to_owned()).parse()?;
    let (listen, backend) = (SocketAddress::Inet(listen), SocketAddress::Inet(backend));
    let engine = Engine::new(&EngineConfig::default())?;
    Worker::new(engine, Proxy { listen, backend, waiting: Vec::new() }).run()?;
    Ok(())
}
