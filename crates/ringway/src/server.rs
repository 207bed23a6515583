//! A server: the same handler on several workers, each with its own listening sockets.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use ringway_engine::{
    Engine, EngineConfig, EngineKind, ListenOptions, Listener, ListenerId, SocketAddress, Token,
};

use crate::{EventHandler, Mailer, Worker};

/// Builds a server.
///
/// Each worker is a thread with its own engine, its own handler, and, for TCP, its own socket on each address
/// (SO_REUSEPORT: the kernel spreads connections over them). A Unix socket is one queue that all workers take from.
///
/// ```no_run
/// # use ringway::*;
/// # struct Echo;
/// # impl EventHandler for Echo {
/// #     type Mail = ();
/// #     fn on_accept(&mut self, _: &mut Operations<'_>, _: ListenerId, _: Token, _: ConnectionId, _: SocketAddress) {}
/// #     fn on_read(&mut self, _: &mut Operations<'_>, _: ConnectionId, _: Token, _: &mut [u8]) {}
/// # }
/// # fn main() -> std::io::Result<()> {
/// let server = Server::new().listen("127.0.0.1:7000".parse::<std::net::SocketAddr>().unwrap()).workers(2).start(|_| Echo)?;
/// println!("listening on {:?}", server.addresses());
/// server.join()
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    pub(crate) addresses: Vec<SocketAddress>,
    pub(crate) workers: usize,
    engine: EngineConfig,
    pub(crate) options: ListenOptions,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// A server without addresses, with one worker on epoll.
    pub fn new() -> Self {
        Self {
            addresses: Vec::new(),
            workers: 1,
            engine: EngineConfig::default(),
            options: ListenOptions::default(),
        }
    }

    /// Adds an address. The token of its listener, and of what it accepts, is its place: 0 for the first.
    /// Port 0 takes a free port, the same for all workers.
    pub fn listen(mut self, address: impl Into<SocketAddress>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Number of workers; at least one. Default: one.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count.max(1);
        self
    }

    /// Which driver. Default: epoll. Ask [`EngineKind::probe`] before choosing io_uring.
    pub fn engine(mut self, kind: EngineKind) -> Self {
        self.engine.kind = kind;
        self
    }

    /// Everything else about the engines.
    pub fn engine_config(mut self, config: EngineConfig) -> Self {
        self.engine = config;
        self
    }

    /// How listening sockets are made.
    pub fn listen_options(mut self, options: ListenOptions) -> Self {
        self.options = options;
        self
    }

    /// Binds everything and starts the workers; `make` makes the handler of each (0, 1, …), on its thread.
    ///
    /// # Errors
    /// When an address cannot be bound or an engine cannot be set up. Workers that had started by then are never
    /// given a connection, and end with the process.
    pub fn start<H, F>(self, make: F) -> io::Result<RunningServer<H::Mail>>
    where
        H: EventHandler + 'static,
        F: Fn(usize) -> H + Clone + Send + 'static,
    {
        self.spawn(&self.addresses, move |index, _| make(index)).map(|(running, _)| running)
    }

    /// Starts the workers with listeners at these addresses.
    pub(crate) fn spawn<H, F>(
        &self,
        addresses: &[SocketAddress],
        make: F,
    ) -> io::Result<(RunningServer<H::Mail>, Handles)>
    where
        H: EventHandler + 'static,
        F: Fn(usize, Vec<ListenerId>) -> H + Clone + Send + 'static,
    {
        let mut running =
            RunningServer { addresses: addresses.to_vec(), mailers: Vec::new(), threads: Vec::new() };
        let mut handles = Vec::new();
        // What the first worker bound, for the others to share: Unix sockets.
        let mut shared: Vec<Option<Listener>> = Vec::new();
        for index in 0..self.workers {
            let mut listeners = Vec::new();
            for listener in &shared {
                listeners.push(listener.as_ref().map(Listener::try_clone).transpose()?);
            }
            let (engine, options, addresses) =
                (self.engine.clone(), self.options.clone(), running.addresses.clone());
            let make = make.clone();
            let (started, start) = mpsc::channel();
            let thread = thread::Builder::new().name(format!("ringway-{index}")).spawn(move || {
                let worker = match set_up(&engine, &options, &addresses, listeners, |ids| make(index, ids)) {
                    Ok((worker, bound)) => {
                        // The starter waits for this; it is gone only if its thread panicked.
                        let _ = started.send(Ok((worker.mailer(), bound)));
                        worker
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return Ok(());
                    }
                };
                worker.run().map(drop)
            })?;
            let (mailer, bound) =
                start.recv().map_err(|_| io::Error::other("a worker ended before it had started"))??;
            if index == 0 {
                running.addresses = bound.iter().map(|listener| listener.address().clone()).collect();
                for listener in &bound {
                    let is_shared = listener.address().path().is_some();
                    shared.push(if is_shared { Some(listener.try_clone()?) } else { None });
                }
            }
            handles.push(bound);
            running.mailers.push(mailer);
            running.threads.push(thread);
        }
        Ok((running, handles))
    }
}

/// A second handle to each listening socket, by worker and by place.
pub(crate) type Handles = Vec<Vec<Listener>>;

/// A worker with its listeners; and a second handle to each of these.
fn set_up<H: EventHandler>(
    engine: &EngineConfig,
    options: &ListenOptions,
    addresses: &[SocketAddress],
    mut shared: Vec<Option<Listener>>,
    make: impl FnOnce(Vec<ListenerId>) -> H,
) -> io::Result<(Worker<H>, Vec<Listener>)> {
    let mut engine = Engine::new(engine)?;
    let (mut bound, mut ids) = (Vec::new(), Vec::new());
    for (place, address) in addresses.iter().enumerate() {
        let mut ops = engine.operations();
        let listener = match shared.get_mut(place).and_then(Option::take) {
            Some(listener) => listener,
            None => ops.bind(address, options)?,
        };
        bound.push(listener.try_clone()?);
        ids.push(ops.start_accept(listener, Token(place as u32))?);
    }
    Ok((Worker::new(engine, make(ids)), bound))
}

/// A server that runs.
pub struct RunningServer<M> {
    pub(crate) addresses: Vec<SocketAddress>,
    mailers: Vec<Mailer<M>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl<M> RunningServer<M> {
    /// The addresses it listens on, in the order they were given, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddress] {
        &self.addresses
    }

    /// A way to send mail to each worker. Asynchronous shutdown: mail that makes [`EventHandler::is_finished`] true.
    pub fn mailers(&self) -> &[Mailer<M>] {
        &self.mailers
    }

    /// Waits until every worker's handler is finished.
    ///
    /// # Errors
    /// The first failure of a worker's kernel interface.
    ///
    /// # Panics
    /// If a handler panicked.
    pub fn join(self) -> io::Result<()> {
        for thread in self.threads {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    }
}
