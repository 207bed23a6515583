//! The relay: bytes from one socket to another, beside the system calls and without the user of the engine.
//!
//! A direction reads into the engine's one buffer and sends at once. What the kernel does not take is queued at
//! the destination, and the source rests until it is gone. After two full reads in a row that went through whole
//! the flow is bulk: the kernel splices through a pipe of the pool, or, without one, 256 KiB are copied at a time.
//! The first splice that finds little makes it small again; the pipe goes back to the pool whenever it is empty.
//! Over the engine's budget of queued bytes a read only peeks, and takes what was sent: nothing more is queued.

use std::io;
use std::time::Duration;

use super::{BULK_READ_BYTES, CHUNKS_PER_TURN, Core, Phase, Poller, READ_BYTES, Rare, flag, flow};
use crate::driver::{RelayCause, RelayEnd, RelayOptions, RelayProgress, RelayStop, Side};
use crate::pipe::PIPE_BYTES;
use crate::{ConnectionId, Event, sys};

/// How long a reset waits for the acknowledgement of what was sent before it.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// A splice that finds less than this ends the bulk. Measured (docs/internals/benchmarks.md): 0 to 128 KiB are ties on epoll,
/// below 32 KiB one stream on io_uring costs 7 % more.
const SPLICE_BYTES_MIN: usize = 32 << 10;

/// So many looks in a row that find a flow at rest lower its mark: one of many that share a machine rests for one or two.
const IDLE_LOOKS_MAX: u8 = 4;

/// A source whose SO_RCVLOWAT is raised.
pub(crate) struct LowWater {
    id: ConnectionId,
    /// Bytes relayed from it when last looked at, and those that the look itself read.
    seen: u64,
    idle_looks: u8,
}

/// What became of a step of a direction.
pub(crate) enum Step {
    /// Go on.
    More,
    /// Nothing more to do now: drained, blocked or over.
    Rest,
}

impl Core {
    pub(crate) fn begin_relay(&mut self, a: u32, b: u32, options: RelayOptions) {
        let stood = self.entry(a).stands() || self.entry(b).stands();
        for (index, peer, side_b, bytes) in [(a, b, false, options.bytes[0]), (b, a, true, options.bytes[1])]
        {
            let activity =
                options.last_activity.map_or_else(|| self.activity_now(), |at| self.activity_tick(at));
            let entry = self.entry_mut(index);
            entry.activity = activity;
            entry.set_phase(Phase::Relay);
            entry.peer = peer;
            entry.set_flow(flow::SMALL);
            entry.set_bytes(bytes);
            entry.clear(flag::RECEIVING | flag::WATCHED | flag::SIDE_B | flag::NO_SPLICE);
            if !entry.has(flag::READ_ENDED) {
                entry.clear(flag::FIRST_END);
            }
            if side_b {
                entry.set(flag::SIDE_B);
            }
            if !options.splice {
                entry.set(flag::NO_SPLICE);
            }
            if let Some(rare) = entry.rare().and_then(|place| self.rares.get_mut(place)) {
                // What the user sent before is not the relay's to count.
                rare.uncounted = rare.queue.len() - rare.start;
            }
        }
        for (index, peer) in [(a, b), (b, a)] {
            // Of an end that came before this relay began nobody else will say that it was the first.
            if self.entry(index).has(flag::READ_ENDED) && !self.entry(peer).has(flag::READ_ENDED) {
                self.entry_mut(index).set(flag::FIRST_END);
            }
        }
        if options.a_is_ready {
            self.entry_mut(a).set(flag::READABLE);
        }
        for index in [a, b] {
            self.deliver_held_bytes(index);
        }
        for index in [a, b] {
            if self.is_relaying(index) {
                self.resume_source(index);
                self.listen_for_reset(index);
            }
        }
        if stood {
            self.look_for_errors(a, b);
        }
    }

    /// Of a connection that stood nobody was told that it broke. Where something is left to be read, reading tells.
    fn look_for_errors(&mut self, a: u32, b: u32) {
        for index in [a, b] {
            if self.is_relaying(index)
                && self.entry(index).has(flag::READ_ENDED)
                && let Some(error) = self.entry(index).fd().and_then(sys::take_error)
            {
                self.source_failed_with(index, error);
            }
        }
    }

    /// Has the poller tell of a reset that follows the end of a stream. Readiness tells of it anyway; where reads
    /// complete none will, and most relays end before it is worth a request.
    fn listen_for_reset(&mut self, source: u32) {
        let entry = self.entry(source);
        if entry.has(flag::READ_ENDED) && self.is_relaying(source) && matches!(self.poller, Poller::Ring(_)) {
            self.half_closed.push(self.entry(source).id(source));
            self.request_housekeeping();
        }
    }

    /// Queues what was taken from a socket before its relay began for the other one.
    fn deliver_held_bytes(&mut self, source: u32) {
        let Some(rare) = self.entry(source).rare().and_then(|place| self.rares.get_mut(place)) else {
            return;
        };
        if rare.received.is_empty() {
            return;
        }
        let received = std::mem::take(&mut rare.received);
        self.tidy_rare(source);
        let destination = self.entry(source).peer;
        self.forward(source, destination, &received);
    }

    pub(crate) fn is_relaying(&self, index: u32) -> bool {
        self.entry(index).phase() == Phase::Relay
    }

    /// Lets a source be read from again, or passes its end on if that is all that is left.
    pub(crate) fn resume_source(&mut self, source: u32) {
        let entry = self.entry(source);
        if entry.has(flag::READ_ENDED) {
            // After what is queued, if anything is.
            if !self.entry(entry.peer).has(flag::BLOCKED) {
                self.pass_end(source);
            }
        } else {
            self.arm_read(source);
        }
    }

    /// Moves what can be read from `source` to its peer.
    pub(crate) fn pump(&mut self, source: u32, buffer: &mut [u8]) {
        let before = self.entry(source).bytes();
        for _ in 0..CHUNKS_PER_TURN {
            let entry = self.entry(source);
            if entry.phase() != Phase::Relay
                || entry.has(flag::READ_ENDED)
                || self.reads_by_completion(source)
            {
                return;
            }
            let destination = entry.peer;
            if self.entry(destination).has(flag::BLOCKED | flag::BROKEN) {
                return;
            }
            let step = if entry.flow() == flow::BULK && !entry.has(flag::NO_SPLICE) {
                match self.pipes.take() {
                    Some(pipe) => self.splice_chunk(source, destination, pipe),
                    None => self.copy_chunk(source, destination, buffer),
                }
            } else {
                self.copy_chunk(source, destination, buffer)
            };
            if matches!(step, Step::Rest) {
                return self.await_more(source, self.entry(source).bytes().saturating_sub(before));
            }
        }
        self.push_redo(source);
    }

    fn copy_chunk(&mut self, source: u32, destination: u32, buffer: &mut [u8]) -> Step {
        let entry = self.entry(source);
        let room = if entry.flow() == flow::BULK { BULK_READ_BYTES } else { READ_BYTES };
        let peek = self.queued_total >= self.config.pending_bytes_max;
        let Some(fd) = entry.fd() else { return Step::Rest };
        let bytes = match sys::receive(fd, &mut buffer[..room], if peek { libc::MSG_PEEK } else { 0 }) {
            Ok(0) => return self.source_ended(source),
            Ok(count) => &buffer[..count],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.source_drained(source),
            Err(error) => return self.source_failed(source, error),
        };
        let count = bytes.len();
        let sent = if peek {
            match self.send_peeked(source, destination, count, buffer) {
                Some(sent) => sent,
                None => return Step::Rest,
            }
        } else {
            match self.forward(source, destination, bytes) {
                Some(sent) => sent,
                None => return Step::Rest,
            }
        };
        if sent < count {
            return Step::Rest;
        }
        let entry = self.entry_mut(source);
        if count == room {
            if entry.flow() < flow::BULK {
                let flow = entry.flow() + 1;
                entry.set_flow(flow);
                if flow == flow::BULK {
                    self.raise_low_water(source);
                }
            }
            return Step::More;
        }
        entry.set_flow(flow::SMALL);
        if entry.has(flag::HANGUP) {
            // The end follows, and no edge will tell of it again.
            return Step::More;
        }
        entry.clear(flag::READABLE);
        Step::Rest
    }

    /// Sends bytes taken from `source` and queues what is not sent. Returns how many were sent; `None` when
    /// the destination broke.
    pub(crate) fn forward(&mut self, source: u32, destination: u32, bytes: &[u8]) -> Option<usize> {
        let entry = self.entry(destination);
        let sent = match entry.fd() {
            _ if entry.has(flag::BROKEN) => {
                self.rare_mut(destination).undelivered += bytes.len() as u64;
                return None;
            }
            Some(fd) if !entry.has(flag::BLOCKED) => match sys::send(fd, bytes) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => {
                    self.destination_failed(destination, error, bytes.len());
                    return None;
                }
            },
            _ => 0,
        };
        self.touch(source);
        self.entry_mut(source).add_bytes(sent);
        if sent < bytes.len() {
            self.queue(destination, &bytes[sent..]);
            self.block_relay(source, destination);
        }
        Some(sent)
    }

    /// The kernel took no more: wait for `destination`, and hear nothing of what arrives at `source` meanwhile.
    /// A fast source would else wake the worker with every segment it fills its buffer with, twenty times for each
    /// time that something can be done.
    fn block_relay(&mut self, source: u32, destination: u32) {
        self.block(destination);
        self.follow_interest(source);
    }

    /// Sends what was only peeked at, then takes as much out of the source. `None` when nothing more can be done.
    fn send_peeked(
        &mut self,
        source: u32,
        destination: u32,
        count: usize,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let sent = match sys::send(self.entry(destination).fd()?, &buffer[..count]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                self.destination_failed(destination, error, 0);
                return None;
            }
        };
        if sent < count {
            self.block_relay(source, destination);
        }
        if sent > 0 {
            // The bytes are there: they were just seen, and nobody else reads.
            let taken = sys::receive(self.entry(source).fd()?, &mut buffer[..sent], 0);
            debug_assert_eq!(taken.ok(), Some(sent), "what was peeked at can be taken");
            self.touch(source);
            self.entry_mut(source).add_bytes(sent);
        }
        Some(sent)
    }

    fn splice_chunk(&mut self, source: u32, destination: u32, pipe: crate::pipe::Pipe) -> Step {
        self.has_spliced = true;
        let Some(fd) = self.entry(source).fd() else { return Step::Rest };
        let count = match sys::splice(fd, pipe.write_end(), PIPE_BYTES, false) {
            Ok(0) => {
                self.pipes.give_back(pipe);
                return self.source_ended(source);
            }
            Ok(count) => count,
            Err(error) => {
                self.pipes.give_back(pipe);
                return match error.kind() {
                    io::ErrorKind::WouldBlock => self.source_drained(source),
                    // The socket cannot splice: copy from now on.
                    io::ErrorKind::InvalidInput => {
                        self.entry_mut(source).set(flag::NO_SPLICE);
                        Step::More
                    }
                    _ => self.source_failed(source, error),
                };
            }
        };
        self.touch(source);
        let mut left = count;
        while left > 0 {
            let Some(fd) = self.entry(destination).fd() else { return Step::Rest };
            match sys::splice(pipe.read_end(), fd, left, false) {
                Ok(moved) => {
                    left -= moved;
                    self.entry_mut(source).add_bytes(moved);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.piped_total += left;
                    let rare = self.rare_mut(destination);
                    rare.pipe = Some(pipe);
                    rare.piped = left;
                    self.block_relay(source, destination);
                    return Step::Rest;
                }
                Err(error) => {
                    self.pipes.discard(pipe);
                    self.destination_failed(destination, error, left);
                    return Step::Rest;
                }
            }
        }
        self.pipes.give_back(pipe);
        let entry = self.entry_mut(source);
        if count < SPLICE_BYTES_MIN && !entry.has(flag::LOW_WATER) {
            entry.set_flow(flow::SMALL);
        }
        Step::More
    }

    fn source_drained(&mut self, source: u32) -> Step {
        let destination = self.entry(source).peer;
        let entry = self.entry_mut(source);
        entry.clear(flag::READABLE);
        if entry.has(flag::BROKEN) {
            // It cannot be written to, and it says nothing more that could be handed on.
            self.break_relay(source);
        } else if self.entry(destination).has(flag::BROKEN) {
            self.break_relay(destination);
        }
        Step::Rest
    }

    /// The source finished sending.
    pub(crate) fn source_ended(&mut self, source: u32) -> Step {
        if self.entry(source).has(flag::BROKEN) {
            self.break_relay(source);
            return Step::Rest;
        }
        // A reset may have come right behind the end. The read tells of the end alone, and the edge that told of both
        // will not come again. A reset that comes later has an edge of its own.
        let entry = self.entry(source);
        let error = entry.fd().filter(|_| entry.error_was_told()).and_then(sys::take_error);
        if let Some(error) = error {
            return self.source_failed(source, error);
        }
        let peer = self.entry(source).peer;
        let first = !self.entry(peer).has(flag::READ_ENDED);
        let entry = self.entry_mut(source);
        entry.set(flag::READ_ENDED);
        entry.clear(flag::READABLE);
        if first {
            entry.set(flag::FIRST_END);
        }
        let id = self.entry(source).id(source);
        if !self.entry(peer).has(flag::BLOCKED) {
            self.pass_end(source);
        }
        if self.place(id).is_some() {
            self.listen_for_reset(source);
        }
        Step::Rest
    }

    /// The source was reset, or the kernel gave it up. All it sent before was taken.
    pub(crate) fn source_failed_with(&mut self, source: u32, error: io::Error) {
        let _ = self.source_failed(source, error);
    }

    fn source_failed(&mut self, source: u32, error: io::Error) -> Step {
        let rare = self.rare_mut(source);
        if rare.error.is_none() {
            rare.error = Some(error);
        }
        self.break_relay(source);
        Step::Rest
    }

    /// Nothing can be sent to `destination` any more, of `lost` bytes at hand and what was queued.
    /// What it has sent itself is still handed on; then the relay breaks.
    pub(crate) fn destination_failed(&mut self, destination: u32, error: io::Error, lost: usize) {
        self.drop_outbound(destination, lost);
        let rare = self.rare_mut(destination);
        if rare.error.is_none() {
            rare.error = Some(error);
        }
        let entry = self.entry_mut(destination);
        entry.clear(flag::BLOCKED);
        entry.set(flag::BROKEN | flag::READABLE | flag::HANGUP);
        if entry.has(flag::READ_ENDED) {
            return self.break_relay(destination);
        }
        self.push_redo(destination);
        self.arm_read(destination);
        // A ring tells that nothing more can be read by cancelling the receive.
        self.disarm_read(destination);
    }

    /// What the user queued before the relay is in its count from the start: takes out what has not left.
    fn settle_uncounted(&mut self, destination: u32) {
        let source = self.entry(destination).peer;
        let Some(rare) = self.entry(destination).rare().and_then(|place| self.rares.get_mut(place)) else {
            return;
        };
        let left = std::mem::take(&mut rare.uncounted) as u64;
        let entry = self.entry_mut(source);
        entry.set_bytes(entry.bytes().saturating_sub(left));
    }

    /// Forgets what is on its way to a connection, and counts it as undelivered.
    fn drop_outbound(&mut self, index: u32, lost: usize) {
        self.settle_uncounted(index);
        let rare = self.rare_mut(index);
        let queued = rare.queue.len() - rare.start;
        let piped = std::mem::take(&mut rare.piped);
        rare.undelivered += (queued + piped + lost) as u64;
        rare.queue = Vec::new();
        rare.start = 0;
        let pipe = rare.pipe.take();
        self.queued_total -= queued;
        self.piped_total -= piped;
        if let Some(pipe) = pipe {
            self.pipes.discard(pipe);
        }
    }

    /// Hands the end of `source` on; everything before it has been handed on.
    pub(crate) fn pass_end(&mut self, source: u32) {
        let entry = self.entry(source);
        let (destination, id, token) = (entry.peer, entry.id(source), entry.token);
        if self.entry(destination).has(flag::SHUT_DONE) {
            return;
        }
        // Once the other direction has come to its end too, closing says the same as shutting.
        if self.entry(destination).has(flag::READ_ENDED) && self.entry(source).has(flag::SHUT_DONE) {
            self.entry_mut(destination).set(flag::SHUT | flag::SHUT_DONE);
            return self.finish_relay(source, RelayCause::Finished);
        }
        self.finish_shut(destination);
        self.touch(source);
        self.events.push_back(Event::RelayHalfClosed { from: id, token });
    }

    /// A blocked end of a relay can be written to.
    pub(crate) fn flush_relay(&mut self, destination: u32, buffer: &mut [u8]) {
        match self.flush(destination) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.destination_failed(destination, error, 0),
        }
        let source = self.entry(destination).peer;
        if self.entry(source).has(flag::READ_ENDED) {
            return self.pass_end(source);
        }
        self.follow_interest(source);
        if self.entry(source).has(flag::READABLE) && !self.reads_by_completion(source) {
            self.pump(source, buffer);
        } else {
            self.arm_read(source);
        }
    }

    /// The relay is over because of `broken`: the other side gets what is queued for it, then a reset.
    pub(crate) fn break_relay(&mut self, broken: u32) {
        let other = self.entry(broken).peer;
        self.drop_outbound(broken, 0);
        for index in [broken, other] {
            self.entry_mut(index).set_phase(Phase::Breaking);
            self.quiet(index);
        }
        self.entry_mut(broken).set(flag::BROKEN);
        self.entry_mut(other).clear(flag::BROKEN);
        if !self.entry(other).has(flag::BLOCKED) {
            self.reset_when_acknowledged(other);
        }
    }

    /// A blocked side of a broken relay can be written to.
    pub(crate) fn flush_breaking(&mut self, index: u32) {
        match self.flush(index) {
            Ok(true) => self.reset_when_acknowledged(index),
            Ok(false) => {}
            Err(_) => {
                self.drop_outbound(index, 0);
                self.finish_broken(index);
            }
        }
    }

    /// A reset overtakes what the kernel has not sent yet: wait until that is acknowledged.
    fn reset_when_acknowledged(&mut self, index: u32) {
        let waits = self.entry(index).fd().map_or(0, sys::unacknowledged_bytes) > 0;
        if waits {
            let id = self.entry(index).id(index);
            self.lingering.push((id, self.now + LINGER_MAX));
            self.request_housekeeping();
        } else {
            self.finish_broken(index);
        }
    }

    /// Ends broken relays whose last bytes have arrived. Returns whether some still wait.
    pub(crate) fn tend_lingering(&mut self) -> bool {
        let mut position = 0;
        while let Some(&(id, until)) = self.lingering.get(position) {
            let over = match self.place(id) {
                None => true,
                Some(index) => {
                    let waits = self.entry(index).fd().map_or(0, sys::unacknowledged_bytes) > 0;
                    let over = !waits || self.now >= until;
                    if over {
                        self.finish_broken(index);
                    }
                    over
                }
            };
            if over {
                self.lingering.swap_remove(position);
            } else {
                position += 1;
            }
        }
        !self.lingering.is_empty()
    }

    fn finish_broken(&mut self, other: u32) {
        let broken = self.entry(other).peer;
        let place = self.entry(broken).rare();
        let error = place.and_then(|place| self.rares.get_mut(place)).and_then(|rare| rare.error.take());
        let cause = match error {
            Some(error) => match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => RelayCause::Reset,
                _ => RelayCause::Failed(error),
            },
            None => RelayCause::Reset,
        };
        for index in [broken, other] {
            if let Some(fd) = self.entry(index).fd() {
                sys::set_abortive(fd);
            }
        }
        self.finish_relay(broken, cause);
    }

    /// Ends a relay; `index` is the side whose doing it was (for `Finished` the flags tell).
    pub(crate) fn finish_relay(&mut self, index: u32, cause: RelayCause) {
        let entry = self.entry(index);
        let (a, b) = if entry.has(flag::SIDE_B) { (entry.peer, index) } else { (index, entry.peer) };
        let side_is_b = match cause {
            RelayCause::Finished => self.entry(b).has(flag::FIRST_END),
            RelayCause::Cut => false,
            RelayCause::Reset | RelayCause::Failed(_) => index == b,
        };
        self.settle_uncounted(a);
        self.settle_uncounted(b);
        let undelivered =
            |core: &Self, to: u32| core.rare(to).map_or(0, |rare| rare.undelivered + rare.outbound() as u64);
        let end = RelayEnd {
            a: self.entry(a).id(a),
            b: self.entry(b).id(b),
            token: self.entry(a).token,
            bytes: [self.entry(a).bytes(), self.entry(b).bytes()],
            undelivered: [undelivered(self, b), undelivered(self, a)],
            side: if side_is_b { Side::B } else { Side::A },
            cause,
        };
        self.release_and_close(a);
        self.release_and_close(b);
        self.events.push_back(Event::RelayEnded(end));
    }

    pub(crate) fn cut(&mut self, index: u32) {
        let entry = self.entry(index);
        if !matches!(entry.phase(), Phase::Relay | Phase::Breaking | Phase::Stopping) {
            return;
        }
        for (this, peer) in [(index, entry.peer), (entry.peer, index)] {
            // Owed bytes, or an end that it was never told: a stream that was cut must not look complete.
            let owed = self.outbound(this) > 0 || !self.entry(peer).has(flag::READ_ENDED);
            if let Some(fd) = self.entry(this).fd().filter(|_| owed) {
                sys::set_abortive(fd);
            }
        }
        self.finish_relay(index, RelayCause::Cut);
    }

    pub(crate) fn progress(&self, index: u32) -> RelayProgress {
        let entry = self.entry(index);
        if !matches!(entry.phase(), Phase::Relay | Phase::Breaking | Phase::Stopping) {
            return RelayProgress::default();
        }
        let (a, b) = if entry.has(flag::SIDE_B) { (entry.peer, index) } else { (index, entry.peer) };
        let uncounted = [a, b].map(|index| self.rare(index).map_or(0, |rare| rare.uncounted as u64));
        let (a, b) = (self.entry(a), self.entry(b));
        RelayProgress {
            bytes: [a.bytes().saturating_sub(uncounted[1]), b.bytes().saturating_sub(uncounted[0])],
            last_activity: self.activity_time(a.activity).max(self.activity_time(b.activity)),
            half_closed: [b.has(flag::SHUT_DONE), a.has(flag::SHUT_DONE)],
        }
    }

    /// Takes a relay apart at once; nothing may be in flight in the poller.
    pub(crate) fn finish_stop(&mut self, index: u32) {
        let entry = self.entry(index);
        let (a, b) = if entry.has(flag::SIDE_B) { (entry.peer, index) } else { (index, entry.peer) };
        self.settle_uncounted(a);
        self.settle_uncounted(b);
        let pending = [self.take_outbound(b), self.take_outbound(a)];
        let stop = RelayStop {
            a: self.entry(a).id(a),
            b: self.entry(b).id(b),
            token: self.entry(a).token,
            bytes: [self.entry(a).bytes(), self.entry(b).bytes()],
            pending,
        };
        for index in [a, b] {
            self.lower_low_water(index);
            let entry = self.entry_mut(index);
            let was_blocked = entry.has(flag::BLOCKED);
            entry.set_phase(Phase::Open);
            entry.clear(flag::BLOCKED);
            let peer = std::mem::replace(&mut entry.peer, u32::MAX);
            self.tidy_rare(index);
            if was_blocked {
                self.follow_interest(peer);
            }
        }
        self.events.push_back(Event::RelayStopped(stop));
    }

    /// Everything that is on its way to a connection, in order.
    pub(crate) fn take_outbound(&mut self, index: u32) -> Vec<u8> {
        let Some(rare) = self.entry(index).rare().and_then(|place| self.rares.get_mut(place)) else {
            return Vec::new();
        };
        let Rare { queue, start, pipe, piped, uncounted, .. } = rare;
        let mut bytes = std::mem::take(queue);
        bytes.drain(..*start);
        *start = 0;
        *uncounted = 0;
        self.queued_total -= bytes.len();
        let Some(pipe) = pipe.take() else { return bytes };
        let expected = std::mem::take(piped);
        self.piped_total -= expected;
        let begin = bytes.len();
        bytes.resize(begin + expected, 0);
        let mut filled = begin;
        while filled < bytes.len() {
            match sys::read(pipe.read_end(), &mut bytes[filled..]) {
                Ok(count) if count > 0 => filled += count,
                _ => break,
            }
        }
        debug_assert_eq!(filled, bytes.len(), "a pipe holds what was put into it");
        bytes.truncate(filled);
        self.pipes.give_back(pipe);
        bytes
    }

    pub(crate) fn raise_low_water(&mut self, source: u32) {
        let Some(bytes) = self.config.bulk_low_water else { return };
        let entry = self.entry(source);
        if entry.has(flag::LOW_WATER | flag::NO_SPLICE) {
            return;
        }
        let Some(fd) = entry.fd() else { return };
        let mark = i32::try_from(bytes).unwrap_or(i32::MAX);
        if sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, mark).is_ok() {
            let (id, seen) = (entry.id(source), entry.bytes());
            self.entry_mut(source).set(flag::LOW_WATER);
            self.low_water.push(LowWater { id, seen, idle_looks: 0 });
            self.request_housekeeping();
        }
    }

    /// Has the ring tell of a reset of those whose end was seen and whose relay goes on.
    pub(crate) fn tend_half_closed(&mut self) {
        for id in std::mem::take(&mut self.half_closed) {
            if let Some(index) = self.relay_place(id) {
                self.arm_watch(index);
            }
        }
    }

    pub(crate) fn lower_low_water(&mut self, source: u32) {
        let entry = self.entry_mut(source);
        if !entry.has(flag::LOW_WATER) {
            return;
        }
        entry.clear(flag::LOW_WATER);
        entry.set_flow(flow::SMALL);
        if let Some(fd) = entry.fd() {
            let _ = sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1);
        }
    }

    /// The guard of SO_RCVLOWAT: bytes below the mark raise no event, so a source that brought nothing since the last
    /// look is read by hand, and gets its mark lowered after some looks. A source whose destination is full is not at
    /// rest. Returns whether marks are left.
    pub(crate) fn tend_low_water(&mut self) -> bool {
        let mut position = 0;
        while let Some(&LowWater { id, seen, idle_looks }) = self.low_water.get(position) {
            let index = self.place(id).filter(|index| self.entry(*index).has(flag::LOW_WATER));
            let Some(index) = index else {
                self.low_water.swap_remove(position);
                continue;
            };
            let entry = self.entry(index);
            let bytes = entry.bytes();
            let is_at_rest = bytes == seen && self.is_wanted(index);
            let waiting = if is_at_rest { entry.fd().map_or(0, sys::unread_bytes) } else { 0 };
            if is_at_rest && idle_looks + 1 == IDLE_LOOKS_MAX {
                self.lower_low_water(index);
                self.low_water.swap_remove(position);
            } else {
                let idle_looks = if is_at_rest { idle_looks + 1 } else { 0 };
                // What is read by hand now is no sign that the flow goes on.
                self.low_water[position] = LowWater { id, seen: bytes + waiting as u64, idle_looks };
                position += 1;
            }
            if waiting > 0 {
                self.entry_mut(index).set(flag::READABLE);
                self.push_redo(index);
            }
        }
        !self.low_water.is_empty()
    }

    /// The pair of a relay that an id takes part in.
    pub(crate) fn relay_place(&self, id: ConnectionId) -> Option<u32> {
        self.place(id).filter(|index| matches!(self.entry(*index).phase(), Phase::Relay | Phase::Breaking))
    }
}
