//! Threads that turn a worker of the framework.

use std::io;
use std::sync::mpsc;
use std::thread;

use ringway::{Engine, EngineConfig, EngineKind, EventHandler, Mailer, Worker};

/// Starts a thread called `name` with an engine of its own and the handler that `make` gives, which gets the way to send
/// it mail. Returns the same once the engine is there. `on_end` is called on that thread when its worker has come to its end.
///
/// # Errors
/// When the system makes no more threads, or no engine.
pub(super) fn spawn<H: EventHandler + 'static>(
    name: &str,
    engine: &EngineConfig,
    make: impl FnOnce(Mailer<H::Mail>) -> H + Send + 'static,
    on_end: impl FnOnce(io::Result<()>) + Send + 'static,
) -> io::Result<Mailer<H::Mail>> {
    let engine = engine.clone();
    let (started, start) = mpsc::sync_channel(1);
    // The engine is made on its thread: its memory is then near the processor, and a ring may be bound to it.
    thread::Builder::new().name(name.to_owned()).spawn(move || match make_engine(&engine) {
        Ok(engine) => {
            let worker = Worker::with(engine, make);
            // The receiver waits for just this.
            let _ = started.send(Ok(worker.mailer()));
            on_end(worker.run().map(drop));
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    })?;
    start.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended before it began")))
}

/// An engine of the kind that was chosen. A ring may be refused although one was granted before, for want of locked
/// memory or descriptors: epoll needs neither.
fn make_engine(config: &EngineConfig) -> io::Result<Engine> {
    match (Engine::new(config), config.kind) {
        (Err(error), EngineKind::IoUring) => {
            tracing::warn!(thread = thread::current().name(), %error, "no io_uring for this worker: it uses epoll");
            Engine::new(&EngineConfig { kind: EngineKind::Epoll, ..config.clone() })
        }
        (made, _) => made,
    }
}
