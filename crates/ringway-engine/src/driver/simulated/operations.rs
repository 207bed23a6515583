//! What the sink may ask of a simulated engine. Nothing here delivers an event: it is noted, and the connection
//! is looked at in the next turn.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::connection::{Connection, Ending, Phase, Socket};
use super::driver::SimulatedDriver;
use super::relay::Relay;
use super::stream::{LetGo, Read};
use super::world::{NetworkEvent, SocketKey};
use crate::driver::{
    ConnectOptions, DatagramBatch, DriverOperations, Ends, ExportedConnection, ExportedHandle, ListenOptions,
    RelayOptions, RelayProgress, SendError, Underway,
};
use crate::listener::{Listener, ListenerHandle};
use crate::{ConnectionId, DatagramSocketId, ListenerId, SocketAddress, Time, TimerId, Token};

/// A listener that is accepted from.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) key: SocketKey,
    pub(super) token: Token,
    /// By the user.
    pub(super) paused: bool,
    /// For want of descriptors or memory.
    pub(super) resting: bool,
    pub(super) stopping: bool,
    pub(super) releasing: bool,
    /// Dropped with the record; that closes the socket.
    pub(super) listener: Listener,
}

/// A datagram socket.
#[derive(Debug)]
pub(super) struct DatagramPlace {
    pub(super) key: SocketKey,
    pub(super) token: Token,
}

impl DriverOperations for SimulatedDriver {
    fn now(&self) -> Time {
        self.network.now()
    }

    fn kind_name(&self) -> &'static str {
        "simulated"
    }

    fn set_token(&mut self, connection: ConnectionId, token: Token) {
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.token = token;
        }
    }

    fn local_address(&self, connection: ConnectionId) -> Option<SocketAddress> {
        self.network.world().local_address(self.connections.get(connection)?.key())
    }

    fn bind(&mut self, address: &SocketAddress, options: &ListenOptions) -> io::Result<Listener> {
        let listening = self.network.world().listen(address, options);
        let (listener, address) = listening.map_err(io::Error::from_raw_os_error)?;
        Ok(Listener::new(ListenerHandle::Simulated(listener), address))
    }

    fn start_accept(&mut self, listener: Listener, token: Token) -> io::Result<ListenerId> {
        let key = match &listener.handle {
            ListenerHandle::Simulated(simulated) => simulated.key(&self.network),
            ListenerHandle::Descriptor(_) => None,
        };
        let Some(key) = key else { return Err(other_world()) };
        self.network.world().start_accept(key, self.machine);
        let listening = Listening {
            key,
            token,
            paused: false,
            resting: false,
            stopping: false,
            releasing: false,
            listener,
        };
        Ok(ListenerId(insert(&mut self.listeners, listening)))
    }

    fn pause_accept(&mut self, listener: ListenerId) {
        if let Some(Some(listening)) = self.listeners.get_mut(listener.0 as usize) {
            listening.paused = true;
        }
    }

    fn resume_accept(&mut self, listener: ListenerId) {
        if let Some(Some(listening)) = self.listeners.get_mut(listener.0 as usize) {
            listening.paused = false;
            self.network.world().machines[self.machine].listeners.insert(listening.key);
        }
    }

    fn stop_accept(&mut self, listener: ListenerId) {
        if let Some(Some(listening)) = self.listeners.get_mut(listener.0 as usize)
            && !listening.releasing
        {
            listening.stopping = true;
            listening.paused = false;
            let mut world = self.network.world();
            world.stop_accept(listening.key, self.machine);
            let machine = &mut world.machines[self.machine];
            machine.listeners.insert(listening.key);
            machine.busy = true;
        }
    }

    fn release_accept(&mut self, listener: ListenerId) {
        if let Some(Some(listening)) = self.listeners.get_mut(listener.0 as usize)
            && !listening.stopping
            && !listening.releasing
        {
            listening.releasing = true;
            // As a completion driver, which may accept some more before it hears of it.
            let mut world = self.network.world();
            world.release(listening.key, self.machine);
            world.machines[self.machine].busy = true;
            drop(world);
            self.releasing.push(listener.0);
        }
    }

    fn duplicate_listener(&self, listener: ListenerId) -> io::Result<Listener> {
        match self.listeners.get(listener.0 as usize) {
            Some(Some(listening)) => listening.listener.try_clone(),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn reassign_accept(
        &mut self,
        listener: ListenerId,
        token: Token,
        options: &ListenOptions,
    ) -> io::Result<()> {
        if let Some(Some(listening)) = self.listeners.get_mut(listener.0 as usize) {
            listening.token = token;
            self.network.world().change_listener(listening.key, options);
        }
        Ok(())
    }

    fn connect(&mut self, target: &SocketAddress, options: &ConnectOptions, token: Token) -> ConnectionId {
        let place = self.connections.next_place();
        let socket = {
            let mut world = self.network.world();
            let local = match target {
                SocketAddress::Unix(_) => SocketAddress::Unix(None),
                SocketAddress::Inet(target) => {
                    let source = options.source.unwrap_or(match target.ip() {
                        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                    });
                    SocketAddr::new(source, world.new_port()).into()
                }
            };
            match world.dial(self.machine, place, target, local) {
                Ok(key) => Socket::Open(key),
                Err(error) => Socket::Failed(error),
            }
        };
        let id = self.connections.insert(Connection::new(socket, Phase::Dialling, token));
        if matches!(socket, Socket::Failed(_)) {
            self.touch(id);
        }
        id
    }

    fn watch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.watched = connection.peek.is_none();
            connection.stands = false;
            self.touch(id);
        }
    }

    fn unwatch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.watched = false;
        }
    }

    fn start_receive(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.watched = false;
            connection.stands = false;
            connection.peek = None;
            connection.receiving = connection.ending.is_none();
            self.touch(id);
        }
    }

    fn pause_receive(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.receiving = false;
        }
    }

    fn start_peek(&mut self, id: ConnectionId, bytes_max: usize) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.phase == Phase::Open
            && connection.ending.is_none()
            && !connection.receiving
        {
            connection.watched = false;
            connection.stands = false;
            connection.peek = Some((bytes_max.min(crate::PEEK_BYTES_MAX), 0));
            self.touch(id);
        }
    }

    fn stop_peek(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.peek = None;
        }
    }

    fn consume(&mut self, id: ConnectionId, count: usize) -> usize {
        let Some(connection) = self.connections.get_mut(id) else { return 0 };
        if connection.phase != Phase::Open || connection.receiving {
            return 0;
        }
        let mut taken = count.min(connection.received.len());
        connection.received.drain(..taken);
        while taken < count {
            let Read::Bytes(bytes) = self.network.world().receive(connection.key(), count - taken) else {
                break;
            };
            taken += bytes.len();
        }
        if let Some((_, told)) = &mut connection.peek {
            *told = 0;
            self.touch(id);
        }
        taken
    }

    fn send(&mut self, id: ConnectionId, bytes: &[u8]) -> Result<usize, SendError> {
        let Some(connection) = self.connections.get_mut(id) else { return Err(SendError::Closed) };
        if connection.shut || connection.ending.is_some() {
            return Err(SendError::Closed);
        }
        if connection.broken.is_some() {
            return Ok(0);
        }
        let mut taken = 0;
        if connection.queue.is_empty() && connection.phase == Phase::Open {
            let sent = self.network.world().send(connection.key(), bytes);
            match sent {
                Ok(len) => taken = len,
                Err(error) => {
                    connection.broken = Some(error);
                    self.touch(id);
                    return Ok(0);
                }
            }
        }
        if taken < bytes.len() {
            connection.queue.extend_from_slice(&bytes[taken..]);
            connection.owes_writable = true;
        }
        Ok(connection.queue.len())
    }

    fn queued_bytes(&self, id: ConnectionId) -> usize {
        self.connections.get(id).map_or(0, |connection| connection.queue.len())
    }

    fn shut(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.shut = true;
            self.touch(id);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.end(id, Ending::Close);
    }

    fn reset(&mut self, id: ConnectionId) {
        self.end(id, Ending::Reset);
    }

    fn start_relay(&mut self, a: ConnectionId, b: ConnectionId, options: RelayOptions) {
        let both_open = [a, b].iter().all(|id| {
            self.connections
                .get(*id)
                .is_some_and(|connection| connection.phase == Phase::Open && connection.ending.is_none())
        });
        if !both_open || a == b {
            return;
        }
        let place = self.relays.iter().position(Option::is_none).unwrap_or_else(|| {
            self.relays.push(None);
            self.relays.len() - 1
        });
        let now = self.network.now();
        let since = options.last_activity.map_or(now, |at| at.min(now));
        let mut relay = Relay::new([a, b], options.bytes, since);
        for (index, id) in [a, b].into_iter().enumerate() {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.phase = Phase::Relayed(place);
                connection.watched = false;
                connection.stands = false;
                connection.peek = None;
                connection.receiving = false;
                relay.start_side(index, connection);
            }
        }
        self.relays[place] = Some(relay);
        self.touch(a);
    }

    fn relay_progress(&self, id: ConnectionId) -> RelayProgress {
        self.relay_of(id).map_or(RelayProgress::default(), Relay::progress)
    }

    fn stop_relay(&mut self, id: ConnectionId) -> bool {
        let Some(relay) = self.relay_of_mut(id) else { return false };
        let can_stop = relay.can_stop();
        relay.stopping = can_stop;
        self.touch(id);
        can_stop
    }

    fn cut_relay(&mut self, id: ConnectionId) {
        if let Some(relay) = self.relay_of_mut(id) {
            relay.cutting = true;
            self.touch(id);
        }
    }

    fn ease_relay(&mut self, _: ConnectionId) {
        // A relay is stopped in its next turn in any case.
    }

    fn stand(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.phase == Phase::Open
        {
            connection.receiving = false;
            connection.watched = false;
            connection.peek = None;
            connection.stands = true;
        }
    }

    fn complete(&mut self, id: ConnectionId, underway: Underway) {
        let Underway { received, queued, ends } = underway;
        if let Some(connection) = self.connections.get_mut(id)
            && connection.phase == Phase::Open
        {
            connection.received.extend_from_slice(&received);
            connection.owes_writable |= !queued.is_empty();
            connection.queue.extend_from_slice(&queued);
            connection.ended |= ends.ended;
            connection.shut |= ends.shut;
            self.touch(id);
        }
    }

    fn ends(&self, id: ConnectionId) -> Ends {
        let of = |connection: &Connection| Ends { ended: connection.ended, shut: connection.shut };
        self.connections.get(id).map(of).unwrap_or_default()
    }

    fn abandon(&mut self, id: ConnectionId) {
        if self.connections.get(id).is_some_and(|connection| connection.phase == Phase::Open)
            && let Some(connection) = self.connections.remove(id)
        {
            self.network.world().let_go(connection.key(), Some(self.machine), LetGo::Silently);
        }
    }

    fn export(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.phase == Phase::Open
            && connection.ending.is_none()
        {
            connection.ending = Some(Ending::Export);
            connection.receiving = false;
            connection.watched = false;
            connection.peek = None;
            self.touch(id);
        }
    }

    fn duplicate(&mut self, _: ConnectionId) -> io::Result<OwnedFd> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a simulated socket has no descriptor"))
    }

    fn adopt(&mut self, mut exported: ExportedConnection, token: Token) -> io::Result<ConnectionId> {
        let key = match &mut exported.handle {
            ExportedHandle::Simulated(socket) => socket.take(&self.network),
            ExportedHandle::Descriptor(_) => None,
        };
        let Some(key) = key else { return Err(other_world()) };
        let place = self.connections.next_place();
        self.network.world().own(key, self.machine, place);
        let ExportedConnection { received, queued, ended, shut, shared, .. } = exported;
        let connection = Connection { shared, ..Connection::new(Socket::Open(key), Phase::Open, token) };
        let id = self.connections.insert(connection);
        self.complete(id, Underway { received, queued, ends: Ends { ended, shut } });
        Ok(id)
    }

    fn bind_datagram(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<DatagramSocketId> {
        let key = self.network.world().bind_datagram(self.machine, address, options);
        let key = key.map_err(io::Error::from_raw_os_error)?;
        Ok(DatagramSocketId(insert(&mut self.datagrams, DatagramPlace { key, token })))
    }

    fn datagram_address(&self, socket: DatagramSocketId) -> Option<SocketAddr> {
        let key = self.datagrams.get(socket.0 as usize)?.as_ref()?.key;
        self.network.world().datagrams.get(&key).map(|socket| socket.address)
    }

    fn send_datagrams(&mut self, socket: DatagramSocketId, batch: &DatagramBatch) -> usize {
        let Some(Some(place)) = self.datagrams.get(socket.0 as usize) else { return 0 };
        let mut world = self.network.world();
        for entry in &batch.entries {
            let bytes = &batch.bytes[entry.start..entry.start + entry.len];
            world.send_datagram(place.key, entry.peer, bytes);
        }
        batch.entries.len()
    }

    fn close_datagram(&mut self, socket: DatagramSocketId) {
        if let Some(place) = self.datagrams.get_mut(socket.0 as usize).and_then(Option::take) {
            self.network.world().close_datagram(place.key);
        }
    }

    fn set_timer(&mut self, at: Time, token: Token) -> TimerId {
        let timer = TimerId(insert(&mut self.timers, ((Time::ZERO, 0), token)));
        let mut world = self.network.world();
        let late = world.faults.timer_late.as_nanos() as u64;
        let late = if late == 0 { 0 } else { world.random.below(late) };
        let event = NetworkEvent::Timer { machine: self.machine, timer: timer.0 };
        let place = world.plan(at + std::time::Duration::from_nanos(late), event);
        self.timers[timer.0 as usize] = Some((place, token));
        timer
    }

    fn cancel_timer(&mut self, timer: TimerId) {
        if let Some((place, _)) = self.timers.get_mut(timer.0 as usize).and_then(Option::take) {
            let mut world = self.network.world();
            world.take_back(place);
            world.machines[self.machine].timers.retain(|due| *due != timer.0);
        }
    }

    fn connection_count(&self) -> usize {
        self.connections.len()
    }

    fn pending_bytes(&self) -> usize {
        let relayed = self.relays.iter().flatten().map(Relay::pending_bytes).sum::<usize>();
        relayed + self.connections.iter().map(Connection::pending_bytes).sum::<usize>()
    }
}

impl SimulatedDriver {
    fn end(&mut self, id: ConnectionId, how: Ending) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.phase {
            Phase::Relayed(_) => return self.cut_relay(id),
            Phase::Dialling | Phase::Open => {}
        }
        // A reset overrides a close that still waits for its queue.
        if connection.ending.is_none() || how == Ending::Reset {
            connection.ending = Some(how);
        }
        connection.receiving = false;
        connection.watched = false;
        connection.peek = None;
        self.touch(id);
    }
}

fn insert<T>(places: &mut Vec<Option<T>>, value: T) -> u32 {
    let place = places.iter().position(Option::is_none).unwrap_or_else(|| {
        places.push(None);
        places.len() - 1
    });
    places[place] = Some(value);
    place as u32
}

fn other_world() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a socket of this simulated network")
}
