//! The listening sockets of one worker: bound at start, retried while their address is busy, stopped at the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringway::{
    ConnectOptions, ConnectionId, ListenOptions, Listener, ListenerId, Operations, SocketAddress,
    SocketOptions, TimerId,
};

use super::token::Owner;
use crate::endpoint::SocketFile;
use crate::metrics::{WorkerCounter, WorkerMetrics};
use crate::routing::Routes;

/// Pauses between attempts to bind an address: from the first, doubling, to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// All frontends, as one worker serves them.
pub(super) struct Frontends {
    routes: Routes,
    metrics: Arc<WorkerMetrics>,
    slots: Vec<Slot>,
    is_paused: bool,
    is_in_want: bool,
    has_told_of_want: bool,
}

struct Slot {
    options: ListenOptions,
    next_pause: Duration,
    state: State,
}

enum State {
    /// Not tried yet.
    New,
    /// Its address could not be bound; tried again when the timer fires.
    AwaitingRetry(TimerId),
    /// The path of its Unix socket is taken: a dial shows whether anybody serves it.
    AwaitingAnswer {
        dial: ConnectionId,
        file: SocketFile,
    },
    Listening(ListenerId),
    /// Told to stop; what waits in the queue is being accepted.
    Stopping,
    Closed,
}

impl Frontends {
    /// `options`: of the sockets of the app at a place.
    pub(super) fn new(
        routes: Routes,
        metrics: Arc<WorkerMetrics>,
        options: impl Fn(usize) -> SocketOptions,
    ) -> Self {
        let slot = |frontend: u16| {
            let model = routes.frontend(frontend).model();
            let options = ListenOptions {
                backlog: model.backlog,
                reuse_port: true,
                freebind: model.freebind,
                v6_only: !model.dual_stack,
                unix_mode: model.mode,
                socket: options(routes.app_of(frontend)),
            };
            Slot { options, next_pause: FIRST_PAUSE, state: State::New }
        };
        let slots = (0..routes.len()).map(|frontend| slot(frontend as u16)).collect();
        Self { routes, metrics, slots, is_paused: false, is_in_want: false, has_told_of_want: false }
    }

    /// Place of the app that a frontend belongs to.
    pub(super) fn app_of(&self, frontend: u16) -> usize {
        self.routes.app_of(frontend)
    }

    /// Whether all are closed.
    pub(super) fn are_closed(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot.state, State::Closed))
    }

    /// Binds all.
    pub(super) fn start(&mut self, ops: &mut Operations<'_>) {
        (0..self.slots.len() as u32).for_each(|frontend| self.bind(ops, frontend, None));
    }

    /// A frontend's timer fired: its address is tried again.
    pub(super) fn handle_timer(&mut self, ops: &mut Operations<'_>, frontend: u32, timer: TimerId) {
        if let Some(slot) = self.slots.get(frontend as usize)
            && matches!(slot.state, State::AwaitingRetry(set) if set == timer)
        {
            self.bind(ops, frontend, None);
        }
    }

    /// Somebody answers at the path of a Unix socket: it is busy.
    pub(super) fn handle_answer(&mut self, ops: &mut Operations<'_>, frontend: u32, dial: ConnectionId) {
        ops.close(dial);
        if self.is_awaiting(frontend, dial) {
            self.retry_later(ops, frontend, &io::ErrorKind::AddrInUse.into());
        }
    }

    /// Nobody could be reached at the path of a Unix socket.
    pub(super) fn handle_no_answer(
        &mut self,
        ops: &mut Operations<'_>,
        frontend: u32,
        dial: ConnectionId,
        error: &io::Error,
    ) {
        if !self.is_awaiting(frontend, dial) {
            return;
        }
        let slot = &mut self.slots[frontend as usize];
        let State::AwaitingAnswer { file, .. } = std::mem::replace(&mut slot.state, State::New) else {
            return;
        };
        match error.kind() {
            // The process that bound it is dead.
            io::ErrorKind::ConnectionRefused => self.bind(ops, frontend, Some(&file)),
            io::ErrorKind::NotFound => self.bind(ops, frontend, None),
            // It may live, and be too busy to answer, or not for us.
            _ => self.retry_later(ops, frontend, &io::ErrorKind::AddrInUse.into()),
        }
    }

    fn is_awaiting(&self, frontend: u32, dial: ConnectionId) -> bool {
        let slot = self.slots.get(frontend as usize);
        slot.is_some_and(|slot| matches!(slot.state, State::AwaitingAnswer { dial: own, .. } if own == dial))
    }

    /// Leaves new connections in the kernel's queues.
    pub(super) fn pause(&mut self, ops: &mut Operations<'_>) {
        if !std::mem::replace(&mut self.is_paused, true) {
            self.each_listener(|listener| ops.pause_accept(listener));
        }
    }

    /// Accepts again.
    pub(super) fn resume(&mut self, ops: &mut Operations<'_>) {
        self.is_in_want = false;
        if std::mem::take(&mut self.is_paused) {
            self.each_listener(|listener| ops.resume_accept(listener));
        }
    }

    fn each_listener(&self, mut act: impl FnMut(ListenerId)) {
        for slot in &self.slots {
            if let State::Listening(listener) = slot.state {
                act(listener);
            }
        }
    }

    /// Stops all; what waits in their queues is accepted first.
    pub(super) fn stop(&mut self, ops: &mut Operations<'_>) {
        for (frontend, slot) in self.slots.iter_mut().enumerate() {
            let next = match slot.state {
                State::Listening(listener) => {
                    ops.stop_accept(listener);
                    State::Stopping
                }
                State::AwaitingRetry(timer) => {
                    ops.cancel_timer(timer);
                    State::Closed
                }
                State::AwaitingAnswer { dial, .. } => {
                    ops.close(dial);
                    State::Closed
                }
                State::New | State::Closed => State::Closed,
                State::Stopping => continue,
            };
            slot.state = next;
            self.routes.frontend(frontend as u16).retire();
        }
    }

    /// A listener that was stopped is closed.
    pub(super) fn handle_closed(&mut self, frontend: u32) {
        if let Some(slot) = self.slots.get_mut(frontend as usize)
            && matches!(slot.state, State::Stopping | State::Listening(_))
        {
            slot.state = State::Closed;
            self.routes.frontend(frontend as u16).stopped();
        }
    }

    /// A listener rests for want of descriptors or memory; the engine resumes it.
    pub(super) fn handle_paused_by_engine(&mut self, frontend: u32, error: &io::Error) {
        tracing::debug!(frontend = %self.routes.frontend(frontend as u16).name(), %error, "accepting pauses");
        self.tell_of_want();
    }

    /// Leaves new connections in the kernel's queues, because descriptors or memory ran out while dialling.
    pub(super) fn pause_for_want(&mut self, ops: &mut Operations<'_>) {
        if !std::mem::replace(&mut self.is_in_want, true) {
            self.tell_of_want();
        }
        self.pause(ops);
    }

    fn tell_of_want(&mut self) {
        self.metrics.add_worker(WorkerCounter::AcceptPauses, 1);
        // Once is enough for a log; the counter tells the rest.
        if !std::mem::replace(&mut self.has_told_of_want, true) {
            tracing::warn!("accepting pauses for now: out of descriptors or memory");
        }
    }

    fn bind(&mut self, ops: &mut Operations<'_>, frontend: u32, stale: Option<&SocketFile>) {
        let slot = &mut self.slots[frontend as usize];
        let state = self.routes.frontend(frontend as u16);
        let bound = state.listen(stale, |address| ops.bind(address, &slot.options));
        let listener = match bound {
            Ok(listener) => listener,
            Err(error) => {
                let taken = error.kind() == io::ErrorKind::AddrInUse && stale.is_none();
                let file = state.model().address.path().filter(|_| taken).and_then(SocketFile::at);
                match file {
                    Some(file) => self.look_who_serves(ops, frontend, file),
                    None => self.retry_later(ops, frontend, &error),
                }
                return;
            }
        };
        if let Err(error) = self.accept_from(ops, frontend, listener) {
            self.retry_later(ops, frontend, &error);
        }
    }

    fn accept_from(&mut self, ops: &mut Operations<'_>, frontend: u32, listener: Listener) -> io::Result<()> {
        let address = listener.address().clone();
        let listener = ops.start_accept(listener, Owner::Frontend(frontend).token())?;
        if self.is_paused {
            ops.pause_accept(listener);
        }
        let slot = &mut self.slots[frontend as usize];
        slot.state = State::Listening(listener);
        slot.next_pause = FIRST_PAUSE;
        let state = self.routes.frontend(frontend as u16);
        if state.started() {
            tracing::info!(frontend = %state.name(), %address, "listening at last");
        } else {
            tracing::debug!(frontend = %state.name(), %address, "listening");
        }
        Ok(())
    }

    fn look_who_serves(&mut self, ops: &mut Operations<'_>, frontend: u32, file: SocketFile) {
        let address: &SocketAddress = &self.routes.frontend(frontend as u16).model().address;
        let dial = ops.connect(address, &ConnectOptions::default(), Owner::SocketFile(frontend).token());
        self.slots[frontend as usize].state = State::AwaitingAnswer { dial, file };
    }

    fn retry_later(&mut self, ops: &mut Operations<'_>, frontend: u32, error: &io::Error) {
        self.metrics.add_worker(WorkerCounter::BindRetries, 1);
        let state = self.routes.frontend(frontend as u16);
        if state.failed(error) {
            tracing::warn!(frontend = %state.name(), %error, "cannot listen; will try again until it works");
        }
        let slot = &mut self.slots[frontend as usize];
        let timer = ops.set_timer(ops.now() + slot.next_pause, Owner::Frontend(frontend).token());
        slot.next_pause = (slot.next_pause * 2).min(LONGEST_PAUSE);
        slot.state = State::AwaitingRetry(timer);
    }
}
