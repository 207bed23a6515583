//! What a frontend does at this moment, shared by the workers that listen on it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringway::{ListenOptions, Listener, SocketAddress, SocketOptions};

use super::SocketFile;
use crate::model;

/// A listening address of an app, as all threads see it.
#[derive(Debug)]
pub struct FrontendState {
    name: Arc<str>,
    model: model::Frontend,
    /// Handed on with the socket when another frontend takes the address.
    shared: Arc<Mutex<Shared>>,
}

/// What a frontend does, for the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address it is bound to, with the port that the system chose; `None` while nobody could bind it.
    pub address: Option<SocketAddress>,
    /// Workers that listen on it now.
    pub workers: usize,
    /// Why the last attempt to bind failed, while one is still being made.
    pub error: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    address: Option<SocketAddress>,
    workers: usize,
    error: Option<String>,
    /// Made for workers to come.
    ready: Vec<Listener>,
    /// A Unix socket is bound once and each worker accepts from its own handle.
    unix: Option<Listener>,
    /// The file of the Unix socket that was bound.
    file: Option<SocketFile>,
    /// A socket that was passed to the process: whoever passed it keeps it open, and has its file.
    passed: Option<Listener>,
    /// A worker has the passed socket, or had it since the frontend was opened.
    is_passed_taken: bool,
}

impl FrontendState {
    /// A frontend that nobody listens on yet.
    pub fn new(model: model::Frontend) -> Self {
        Self { name: Arc::from(model.name.as_str()), model, shared: Arc::default() }
    }

    /// A frontend that is served by a socket which was passed to the process.
    pub fn with_socket(model: model::Frontend, passed: Listener) -> Self {
        let frontend = Self::new(model);
        frontend.lock().passed = Some(passed.held_elsewhere());
        frontend
    }

    /// The frontend that takes this one's place at its address: workers hand their sockets on to it, with what waits in
    /// their queues.
    #[must_use]
    pub fn heir(&self, model: model::Frontend) -> Self {
        Self { name: Arc::from(model.name.as_str()), model, shared: Arc::clone(&self.shared) }
    }

    /// Names its socket, as long as a frontend of it is held: the same for a frontend and its [heir](Self::heir).
    pub fn socket_id(&self) -> usize {
        Arc::as_ptr(&self.shared) as usize
    }

    /// As it is written in the file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its configuration.
    pub fn model(&self) -> &model::Frontend {
        &self.model
    }

    /// How its sockets are made; `socket`: what connections inherit.
    pub(crate) fn listen_options(&self, socket: SocketOptions) -> ListenOptions {
        ListenOptions {
            backlog: self.model.backlog,
            reuse_port: true,
            freebind: self.model.freebind,
            v6_only: !self.model.dual_stack,
            unix_mode: self.model.mode,
            socket,
        }
    }

    /// Makes the sockets of all workers ahead of these, by the rights that the process still has. Unix sockets are made
    /// by the user that the process becomes: their files are then its own.
    ///
    /// # Errors
    /// What `bind` and `listen` say; the workers try again.
    pub(crate) fn prepare(&self, workers: usize, socket: SocketOptions) -> io::Result<()> {
        if self.model.address.path().is_some() {
            return Ok(());
        }
        let options = self.listen_options(socket);
        let listen = |_| self.listen(None, |address| Listener::bind(address, &options));
        let ready = (0..workers).map(listen).collect::<io::Result<Vec<Listener>>>()?;
        self.lock().ready = ready;
        Ok(())
    }

    /// What it does now.
    pub fn listening(&self) -> Listening {
        let shared = self.lock();
        Listening { address: shared.address.clone(), workers: shared.workers, error: shared.error.clone() }
    }

    /// Makes this worker's listening socket by `bind`, under the lock that lets the first worker choose a port for
    /// all. A Unix socket is bound once, and later calls get another handle to it. `stale`: a socket file that
    /// nobody serves; it is removed first, unless another worker has bound the path meanwhile.
    ///
    /// A passed socket goes to the first worker. The others bind their own beside it where it allows that, and share it
    /// where it does not, or where it is another user's: only sockets of one user share a port.
    ///
    /// # Errors
    /// What `bind` says, or EMFILE for a second handle.
    pub(crate) fn listen(
        &self,
        stale: Option<&SocketFile>,
        bind: impl FnOnce(&SocketAddress) -> io::Result<Listener>,
    ) -> io::Result<Listener> {
        let mut shared = self.lock();
        if let Some(listener) = shared.ready.pop() {
            return Ok(listener);
        }
        if let Some(listener) = &shared.unix {
            return listener.try_clone();
        }
        let is_taken = std::mem::replace(&mut shared.is_passed_taken, true);
        if let Some(passed) = &shared.passed {
            let own = if is_taken && passed.allows_others() { bind(passed.address()).ok() } else { None };
            let listener = own.map_or_else(|| passed.try_clone(), Ok)?;
            shared.address = Some(listener.address().clone());
            return Ok(listener);
        }
        if let Some(stale) = stale {
            stale.remove();
        }
        let listener = bind(shared.address.as_ref().unwrap_or(&self.model.address))?;
        if let SocketAddress::Unix(_) = self.model.address {
            shared.unix = Some(listener.try_clone()?);
            shared.file = listener.address().path().and_then(SocketFile::at);
        }
        shared.address = Some(listener.address().clone());
        Ok(listener)
    }

    /// A worker listens. Says whether it is the first since attempts failed.
    pub(crate) fn started(&self) -> bool {
        let mut shared = self.lock();
        shared.workers += 1;
        shared.error.take().is_some()
    }

    /// A worker could not bind. Says whether this is news.
    pub(crate) fn failed(&self, error: &io::Error) -> bool {
        let mut shared = self.lock();
        shared.error.replace(error.to_string()).is_none()
    }

    /// A worker stopped listening.
    pub(crate) fn stopped(&self) {
        let mut shared = self.lock();
        shared.workers = shared.workers.saturating_sub(1);
    }

    /// Another process listened here until now, and this is its socket: workers that listen from now on do so at its
    /// address.
    ///
    /// # Errors
    /// EMFILE for a second handle, which those of a Unix socket need.
    pub(crate) fn inherit(&self, listener: &Listener) -> io::Result<()> {
        let mut shared = self.lock();
        if let SocketAddress::Unix(_) = self.model.address {
            shared.unix = Some(listener.try_clone()?);
            // That of a passed socket is of whoever passed it.
            let is_own = shared.passed.is_none();
            shared.file = listener.address().path().filter(|_| is_own).and_then(SocketFile::at);
        }
        shared.is_passed_taken = true;
        shared.address = Some(listener.address().clone());
        Ok(())
    }

    /// Another process listens here from now on: its socket, and its socket's file, are none of ours any more.
    pub(crate) fn disown(&self) {
        let mut shared = self.lock();
        shared.unix = None;
        shared.file = None;
    }

    /// The process stops accepting on it: no further handle is given out, and the file of its Unix socket goes, so
    /// that nobody comes any more. What waits in the queue is not touched by that.
    pub(crate) fn retire(&self) {
        let mut shared = self.lock();
        shared.unix = None;
        shared.ready.clear();
        shared.is_passed_taken = false;
        if let Some(file) = shared.file.take() {
            file.remove();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
