//! An echo server: `cargo run -p ringway --example echo -- 127.0.0.1:7000`.

use std::error::Error;

use ringway::{
    ConnectionId, Engine, EngineConfig, EventHandler, ListenOptions, ListenerId, Operations, SocketAddress,
    Token, Worker,
};

/// Above this the echo waits until the client has read.
const QUEUED_BYTES_MAX: usize = 256 << 10;

struct Echo {
    address: SocketAddress,
}

impl EventHandler for Echo {
    type Mail = ();

    fn on_start(&mut self, ops: &mut Operations<'_>) {
        let listener = ops.bind(&self.address, &ListenOptions::default()).expect("the address is free");
        println!("echoing on {} with {}", listener.address(), ops.kind_name());
        ops.start_accept(listener, Token(0)).expect("memory for one socket");
    }

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _listener: ListenerId,
        _token: Token,
        connection: ConnectionId,
        _peer: SocketAddress,
    ) {
        ops.start_receive(connection);
    }

    fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        _token: Token,
        bytes: &mut [u8],
    ) {
        if ops.send(connection, bytes).is_ok_and(|queued| queued > QUEUED_BYTES_MAX) {
            ops.pause_receive(connection);
        }
    }

    fn on_write(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, _token: Token) {
        ops.start_receive(connection);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let address = SocketAddress::Inet(address.parse()?);
    let engine = Engine::new(&EngineConfig::default())?;
    Worker::new(engine, Echo { address }).run()?;
    Ok(())
}
