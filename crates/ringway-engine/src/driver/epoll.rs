//! The epoll driver: edge-triggered readiness, one shared buffer, closes after the batch.
//!
//! A socket is registered once, for reading; EPOLLOUT is added when a send first says EAGAIN and stays. A relay's
//! source is not listened to while its destination is full. A read that is shorter than asked for has drained its
//! socket: no second read only to see EAGAIN.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::kernel::{BULK_READ_BYTES, Core, Poller};
use super::turn::{self, Readiness, SpinGauge};
use super::{DatagramBatch, EngineConfig, Event, Operations, Sink};
use crate::mailbox::Waker;
use crate::sys;

/// Events of one wait.
const EVENTS_PER_TURN: usize = 128;

/// Keys with this bit name something other than a connection.
const SPECIAL: u64 = 1 << 63;
const LISTENER: u64 = SPECIAL | 1 << 32;
const DATAGRAMS: u64 = SPECIAL | 2 << 32;
const WAKER: u64 = SPECIAL | 3 << 32;

/// The epoll instance.
pub(crate) struct EpollPoller {
    epoll: OwnedFd,
}

impl EpollPoller {
    pub(crate) fn watch_socket(
        &mut self,
        fd: BorrowedFd<'_>,
        key: u64,
        read: bool,
        write: bool,
        known: bool,
    ) -> io::Result<()> {
        let mut events = libc::EPOLLRDHUP | libc::EPOLLET;
        if read {
            events |= libc::EPOLLIN;
        }
        if write {
            events |= libc::EPOLLOUT;
        }
        let operation = if known { libc::EPOLL_CTL_MOD } else { libc::EPOLL_CTL_ADD };
        sys::epoll_control(self.epoll.as_fd(), operation, fd, events, key)
    }

    /// Level-triggered: a batch of accepts may leave some for the next turn.
    pub(crate) fn watch_listener(&mut self, fd: &OwnedFd, index: u32, shared: bool) -> io::Result<()> {
        let events = if shared { libc::EPOLLIN | libc::EPOLLEXCLUSIVE } else { libc::EPOLLIN };
        sys::epoll_control(
            self.epoll.as_fd(),
            libc::EPOLL_CTL_ADD,
            fd.as_fd(),
            events,
            LISTENER | u64::from(index),
        )
    }

    pub(crate) fn watch_datagrams(&mut self, fd: &OwnedFd, index: u32) -> io::Result<()> {
        let key = DATAGRAMS | u64::from(index);
        sys::epoll_control(self.epoll.as_fd(), libc::EPOLL_CTL_ADD, fd.as_fd(), libc::EPOLLIN, key)
    }

    pub(crate) fn forget(&mut self, fd: &OwnedFd) {
        // It may not be registered.
        let _ = sys::epoll_control(self.epoll.as_fd(), libc::EPOLL_CTL_DEL, fd.as_fd(), 0, 0);
    }
}

/// An engine on epoll.
pub(crate) struct EpollDriver {
    core: Core,
    /// Lent to the sink, and what relays copy through.
    buffer: Box<[u8]>,
    datagrams: DatagramBatch,
    events: Box<[libc::epoll_event]>,
    spin: SpinGauge,
}

impl EpollDriver {
    pub(crate) fn new(config: &EngineConfig) -> io::Result<Self> {
        let epoll = sys::epoll_create()?;
        let core = Core::new(config, Poller::Epoll(EpollPoller { epoll }))?;
        if let (Poller::Epoll(poller), Some(fd)) = (&core.poller, core.waker.event_fd()) {
            // Edge-triggered: each write is an event of its own and the count is never read.
            let events = libc::EPOLLIN | libc::EPOLLET;
            sys::epoll_control(poller.epoll.as_fd(), libc::EPOLL_CTL_ADD, fd, events, WAKER)?;
        }
        Ok(Self {
            core,
            buffer: vec![0; BULK_READ_BYTES].into_boxed_slice(),
            datagrams: DatagramBatch::new(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_TURN].into_boxed_slice(),
            spin: SpinGauge::new(config.spin),
        })
    }

    pub(crate) fn operations(&mut self) -> Operations<'_> {
        Operations::new(&mut self.core)
    }

    pub(crate) fn waker(&self) -> Waker {
        self.core.waker.clone()
    }

    pub(crate) fn turn<S: Sink>(&mut self, sink: &mut S, wait: Option<Duration>) -> io::Result<()> {
        self.core.flush_cork();
        let count = self.wait(wait)?;
        self.core.now = self.core.clock.now();
        if self.core.waker.take() {
            turn::give(&mut self.core, sink, Event::Woken);
        }
        turn::deliver(&mut self.core, sink);
        for position in 0..count {
            let libc::epoll_event { events, u64: key } = self.events[position];
            let events = events as i32;
            if key & SPECIAL == 0 {
                let readiness = Readiness {
                    read: events & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0,
                    write: events & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) != 0,
                    hangup: events & (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) != 0,
                    error: events & libc::EPOLLERR != 0,
                };
                turn::ready(&mut self.core, sink, key, readiness, &mut self.buffer);
            } else {
                let index = key as u32;
                match key & !u64::from(u32::MAX) {
                    LISTENER => {
                        self.core.accept_ready(index);
                    }
                    DATAGRAMS => turn::datagrams(&mut self.core, sink, index, &mut self.datagrams),
                    _ => {}
                }
            }
            turn::deliver(&mut self.core, sink);
        }
        turn::finish(&mut self.core, sink, &mut self.buffer);
        self.core.closing.clear();
        Ok(())
    }

    fn wait(&mut self, wait: Option<Duration>) -> io::Result<usize> {
        let limit = self.core.wait_limit(wait);
        let Poller::Epoll(poller) = &self.core.poller else { return Ok(0) };
        // Polling for more bulk would only take it in smaller pieces.
        let has_spliced = std::mem::take(&mut self.core.has_spliced);
        if limit != Some(Duration::ZERO) && !has_spliced && self.spin.is_worth_it() {
            let begin = self.core.clock.now();
            loop {
                let count = sys::epoll_wait(poller.epoll.as_fd(), &mut self.events, Some(Duration::ZERO))?;
                let waited = self.core.clock.now().since(begin);
                if count > 0 {
                    self.spin.note(waited);
                    return Ok(count);
                }
                if waited >= self.spin.budget() || limit.is_some_and(|limit| waited >= limit) {
                    break;
                }
            }
        }
        let begin = self.spin.is_on().then(|| self.core.clock.now());
        let count = sys::epoll_wait(poller.epoll.as_fd(), &mut self.events, self.core.wait_limit(wait))?;
        if let Some(begin) = begin {
            self.spin.note(self.core.clock.now().since(begin));
        }
        Ok(count)
    }
}
