//! What the drivers on a real kernel share: the table of sockets, sending, relaying, accepting, ending.
//!
//! The [`Core`] does all that is the same whether the kernel is asked by readiness or by completion. What differs
//! is how it comes to know that something can be read or written: the [`Poller`].

mod accept;
mod dial;
mod entry;
mod keep_alive;
mod operations;
mod peek;
mod poll;
mod relay;
mod send;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

pub(crate) use entry::{Entry, Peek, Phase, Rare, flag, flow};
use keep_alive::KeepAlives;
use relay::LowWater;

use super::epoll::EpollPoller;
use super::uring::RingPoller;
use super::{EngineConfig, Event};
use crate::mailbox::Waker;
use crate::pipe::PipePool;
use crate::table::{Slab, Table};
use crate::timer::TimerWheel;
use crate::udp::DatagramSocket;
use crate::{Clock, ConnectionId, Time, sys};

pub(crate) use accept::ListenerRecord;

/// Bytes of a read while nothing says that the flow is bulk.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// Bytes of a read in bulk without a pipe; also the size of the buffer that an engine lends from.
pub(crate) const BULK_READ_BYTES: usize = 256 << 10;
/// Chunks that one direction moves before the others have their turn.
pub(crate) const CHUNKS_PER_TURN: usize = 16;
/// How often the few connections and listeners that need it are looked at.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(10);
/// Nanoseconds of an activity tick, as a shift: 8.4 ms, 417 days until it comes round.
const ACTIVITY_SHIFT: u32 = 23;

/// How the kernel is asked.
#[expect(clippy::large_enum_variant, reason = "there is one an engine, and it is not moved")]
pub(crate) enum Poller {
    /// By readiness.
    Epoll(EpollPoller),
    /// By completion.
    Ring(RingPoller),
}

/// The state of an engine on a real kernel.
pub(crate) struct Core {
    pub(crate) config: EngineConfig,
    pub(crate) clock: Clock,
    pub(crate) now: Time,
    pub(crate) poller: Poller,
    pub(crate) waker: Waker,
    pub(crate) entries: Table<Entry>,
    pub(crate) rares: Slab<Rare>,
    pub(crate) listeners: Slab<ListenerRecord>,
    pub(crate) datagram_sockets: Slab<DatagramSocket>,
    pub(crate) timers: TimerWheel,
    pub(crate) pipes: PipePool,
    /// Events that operations and handling brought about, to be delivered one by one.
    pub(crate) events: VecDeque<Event<'static>>,
    /// Connections to be looked at again before the next wait.
    pub(crate) redo: Vec<ConnectionId>,
    /// Descriptors to be closed after the batch: the next accept or dial goes first.
    pub(crate) closing: Vec<OwnedFd>,
    /// Bytes of small sends, and whose they are.
    pub(crate) cork: Vec<u8>,
    pub(crate) corked: ConnectionId,
    /// Bulk was moved in this turn: what comes next can wait until the kernel wakes this thread.
    pub(crate) has_spliced: bool,
    /// Heap bytes queued on all connections.
    pub(crate) queued_total: usize,
    /// Bytes in the pipes of blocked connections.
    pub(crate) piped_total: usize,
    /// Connections that are reset once what they were sent is acknowledged, and when to stop waiting.
    pub(crate) lingering: Vec<(ConnectionId, Time)>,
    /// Connections with SO_RCVLOWAT raised.
    pub(crate) low_water: Vec<LowWater>,
    /// Relayed connections whose end was seen a moment ago, and which no receive listens to any more.
    pub(crate) half_closed: Vec<ConnectionId>,
    pub(crate) keep_alives: KeepAlives,
    pub(crate) housekeeping_at: Option<Time>,
}

impl Core {
    pub(crate) fn new(config: &EngineConfig, poller: Poller) -> io::Result<Self> {
        let clock = Clock::process();
        let now = clock.now();
        Ok(Self {
            config: config.clone(),
            clock,
            now,
            poller,
            waker: Waker::new(Some(sys::event_fd()?)),
            entries: Table::new(),
            rares: Slab::new(),
            listeners: Slab::new(),
            datagram_sockets: Slab::new(),
            timers: TimerWheel::new(now),
            pipes: PipePool::new(config.pipes_max),
            events: VecDeque::new(),
            redo: Vec::new(),
            closing: Vec::new(),
            cork: Vec::new(),
            corked: ConnectionId::NONE,
            has_spliced: false,
            queued_total: 0,
            piped_total: 0,
            lingering: Vec::new(),
            low_water: Vec::new(),
            half_closed: Vec::new(),
            keep_alives: KeepAlives::default(),
            housekeeping_at: None,
        })
    }

    /// The entry at a place that is known to be in use.
    pub(crate) fn entry(&self, index: u32) -> &Entry {
        self.entries.get(index).expect("an index of this table")
    }

    /// The entry at a place that is known to be in use.
    pub(crate) fn entry_mut(&mut self, index: u32) -> &mut Entry {
        self.entries.get_mut(index).expect("an index of this table")
    }

    /// The place of a connection that is alive.
    pub(crate) fn place(&self, id: ConnectionId) -> Option<u32> {
        let entry = self.entries.get(id.index)?;
        (entry.generation == id.generation && entry.phase() != Phase::Free).then_some(id.index)
    }

    /// A new entry for `fd`.
    pub(crate) fn insert(&mut self, fd: Option<OwnedFd>, phase: Phase, token: crate::Token) -> u32 {
        let index = self.entries.take();
        let activity = self.activity_now();
        let entry = self.entry_mut(index);
        entry.fd = fd;
        entry.token = token;
        entry.peer = u32::MAX;
        entry.activity = activity;
        entry.set_bytes(0);
        entry.clear_all_flags();
        entry.set_flow(flow::SMALL);
        entry.set_peeking(false);
        entry.set_rare(None);
        entry.set_phase(phase);
        entry.set_error_told(false);
        entry.set_shared(false);
        index
    }

    /// Ends an entry: its descriptor is closed after the batch, what it held is dropped, its id is dead.
    pub(crate) fn release(&mut self, index: u32) -> Option<OwnedFd> {
        if self.corked == self.entry(index).id(index) {
            self.cork.clear();
            self.corked = ConnectionId::NONE;
        }
        self.drop_rare(index);
        self.forget_in_poller(index);
        let entry = self.entry_mut(index);
        entry.set_phase(Phase::Free);
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        let fd = entry.fd.take();
        self.entries.give_back(index);
        fd
    }

    /// Ends an entry and closes its descriptor after the batch.
    pub(crate) fn release_and_close(&mut self, index: u32) {
        let entry = self.entry(index);
        if let Some(fd) = entry.fd().filter(|_| entry.is_shared()) {
            sys::end_shared(fd);
        }
        if let Some(fd) = self.release(index) {
            self.closing.push(fd);
        }
    }

    fn drop_rare(&mut self, index: u32) {
        let Some(place) = self.entry(index).rare() else { return };
        self.entry_mut(index).set_rare(None);
        if let Some(rare) = self.rares.remove(place) {
            self.queued_total -= rare.queue.len() - rare.start;
            self.piped_total -= rare.piped;
            if let Some(pipe) = rare.pipe {
                self.pipes.discard(pipe);
            }
        }
    }

    /// The rare record of an entry, made if there is none.
    pub(crate) fn rare_mut(&mut self, index: u32) -> &mut Rare {
        let place = match self.entry(index).rare() {
            Some(place) => place,
            None => {
                let place = self.rares.insert(Rare::default());
                self.entry_mut(index).set_rare(Some(place));
                place
            }
        };
        self.rares.get_mut(place).expect("an entry's record stays until the entry drops it")
    }

    /// The rare record of an entry, if it has one.
    pub(crate) fn rare(&self, index: u32) -> Option<&Rare> {
        self.rares.get(self.entry(index).rare()?)
    }

    /// Drops a rare record that holds nothing.
    pub(crate) fn tidy_rare(&mut self, index: u32) {
        if self.rare(index).is_some_and(Rare::is_blank) {
            self.drop_rare(index);
        }
    }

    /// The connection broke: tells its user and ends it.
    pub(crate) fn fail(&mut self, index: u32, error: io::Error) {
        let entry = self.entry(index);
        let (connection, token) = (entry.id(index), entry.token);
        self.release_and_close(index);
        self.events.push_back(Event::Failed { connection, token, error });
    }

    /// Looks at a connection again before the next wait.
    pub(crate) fn push_redo(&mut self, index: u32) {
        let entry = self.entry_mut(index);
        if !entry.has(flag::QUEUED) {
            entry.set(flag::QUEUED);
            let id = entry.id(index);
            self.redo.push(id);
        }
    }

    pub(crate) fn activity_now(&self) -> u32 {
        (self.now.as_nanos() >> ACTIVITY_SHIFT) as u32
    }

    /// The tick of a moment, which may be of an engine whose clock is ahead by a turn.
    pub(crate) fn activity_tick(&self, at: Time) -> u32 {
        (at.min(self.now).as_nanos() >> ACTIVITY_SHIFT) as u32
    }

    /// The moment an activity tick stands for: the latest one that is not in the future.
    pub(crate) fn activity_time(&self, tick: u32) -> Time {
        let now = self.now.as_nanos() >> ACTIVITY_SHIFT;
        let age = u64::from((now as u32).wrapping_sub(tick));
        Time::from_nanos(now.saturating_sub(age) << ACTIVITY_SHIFT)
    }

    /// Has housekeeping look soon.
    pub(crate) fn request_housekeeping(&mut self) {
        self.request_housekeeping_at(self.now + HOUSEKEEPING_INTERVAL);
    }

    /// Has housekeeping look at `at` at the latest.
    pub(crate) fn request_housekeeping_at(&mut self, at: Time) {
        self.housekeeping_at = Some(self.housekeeping_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Looks at what waits for time rather than for the kernel.
    pub(crate) fn housekeeping(&mut self) {
        if self.housekeeping_at.is_none_or(|at| self.now < at) {
            return;
        }
        self.housekeeping_at = None;
        let listeners_wait = self.tend_listeners();
        let resets_wait = self.tend_lingering();
        let marks_wait = self.tend_low_water();
        self.tend_half_closed();
        if listeners_wait || resets_wait || marks_wait {
            self.request_housekeeping();
        }
        if let Some(at) = self.tend_keep_alives() {
            self.request_housekeeping_at(at);
        }
    }

    /// How long the kernel may be waited for.
    pub(crate) fn wait_limit(&self, wait: Option<Duration>) -> Option<Duration> {
        if !self.events.is_empty() || !self.redo.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = [self.timers.next_deadline(), self.housekeeping_at].into_iter().flatten().min();
        let until_deadline = deadline.map(|deadline| deadline.since(self.clock.now()));
        [wait, until_deadline].into_iter().flatten().min()
    }

    /// Whether an event that waited for its delivery still has somebody to be delivered to, with the latest token.
    pub(crate) fn refresh(&self, event: &mut Event<'static>) -> bool {
        let (connection, token) = match event {
            Event::Connected { connection, token }
            | Event::Ended { connection, token }
            | Event::Writable { connection, token }
            | Event::PeerLeft { connection, token, .. } => (*connection, token),
            Event::RelayHalfClosed { from, token } => {
                let Some(index) = self.place(*from) else { return false };
                let entry = self.entry(index);
                let a = if entry.has(flag::SIDE_B) { entry.peer } else { index };
                *token = self.entries.get(a).map_or(*token, |entry| entry.token);
                return true;
            }
            Event::Accepted { .. }
            | Event::AcceptPaused { .. }
            | Event::AcceptResumed { .. }
            | Event::ListenerClosed { .. }
            | Event::ListenerReleased { .. }
            | Event::ConnectFailed { .. }
            | Event::Received { .. }
            | Event::Peeked { .. }
            | Event::Failed { .. }
            | Event::Closed { .. }
            | Event::RelayEnded(_)
            | Event::RelayStopped(_)
            | Event::Exported { .. }
            | Event::Datagrams { .. }
            | Event::TimerFired { .. }
            | Event::Woken => return true,
        };
        match self.place(connection).map(|index| self.entry(index)) {
            Some(entry) if entry.phase() != Phase::Closing => {
                *token = entry.token;
                true
            }
            _ => false,
        }
    }
}

/// Generations have 31 bits: the key by which a poller names a connection needs one for itself.
const GENERATION_MASK: u32 = (1 << 31) - 1;
