//! Keep-alive of dialled connections, set once they have lasted a moment.
//!
//! The four options are a fifth of the system calls of a short connection, which ends long before the first probe. What
//! is accepted has them from its listener for nothing.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::Core;
use crate::driver::KeepAlive;
use crate::{ConnectionId, Time, socket};

/// A dialled connection gets its options after once to twice this. The kernel counts the silence before a probe from
/// the last byte, in whole seconds: none comes later for it.
const DELAY: Duration = Duration::from_millis(20);

/// Connections that wait for their options.
#[derive(Default)]
pub(crate) struct KeepAlives {
    /// Dialled since the last look.
    young: Vec<(ConnectionId, Packed)>,
    /// Dialled before it.
    old: Vec<(ConnectionId, Packed)>,
    /// When to look next, while some wait.
    at: Option<Time>,
}

/// Options in the units and bounds of the kernel: thousands may wait at once.
#[derive(Clone, Copy)]
struct Packed {
    idle_seconds: u16,
    interval_seconds: u16,
    count: u8,
}

const _: () = assert!(size_of::<(ConnectionId, Packed)>() <= 16);

impl Packed {
    fn new(keep_alive: KeepAlive) -> Self {
        let seconds = |duration: Duration| u16::try_from(duration.as_secs()).unwrap_or(u16::MAX);
        Self {
            idle_seconds: seconds(keep_alive.idle),
            interval_seconds: seconds(keep_alive.interval),
            count: u8::try_from(keep_alive.count).unwrap_or(u8::MAX),
        }
    }

    fn unpack(self) -> KeepAlive {
        KeepAlive {
            idle: Duration::from_secs(self.idle_seconds.into()),
            interval: Duration::from_secs(self.interval_seconds.into()),
            count: self.count.into(),
        }
    }
}

impl Core {
    /// Has a dialled connection get its keep-alive options.
    pub(crate) fn keep_alive_soon(&mut self, connection: ConnectionId, keep_alive: KeepAlive) {
        self.keep_alives.young.push((connection, Packed::new(keep_alive)));
        if self.keep_alives.at.is_none() {
            let at = self.now + DELAY;
            self.keep_alives.at = Some(at);
            self.request_housekeeping_at(at);
        }
    }

    /// Sets the options of connections that have lasted. Returns when to look again.
    pub(crate) fn tend_keep_alives(&mut self) -> Option<Time> {
        let at = self.keep_alives.at?;
        if self.now < at {
            return Some(at);
        }
        let young = std::mem::take(&mut self.keep_alives.young);
        let old = std::mem::replace(&mut self.keep_alives.old, young);
        for (connection, keep_alive) in old {
            self.set_keep_alive(connection, keep_alive);
        }
        self.keep_alives.at = (!self.keep_alives.old.is_empty()).then(|| self.now + DELAY);
        self.keep_alives.at
    }

    /// Sets the options of a connection that leaves the engine, if it still waits for them.
    pub(crate) fn keep_alive_now(&mut self, connection: ConnectionId) {
        let KeepAlives { young, old, .. } = &self.keep_alives;
        let waits = young.iter().chain(old).find(|(waiting, _)| *waiting == connection);
        if let Some(&(_, keep_alive)) = waits {
            self.set_keep_alive(connection, keep_alive);
        }
    }

    fn set_keep_alive(&self, connection: ConnectionId, keep_alive: Packed) {
        let fd: Option<BorrowedFd<'_>> = self.place(connection).and_then(|index| self.entry(index).fd());
        if let Some(fd) = fd {
            // Fails for no TCP socket: the values are within what the kernel takes.
            let _ = socket::set_keep_alive(fd, keep_alive.unpack());
        }
    }
}
