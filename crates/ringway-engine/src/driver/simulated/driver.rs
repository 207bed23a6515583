//! One engine in the simulated network: its turn, and what it does for single connections.

use std::io;
use std::sync::{Arc, PoisonError};

use super::connection::{Connection, Connections, Ending, Phase, Socket};
use super::operations::{DatagramPlace, Listening};
use super::relay::Relay;
use super::stream::{Dial, LetGo, Read};
use super::world::{MachineId, SocketKey};
use super::{Dropped, ExportedSocket, Handle, Notice, SimulatedNetwork};
use crate::driver::{
    DatagramBatch, EngineConfig, Event, ExportedConnection, ExportedHandle, Operations, Sink,
};
use crate::mailbox::Waker;
use crate::{ConnectionId, DatagramSocketId, ListenerId, Time, TimerId, Token};

/// The most that one read takes, as the real drivers' first buffers.
pub(super) const CHUNK: usize = 64 << 10;

/// An engine of a simulated network.
#[derive(Debug)]
pub(crate) struct SimulatedDriver {
    pub(super) network: SimulatedNetwork,
    pub(super) machine: MachineId,
    pub(super) waker: Waker,
    pub(super) connections: Connections,
    pub(super) relays: Vec<Option<Relay>>,
    pub(super) listeners: Vec<Option<Listening>>,
    pub(super) datagrams: Vec<Option<DatagramPlace>>,
    /// By place: when it is due in the network's plan, and whose it is.
    pub(super) timers: Vec<Option<((Time, u64), Token)>>,
    /// Connections to look at in the next turn.
    pub(super) touched: Vec<ConnectionId>,
    /// Listeners that were told to stop.
    pub(super) stopping: Vec<u32>,
    /// Listeners that were told to leave the engine.
    pub(super) releasing: Vec<u32>,
    pub(super) pending_bytes_max: usize,
}

impl SimulatedDriver {
    pub(crate) fn new(network: &SimulatedNetwork, config: &EngineConfig) -> Self {
        let waker = Waker::new(None);
        let machine = network.world().add_machine(waker.clone());
        Self {
            network: network.clone(),
            machine,
            waker,
            connections: Connections::default(),
            relays: Vec::new(),
            listeners: Vec::new(),
            datagrams: Vec::new(),
            timers: Vec::new(),
            touched: Vec::new(),
            stopping: Vec::new(),
            releasing: Vec::new(),
            pending_bytes_max: config.pending_bytes_max,
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(crate) fn operations(&mut self) -> Operations<'_> {
        Operations::new(self)
    }

    /// Delivers what is due at the network's present moment, each thing once; what that sets off is left to the
    /// next turn.
    pub(crate) fn turn<S: Sink>(&mut self, sink: &mut S) -> io::Result<()> {
        let mut touched = std::mem::take(&mut self.touched);
        let stopping = std::mem::take(&mut self.stopping);
        let releasing = std::mem::take(&mut self.releasing);
        let (listeners, datagrams, timers) = {
            let mut world = self.network.world();
            world.bury();
            let machine = &mut world.machines[self.machine];
            machine.busy = false;
            let sockets = std::mem::take(&mut machine.sockets);
            let listeners = std::mem::take(&mut machine.listeners);
            let datagrams = std::mem::take(&mut machine.datagrams);
            let due = machine.timers.len();
            let places = sockets.iter().filter_map(|key| world.sockets.get(key)?.place_at(self.machine));
            touched.extend(places.filter_map(|place| self.connections.id_at(place)));
            touched.sort();
            touched.dedup();
            world.random.shuffle(&mut touched);
            (listeners, datagrams, due)
        };
        if self.waker.take() {
            self.deliver(sink, Event::Woken);
        }
        for key in listeners {
            self.accept(key, sink);
        }
        for place in stopping {
            self.close_listener(place, sink);
        }
        for place in releasing {
            if let Some(listening) = self.listeners[place as usize].take() {
                let (listener, token) = (ListenerId(place), listening.token);
                self.deliver(sink, Event::ListenerReleased { listener, token, released: listening.listener });
            }
        }
        for id in touched {
            self.look_at(id, sink);
        }
        for key in datagrams {
            self.receive_datagrams(key, sink);
        }
        for _ in 0..timers {
            // One that fired before may have cancelled it.
            let Some(place) = self.network.world().machines[self.machine].timers.pop_front() else { break };
            if let Some((_, token)) = self.timers[place as usize].take() {
                self.deliver(sink, Event::TimerFired { timer: TimerId(place), token });
            }
        }
        Ok(())
    }

    pub(super) fn deliver<S: Sink>(&mut self, sink: &mut S, event: Event<'_>) {
        sink.on_event(&mut Operations::new(self), event);
    }

    /// Looks at a connection in the next turn.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        self.touched.push(id);
        self.network.world().machines[self.machine].busy = true;
    }

    // --- listeners and datagrams --------------------------------------------------------------------------

    fn accept<S: Sink>(&mut self, key: SocketKey, sink: &mut S) {
        let Some(place) = self.listeners.iter().position(|listening| {
            listening.as_ref().is_some_and(|listening| listening.key == key && !listening.paused)
        }) else {
            return;
        };
        let listener = ListenerId(place as u32);
        loop {
            let Some(listening) = self.listeners[place].as_mut() else { return };
            if listening.paused {
                return;
            }
            let token = listening.token;
            let next = self.connections.next_place();
            let accepted = self.network.world().accept(key, self.machine, next);
            let resting = std::mem::replace(&mut listening.resting, accepted.is_err());
            match accepted {
                Err(error) if !resting => {
                    let error = io::Error::from_raw_os_error(error);
                    return self.deliver(sink, Event::AcceptPaused { listener, token, error });
                }
                Err(_) => return,
                Ok(_) if resting => {
                    // The connection, if there is one, must be told of first thing after this.
                    self.deliver(sink, Event::AcceptResumed { listener, token });
                    if let Ok(Some((socket, peer))) = accepted {
                        self.deliver_accepted(listener, token, socket, peer, sink);
                    }
                }
                Ok(Some((socket, peer))) => self.deliver_accepted(listener, token, socket, peer, sink),
                Ok(None) => break,
            }
        }
        if self.listeners[place].as_ref().is_some_and(|listening| listening.stopping) {
            self.close_listener(place as u32, sink);
        }
    }

    fn deliver_accepted<S: Sink>(
        &mut self,
        listener: ListenerId,
        token: Token,
        socket: SocketKey,
        peer: crate::SocketAddress,
        sink: &mut S,
    ) {
        let connection = self.connections.insert(Connection::new(Socket::Open(socket), Phase::Open, token));
        self.network.world().own(socket, self.machine, connection.index);
        self.deliver(sink, Event::Accepted { listener, token, connection, peer });
    }

    /// Closes a listener that was told to stop, once nothing waits in it.
    fn close_listener<S: Sink>(&mut self, place: u32, sink: &mut S) {
        let Some(listening) = &self.listeners[place as usize] else { return };
        let is_empty = {
            let world = self.network.world();
            world.is_shared(listening.key) || world.is_queue_empty(listening.key)
        };
        if is_empty {
            let token = listening.token;
            self.listeners[place as usize] = None;
            self.deliver(sink, Event::ListenerClosed { listener: ListenerId(place), token });
        }
    }

    fn receive_datagrams<S: Sink>(&mut self, key: SocketKey, sink: &mut S) {
        let Some(place) =
            self.datagrams.iter().position(|socket| socket.as_ref().is_some_and(|socket| socket.key == key))
        else {
            return;
        };
        let Some(token) = self.datagrams[place].as_ref().map(|socket| socket.token) else { return };
        let mut batch = DatagramBatch::new();
        self.network.world().receive_datagrams(key, &mut batch);
        if !batch.is_empty() {
            let socket = DatagramSocketId(place as u32);
            self.deliver(sink, Event::Datagrams { socket, token, batch: &mut batch });
        }
    }

    // --- connections --------------------------------------------------------------------------------------

    /// Does the next thing for a connection, and delivers at most one event.
    fn look_at<S: Sink>(&mut self, id: ConnectionId, sink: &mut S) {
        let Some(connection) = self.connections.get(id) else { return };
        let token = connection.token;
        match connection.phase {
            Phase::Relayed(relay) => return self.look_at_relay(relay, sink),
            Phase::Dialling => return self.look_at_dial(id, sink),
            Phase::Open => {}
        }
        if connection.ending == Some(Ending::Reset) {
            self.remove(id, true);
            return self.deliver(sink, Event::Closed { connection: id, token });
        }
        if connection.stands && connection.ending.is_none() {
            return;
        }
        self.flush(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let key = connection.key();
        match connection.ending {
            Some(Ending::Close) => {
                let event = match connection.broken {
                    Some(error) => {
                        Event::Failed { connection: id, token, error: io::Error::from_raw_os_error(error) }
                    }
                    None if !connection.queue.is_empty() => return,
                    None => Event::Closed { connection: id, token },
                };
                self.remove(id, false);
                return self.deliver(sink, event);
            }
            Some(Ending::Export) => {
                if connection.broken.is_none() {
                    return self.deliver_export(id, sink);
                }
            }
            Some(Ending::Reset) | None => {}
        }
        if connection.queue.is_empty()
            && connection.broken.is_none()
            && std::mem::take(&mut connection.owes_writable)
        {
            self.touch(id);
            return self.deliver(sink, Event::Writable { connection: id, token });
        }
        if connection.receiving {
            return self.receive(id, sink);
        }
        if let Some(error) = connection.broken {
            let error = io::Error::from_raw_os_error(error);
            self.remove(id, false);
            return self.deliver(sink, Event::Failed { connection: id, token, error });
        }
        if connection.peek.is_some() {
            return self.show_peeked(id, sink);
        }
        if connection.watched {
            let state = self.network.world().peer_state(key);
            // An end that was delivered is no news.
            if state.reset || state.ended && !connection.told_ended {
                connection.watched = false;
                let unread = state.unread || !connection.received.is_empty();
                let reset = state.reset;
                self.deliver(sink, Event::PeerLeft { connection: id, token, reset, unread });
            }
        }
    }

    fn look_at_dial<S: Sink>(&mut self, id: ConnectionId, sink: &mut S) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let token = connection.token;
        if connection.ending.is_some() {
            self.remove(id, true);
            return self.deliver(sink, Event::Closed { connection: id, token });
        }
        match connection.dial(|key| self.network.world().dial_state(key)) {
            Dial::Pending => {}
            Dial::Failed(error) => {
                self.remove(id, false);
                let error = io::Error::from_raw_os_error(error);
                self.deliver(sink, Event::ConnectFailed { connection: id, token, error });
            }
            Dial::Established => {
                connection.phase = Phase::Open;
                self.touch(id);
                self.deliver(sink, Event::Connected { connection: id, token });
            }
        }
    }

    /// Hands queued bytes, and the end of them, to the network. A break is noted in the connection.
    pub(super) fn flush(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let key = connection.key();
        let mut world = self.network.world();
        if !connection.queue.is_empty() && connection.broken.is_none() {
            match world.send(key, &connection.queue) {
                Ok(taken) => drop(connection.queue.drain(..taken)),
                Err(error) => {
                    connection.broken = Some(error);
                    connection.queue.clear();
                }
            }
        }
        if connection.queue.is_empty() && connection.shut && !connection.shut_done {
            connection.shut_done = true;
            world.shut(key);
        }
    }

    fn receive<S: Sink>(&mut self, id: ConnectionId, sink: &mut S) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (token, key) = (connection.token, connection.key());
        if connection.told_ended {
            // Nothing can come but a reset.
            let broken =
                connection.broken.or(self.network.world().room(key).err().filter(|e| *e != libc::EPIPE));
            if let Some(error) = broken {
                self.fail(id, error, sink);
            }
            return;
        }
        let read = if !connection.received.is_empty() {
            Read::Bytes(std::mem::take(&mut connection.received))
        } else if connection.ended {
            Read::Ended
        } else {
            self.network.world().receive(key, CHUNK)
        };
        match read {
            Read::Bytes(mut bytes) => {
                self.touch(id);
                self.deliver(sink, Event::Received { connection: id, token, bytes: &mut bytes });
            }
            Read::Ended => {
                connection.ended = true;
                connection.told_ended = true;
                self.touch(id);
                self.deliver(sink, Event::Ended { connection: id, token });
            }
            Read::Failed(error) => self.fail(id, error, sink),
            Read::NothingYet => {
                if let Some(error) = connection.broken {
                    self.fail(id, error, sink);
                }
            }
        }
    }

    /// Shows what waits, now and then not all of it, if it is more than was shown before.
    fn show_peeked<S: Sink>(&mut self, id: ConnectionId, sink: &mut S) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some((bytes_max, told)) = connection.peek else { return };
        let (token, key) = (connection.token, connection.key());
        let mut world = self.network.world();
        let state = world.peer_state(key);
        if state.reset {
            drop(world);
            return self.fail(id, libc::ECONNRESET, sink);
        }
        if told == usize::MAX {
            return;
        }
        let mut bytes = connection.received.clone();
        bytes.truncate(bytes_max);
        bytes.extend(world.peek(key, bytes_max - bytes.len()));
        let mut ended = (connection.ended || state.ended) && bytes.len() < bytes_max;
        let short = world.faults.short_read;
        if bytes.len() > told + 1 && world.random.chance(short) {
            bytes.truncate(world.random.between(told as u64 + 1, bytes.len() as u64 - 1) as usize);
            ended = false;
        }
        drop(world);
        if bytes.len() <= told && !ended {
            return;
        }
        connection.peek = Some((bytes_max, if ended { usize::MAX } else { bytes.len() }));
        self.touch(id);
        self.deliver(sink, Event::Peeked { connection: id, token, bytes: &bytes, ended });
    }

    /// Forgets a connection and ends it for its peer: also if another engine holds its socket, where that is known.
    fn remove(&mut self, id: ConnectionId, reset: bool) -> Option<Connection> {
        let connection = self.connections.remove(id)?;
        let how = LetGo::of(reset, connection.shared);
        self.network.world().let_go(connection.key(), Some(self.machine), how);
        Some(connection)
    }

    fn fail<S: Sink>(&mut self, id: ConnectionId, error: i32, sink: &mut S) {
        if let Some(connection) = self.remove(id, false) {
            let error = io::Error::from_raw_os_error(error);
            self.deliver(sink, Event::Failed { connection: id, token: connection.token, error });
        }
    }

    fn deliver_export<S: Sink>(&mut self, id: ConnectionId, sink: &mut S) {
        self.take_some(id);
        let Some(connection) = self.connections.remove(id) else { return };
        let key = connection.key();
        let handle = {
            let mut world = self.network.world();
            world.disown(key, self.machine);
            world.handle(Dropped::Socket(key))
        };
        let exported = ExportedConnection {
            handle: ExportedHandle::Simulated(ExportedSocket { inner: Some(handle) }),
            received: connection.received,
            queued: connection.queue,
            ended: connection.ended,
            shut: connection.shut,
            shared: connection.shared,
        };
        self.deliver(sink, Event::Exported { connection: id, token: connection.token, exported });
    }

    /// Now and then takes bytes from the network that nobody asked for, as a completion driver would have.
    pub(super) fn take_some(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut world = self.network.world();
        if connection.ended || !world.random.chance(0.5) {
            return;
        }
        let most = world.random.between(1, CHUNK as u64) as usize;
        match world.receive(connection.key(), most) {
            Read::Bytes(bytes) => connection.received.extend_from_slice(&bytes),
            Read::Ended => connection.ended = true,
            Read::Failed(_) | Read::NothingYet => {}
        }
    }
}

impl Drop for SimulatedDriver {
    fn drop(&mut self) {
        self.network.world().remove_machine(self.machine);
    }
}

impl ExportedSocket {
    /// A second handle to the same socket, as a descriptor that was copied; none of one that has a new owner.
    pub(crate) fn duplicate(&self) -> Option<Self> {
        let handle = self.inner.as_ref()?;
        let Some(Dropped::Socket(key)) = handle.dropped else { return None };
        handle.notices.lock().unwrap_or_else(PoisonError::into_inner).push(Notice::Copied(key));
        let copy = Handle { dropped: handle.dropped, notices: Arc::clone(&handle.notices) };
        Some(Self { inner: Some(copy) })
    }

    /// The socket's key, if it is of this network; it is not closed when `self` is dropped after that.
    pub(super) fn take(&mut self, network: &SimulatedNetwork) -> Option<SocketKey> {
        let mut handle = self.inner.take_if(|handle| network.world().owns(handle))?;
        match handle.dropped.take() {
            Some(Dropped::Socket(key)) => Some(key),
            Some(Dropped::Listener(_)) | None => None,
        }
    }
}

impl super::SimulatedListener {
    /// The listener's key, if it is of this network.
    pub(super) fn key(&self, network: &SimulatedNetwork) -> Option<SocketKey> {
        let handle = Arc::as_ref(&self.inner);
        match handle.dropped {
            Some(Dropped::Listener(key)) if network.world().owns(handle) => Some(key),
            _ => None,
        }
    }
}
