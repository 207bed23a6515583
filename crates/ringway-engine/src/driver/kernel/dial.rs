//! How a dial ends, how a watch ends, how a connection leaves the engine.

use std::io;

use super::{Core, Phase, flag};
use crate::driver::{ExportedConnection, ExportedHandle};
use crate::{Event, sys};

impl Core {
    pub(crate) fn dial_failed(&mut self, index: u32, error: io::Error) {
        let entry = self.entry(index);
        let (connection, token) = (entry.id(index), entry.token);
        self.release_and_close(index);
        self.events.push_back(Event::ConnectFailed { connection, token, error });
    }

    /// The poller said that a dial has come to its end.
    pub(crate) fn dial_ended(&mut self, index: u32) {
        let Some(fd) = self.entry(index).fd() else { return };
        if let Some(error) = sys::take_error(fd) {
            return self.dial_failed(index, error);
        }
        if !sys::is_connected(fd) {
            return;
        }
        let entry = self.entry_mut(index);
        entry.set_phase(Phase::Open);
        let (connection, token) = (entry.id(index), entry.token);
        self.events.push_back(Event::Connected { connection, token });
    }

    /// The poller said that a watched connection's other end left.
    pub(crate) fn watched_left(&mut self, index: u32) {
        let entry = self.entry_mut(index);
        entry.clear(flag::WATCHED);
        let (connection, token) = (entry.id(index), entry.token);
        let Some(fd) = entry.fd() else { return };
        let unread = sys::unread_bytes(fd) > 0;
        // Nothing that takes the error: whoever reads next is to see it, behind the bytes.
        let reset = sys::has_error(fd);
        entry.set(flag::READABLE);
        self.events.push_back(Event::PeerLeft { connection, token, reset, unread });
    }

    pub(crate) fn export_now(&mut self, index: u32) {
        if self.corked == self.entry(index).id(index) {
            self.flush_cork();
        }
        self.keep_alive_now(self.entry(index).id(index));
        let queued = self.take_outbound(index);
        let received = match self.entry(index).rare().and_then(|place| self.rares.get_mut(place)) {
            Some(rare) => std::mem::take(&mut rare.received),
            None => Vec::new(),
        };
        let entry = self.entry(index);
        let (connection, token) = (entry.id(index), entry.token);
        let (ended, shut, shared) = (entry.has(flag::READ_ENDED), entry.has(flag::SHUT), entry.is_shared());
        let registered = entry.has(flag::REGISTERED);
        let Some(fd) = self.release(index) else { return };
        if registered {
            self.forget_exported(&fd);
        }
        let handle = ExportedHandle::Descriptor(fd);
        let exported = ExportedConnection { handle, received, queued, ended, shut, shared };
        self.events.push_back(Event::Exported { connection, token, exported });
    }
}
