//! What the poller is asked for and told: the only place of the core where epoll and io_uring differ.
//!
//! Epoll tells that a socket can be read; the core reads. The ring brings the bytes themselves, while a flow is not
//! bulk; it is asked to stop (`disarm_read`) where epoll would simply not be listened to. Bulk is read by hand there
//! too, and polled only while nothing is left to be read and the destination takes bytes: a poll that is in the ring is
//! one that is waited for, and none has ever to be cancelled because a destination is full.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::{Core, Phase, Poller, flag, flow};
use crate::ConnectionId;

/// Rounds of reading by hand in a row that brought less than this end it, in a ring.
const BY_HAND_ROUND_BYTES: u64 = 64 << 10;

impl Core {
    /// Whether bytes of this connection come as completions, so that nobody else may read from it.
    pub(crate) fn reads_by_completion(&self, index: u32) -> bool {
        match &self.poller {
            Poller::Epoll(_) => false,
            Poller::Ring(ring) => !ring.reads_by_hand(index),
        }
    }

    /// Has what `index` sends read from now on; at once if it may be readable already.
    pub(crate) fn arm_read(&mut self, index: u32) {
        match &mut self.poller {
            Poller::Epoll(_) => {
                if !self.entry(index).has(flag::REGISTERED) {
                    // Registering reports what is readable already.
                    self.register(index, false);
                }
            }
            Poller::Ring(ring) => {
                if !ring.reads_by_hand(index) {
                    return self.arm_receive(index);
                }
                if let Some(entry) = self.entries.get(index).filter(|entry| !entry.has(flag::READABLE))
                    && let Some(fd) = entry.fd()
                {
                    ring.poll_read(fd, entry.id(index));
                }
            }
        }
        if self.entry(index).has(flag::READABLE) {
            self.push_redo(index);
        }
    }

    /// A relay's source was read until nothing was left, and `moved` bytes came of it. Epoll tells when there is more;
    /// the ring is asked to, or, when little comes, brings what comes itself again.
    pub(crate) fn await_more(&mut self, index: u32, moved: u64) {
        let Poller::Ring(ring) = &mut self.poller else { return };
        let Some(entry) = self.entries.get_mut(index) else { return };
        if !ring.reads_by_hand(index)
            || entry.phase() != Phase::Relay
            || entry.has(flag::READABLE | flag::READ_ENDED)
        {
            return;
        }
        if ring.note_round(index, moved < BY_HAND_ROUND_BYTES) {
            ring.end_by_hand(entry.id(index));
            entry.set_flow(flow::SMALL);
            self.arm_receive(index);
        } else if let Some(fd) = entry.fd() {
            ring.poll_read(fd, entry.id(index));
        }
    }

    /// Has an open connection, whose receive found no buffer left, be read by hand until nothing is left to be read. One that
    /// sends without a pause takes all buffers, turn after turn, because its receive is begun again first: without this
    /// the others would never be read, and itself only in small pieces.
    pub(crate) fn begin_draining(&mut self, index: u32) {
        if let Poller::Ring(ring) = &mut self.poller {
            ring.begin_by_hand(index);
            self.entry_mut(index).set(flag::READABLE);
        }
    }

    /// An open connection was read by hand until nothing was left: what comes next the ring brings again.
    pub(crate) fn end_draining(&mut self, id: ConnectionId) {
        let Some(index) = self.place(id) else { return };
        let entry = self.entry(index);
        let is_drained = entry.phase() == Phase::Open && !entry.has(flag::READABLE);
        // One that stands, or began to be peeked at meanwhile, goes on to be polled.
        let is_polled = entry.stands() || entry.is_peeking();
        let receives = entry.has(flag::RECEIVING) && !entry.has(flag::READ_ENDED);
        if let Poller::Ring(ring) = &mut self.poller
            && is_drained
            && !is_polled
            && ring.reads_by_hand(index)
        {
            ring.end_by_hand(id);
            if receives {
                self.arm_receive(index);
            }
        }
    }

    /// Starts a receive in the ring, or, for bulk and while memory is short, reading by hand.
    fn arm_receive(&mut self, index: u32) {
        let entry = self.entry(index);
        let by_hand = entry.phase() == Phase::Relay
            && (entry.flow() == flow::BULK && !entry.has(flag::NO_SPLICE)
                || self.queued_total >= self.config.pending_bytes_max);
        let Some(entry) = self.entries.get_mut(index) else { return };
        let id = entry.id(index);
        let Some(fd) = entry.fd() else { return };
        let Poller::Ring(ring) = &mut self.poller else { return };
        if ring.is_receiving(index) {
            return;
        }
        if ring.takes_next_by_hand(index) || by_hand {
            ring.begin_by_hand(index);
            entry.set(flag::READABLE);
            self.push_redo(index);
        } else {
            ring.receive(fd, id);
        }
    }

    /// Has reading stop. Bytes that are on their way still come as completions.
    pub(crate) fn disarm_read(&mut self, index: u32) {
        let id = self.entry(index).id(index);
        if let Poller::Ring(ring) = &mut self.poller {
            ring.cancel_receive(id);
        }
    }

    /// Has the poller tell when `index` can be written to.
    pub(crate) fn arm_write(&mut self, index: u32) {
        match &mut self.poller {
            Poller::Epoll(_) => {
                if !self.entry(index).has(flag::WRITE_ARMED) {
                    self.register(index, true);
                }
            }
            Poller::Ring(ring) => {
                let id = self.entries.get(index).map(|entry| entry.id(index));
                let fd = self.entries.get(index).and_then(|entry| entry.fd());
                if let (Some(fd), Some(id)) = (fd, id) {
                    ring.poll_write(fd, id);
                }
            }
        }
    }

    /// Has epoll tell once more if `index` can be written to: its edge may be of long ago. The ring tells each that asks.
    pub(crate) fn rearm_write(&mut self, index: u32) {
        if matches!(self.poller, Poller::Epoll(_)) {
            self.register(index, true);
        }
    }

    /// Has the poller note what arrives at an open connection, and nobody hear of it. A poll takes nothing from a socket.
    pub(crate) fn begin_standing(&mut self, index: u32) {
        self.entry_mut(index).set_standing(true);
        let Some(entry) = self.entries.get_mut(index) else { return };
        let (id, is_registered) = (entry.id(index), entry.has(flag::REGISTERED));
        let Some(fd) = entry.fd() else { return };
        match &mut self.poller {
            // If the kernel has no memory for it, the relay asks again.
            Poller::Epoll(epoll) => {
                if !is_registered && epoll.watch_socket(fd, id.to_bits(), true, false, false).is_ok() {
                    entry.set(flag::REGISTERED);
                }
            }
            Poller::Ring(ring) => {
                if !ring.is_receiving(index) {
                    ring.begin_by_hand(index);
                    ring.poll_read(fd, id);
                }
            }
        }
    }

    /// An open connection is used again, otherwise than by a relay.
    pub(crate) fn end_standing(&mut self, index: u32) {
        let entry = self.entry_mut(index);
        if !entry.stands() {
            return;
        }
        entry.set_standing(false);
        let id = entry.id(index);
        if let Poller::Ring(ring) = &mut self.poller {
            ring.end_by_hand(id);
        }
    }

    /// Has both sides of a relay be read by hand, where a receive would have to be waited for.
    pub(crate) fn ease_reading(&mut self, index: u32) {
        let peer = self.entry(index).peer;
        for index in [index, peer] {
            self.lower_low_water(index);
            let id = self.entry(index).id(index);
            if let Poller::Ring(ring) = &mut self.poller
                && ring.is_receiving(index)
            {
                ring.read_next_by_hand(index);
                ring.cancel_receive(id);
            }
        }
    }

    /// Has the poller tell when the other end of a watched connection leaves, or, once its end was seen, breaks.
    pub(crate) fn arm_watch(&mut self, index: u32) {
        match &mut self.poller {
            Poller::Epoll(_) => {
                if !self.entry(index).has(flag::REGISTERED) {
                    self.register(index, false);
                }
            }
            Poller::Ring(ring) => {
                let Some(entry) = self.entries.get(index) else { return };
                if let Some(fd) = entry.fd() {
                    ring.poll_hangup(fd, entry.id(index), entry.has(flag::READ_ENDED));
                }
            }
        }
    }

    /// Has the poller listen to a source again, or no longer, as its destination takes bytes or does not.
    pub(crate) fn follow_interest(&mut self, source: u32) {
        let entry = self.entry(source);
        let (is_known, write) = (entry.has(flag::REGISTERED), entry.has(flag::WRITE_ARMED));
        // The ring polls a source only once it was read empty (`await_more`).
        if is_known && matches!(self.poller, Poller::Epoll(_)) {
            self.register(source, write);
        }
    }

    /// Whether anything could be done with what `index` sends.
    pub(super) fn is_wanted(&self, index: u32) -> bool {
        let entry = self.entry(index);
        entry.phase() != Phase::Relay || !self.entry(entry.peer).has(flag::BLOCKED)
    }

    fn register(&mut self, index: u32, write: bool) {
        let read = self.is_wanted(index);
        let Some(entry) = self.entries.get_mut(index) else { return };
        let known = entry.has(flag::REGISTERED);
        let key = entry.id(index).to_bits();
        let Some(fd) = entry.fd() else { return };
        let Poller::Epoll(epoll) = &mut self.poller else { return };
        match epoll.watch_socket(fd, key, read, write, known) {
            Ok(()) => entry.set(if write { flag::REGISTERED | flag::WRITE_ARMED } else { flag::REGISTERED }),
            Err(error) => self.registration_failed(index, error),
        }
    }

    /// The kernel has no memory to watch one more socket: its connection cannot go on.
    fn registration_failed(&mut self, index: u32, error: io::Error) {
        match self.entry(index).phase() {
            Phase::Relay => {
                self.rare_mut(index).error = Some(error);
                self.break_relay(index);
            }
            Phase::Dialling => self.dial_failed(index, error),
            Phase::Free | Phase::Breaking => {}
            Phase::Open | Phase::Closing | Phase::Stopping | Phase::Exporting => self.fail(index, error),
        }
    }

    /// Stops hearing of a connection that goes on only to be written to.
    pub(crate) fn quiet(&mut self, index: u32) {
        self.entry_mut(index).clear(flag::READABLE | flag::RECEIVING | flag::WATCHED);
        self.disarm_read(index);
    }

    /// The entry is about to end; its descriptor is closed after the batch.
    pub(crate) fn forget_in_poller(&mut self, index: u32) {
        match &mut self.poller {
            // Closing the descriptor does it.
            Poller::Epoll(_) => self.entry_mut(index).clear(flag::REGISTERED | flag::WRITE_ARMED),
            // A request in the ring would keep the socket open.
            Poller::Ring(ring) => {
                if let Some(entry) = self.entries.get(index) {
                    ring.forget(entry.id(index));
                }
            }
        }
    }

    /// A descriptor goes to another engine: this one must not hear of it any more.
    pub(crate) fn forget_exported(&mut self, fd: &OwnedFd) {
        if let Poller::Epoll(epoll) = &mut self.poller {
            epoll.forget(fd);
        }
    }

    pub(crate) fn arm_listener(&mut self, index: u32) {
        let Some(listener) = self.listeners.get(index) else { return };
        match &mut self.poller {
            Poller::Epoll(epoll) => {
                // Fails only when the kernel is out of memory: look again later.
                if epoll.watch_listener(&listener.fd, index, !listener.is_tcp).is_err() {
                    self.rest(index, io::Error::from_raw_os_error(libc::ENOMEM));
                }
            }
            Poller::Ring(ring) => ring.accept(listener.fd.as_fd(), index),
        }
    }

    pub(crate) fn disarm_listener(&mut self, index: u32) {
        let Some(listener) = self.listeners.get(index) else { return };
        match &mut self.poller {
            Poller::Epoll(epoll) => epoll.forget(&listener.fd),
            Poller::Ring(ring) => ring.cancel_accept(index),
        }
    }

    /// Whether an accept of a listener is in the ring and may still bring a connection.
    pub(crate) fn is_accepting_in_ring(&self, index: u32) -> bool {
        match &self.poller {
            Poller::Epoll(_) => false,
            Poller::Ring(ring) => ring.is_accepting(index),
        }
    }

    pub(crate) fn arm_datagrams(&mut self, index: u32) -> io::Result<()> {
        let Some(socket) = self.datagram_sockets.get(index) else { return Ok(()) };
        match &mut self.poller {
            Poller::Epoll(epoll) => epoll.watch_datagrams(&socket.fd, index),
            Poller::Ring(ring) => {
                ring.poll_datagrams(socket.fd.as_fd(), index);
                Ok(())
            }
        }
    }

    pub(crate) fn disarm_datagrams(&mut self, index: u32) {
        let Some(socket) = self.datagram_sockets.get(index) else { return };
        // Closing the descriptor does it for epoll; a request in the ring would keep the socket open.
        if let Poller::Ring(ring) = &mut self.poller {
            ring.cancel_all(socket.fd.as_fd());
        }
    }

    /// Takes a relay apart as soon as no receive of it is in the ring.
    pub(crate) fn stop_reading_relay(&mut self, index: u32) {
        let peer = self.entry(index).peer;
        for index in [index, peer] {
            self.entry_mut(index).set_phase(Phase::Stopping);
            self.disarm_read(index);
        }
        self.stop_if_quiet(index);
    }

    /// Goes on with what waits for the receives of a relay to end.
    pub(crate) fn stop_if_quiet(&mut self, index: u32) {
        let peer = self.entry(index).peer;
        match &mut self.poller {
            Poller::Epoll(_) => {}
            Poller::Ring(ring) => {
                if ring.is_receiving(index) || ring.is_receiving(peer) {
                    return;
                }
                // A poll that is in the ring takes nothing, and its end tells nobody anything: it goes with the connection.
                for index in [index, peer] {
                    ring.leave_by_hand(index);
                }
            }
        }
        self.finish_stop(index);
    }

    /// Exports a connection as soon as no receive of it is in the ring.
    pub(crate) fn stop_reading_export(&mut self, index: u32) {
        self.disarm_read(index);
        if let Poller::Ring(ring) = &self.poller
            && ring.is_receiving(index)
        {
            self.entry_mut(index).set_phase(Phase::Exporting);
            return;
        }
        self.export_now(index);
    }
}
