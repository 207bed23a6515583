//! Listening sockets: accepting, resting when descriptors run out, and stopping without losing who waits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::{Core, Phase};
use crate::driver::ListenOptions;
use crate::listener::{Listener, ListenerHandle};
use crate::{Event, ListenerId, SocketAddress, Time, Token, socket, sys};

/// Connections taken from one listener before others have their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long a listener rests when descriptors or memory ran out.
const REST: Duration = Duration::from_millis(50);
/// How long handshakes that are under way may take to complete after a listener stopped. SYNs are dropped
/// meanwhile; a client that saw its SYN answered has sent its last packet of the handshake at once.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// A listening socket.
pub(crate) struct ListenerRecord {
    pub(crate) fd: OwnedFd,
    pub(crate) token: Token,
    pub(crate) is_tcp: bool,
    /// Somebody else keeps the socket open: what waits in its queue when this one stops is theirs.
    pub(crate) is_held_elsewhere: bool,
    pub(crate) state: ListenerState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerState {
    /// The poller tells of new connections.
    Accepting,
    /// Told to pause.
    Paused,
    /// Out of descriptors or memory; tries again then.
    Resting(Time),
    /// Told to stop; closes when empty after then.
    Stopping(Time),
    /// Told to leave the engine; an accept in the ring has not ended yet.
    Releasing,
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

impl Core {
    /// Takes connections that wait. Returns whether none is left.
    pub(crate) fn accept_ready(&mut self, index: u32) -> bool {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(index) else { return false };
            if !matches!(listener.state, ListenerState::Accepting | ListenerState::Stopping(_)) {
                return false;
            }
            match sys::accept(listener.fd.as_fd()) {
                Ok((fd, peer)) => self.accepted(index, fd, peer),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return true,
                    _ if is_exhaustion(&error) => {
                        self.rest(index, error);
                        return false;
                    }
                    // A connection that ended while it waited, or a signal: the next one is not its fault.
                    _ => {}
                },
            }
        }
        false
    }

    /// Takes in an accepted socket.
    pub(crate) fn accepted(&mut self, listener: u32, fd: OwnedFd, peer: SocketAddress) {
        let Some(token) = self.listeners.get(listener).map(|listener| listener.token) else { return };
        let index = self.insert(Some(fd), Phase::Open, token);
        let connection = self.entry(index).id(index);
        self.events.push_back(Event::Accepted { listener: ListenerId(listener), token, connection, peer });
    }

    /// Lets a listener rest: asking again at once would only spin.
    pub(crate) fn rest(&mut self, index: u32, error: io::Error) {
        let until = self.now + REST;
        let Some(listener) = self.listeners.get_mut(index) else { return };
        if matches!(listener.state, ListenerState::Stopping(_) | ListenerState::Releasing) {
            return;
        }
        listener.state = ListenerState::Resting(until);
        let token = listener.token;
        self.disarm_listener(index);
        self.request_housekeeping();
        self.events.push_back(Event::AcceptPaused { listener: ListenerId(index), token, error });
    }

    /// Looks at listeners that rest or stop. Returns whether some still do.
    pub(crate) fn tend_listeners(&mut self) -> bool {
        let mut waits = false;
        let indices: Vec<u32> = self.listeners.indices().collect();
        for index in indices {
            let Some(listener) = self.listeners.get(index) else { continue };
            match listener.state {
                ListenerState::Accepting | ListenerState::Paused | ListenerState::Releasing => {}
                ListenerState::Resting(until) if self.now < until => waits = true,
                ListenerState::Resting(_) => waits |= !self.try_to_resume(index),
                ListenerState::Stopping(until) => {
                    let is_done = listener.is_held_elsewhere || self.accept_ready(index);
                    if is_done && self.now >= until {
                        self.close_listener(index);
                    } else {
                        waits = true;
                    }
                }
            }
        }
        waits
    }

    /// Accepts one connection to see whether descriptors are there again; says so only if they are.
    fn try_to_resume(&mut self, index: u32) -> bool {
        let until = self.now + REST;
        let Some(listener) = self.listeners.get_mut(index) else { return true };
        let result = sys::accept(listener.fd.as_fd());
        if result.as_ref().is_err_and(is_exhaustion) {
            listener.state = ListenerState::Resting(until);
            return false;
        }
        listener.state = ListenerState::Accepting;
        let token = listener.token;
        self.events.push_back(Event::AcceptResumed { listener: ListenerId(index), token });
        if let Ok((fd, peer)) = result {
            self.accepted(index, fd, peer);
        }
        self.arm_listener(index);
        true
    }

    fn close_listener(&mut self, index: u32) {
        self.disarm_listener(index);
        if let Some(listener) = self.listeners.remove(index) {
            let token = listener.token;
            self.closing.push(listener.fd);
            self.events.push_back(Event::ListenerClosed { listener: ListenerId(index), token });
        }
    }

    pub(crate) fn pause_listener(&mut self, index: u32) {
        let Some(listener) = self.listeners.get_mut(index) else { return };
        if matches!(listener.state, ListenerState::Accepting | ListenerState::Resting(_)) {
            listener.state = ListenerState::Paused;
            self.disarm_listener(index);
        }
    }

    /// An accept in the ring ended: begins anew if the listener accepts.
    pub(crate) fn rearm_listener(&mut self, index: u32) {
        if self.listeners.get(index).is_some_and(|listener| listener.state == ListenerState::Accepting) {
            self.arm_listener(index);
        }
    }

    pub(crate) fn resume_listener(&mut self, index: u32) {
        let Some(listener) = self.listeners.get_mut(index) else { return };
        if listener.state == ListenerState::Paused {
            listener.state = ListenerState::Accepting;
            self.arm_listener(index);
        }
    }

    pub(crate) fn reassign_listener(
        &mut self,
        index: u32,
        new: Token,
        options: &ListenOptions,
    ) -> io::Result<()> {
        let Some(record) = self.listeners.get_mut(index) else { return Ok(()) };
        record.token = new;
        for event in &mut self.events {
            match event {
                Event::Accepted { listener, token, .. }
                | Event::AcceptPaused { listener, token, .. }
                | Event::AcceptResumed { listener, token }
                | Event::ListenerClosed { listener, token }
                | Event::ListenerReleased { listener, token, .. }
                    if listener.0 == index =>
                {
                    *token = new;
                }
                _ => {}
            }
        }
        socket::change_listener(record.fd.as_fd(), record.is_tcp, options)
    }

    pub(crate) fn release_listener(&mut self, index: u32) {
        let Some(listener) = self.listeners.get_mut(index) else { return };
        if matches!(listener.state, ListenerState::Stopping(_) | ListenerState::Releasing) {
            return;
        }
        let was_accepting = listener.state == ListenerState::Accepting;
        listener.state = ListenerState::Releasing;
        if was_accepting {
            self.disarm_listener(index);
        }
        self.finish_release(index);
    }

    /// Lets go of a listener that was told to leave, once no accept of it is in the ring.
    pub(crate) fn finish_release(&mut self, index: u32) {
        let is_releasing = |listener: &ListenerRecord| listener.state == ListenerState::Releasing;
        if !self.listeners.get(index).is_some_and(is_releasing) || self.is_accepting_in_ring(index) {
            return;
        }
        let Some(ListenerRecord { fd, token, is_held_elsewhere, .. }) = self.listeners.remove(index) else {
            return;
        };
        let address = sys::local_address(fd.as_fd()).unwrap_or(SocketAddress::Unix(None));
        let released = Listener { handle: ListenerHandle::Descriptor(fd), address, is_held_elsewhere };
        self.events.push_back(Event::ListenerReleased { listener: ListenerId(index), token, released });
    }

    pub(crate) fn stop_listener(&mut self, index: u32) {
        let until = self.now + STOP_GRACE;
        let Some(listener) = self.listeners.get_mut(index) else { return };
        if matches!(listener.state, ListenerState::Stopping(_) | ListenerState::Releasing) {
            return;
        }
        let was_accepting = listener.state == ListenerState::Accepting;
        // A Unix socket has no handshake: it is empty when the queue is, and closes at the next look.
        // The filter would stay with a socket that is held elsewhere, and turn away whom others accept.
        let is_filtered = listener.is_tcp && !listener.is_held_elsewhere;
        listener.state = ListenerState::Stopping(if is_filtered { until } else { self.now });
        if is_filtered {
            // Without the filter a connection that arrives between the last accept and the close is reset.
            let _ = sys::refuse_new_connections(listener.fd.as_fd());
        }
        if was_accepting {
            self.disarm_listener(index);
        }
        self.request_housekeeping();
    }
}
