//! One engine and its handler, on one thread.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringway_engine::mailbox::Waker;
use ringway_engine::{Engine, Event, Operations};

use crate::{CloseReason, EventHandler};

/// An engine with its handler; turn it on one thread.
pub struct Worker<H: EventHandler> {
    engine: Engine,
    adapter: Adapter<H>,
    started: bool,
}

struct Adapter<H: EventHandler> {
    handler: H,
    mail: Mailbox<H::Mail>,
}

/// Mail that waits; `None` once the worker has ended.
type Waiting<M> = Arc<Mutex<Option<Vec<M>>>>;

/// The worker's side of its mail. When it goes, so does the mail: whoever waits for an answer hears that none comes.
struct Mailbox<M>(Waiting<M>);

impl<M> Mailbox<M> {
    /// Closes the box if nothing is in it.
    fn close(&self) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.as_ref().is_some_and(|mail| !mail.is_empty()) {
            return false;
        }
        *waiting = None;
        true
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        let unread = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(unread);
    }
}

/// Sends mail to a worker from any thread.
pub struct Mailer<M> {
    mail: Waiting<M>,
    waker: Waker,
}

impl<M> Clone for Mailer<M> {
    fn clone(&self) -> Self {
        Self { mail: Arc::clone(&self.mail), waker: self.waker.clone() }
    }
}

impl<M> Mailer<M> {
    /// Puts `mail` into the worker's box and wakes it. Mail to a worker that has ended is dropped, as is what such a
    /// worker had not read.
    pub fn send(&self, mail: M) {
        // What mail does when it is dropped is not done under the lock.
        drop(self.try_send(mail));
    }

    /// The same for mail that must not be lost.
    ///
    /// # Errors
    /// The mail, if the worker has ended. What is taken is read, unless the engine of the worker fails: see
    /// [`Worker::end`].
    pub fn try_send(&self, mail: M) -> Result<(), M> {
        let mut waiting = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(box_of_worker) = waiting.as_mut() else { return Err(mail) };
        box_of_worker.push(mail);
        drop(waiting);
        self.waker.wake();
        Ok(())
    }
}

impl<H: EventHandler> Worker<H> {
    /// Puts the two together.
    pub fn new(engine: Engine, handler: H) -> Self {
        Self::with(engine, |_| handler)
    }

    /// Puts an engine and the handler together that `make` makes. It gets the way to send this worker mail, for a handler
    /// that hands it on to others.
    pub fn with(engine: Engine, make: impl FnOnce(Mailer<H::Mail>) -> H) -> Self {
        let mail = Mailbox(Arc::new(Mutex::new(Some(Vec::new()))));
        let mailer = Mailer { mail: Arc::clone(&mail.0), waker: engine.waker() };
        Self { engine, adapter: Adapter { handler: make(mailer), mail }, started: false }
    }

    /// A way to send it mail.
    pub fn mailer(&self) -> Mailer<H::Mail> {
        Mailer { mail: Arc::clone(&self.adapter.mail.0), waker: self.engine.waker() }
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.adapter.handler
    }

    /// The handler and the operations, between turns.
    pub fn parts(&mut self) -> (&mut H, Operations<'_>) {
        (&mut self.adapter.handler, self.engine.operations())
    }

    /// Waits once, at most for `wait` (`None`: until something happens), and delivers what happened.
    /// The first call starts the handler.
    ///
    /// # Errors
    /// Only when the kernel interface itself fails.
    pub fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        if !self.started {
            self.started = true;
            self.adapter.handler.on_start(&mut self.engine.operations());
        }
        self.engine.turn(&mut self.adapter, wait)
    }

    /// Takes no more mail, if the handler is finished and none waits; says whether that is so, and the worker over.
    pub fn end(&mut self) -> bool {
        self.adapter.handler.is_finished() && self.adapter.mail.close()
    }

    /// Turns until the handler is finished and all mail is read, and gives it back.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub fn run(mut self) -> io::Result<H> {
        while !self.end() {
            self.turn(None)?;
        }
        Ok(self.adapter.handler)
    }
}

impl<H: EventHandler> ringway_engine::Sink for Adapter<H> {
    fn on_event(&mut self, ops: &mut Operations<'_>, event: Event<'_>) {
        let handler = &mut self.handler;
        match event {
            Event::Accepted { listener, token, connection, peer } => {
                handler.on_accept(ops, listener, token, connection, peer);
            }
            Event::AcceptPaused { listener, token, error } => {
                handler.on_accept_paused(ops, listener, token, error)
            }
            Event::AcceptResumed { listener, token } => handler.on_accept_resumed(ops, listener, token),
            Event::ListenerClosed { listener, token } => handler.on_listener_closed(ops, listener, token),
            Event::ListenerReleased { listener, token, released } => {
                handler.on_listener_released(ops, listener, token, released);
            }
            Event::Connected { connection, token } => handler.on_connect(ops, connection, token),
            Event::ConnectFailed { connection, token, error } => {
                handler.on_connect_failed(ops, connection, token, error);
            }
            Event::Received { connection, token, bytes } => handler.on_read(ops, connection, token, bytes),
            Event::Peeked { connection, token, bytes, ended } => {
                handler.on_peek(ops, connection, token, bytes, ended);
            }
            Event::Ended { connection, token } => handler.on_end(ops, connection, token),
            Event::Writable { connection, token } => handler.on_write(ops, connection, token),
            Event::PeerLeft { connection, token, reset, unread } => {
                handler.on_peer_left(ops, connection, token, reset, unread);
            }
            Event::Failed { connection, token, error } => {
                handler.on_close(ops, connection, token, CloseReason::from_error(error));
            }
            Event::Closed { connection, token } => {
                handler.on_close(ops, connection, token, CloseReason::Closed)
            }
            Event::RelayHalfClosed { from, token } => handler.on_relay_half_closed(ops, from, token),
            Event::RelayEnded(end) => handler.on_relay_ended(ops, end),
            Event::RelayStopped(stop) => handler.on_relay_stopped(ops, stop),
            Event::Exported { connection, token, exported } => {
                handler.on_exported(ops, connection, token, exported)
            }
            Event::Datagrams { socket, token, batch } => handler.on_datagrams(ops, socket, token, batch),
            Event::TimerFired { timer, token } => handler.on_timer(ops, timer, token),
            Event::Woken => {
                let mut waiting = self.mail.0.lock().unwrap_or_else(PoisonError::into_inner);
                let mail = waiting.as_mut().map(std::mem::take).unwrap_or_default();
                drop(waiting);
                for mail in mail {
                    self.handler.on_mail(ops, mail);
                }
            }
        }
    }
}
