//! The listening sockets of one worker: bound, retried while their address is busy, handed on, stopped.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ringway::{
    ConnectOptions, ConnectionId, ListenOptions, Listener, ListenerId, Operations, SocketAddress,
    SocketOptions, TimerId,
};

use super::token::Owner;
use crate::endpoint::{FrontendState, SocketFile};
use crate::metrics::{WorkerCounter, WorkerMetrics};

/// Pauses between attempts to bind an address: from the first, doubling, to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// All frontends, as one worker serves them, by the places of their routes.
pub(super) struct Frontends {
    metrics: Arc<WorkerMetrics>,
    slots: Vec<Slot>,
    /// Places of those that are in the configuration, by [`identity`].
    places: HashMap<usize, u32>,
    is_paused: bool,
    is_in_want: bool,
    has_told_of_want: bool,
    /// Nothing is bound until another process has decided: see [`Self::wake`].
    is_dormant: bool,
}

/// A listening socket of a frontend, on its way to another process.
#[derive(Debug)]
pub struct LentListener {
    /// The frontend.
    pub frontend: Arc<FrontendState>,
    /// A second handle to its socket: the queue is the same.
    pub listener: Listener,
}

struct Slot {
    frontend: Arc<FrontendState>,
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
    /// One socket; more if they come from a process that had more workers.
    Listening(Vec<ListenerId>),
    /// Out of the engine, or on the way out of it, until it is decided which process serves.
    Released {
        /// Those that have not left the engine yet.
        leaving: usize,
        listeners: Vec<Listener>,
    },
    /// Told to stop; what waits in the queues is being accepted. So many sockets are still open.
    Stopping(usize),
    Closed,
}

/// What tells a frontend from all others, as long as it is held.
fn identity(frontend: &Arc<FrontendState>) -> usize {
    Arc::as_ptr(frontend) as usize
}

/// An error of an attempt to bind, with what helps.
fn explained(address: &SocketAddress, error: io::Error) -> io::Error {
    /// Below this only some may bind (net.ipv4.ip_unprivileged_port_start, by default).
    const UNPRIVILEGED: u16 = 1_024;
    match address.inet() {
        Some(inet) if error.kind() == io::ErrorKind::PermissionDenied && inet.port() < UNPRIVILEGED => {
            io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{error}: a port below {UNPRIVILEGED} needs CAP_NET_BIND_SERVICE (of systemd: \
                     AmbientCapabilities=), or a socket that is passed"
                ),
            )
        }
        _ => error,
    }
}

impl Frontends {
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            metrics,
            slots: Vec::new(),
            places: HashMap::new(),
            is_paused: false,
            is_in_want: false,
            has_told_of_want: false,
            is_dormant: false,
        }
    }

    /// Binds nothing until it is [woken](Self::wake).
    pub(super) fn sleep(&mut self) {
        self.is_dormant = true;
    }

    /// Whether all are closed.
    pub(super) fn are_closed(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot.state, State::Closed))
    }

    /// The place of a frontend of the configuration.
    pub(super) fn place_of(&self, frontend: &Arc<FrontendState>) -> Option<u32> {
        self.places.get(&identity(frontend)).copied()
    }

    /// A frontend is new at `place`: it takes the socket over of the one that it is the heir of, or binds its own.
    pub(super) fn open(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        frontend: &Arc<FrontendState>,
        socket: SocketOptions,
        heir_of: Option<u32>,
    ) {
        let options = frontend.listen_options(socket);
        self.places.insert(identity(frontend), place);
        // Routes that connections of other workers brought along have no listener here.
        while self.slots.len() <= place as usize {
            self.slots.push(Slot {
                frontend: Arc::clone(frontend),
                options: options.clone(),
                next_pause: FIRST_PAUSE,
                state: State::Closed,
            });
        }
        self.slots[place as usize] =
            Slot { frontend: Arc::clone(frontend), options, next_pause: FIRST_PAUSE, state: State::New };
        let inherited = heir_of.map(|old| self.leave(ops, old));
        match inherited {
            Some(State::Listening(listeners)) => self.take_over(ops, place, listeners),
            _ if self.is_dormant => {}
            _ => self.bind(ops, place, None),
        }
    }

    /// The frontend at `place` goes, without its socket.
    fn leave(&mut self, ops: &mut Operations<'_>, place: u32) -> State {
        let slot = &mut self.slots[place as usize];
        self.places.remove(&identity(&slot.frontend));
        let state = std::mem::replace(&mut slot.state, State::Closed);
        match state {
            State::AwaitingRetry(timer) => ops.cancel_timer(timer),
            State::AwaitingAnswer { dial, .. } => ops.close(dial),
            State::New
            | State::Listening(_)
            | State::Released { .. }
            | State::Stopping(_)
            | State::Closed => {}
        }
        state
    }

    fn take_over(&mut self, ops: &mut Operations<'_>, place: u32, listeners: Vec<ListenerId>) {
        for listener in &listeners {
            self.reassign(ops, place, *listener);
        }
        let slot = &mut self.slots[place as usize];
        slot.state = State::Listening(listeners);
        tracing::debug!(frontend = %slot.frontend.name(), "listening with the socket of another frontend");
    }

    fn reassign(&self, ops: &mut Operations<'_>, place: u32, listener: ListenerId) {
        let slot = &self.slots[place as usize];
        let token = Owner::Frontend(place).token();
        if let Err(error) = ops.reassign_accept(listener, token, &slot.options) {
            // Served all the same, with the options of before.
            tracing::warn!(frontend = %slot.frontend.name(), %error, "cannot change the options of its socket");
        }
    }

    /// The sockets of a frontend that stays get other options.
    pub(super) fn change_options(&mut self, ops: &mut Operations<'_>, place: u32, socket: SocketOptions) {
        let slot = &mut self.slots[place as usize];
        if slot.options.socket == socket {
            return;
        }
        slot.options.socket = socket;
        if let State::Listening(listeners) = &self.slots[place as usize].state {
            for listener in listeners {
                self.reassign(ops, place, *listener);
            }
        }
    }

    /// A frontend goes from the configuration. Says whether it is closed already: if not, what waits in its queue is
    /// accepted first, and [`Self::handle_closed`] ends it.
    pub(super) fn close(&mut self, ops: &mut Operations<'_>, place: u32) -> bool {
        let state = self.leave(ops, place);
        let slot = &mut self.slots[place as usize];
        if let State::Listening(listeners) = state {
            listeners.iter().for_each(|listener| ops.stop_accept(*listener));
            slot.state = State::Stopping(listeners.len());
        }
        slot.frontend.retire();
        matches!(slot.state, State::Closed)
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

    /// Accepts anew, which finds whoever waits. A process that died while it accepted from the same socket may have been
    /// told of a client in the place of this one.
    pub(super) fn look_again(&mut self, ops: &mut Operations<'_>) {
        if !self.is_paused {
            self.each_listener(|listener| {
                ops.pause_accept(listener);
                ops.resume_accept(listener);
            });
        }
    }

    fn each_listener(&self, mut act: impl FnMut(ListenerId)) {
        for slot in &self.slots {
            if let State::Listening(listeners) = &slot.state {
                listeners.iter().copied().for_each(&mut act);
            }
        }
    }

    /// Stops all; what waits in their queues is accepted first. Gives those that are closed at once.
    pub(super) fn stop(&mut self, ops: &mut Operations<'_>) -> Vec<u32> {
        let is_open = |slot: &Slot| !matches!(slot.state, State::Stopping(_) | State::Closed);
        let open = (0..self.slots.len()).filter(|place| is_open(&self.slots[*place]));
        let places: Vec<u32> = open.map(|place| place as u32).collect();
        places.into_iter().filter(|place| self.close(ops, *place)).collect()
    }

    /// A listener that was stopped is closed. Says whether its frontend is done with.
    pub(super) fn handle_closed(&mut self, place: u32) -> bool {
        let Some(slot) = self.slots.get_mut(place as usize) else { return false };
        let State::Stopping(left) = &mut slot.state else { return false };
        *left -= 1;
        let is_last = *left == 0;
        if is_last {
            slot.state = State::Closed;
            slot.frontend.stopped();
        }
        is_last
    }

    /// Second handles to all sockets that are listened at.
    ///
    /// # Errors
    /// EMFILE when out of descriptors.
    pub(super) fn lend(&self, ops: &Operations<'_>) -> io::Result<Vec<LentListener>> {
        let mut lent = Vec::new();
        for slot in &self.slots {
            let State::Listening(listeners) = &slot.state else { continue };
            for listener in listeners {
                let (frontend, listener) = (Arc::clone(&slot.frontend), ops.duplicate_listener(*listener)?);
                lent.push(LentListener { frontend, listener });
            }
        }
        Ok(lent)
    }

    /// Takes all sockets out of the engine, with what waits in their queues. [`Self::are_released`] says when that is
    /// done; [`Self::resume_released`] undoes it.
    pub(super) fn release(&mut self, ops: &mut Operations<'_>) {
        for slot in &mut self.slots {
            if let State::Listening(listeners) = &slot.state {
                listeners.iter().for_each(|listener| ops.release_accept(*listener));
                let (leaving, listeners) = (listeners.len(), Vec::new());
                slot.state = State::Released { leaving, listeners };
            }
        }
    }

    /// Whether none is still on the way out of the engine.
    pub(super) fn are_released(&self) -> bool {
        self.slots.iter().all(|slot| !matches!(slot.state, State::Released { leaving: 1.., .. }))
    }

    /// A socket left the engine as told.
    pub(super) fn handle_released(&mut self, place: u32, listener: Listener) {
        if let Some(slot) = self.slots.get_mut(place as usize)
            && let State::Released { leaving, listeners } = &mut slot.state
        {
            *leaving -= 1;
            listeners.push(listener);
        }
    }

    /// Listens again at the sockets that were taken out of the engine.
    pub(super) fn resume_released(&mut self, ops: &mut Operations<'_>) {
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            if matches!(slot.state, State::Released { .. })
                && let State::Released { listeners, .. } = std::mem::replace(&mut slot.state, State::New)
            {
                slot.frontend.stopped();
                self.accept_from_all(ops, place as u32, listeners);
            }
        }
    }

    /// Another process listens at the sockets that were taken out of the engine: lets them go, without a word to those who
    /// wait in their queues. Gives the places that are done with; others were bound meanwhile, and are stopped in order.
    pub(super) fn leave_to_others(&mut self, ops: &mut Operations<'_>) -> Vec<u32> {
        let mut closed = Vec::new();
        for place in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[place as usize];
            if matches!(slot.state, State::Released { .. }) {
                self.places.remove(&identity(&slot.frontend));
                slot.state = State::Closed;
                slot.frontend.stopped();
                closed.push(place);
            }
            self.slots[place as usize].frontend.disown();
        }
        closed.extend(self.stop(ops));
        closed
    }

    /// It is decided that this process serves: listens at what the one before listened at, and binds the rest.
    pub(super) fn wake(&mut self, ops: &mut Operations<'_>, inherited: Vec<LentListener>) {
        self.is_dormant = false;
        let mut listeners: HashMap<u32, Vec<Listener>> = HashMap::new();
        for lent in inherited {
            if let Some(place) = self.place_of(&lent.frontend) {
                listeners.entry(place).or_default().push(lent.listener);
            }
        }
        for place in 0..self.slots.len() as u32 {
            if !matches!(self.slots[place as usize].state, State::New) {
                continue;
            }
            match listeners.remove(&place) {
                Some(listeners) => self.accept_from_all(ops, place, listeners),
                None => self.bind(ops, place, None),
            }
        }
    }

    fn accept_from_all(&mut self, ops: &mut Operations<'_>, place: u32, listeners: Vec<Listener>) {
        let mut failed = None;
        for listener in listeners {
            if let Err(error) = self.accept_from(ops, place, listener) {
                failed = Some(error);
            }
        }
        if let Some(error) = failed
            && !matches!(self.slots[place as usize].state, State::Listening(_))
        {
            self.retry_later(ops, place, &error);
        }
    }

    /// A listener rests for want of descriptors or memory; the engine resumes it.
    pub(super) fn handle_paused_by_engine(&mut self, frontend: u32, error: &io::Error) {
        tracing::debug!(frontend = %self.slots[frontend as usize].frontend.name(), %error, "accepting pauses");
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
        let slot = &self.slots[frontend as usize];
        let state = &slot.frontend;
        let bound = state.listen(stale, |address| ops.bind(address, &slot.options));
        let listener = match bound {
            Ok(listener) => listener,
            Err(error) => {
                let error = explained(&state.model().address, error);
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
        let is_passed = listener.is_held_elsewhere();
        let listener = ops.start_accept(listener, Owner::Frontend(frontend).token())?;
        if is_passed {
            // It was made with the options of whoever made it.
            self.reassign(ops, frontend, listener);
        }
        if self.is_paused {
            ops.pause_accept(listener);
        }
        let slot = &mut self.slots[frontend as usize];
        slot.next_pause = FIRST_PAUSE;
        if let State::Listening(listeners) = &mut slot.state {
            listeners.push(listener);
            return Ok(());
        }
        slot.state = State::Listening(vec![listener]);
        let state = &slot.frontend;
        if state.started() {
            tracing::info!(frontend = %state.name(), %address, "listening at last");
        } else {
            tracing::debug!(frontend = %state.name(), %address, "listening");
        }
        Ok(())
    }

    fn look_who_serves(&mut self, ops: &mut Operations<'_>, frontend: u32, file: SocketFile) {
        let address: &SocketAddress = &self.slots[frontend as usize].frontend.model().address;
        let dial = ops.connect(address, &ConnectOptions::default(), Owner::SocketFile(frontend).token());
        self.slots[frontend as usize].state = State::AwaitingAnswer { dial, file };
    }

    fn retry_later(&mut self, ops: &mut Operations<'_>, frontend: u32, error: &io::Error) {
        self.metrics.add_worker(WorkerCounter::BindRetries, 1);
        let slot = &mut self.slots[frontend as usize];
        let state = &slot.frontend;
        if state.failed(error) {
            tracing::warn!(frontend = %state.name(), %error, "cannot listen; will try again until it works");
        }
        let timer = ops.set_timer(ops.now() + slot.next_pause, Owner::Frontend(frontend).token());
        slot.next_pause = (slot.next_pause * 2).min(LONGEST_PAUSE);
        slot.state = State::AwaitingRetry(timer);
    }
}
