//! An echo server on two workers: `cargo run -p ringway --example echo -- 127.0.0.1:7000`.

use std::error::Error;
use std::net::SocketAddr;

use ringway::{ConnectionId, EventHandler, ListenerId, Operations, Server, SocketAddress, Token};

/// Above this the echo waits until the client has read.
const QUEUED_BYTES_MAX: usize = 256 << 10;

struct Echo;

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
    let address: SocketAddr =
        std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned()).parse()?;
    let server = Server::new().listen(address).workers(2).start(|_| Echo)?;
    println!("echoing on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
