//! The ring and what is in it: one state word a connection says which requests of it are under way.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};

use crate::ConnectionId;

/// Entries of the submission queue; a full one is submitted and goes on.
const SUBMISSIONS: u32 = 1024;
/// Entries of the completion queue: multishot requests bring many for one submission.
const COMPLETIONS: u32 = 8192;
/// The one group of provided buffers.
pub(crate) const BUFFER_GROUP: u16 = 0;

/// A receive is in the ring.
const RECEIVING: u16 = 1 << 0;
/// … and was told to end.
const CANCELLING: u16 = 1 << 1;
/// The flow is read by hand.
const BY_HAND: u16 = 1 << 2;
/// A poll for something to read is in the ring.
const POLLING: u16 = 1 << 3;
/// A poll for the other end's leaving is in the ring.
const WATCHING: u16 = 1 << 4;
/// A poll for room to write is in the ring.
const WRITING: u16 = 1 << 5;
/// The receive that was told to end is not to be begun again: the flow is read by hand then.
const NEXT_BY_HAND: u16 = 1 << 6;
/// How many rounds of reading by hand in a row were slow, in the bits from here on.
const SLOW_SHIFT: u32 = 8;
/// So many slow rounds in a row end the reading by hand.
const SLOW_ROUNDS: u16 = 6;

/// Keys with this bit name something other than a connection.
const SPECIAL: u64 = 1 << 63;
const KIND_SHIFT: u32 = 30;
const INDEX_MASK: u64 = (1 << KIND_SHIFT) - 1;

/// What a completion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Receive,
    Poll,
    Watch,
    Write,
    Listener,
    Datagrams,
    Waker,
    Nothing,
}

/// User data of a request: for a connection its generation, kind and index; else a kind and an index.
#[derive(Clone, Copy)]
pub(crate) struct Key(pub(crate) u64);

impl Key {
    fn of(kind: Kind, id: ConnectionId) -> Self {
        let kind = match kind {
            Kind::Receive => 0,
            Kind::Poll => 1,
            Kind::Watch => 2,
            _ => 3,
        };
        Self(u64::from(id.generation) << 32 | kind << KIND_SHIFT | u64::from(id.index) & INDEX_MASK)
    }

    fn special(kind: Kind, index: u32) -> Self {
        let kind = match kind {
            Kind::Listener => 0,
            Kind::Datagrams => 1,
            Kind::Waker => 2,
            _ => 3,
        };
        Self(SPECIAL | kind << KIND_SHIFT | u64::from(index))
    }

    pub(crate) fn kind(self) -> Kind {
        match (self.0 & SPECIAL != 0, (self.0 >> KIND_SHIFT) & 3) {
            (false, 0) => Kind::Receive,
            (false, 1) => Kind::Poll,
            (false, 2) => Kind::Watch,
            (false, _) => Kind::Write,
            (true, 0) => Kind::Listener,
            (true, 1) => Kind::Datagrams,
            (true, 2) => Kind::Waker,
            (true, _) => Kind::Nothing,
        }
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 & INDEX_MASK) as u32
    }

    pub(crate) fn connection(self) -> ConnectionId {
        ConnectionId { index: self.index(), generation: (self.0 >> 32) as u32 }
    }
}

/// Opens a ring that nobody may submit to yet, with the best set-up that the kernel knows.
pub(crate) fn open() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_clamp().setup_cqsize(COMPLETIONS).setup_submit_all().setup_r_disabled().dontfork();
    let mut deferred = builder.clone();
    // Linux 6.1: completions are made only when this thread asks for them.
    deferred.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    deferred.build(SUBMISSIONS).or_else(|_| {
        builder.setup_coop_taskrun().setup_taskrun_flag();
        builder.build(SUBMISSIONS)
    })
}

/// The ring.
pub(crate) struct RingPoller {
    ring: IoUring,
    /// How this thread waits.
    waiting: EnterFlags,
    /// Requests of the time before the ring was enabled that its queue had no room for.
    early: Vec<squeue::Entry>,
    is_enabled: bool,
    /// A state word for each place of the table of connections.
    states: Vec<u16>,
    /// The same for listeners: `RECEIVING` while an accept is in the ring.
    listeners: Vec<u16>,
}

impl RingPoller {
    pub(crate) fn new(ring: IoUring) -> Self {
        let mut waiting = EnterFlags::GETEVENTS;
        if ring.params().is_feature_no_iowait() {
            // Linux 6.15: else a processor on which nothing but a waiting ring is left counts as waiting for a disk,
            // and an idle proxy looks like a machine at its limit.
            waiting |= EnterFlags::NO_IOWAIT;
        }
        Self {
            ring,
            waiting,
            early: Vec::new(),
            is_enabled: false,
            states: Vec::new(),
            listeners: Vec::new(),
        }
    }

    /// Lets this thread submit.
    pub(crate) fn enable(&mut self) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()?;
        // Saves a look-up a call; works without (Linux before 5.18).
        let _ = self.ring.submitter().register_ring_fd();
        self.is_enabled = true;
        for entry in std::mem::take(&mut self.early) {
            self.push(entry);
        }
        Ok(())
    }

    pub(crate) fn completions(&mut self) -> cqueue::CompletionQueue<'_> {
        self.ring.completion()
    }

    /// Submits and waits for a completion, at most for `wait` (`None`: for ever; zero: not at all).
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let count = u32::try_from(self.ring.submission().len()).unwrap_or(SUBMISSIONS);
        let submitter = self.ring.submitter();
        let result = match wait {
            Some(Duration::ZERO) => submitter.submit(),
            None => {
                // SAFETY: no argument is passed, and the flags announce none.
                unsafe { submitter.enter::<()>(count, 1, self.waiting.bits(), None) }
            }
            Some(wait) => {
                let time = types::Timespec::from(wait);
                let arguments = types::SubmitArgs::new().timespec(&time);
                let flags = self.waiting | EnterFlags::EXT_ARG;
                // SAFETY: the flags announce an extended argument; it and the time in it live until the call returns.
                unsafe { submitter.enter(count, 1, flags.bits(), Some(&arguments)) }
            }
        };
        match result {
            Ok(_) => Ok(()),
            // Time is up; a signal came; completions must be taken first.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: the requests made in this file name descriptors and no memory, except receives, whose
            // memory is the buffer ring: it is unmapped only after the ring is closed.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_ok() {
                return;
            }
            if !self.is_enabled {
                // Full, and nobody may submit yet: thousands of listeners are started before the first turn.
                self.early.push(entry);
                return;
            }
            // Full: submitting empties it. An error (out of memory) leaves nothing but to try again.
            let _ = self.ring.submit();
        }
    }

    fn state(&mut self, index: u32) -> &mut u16 {
        let index = index as usize;
        if index >= self.states.len() {
            self.states.resize(index + 1, 0);
        }
        &mut self.states[index]
    }

    fn has(&self, index: u32, bits: u16) -> bool {
        self.states.get(index as usize).is_some_and(|state| state & bits != 0)
    }

    pub(crate) fn is_receiving(&self, index: u32) -> bool {
        self.has(index, RECEIVING)
    }

    pub(crate) fn reads_by_hand(&self, index: u32) -> bool {
        self.has(index, BY_HAND)
    }

    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, id: ConnectionId) {
        *self.state(id.index) |= RECEIVING;
        let entry = opcode::RecvMulti::new(types::Fd(fd.as_raw_fd()), BUFFER_GROUP).build();
        self.push(entry.user_data(Key::of(Kind::Receive, id).0));
    }

    pub(crate) fn cancel_receive(&mut self, id: ConnectionId) {
        let state = self.state(id.index);
        if *state & RECEIVING != 0 && *state & CANCELLING == 0 {
            *state |= CANCELLING;
            self.cancel(Key::of(Kind::Receive, id));
        }
    }

    pub(crate) fn receive_ended(&mut self, index: u32) {
        *self.state(index) &= !(RECEIVING | CANCELLING);
    }

    fn cancel(&mut self, key: Key) {
        let entry = opcode::AsyncCancel::new(key.0).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(Key::special(Kind::Nothing, 0).0));
    }

    /// Ends every request on a descriptor.
    pub(crate) fn cancel_all(&mut self, fd: BorrowedFd<'_>) {
        let which = types::CancelBuilder::fd(types::Fd(fd.as_raw_fd())).all();
        let entry = opcode::AsyncCancel2::new(which).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(Key::special(Kind::Nothing, 0).0));
    }

    /// The connection at a place ends, or leaves.
    ///
    /// Its requests are cancelled by what they are called and not by descriptor: the kernel finds them by a hash instead
    /// of looking at every request of the ring, and the descriptor may be closed, and its number be another's, before
    /// the cancellations are submitted. A request that stayed would keep the socket open.
    pub(crate) fn forget(&mut self, id: ConnectionId) {
        let state = std::mem::take(self.state(id.index));
        for (bit, kind) in [
            (RECEIVING, Kind::Receive),
            (POLLING, Kind::Poll),
            (WATCHING, Kind::Watch),
            (WRITING, Kind::Write),
        ] {
            if state & bit != 0 {
                self.cancel(Key::of(kind, id));
            }
        }
    }

    fn push_poll(&mut self, fd: BorrowedFd<'_>, key: Key, events: libc::c_short, multi: bool) {
        let events = u32::from(events as u16);
        let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), events).multi(multi).build();
        self.push(entry.user_data(key.0));
    }

    /// From now on the flow is read by hand.
    pub(crate) fn begin_by_hand(&mut self, index: u32) {
        let state = self.state(index);
        *state = *state & !(u16::MAX << SLOW_SHIFT) | BY_HAND;
    }

    /// Reading by hand follows the receive that is about to end.
    pub(crate) fn read_next_by_hand(&mut self, index: u32) {
        *self.state(index) |= NEXT_BY_HAND;
    }

    /// Whether it was to follow; it does so once.
    pub(crate) fn takes_next_by_hand(&mut self, index: u32) -> bool {
        let state = self.state(index);
        let is_next = *state & NEXT_BY_HAND != 0;
        *state &= !NEXT_BY_HAND;
        is_next
    }

    /// Ends the reading by hand. A poll for it that is in the ring stays there.
    pub(crate) fn leave_by_hand(&mut self, index: u32) {
        *self.state(index) &= !(BY_HAND | NEXT_BY_HAND);
    }

    /// Ends the reading by hand.
    pub(crate) fn end_by_hand(&mut self, id: ConnectionId) {
        let state = self.state(id.index);
        *state &= !BY_HAND;
        if *state & POLLING != 0 {
            self.cancel(Key::of(Kind::Poll, id));
        }
    }

    /// Tells once when a flow that is read by hand can be read; at once if it can be already.
    pub(crate) fn poll_read(&mut self, fd: BorrowedFd<'_>, id: ConnectionId) {
        let state = self.state(id.index);
        if *state & POLLING == 0 {
            *state |= POLLING;
            self.push_poll(fd, Key::of(Kind::Poll, id), libc::POLLIN | libc::POLLRDHUP, false);
        }
    }

    /// Tells of each arrival while a connection is peeked at: what was seen stays, and would be told for ever.
    pub(crate) fn poll_arrivals(&mut self, fd: BorrowedFd<'_>, id: ConnectionId) {
        self.begin_by_hand(id.index);
        let state = self.state(id.index);
        if *state & POLLING == 0 {
            *state |= POLLING;
            self.push_poll(fd, Key::of(Kind::Poll, id), libc::POLLIN | libc::POLLRDHUP, true);
        }
    }

    pub(crate) fn read_poll_ended(&mut self, index: u32) {
        *self.state(index) &= !POLLING;
    }

    /// Counts slow rounds of reading by hand; `true` when there were enough of them in a row.
    pub(crate) fn note_round(&mut self, index: u32, is_slow: bool) -> bool {
        let state = self.state(index);
        let rounds = if is_slow { (*state >> SLOW_SHIFT) + 1 } else { 0 };
        *state = *state & !(u16::MAX << SLOW_SHIFT) | rounds.min(SLOW_ROUNDS) << SLOW_SHIFT;
        rounds >= SLOW_ROUNDS
    }

    pub(crate) fn poll_write(&mut self, fd: BorrowedFd<'_>, id: ConnectionId) {
        let state = self.state(id.index);
        if *state & WRITING == 0 {
            *state |= WRITING;
            self.push_poll(fd, Key::of(Kind::Write, id), libc::POLLOUT, false);
        }
    }

    pub(crate) fn write_poll_ended(&mut self, index: u32) {
        *self.state(index) &= !WRITING;
    }

    /// A poll for the other end's leaving; `error_only` where its end was seen and only a reset can be new.
    pub(crate) fn poll_hangup(&mut self, fd: BorrowedFd<'_>, id: ConnectionId, error_only: bool) {
        let state = self.state(id.index);
        if *state & WATCHING == 0 {
            *state |= WATCHING;
            // The ring always reports a FIN too, at once where it was seen: only a poll that goes on after that
            // comes to tell of an error.
            self.push_poll(fd, Key::of(Kind::Watch, id), libc::POLLRDHUP, error_only);
        }
    }

    pub(crate) fn watch_ended(&mut self, index: u32) {
        *self.state(index) &= !WATCHING;
    }

    pub(crate) fn poll_datagrams(&mut self, fd: BorrowedFd<'_>, index: u32) {
        self.push_poll(fd, Key::special(Kind::Datagrams, index), libc::POLLIN, false);
    }

    pub(crate) fn poll_waker(&mut self, fd: BorrowedFd<'_>) {
        self.push_poll(fd, Key::special(Kind::Waker, 0), libc::POLLIN, true);
    }

    fn listener_state(&mut self, index: u32) -> &mut u16 {
        let index = index as usize;
        if index >= self.listeners.len() {
            self.listeners.resize(index + 1, 0);
        }
        &mut self.listeners[index]
    }

    pub(crate) fn accept(&mut self, fd: BorrowedFd<'_>, index: u32) {
        let state = self.listener_state(index);
        if *state & RECEIVING != 0 {
            // One that was told to end begins anew when its end is seen.
            return;
        }
        *state = RECEIVING;
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let entry = opcode::AcceptMulti::new(types::Fd(fd.as_raw_fd())).flags(flags).build();
        self.push(entry.user_data(Key::special(Kind::Listener, index).0));
    }

    pub(crate) fn cancel_accept(&mut self, index: u32) {
        let state = self.listener_state(index);
        if *state == RECEIVING {
            *state |= CANCELLING;
            self.cancel(Key::special(Kind::Listener, index));
        }
    }

    pub(crate) fn is_accepting(&self, index: u32) -> bool {
        self.listeners.get(index as usize).is_some_and(|state| state & RECEIVING != 0)
    }

    pub(crate) fn accept_ended(&mut self, index: u32) {
        *self.listener_state(index) = 0;
    }

    /// Closes a descriptor with the next submission.
    pub(crate) fn close(&mut self, fd: RawFd) {
        let entry = opcode::Close::new(types::Fd(fd)).build().flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(Key::special(Kind::Nothing, 0).0));
    }
}

impl Drop for RingPoller {
    fn drop(&mut self) {
        // Closes that wait in the queue would be lost with it.
        let _ = self.ring.submit();
    }
}
