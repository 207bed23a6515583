//! A client: connections to one address, and the handler that speaks on them.

use std::io;

use ringway_engine::{ConnectOptions, Engine, EngineConfig, EngineKind, SocketAddress, Token};

use crate::{EventHandler, Worker};

/// Builds a client.
///
/// It dials when it is run; [`EventHandler::on_connect`] tells of each connection, whose token is its number.
#[derive(Clone, Debug)]
pub struct Client {
    target: SocketAddress,
    connections: u32,
    engine: EngineConfig,
    options: ConnectOptions,
}

impl Client {
    /// A client of `target`, with one connection on epoll.
    pub fn new(target: impl Into<SocketAddress>) -> Self {
        Self {
            target: target.into(),
            connections: 1,
            engine: EngineConfig::default(),
            options: ConnectOptions::default(),
        }
    }

    /// Number of connections. Default: one.
    pub fn connections(mut self, count: u32) -> Self {
        self.connections = count;
        self
    }

    /// Which driver. Default: epoll. Ask [`EngineKind::probe`] before choosing io_uring.
    pub fn engine(mut self, kind: EngineKind) -> Self {
        self.engine.kind = kind;
        self
    }

    /// How connections are dialled: local address, options of the socket.
    pub fn connect_options(mut self, options: ConnectOptions) -> Self {
        self.options = options;
        self
    }

    /// Dials, and turns on this thread until the handler is finished; gives it back.
    ///
    /// # Errors
    /// When the engine cannot be set up, or the kernel interface fails. Dials that fail are the handler's to see.
    pub fn run<H: EventHandler>(self, handler: H) -> io::Result<H> {
        let mut engine = Engine::new(&self.engine)?;
        for number in 0..self.connections {
            engine.operations().connect(&self.target, &self.options, Token(number));
        }
        Worker::new(engine, handler).run()
    }
}
