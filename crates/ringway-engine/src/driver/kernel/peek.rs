//! Looking at what arrives without taking it: the bytes stay in the kernel's queue.
//!
//! Epoll tells of every arrival, drained or not; the ring is asked to poll for the length of the peek.

use super::{Core, Peek, Phase, Poller, flag};
use crate::{ConnectionId, sys};

impl Core {
    pub(crate) fn begin_peek(&mut self, id: ConnectionId, bytes_max: usize) {
        let Some(index) = self.place(id) else { return };
        let entry = self.entry_mut(index);
        if entry.phase() != Phase::Open || entry.has(flag::RECEIVING) {
            return;
        }
        entry.clear(flag::WATCHED);
        self.end_standing(index);
        let entry = self.entry_mut(index);
        entry.set_peeking(true);
        entry.set_peek(Peek { bytes_max: bytes_max.min(crate::PEEK_BYTES_MAX), told: 0 });
        self.arm_peek(index);
        self.push_redo(index);
    }

    /// Has the poller tell what arrives. In the ring, a receive that was told to end must have ended first, or the
    /// bytes it still brings would come after those that were peeked at.
    pub(crate) fn arm_peek(&mut self, index: u32) {
        match &mut self.poller {
            Poller::Epoll(_) => self.arm_watch(index),
            Poller::Ring(ring) => {
                if let Some(entry) = self.entries.get(index)
                    && let Some(fd) = entry.fd()
                    && !ring.is_receiving(index)
                {
                    ring.poll_arrivals(fd, entry.id(index));
                }
            }
        }
    }

    pub(crate) fn end_peek(&mut self, index: u32) {
        let entry = self.entry_mut(index);
        if !entry.is_peeking() {
            return;
        }
        entry.set_peeking(false);
        entry.set_bytes(0);
        let id = entry.id(index);
        if let Poller::Ring(ring) = &mut self.poller {
            ring.end_by_hand(id);
        }
    }

    /// Whether what was taken from the kernel for a connection is all known, so that the kernel's queue may be looked at.
    pub(crate) fn may_peek(&self, index: u32) -> bool {
        match &self.poller {
            Poller::Epoll(_) => true,
            Poller::Ring(ring) => !ring.is_receiving(index),
        }
    }

    pub(crate) fn take_peeked(&mut self, id: ConnectionId, count: usize) -> usize {
        let Some(index) = self.place(id) else { return 0 };
        let entry = self.entry(index);
        if entry.phase() != Phase::Open || entry.has(flag::RECEIVING) || !self.may_peek(index) {
            return 0;
        }
        let mut taken = 0;
        if let Some(rare) = entry.rare().and_then(|place| self.rares.get_mut(place)) {
            taken = count.min(rare.received.len());
            rare.received.drain(..taken);
            self.tidy_rare(index);
        }
        let mut scratch = [0; 4096];
        while taken < count {
            let Some(fd) = self.entry(index).fd() else { break };
            let room = scratch.len().min(count - taken);
            match sys::receive(fd, &mut scratch[..room], 0) {
                // An end or an error is told by whoever reads next.
                Ok(0) | Err(_) => break,
                Ok(received) => taken += received,
            }
        }
        self.touch(index);
        let entry = self.entry_mut(index);
        if entry.is_peeking() {
            entry.set_peek(Peek { told: 0, ..entry.peek() });
            self.push_redo(index);
        }
        taken
    }
}
