//! The io_uring driver: multishot accept and receive into an incremental buffer ring, synchronous optimistic sends,
//! closes by submission; bulk goes over to polling and splice, which the ring only starts.
//!
//! Bytes are handed on within the handling of their completion, so every buffer is back in the ring at the end of a
//! batch, and a receive that ended because buffers ran out is simply started again; on an open connection once it was read by
//! hand until nothing was left.

mod buffers;
mod poller;
mod probe;

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use io_uring::cqueue;

pub(crate) use poller::RingPoller;
pub(crate) use probe::probe;

use super::kernel::{BULK_READ_BYTES, Core, Phase, Poller, READ_BYTES, flag, flow};
use super::turn::{self, Readiness, SpinGauge};
use super::{DatagramBatch, EngineConfig, Event, Operations, Sink};
use crate::mailbox::Waker;
use crate::{ConnectionId, SocketAddress, sys};
use buffers::BufferRing;
use poller::{Key, Kind};

/// A chunk of this size says that the flow may be bulk; as large as half a buffer of the ring.
const BULK_CHUNK_BYTES: usize = 32 << 10;

/// One completion.
#[derive(Clone, Copy)]
struct Completion {
    key: Key,
    result: i32,
    flags: u32,
}

/// An engine on io_uring.
pub(crate) struct UringDriver {
    core: Core,
    buffers: BufferRing,
    /// What is read by hand goes through here.
    buffer: Box<[u8]>,
    datagrams: DatagramBatch,
    completions: Vec<Completion>,
    spin: SpinGauge,
    is_enabled: bool,
}

impl UringDriver {
    pub(crate) fn new(config: &EngineConfig) -> io::Result<Self> {
        let ring = poller::open()?;
        let buffers = BufferRing::register(&ring)?;
        let mut core = Core::new(config, Poller::Ring(RingPoller::new(ring)))?;
        if let (Poller::Ring(poller), Some(fd)) = (&mut core.poller, core.waker.event_fd()) {
            poller.poll_waker(fd);
        }
        Ok(Self {
            core,
            buffers,
            buffer: vec![0; BULK_READ_BYTES].into_boxed_slice(),
            datagrams: DatagramBatch::new(),
            completions: Vec::new(),
            spin: SpinGauge::new(config.spin),
            is_enabled: false,
        })
    }

    pub(crate) fn operations(&mut self) -> Operations<'_> {
        Operations::new(&mut self.core)
    }

    pub(crate) fn waker(&self) -> Waker {
        self.core.waker.clone()
    }

    pub(crate) fn turn<S: Sink>(&mut self, sink: &mut S, wait: Option<Duration>) -> io::Result<()> {
        if !self.is_enabled {
            // The thread that enables the ring is the one that may submit to it.
            self.ring().enable()?;
            self.is_enabled = true;
        }
        self.core.flush_cork();
        self.wait(wait)?;
        self.core.now = self.core.clock.now();
        if self.core.waker.take() {
            turn::give(&mut self.core, sink, Event::Woken);
        }
        turn::deliver(&mut self.core, sink);
        let completions = std::mem::take(&mut self.completions);
        for completion in &completions {
            self.handle(sink, *completion);
            turn::deliver(&mut self.core, sink);
        }
        self.completions = completions;
        self.completions.clear();
        turn::finish(&mut self.core, sink, &mut self.buffer);
        let closing = std::mem::take(&mut self.core.closing);
        let ring = self.ring();
        for fd in closing {
            ring.close(fd.into_raw_fd());
        }
        Ok(())
    }

    fn ring(&mut self) -> &mut RingPoller {
        match &mut self.core.poller {
            Poller::Ring(ring) => ring,
            Poller::Epoll(_) => unreachable!("this driver made its core with a ring"),
        }
    }

    /// Submits, waits, and takes in what completed.
    fn wait(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let limit = self.core.wait_limit(wait);
        // Polling for more bulk would only take it in smaller pieces.
        let has_spliced = std::mem::take(&mut self.core.has_spliced);
        if limit != Some(Duration::ZERO) && !has_spliced && self.spin.is_worth_it() {
            let begin = self.core.clock.now();
            loop {
                self.ring().enter(Some(Duration::ZERO))?;
                let waited = self.core.clock.now().since(begin);
                if self.collect() {
                    self.spin.note(waited);
                    return Ok(());
                }
                if waited >= self.spin.budget() || limit.is_some_and(|limit| waited >= limit) {
                    break;
                }
            }
        }
        let begin = self.spin.is_on().then(|| self.core.clock.now());
        let limit = self.core.wait_limit(wait);
        self.ring().enter(limit)?;
        self.collect();
        if let Some(begin) = begin {
            self.spin.note(self.core.clock.now().since(begin));
        }
        Ok(())
    }

    fn collect(&mut self) -> bool {
        let Poller::Ring(ring) = &mut self.core.poller else { return false };
        self.completions.extend(ring.completions().map(|entry| Completion {
            key: Key(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        }));
        !self.completions.is_empty()
    }

    fn handle<S: Sink>(&mut self, sink: &mut S, completion: Completion) {
        let Completion { key, result, flags } = completion;
        let more = cqueue::more(flags);
        match key.kind() {
            Kind::Receive => self.received(sink, completion),
            Kind::Poll => self.polled(sink, key.connection(), result, more),
            Kind::Watch => {
                let Some(index) = self.core.place(key.connection()) else { return };
                if !more {
                    self.ring().watch_ended(index);
                }
                if result != -libc::ECANCELED {
                    self.left(index);
                }
            }
            Kind::Write => self.writable(sink, key.connection(), result),
            Kind::Listener => self.accepted(key.index(), result, more),
            Kind::Datagrams => {
                turn::datagrams(&mut self.core, sink, key.index(), &mut self.datagrams);
                // Fails never in a ring.
                let _ = self.core.arm_datagrams(key.index());
            }
            Kind::Waker => {
                if !more
                    && let (Poller::Ring(ring), Some(fd)) =
                        (&mut self.core.poller, self.core.waker.event_fd())
                {
                    ring.poll_waker(fd);
                }
            }
            Kind::Nothing => {}
        }
    }

    /// The other end of a connection that is not read from left.
    fn left(&mut self, index: u32) {
        let entry = self.core.entry(index);
        match entry.phase() {
            Phase::Open if entry.has(flag::WATCHED) => self.core.watched_left(index),
            Phase::Relay if entry.has(flag::READ_ENDED) => {
                if let Some(error) = entry.fd().and_then(sys::take_error) {
                    self.core.source_failed_with(index, error);
                }
            }
            Phase::Relay
            | Phase::Open
            | Phase::Free
            | Phase::Dialling
            | Phase::Breaking
            | Phase::Closing
            | Phase::Stopping
            | Phase::Exporting => {}
        }
    }

    fn accepted(&mut self, listener: u32, result: i32, more: bool) {
        if !more {
            self.ring().accept_ended(listener);
        }
        if result >= 0 {
            // SAFETY: the kernel made this descriptor for this completion; nobody else has it.
            let fd = unsafe { OwnedFd::from_raw_fd(result) };
            // A multishot accept has no room for addresses.
            let peer = sys::peer_address(std::os::fd::AsFd::as_fd(&fd)).unwrap_or(SocketAddress::Unix(None));
            self.core.accepted(listener, fd, peer);
        }
        if more {
            return;
        }
        match -result {
            code @ (libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.core.rest(listener, io::Error::from_raw_os_error(code));
            }
            _ => self.core.rearm_listener(listener),
        }
        self.core.finish_release(listener);
    }

    fn writable<S: Sink>(&mut self, sink: &mut S, id: ConnectionId, result: i32) {
        let Some(index) = self.core.place(id) else { return };
        self.ring().write_poll_ended(index);
        if result == -libc::ECANCELED {
            return;
        }
        let readiness = Readiness { read: false, write: true, hangup: false, error: false };
        turn::ready(&mut self.core, sink, id.to_bits(), readiness, &mut self.buffer);
        if let Some(index) = self.core.place(id) {
            let entry = self.core.entry(index);
            if entry.has(flag::BLOCKED) || entry.phase() == Phase::Dialling {
                self.core.arm_write(index);
            }
        }
    }

    /// A flow that is read by hand can be read.
    fn polled<S: Sink>(&mut self, sink: &mut S, id: ConnectionId, result: i32, more: bool) {
        let Some(index) = self.core.place(id) else { return };
        if !more {
            self.ring().read_poll_ended(index);
        }
        if !self.ring().reads_by_hand(index) {
            return;
        }
        // One that was cancelled tells nothing: reading by hand began anew before its end was seen.
        let events = result.max(0);
        let readiness = Readiness {
            read: true,
            write: false,
            hangup: events & i32::from(libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0,
            error: events & i32::from(libc::POLLERR) != 0,
        };
        turn::ready(&mut self.core, sink, id.to_bits(), readiness, &mut self.buffer);
        if !more
            && let Some(index) = self.core.place(id)
            && self.core.entry(index).is_peeking()
        {
            self.core.arm_peek(index);
        }
    }

    /// A receive brought bytes, an end, or an error; or it ended.
    fn received<S: Sink>(&mut self, sink: &mut S, completion: Completion) {
        let Completion { key, result, flags } = completion;
        let id = key.connection();
        let more = cqueue::more(flags);
        let place = self.core.place(id);
        if !more && place.is_some() {
            self.ring().receive_ended(id.index);
        }
        if let Some(buffer) = cqueue::buffer_select(flags) {
            let length = usize::try_from(result).unwrap_or(0);
            let is_partial = cqueue::buffer_more(flags);
            let bytes = self.buffers.filled(buffer, length);
            if let Some(index) = place
                && !bytes.is_empty()
            {
                take_bytes(&mut self.core, sink, id, index, bytes);
            }
            self.buffers.advance(buffer, length, is_partial);
            turn::deliver(&mut self.core, sink);
        }
        let Some(index) = self.core.place(id) else { return };
        if result == 0 {
            self.ended(index);
        } else if !matches!(-result, libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN)
            && result < 0
        {
            self.failed(index, io::Error::from_raw_os_error(-result));
        }
        if !more && result == -libc::ENOBUFS {
            self.read_without_buffers(sink, id);
        }
        if !more && let Some(index) = self.core.place(id) {
            self.receive_is_over(index, result);
        }
    }

    /// Reads by hand for a connection that found no buffer left.
    fn read_without_buffers<S: Sink>(&mut self, sink: &mut S, id: ConnectionId) {
        let Some(index) = self.core.place(id) else { return };
        let entry = self.core.entry(index);
        let is_at_end = entry.has(flag::READ_ENDED | flag::BROKEN);
        let may_read = match entry.phase() {
            Phase::Open => {
                if entry.has(flag::RECEIVING) && !is_at_end {
                    self.core.begin_draining(index);
                }
                return;
            }
            Phase::Relay => !is_at_end && !self.core.entry(entry.peer).has(flag::BLOCKED | flag::BROKEN),
            Phase::Free
            | Phase::Dialling
            | Phase::Breaking
            | Phase::Closing
            | Phase::Stopping
            | Phase::Exporting => false,
        };
        let Some(fd) = entry.fd().filter(|_| may_read) else { return };
        match sys::receive(fd, &mut self.buffer[..READ_BYTES], 0) {
            // The receive that begins now sees the end, too.
            Ok(0) => {}
            Ok(count) => {
                take_bytes(&mut self.core, sink, id, index, &mut self.buffer[..count]);
                turn::deliver(&mut self.core, sink);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.failed(index, error),
        }
    }

    fn ended(&mut self, index: u32) {
        let entry = self.core.entry_mut(index);
        match entry.phase() {
            Phase::Open | Phase::Exporting | Phase::Stopping => {
                entry.set(flag::READ_ENDED);
                if entry.phase() == Phase::Stopping
                    && !self.core.entry(self.core.entry(index).peer).has(flag::READ_ENDED)
                {
                    self.core.entry_mut(index).set(flag::FIRST_END);
                }
                let entry = self.core.entry(index);
                if entry.has(flag::RECEIVING) || entry.is_peeking() {
                    // Delivered with whatever is held for the connection.
                    self.core.push_redo(index);
                }
            }
            Phase::Relay => {
                let _ = self.core.source_ended(index);
            }
            Phase::Free | Phase::Dialling | Phase::Breaking | Phase::Closing => {}
        }
    }

    fn failed(&mut self, index: u32, error: io::Error) {
        let entry = self.core.entry(index);
        match entry.phase() {
            Phase::Open if entry.has(flag::RECEIVING) && self.core.held_bytes(index) == 0 => {
                self.core.fail(index, error)
            }
            Phase::Open => {
                self.core.rare_mut(index).error = Some(error);
                self.core.push_redo(index);
            }
            Phase::Exporting => self.core.fail(index, error),
            Phase::Stopping => {
                let peer = entry.peer;
                for index in [index, peer] {
                    self.core.entry_mut(index).set_phase(Phase::Relay);
                }
                self.core.source_failed_with(index, error);
            }
            Phase::Relay => self.core.source_failed_with(index, error),
            Phase::Free | Phase::Dialling | Phase::Breaking | Phase::Closing => {}
        }
    }

    /// The one place that decides whether a receive that ended begins anew.
    fn receive_is_over(&mut self, index: u32, result: i32) {
        let entry = self.core.entry(index);
        match entry.phase() {
            Phase::Open => {
                if entry.is_peeking() {
                    self.core.arm_peek(index);
                    self.core.push_redo(index);
                } else if entry.has(flag::RECEIVING) && !entry.has(flag::READ_ENDED) {
                    self.core.arm_read(index);
                }
            }
            Phase::Relay => {
                if entry.has(flag::READ_ENDED) {
                    return;
                }
                if entry.has(flag::BROKEN) {
                    if result == -libc::ECANCELED {
                        // Nothing was left to be read.
                        return self.core.break_relay(index);
                    }
                    self.core.arm_read(index);
                    return self.core.disarm_read(index);
                }
                let peer = self.core.entry(entry.peer);
                if !peer.has(flag::BLOCKED | flag::BROKEN) {
                    self.core.arm_read(index);
                }
            }
            Phase::Stopping => self.core.stop_if_quiet(index),
            Phase::Exporting => self.core.export_now(index),
            Phase::Free | Phase::Dialling | Phase::Breaking | Phase::Closing => {}
        }
    }
}

/// Hands on what a receive brought.
fn take_bytes<S: Sink>(core: &mut Core, sink: &mut S, id: ConnectionId, index: u32, bytes: &mut [u8]) {
    let entry = core.entry(index);
    let token = entry.token;
    match entry.phase() {
        Phase::Open if entry.has(flag::RECEIVING) && core.held_bytes(index) == 0 => {
            core.touch(index);
            turn::give(core, sink, Event::Received { connection: id, token, bytes });
        }
        Phase::Open | Phase::Exporting => {
            core.rare_mut(index).received.extend_from_slice(bytes);
            if core.entry(index).has(flag::RECEIVING) {
                core.push_redo(index);
            }
        }
        Phase::Relay => relay_bytes(core, index, bytes),
        Phase::Stopping => {
            let peer = entry.peer;
            core.queue(peer, bytes);
        }
        Phase::Free | Phase::Dialling | Phase::Breaking | Phase::Closing => {}
    }
}

fn relay_bytes(core: &mut Core, source: u32, bytes: &[u8]) {
    let destination = core.entry(source).peer;
    let sent = core.forward(source, destination, bytes);
    if core.entry(source).phase() != Phase::Relay {
        return;
    }
    if sent != Some(bytes.len()) {
        // It is full, or gone: what is on its way is queued, then no more.
        return core.disarm_read(source);
    }
    let entry = core.entry_mut(source);
    if bytes.len() < BULK_CHUNK_BYTES {
        // A chunk is short also where a buffer of the ring ends: only a small one says that the flow is small.
        if bytes.len() < BULK_CHUNK_BYTES / 2 {
            entry.set_flow(flow::SMALL);
        }
    } else if entry.flow() < flow::BULK {
        let flow = entry.flow() + 1;
        entry.set_flow(flow);
        if flow == flow::BULK && !entry.has(flag::NO_SPLICE) {
            core.disarm_read(source);
            core.raise_low_water(source);
        }
    }
}
