//! The operations of the contract on the shared core, and what they ask of the poller.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::accept::{ListenerRecord, ListenerState};
use super::{Core, Phase, Poller, flag};
use crate::driver::{
    ConnectOptions, DatagramBatch, DriverOperations, Ends, ExportedConnection, ExportedHandle, ListenOptions,
    RelayOptions, RelayProgress, SendError, Underway,
};
use crate::listener::{Listener, ListenerHandle};
use crate::udp::DatagramSocket;
use crate::{
    ConnectionId, DatagramSocketId, Event, ListenerId, SocketAddress, Time, TimerId, Token, socket, sys,
};

impl DriverOperations for Core {
    fn now(&self) -> Time {
        self.now
    }

    fn kind_name(&self) -> &'static str {
        match self.poller {
            Poller::Epoll(_) => "epoll",
            Poller::Ring(_) => "io_uring",
        }
    }

    fn set_token(&mut self, connection: ConnectionId, token: Token) {
        if let Some(index) = self.place(connection) {
            self.entry_mut(index).token = token;
        }
    }

    fn local_address(&self, connection: ConnectionId) -> Option<SocketAddress> {
        let entry = self.entry(self.place(connection)?);
        sys::local_address(entry.fd()?).ok()
    }

    fn bind(&mut self, address: &SocketAddress, options: &ListenOptions) -> io::Result<Listener> {
        socket::listen(address, options)
    }

    fn start_accept(&mut self, listener: Listener, token: Token) -> io::Result<ListenerId> {
        let ListenerHandle::Descriptor(fd) = listener.handle else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a simulated listener in a real engine"));
        };
        let is_tcp = listener.address.inet().is_some();
        let is_held_elsewhere = listener.is_held_elsewhere;
        let state = ListenerState::Accepting;
        let index = self.listeners.insert(ListenerRecord { fd, token, is_tcp, is_held_elsewhere, state });
        self.arm_listener(index);
        Ok(ListenerId(index))
    }

    fn pause_accept(&mut self, listener: ListenerId) {
        self.pause_listener(listener.0);
    }

    fn resume_accept(&mut self, listener: ListenerId) {
        self.resume_listener(listener.0);
    }

    fn stop_accept(&mut self, listener: ListenerId) {
        self.stop_listener(listener.0);
    }

    fn release_accept(&mut self, listener: ListenerId) {
        self.release_listener(listener.0);
    }

    fn duplicate_listener(&self, listener: ListenerId) -> io::Result<Listener> {
        let record = self.listeners.get(listener.0).ok_or(io::ErrorKind::NotFound)?;
        Ok(Listener {
            address: sys::local_address(record.fd.as_fd())?,
            handle: ListenerHandle::Descriptor(record.fd.try_clone()?),
            is_held_elsewhere: record.is_held_elsewhere,
        })
    }

    fn reassign_accept(
        &mut self,
        listener: ListenerId,
        token: Token,
        options: &ListenOptions,
    ) -> io::Result<()> {
        self.reassign_listener(listener.0, token, options)
    }

    fn connect(&mut self, target: &SocketAddress, options: &ConnectOptions, token: Token) -> ConnectionId {
        match socket::dial(target, options) {
            Ok((fd, established)) => {
                let phase = if established { Phase::Open } else { Phase::Dialling };
                let index = self.insert(Some(fd), phase, token);
                let connection = self.entry(index).id(index);
                if let Some(keep_alive) = options.socket.keep_alive
                    && target.inet().is_some()
                {
                    self.keep_alive_soon(connection, keep_alive);
                }
                if established {
                    self.events.push_back(Event::Connected { connection, token });
                } else {
                    self.arm_write(index);
                }
                connection
            }
            Err(error) => {
                let index = self.insert(None, Phase::Dialling, token);
                let connection = self.entry(index).id(index);
                self.dial_failed(index, error);
                connection
            }
        }
    }

    fn watch(&mut self, connection: ConnectionId) {
        let Some(index) = self.place(connection) else { return };
        let entry = self.entry_mut(index);
        if entry.phase() != Phase::Open || entry.has(flag::RECEIVING) || entry.is_peeking() {
            return;
        }
        entry.set(flag::WATCHED);
        self.end_standing(index);
        // Asked of the kernel only at the end of the turn: most watches end with a relay before that.
        self.push_redo(index);
    }

    fn unwatch(&mut self, connection: ConnectionId) {
        if let Some(index) = self.place(connection) {
            self.entry_mut(index).clear(flag::WATCHED);
        }
    }

    fn start_receive(&mut self, connection: ConnectionId) {
        let Some(index) = self.place(connection) else { return };
        if self.entry(index).phase() == Phase::Open {
            self.end_peek(index);
            self.end_standing(index);
        }
        let held = self.rare(index).is_some_and(|rare| !rare.received.is_empty());
        let entry = self.entry_mut(index);
        if entry.phase() != Phase::Open || entry.has(flag::RECEIVING) {
            return;
        }
        entry.clear(flag::WATCHED);
        let ended = entry.has(flag::READ_ENDED);
        entry.set(flag::RECEIVING);
        if held || ended {
            self.push_redo(index);
        }
        if !ended {
            self.arm_read(index);
        }
    }

    fn pause_receive(&mut self, connection: ConnectionId) {
        if let Some(index) = self.place(connection) {
            self.entry_mut(index).clear(flag::RECEIVING);
            self.disarm_read(index);
        }
    }

    fn start_peek(&mut self, connection: ConnectionId, bytes_max: usize) {
        self.begin_peek(connection, bytes_max);
    }

    fn stop_peek(&mut self, connection: ConnectionId) {
        if let Some(index) = self.place(connection) {
            self.end_peek(index);
        }
    }

    fn consume(&mut self, connection: ConnectionId, count: usize) -> usize {
        self.take_peeked(connection, count)
    }

    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> Result<usize, SendError> {
        self.send_bytes(connection, bytes)
    }

    fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.place(connection).map_or(0, |index| self.outbound(index))
    }

    fn shut(&mut self, connection: ConnectionId) {
        if self.corked == connection {
            self.flush_cork();
        }
        let Some(index) = self.place(connection) else { return };
        let entry = self.entry_mut(index);
        if entry.phase() != Phase::Open || entry.has(flag::SHUT) {
            return;
        }
        entry.set(flag::SHUT);
        if !entry.has(flag::BLOCKED) {
            self.finish_shut(index);
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        if self.corked == connection {
            self.flush_cork();
        }
        let Some(index) = self.place(connection) else { return };
        match self.entry(index).phase() {
            Phase::Dialling => self.finish_close(index),
            Phase::Open if self.entry(index).has(flag::BLOCKED) => {
                let entry = self.entry_mut(index);
                entry.set_phase(Phase::Closing);
                self.quiet(index);
            }
            Phase::Open => self.finish_close(index),
            Phase::Relay | Phase::Breaking | Phase::Stopping => self.cut(index),
            Phase::Free | Phase::Closing | Phase::Exporting => {}
        }
    }

    fn reset(&mut self, connection: ConnectionId) {
        let Some(index) = self.place(connection) else { return };
        if matches!(self.entry(index).phase(), Phase::Relay | Phase::Breaking | Phase::Stopping) {
            return self.cut(index);
        }
        if let Some(fd) = self.entry(index).fd() {
            sys::set_abortive(fd);
        }
        self.finish_close(index);
    }

    fn start_relay(&mut self, a: ConnectionId, b: ConnectionId, options: RelayOptions) {
        self.flush_cork();
        let (Some(a), Some(b)) = (self.place(a), self.place(b)) else { return };
        if a != b && self.entry(a).phase() == Phase::Open && self.entry(b).phase() == Phase::Open {
            self.end_peek(a);
            self.end_peek(b);
            self.begin_relay(a, b, options);
        }
    }

    fn relay_progress(&self, connection: ConnectionId) -> RelayProgress {
        self.place(connection).map(|index| self.progress(index)).unwrap_or_default()
    }

    fn stop_relay(&mut self, connection: ConnectionId) -> bool {
        if let Some(index) = self.relay_place(connection)
            && self.is_relaying(index)
            && !self.entry(index).has(flag::BROKEN)
            && !self.entry(self.entry(index).peer).has(flag::BROKEN)
        {
            self.stop_reading_relay(index);
            return true;
        }
        false
    }

    fn cut_relay(&mut self, connection: ConnectionId) {
        if let Some(index) = self.place(connection) {
            self.cut(index);
        }
    }

    fn ease_relay(&mut self, connection: ConnectionId) {
        if let Some(index) = self.place(connection).filter(|index| self.is_relaying(*index)) {
            self.ease_reading(index);
        }
    }

    fn stand(&mut self, connection: ConnectionId) {
        if let Some(index) = self.place(connection)
            && self.entry(index).phase() == Phase::Open
        {
            self.pause_receive(connection);
            self.end_peek(index);
            self.entry_mut(index).clear(flag::WATCHED);
            self.begin_standing(index);
        }
    }

    fn complete(&mut self, connection: ConnectionId, underway: Underway) {
        let Underway { received, queued, ends } = underway;
        let Some(index) = self.place(connection) else { return };
        let entry = self.entry_mut(index);
        if entry.phase() != Phase::Open {
            return;
        }
        if ends.ended {
            entry.set(flag::READ_ENDED);
        }
        if ends.shut {
            entry.set(flag::SHUT);
        }
        if !received.is_empty() {
            self.rare_mut(index).received.extend_from_slice(&received);
        }
        if !queued.is_empty() {
            self.queue(index, &queued);
            self.block_anew(index);
        } else if ends.shut && !self.entry(index).has(flag::BLOCKED) {
            self.finish_shut(index);
        }
    }

    fn ends(&self, connection: ConnectionId) -> Ends {
        let of = |index| {
            let entry = self.entry(index);
            Ends { ended: entry.has(flag::READ_ENDED), shut: entry.has(flag::SHUT) }
        };
        self.place(connection).map(of).unwrap_or_default()
    }

    fn abandon(&mut self, connection: ConnectionId) {
        if let Some(index) = self.place(connection)
            && self.entry(index).phase() == Phase::Open
        {
            let is_registered = self.entry(index).has(flag::REGISTERED);
            if let Some(fd) = self.release(index) {
                if is_registered {
                    self.forget_exported(&fd);
                }
                self.closing.push(fd);
            }
        }
    }

    fn export(&mut self, connection: ConnectionId) {
        if let Some(index) = self.place(connection)
            && self.entry(index).phase() == Phase::Open
        {
            self.entry_mut(index).clear(flag::WATCHED);
            self.end_peek(index);
            self.stop_reading_export(index);
        }
    }

    fn duplicate(&mut self, connection: ConnectionId) -> io::Result<OwnedFd> {
        let place = self.place(connection).filter(|index| {
            !matches!(self.entry(*index).phase(), Phase::Free | Phase::Dialling | Phase::Closing)
        });
        let index = place.ok_or(io::ErrorKind::NotFound)?;
        let copy = self.entry(index).fd().ok_or(io::ErrorKind::NotFound)?.try_clone_to_owned()?;
        // It is whole from now on: who gets the copy would not know that something is left to be set.
        self.keep_alive_now(connection);
        self.entry_mut(index).set_shared(true);
        Ok(copy)
    }

    fn adopt(&mut self, exported: ExportedConnection, token: Token) -> io::Result<ConnectionId> {
        let ExportedConnection { handle, received, queued, ended, shut, shared } = exported;
        let ExportedHandle::Descriptor(fd) = handle else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a simulated connection in a real engine",
            ));
        };
        let index = self.insert(Some(fd), Phase::Open, token);
        let entry = self.entry_mut(index);
        let connection = entry.id(index);
        entry.set_shared(shared);
        self.complete(connection, Underway { received, queued, ends: Ends { ended, shut } });
        Ok(connection)
    }

    fn bind_datagram(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<DatagramSocketId> {
        let fd = socket::bind_datagram(address, options)?;
        let address = sys::local_address(fd.as_fd())?.inet().unwrap_or(address);
        let index = self.datagram_sockets.insert(DatagramSocket { fd, token, address });
        if let Err(error) = self.arm_datagrams(index) {
            self.datagram_sockets.remove(index);
            return Err(error);
        }
        Ok(DatagramSocketId(index))
    }

    fn datagram_address(&self, socket: DatagramSocketId) -> Option<SocketAddr> {
        self.datagram_sockets.get(socket.0).map(|socket| socket.address)
    }

    fn send_datagrams(&mut self, socket: DatagramSocketId, batch: &DatagramBatch) -> usize {
        self.datagram_sockets.get(socket.0).map_or(0, |socket| crate::udp::send(&socket.fd, batch))
    }

    fn close_datagram(&mut self, socket: DatagramSocketId) {
        self.disarm_datagrams(socket.0);
        if let Some(socket) = self.datagram_sockets.remove(socket.0) {
            self.closing.push(socket.fd);
        }
    }

    fn set_timer(&mut self, at: Time, token: Token) -> TimerId {
        self.timers.set(at, token)
    }

    fn cancel_timer(&mut self, timer: TimerId) {
        self.timers.cancel(timer);
    }

    fn connection_count(&self) -> usize {
        self.entries.len()
    }

    fn pending_bytes(&self) -> usize {
        self.queued_total + self.piped_total
    }
}
