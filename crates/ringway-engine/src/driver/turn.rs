//! The parts of a turn that the drivers on a real kernel share: who is ready for what, and delivery to the sink.

use std::io;
use std::time::Duration;

use super::kernel::{BULK_READ_BYTES, CHUNKS_PER_TURN, Core, Peek, Phase, READ_BYTES, flag};
use super::{DatagramBatch, Event, Operations, Sink};
use crate::{DatagramSocketId, sys, udp};

/// What the kernel said about a socket.
#[derive(Clone, Copy)]
pub(crate) struct Readiness {
    pub(crate) read: bool,
    pub(crate) write: bool,
    /// FIN or an error follows what can be read.
    pub(crate) hangup: bool,
    pub(crate) error: bool,
}

/// Hands one event to the sink, and sends what it gathered.
pub(crate) fn give<S: Sink>(core: &mut Core, sink: &mut S, event: Event<'_>) {
    sink.on_event(&mut Operations::new(core), event);
    core.flush_cork();
}

/// Hands out the events that waited, and those that handling them brings about.
pub(crate) fn deliver<S: Sink>(core: &mut Core, sink: &mut S) {
    while let Some(mut event) = core.events.pop_front() {
        if core.refresh(&mut event) {
            give(core, sink, event);
        }
    }
}

/// A connection is ready for something.
pub(crate) fn ready<S: Sink>(
    core: &mut Core,
    sink: &mut S,
    key: u64,
    readiness: Readiness,
    buffer: &mut [u8],
) {
    let index = key as u32;
    let generation = (key >> 32) as u32;
    let Some(entry) = core.entries.get_mut(index) else { return };
    if entry.generation != generation || entry.phase() == Phase::Free {
        return;
    }
    if readiness.error {
        entry.set_error_told(true);
    }
    if readiness.hangup {
        entry.set(flag::HANGUP | flag::READABLE);
    } else if readiness.read {
        entry.set(flag::READABLE);
    }
    match entry.phase() {
        Phase::Dialling if readiness.write => core.dial_ended(index),
        Phase::Open => {
            if readiness.write && entry.has(flag::BLOCKED) {
                core.flush_open(index);
                deliver(core, sink);
            }
            if core.entries.get(index).is_some_and(|entry| entry.generation == generation) {
                open_readable(core, sink, index, readiness.error, buffer);
            }
        }
        Phase::Relay => relay_ready(core, index, readiness, buffer),
        Phase::Breaking => {
            if readiness.write && entry.has(flag::BLOCKED) {
                core.flush_breaking(index);
            }
        }
        Phase::Closing => {
            if readiness.write {
                core.flush_open(index);
            }
        }
        Phase::Dialling | Phase::Free | Phase::Stopping | Phase::Exporting => {}
    }
}

fn open_readable<S: Sink>(core: &mut Core, sink: &mut S, index: u32, error: bool, buffer: &mut [u8]) {
    let entry = core.entry(index);
    if entry.phase() != Phase::Open {
        return;
    }
    if entry.has(flag::RECEIVING) {
        receive(core, sink, index, buffer);
    } else if entry.is_peeking() {
        peek(core, sink, index, error, buffer);
    } else if entry.has(flag::WATCHED) {
        if entry.has(flag::HANGUP | flag::READ_ENDED) {
            core.watched_left(index);
        } else {
            core.arm_watch(index);
        }
    } else if error && entry.has(flag::READ_ENDED) && !entry.stands() {
        // Nothing is left to be read: the error is news of its own.
        if let Some(error) = entry.fd().and_then(sys::take_error) {
            core.fail(index, error);
        }
    }
}

fn relay_ready(core: &mut Core, index: u32, readiness: Readiness, buffer: &mut [u8]) {
    if readiness.error && core.entry(index).has(flag::READ_ENDED) {
        // Its end was seen before: only an error can be new, and no read will tell it.
        if let Some(error) = core.entry(index).fd().and_then(sys::take_error) {
            return core.source_failed_with(index, error);
        }
    }
    if readiness.write && core.entry(index).has(flag::BLOCKED) {
        core.flush_relay(index, buffer);
    }
    if readiness.read && core.entry(index).phase() == Phase::Relay {
        core.pump(index, buffer);
    }
}

/// Reads from an open connection and lends what comes: in larger chunks as soon as one was full and whoever got it wants
/// more. Each read has the kernel acknowledge, and the sender fill up what it took.
fn receive<S: Sink>(core: &mut Core, sink: &mut S, index: u32, buffer: &mut [u8]) {
    let id = core.entry(index).id(index);
    let (mut room, mut left) = (READ_BYTES, CHUNKS_PER_TURN * READ_BYTES);
    while left > 0 {
        left = left.saturating_sub(room);
        if core.place(id).is_none() {
            return;
        }
        let entry = core.entry(index);
        if entry.phase() != Phase::Open || !entry.has(flag::RECEIVING) {
            return;
        }
        let token = entry.token;
        if let Some(mut held) = take_held(core, index) {
            give(core, sink, Event::Received { connection: id, token, bytes: &mut held });
            deliver(core, sink);
            continue;
        }
        let entry = core.entry_mut(index);
        if entry.has(flag::READ_ENDED) {
            entry.clear(flag::RECEIVING);
            core.events.push_back(Event::Ended { connection: id, token });
            return;
        }
        if core.reads_by_completion(index) {
            if let Some(error) = take_error(core, index) {
                core.fail(index, error);
            }
            return;
        }
        let entry = core.entry_mut(index);
        let (hangup, told) = (entry.has(flag::HANGUP), entry.error_was_told());
        let Some(fd) = entry.fd() else { return };
        match sys::receive(fd, &mut buffer[..room], 0) {
            Ok(0) => {
                // A reset may have come right behind the end; its edge was the same.
                if let Some(error) = entry.fd().filter(|_| told).and_then(sys::take_error) {
                    return core.fail(index, error);
                }
                entry.set(flag::READ_ENDED);
                entry.clear(flag::READABLE);
            }
            Ok(count) => {
                if count < room && !hangup {
                    entry.clear(flag::READABLE);
                }
                let drained = !entry.has(flag::READABLE);
                if core.queued_total < core.config.pending_bytes_max / 2 {
                    room = BULK_READ_BYTES;
                }
                core.touch(index);
                give(core, sink, Event::Received { connection: id, token, bytes: &mut buffer[..count] });
                deliver(core, sink);
                if drained {
                    return core.end_draining(id);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                entry.clear(flag::READABLE);
                return core.end_draining(id);
            }
            Err(error) => return core.fail(index, error),
        }
    }
    if core.place(id).is_some() {
        core.push_redo(index);
    }
}

/// Shows what waits on an open connection, if it is more than was shown before.
fn peek<S: Sink>(core: &mut Core, sink: &mut S, index: u32, error: bool, buffer: &mut [u8]) {
    if !core.may_peek(index) {
        return;
    }
    let broken = take_error(core, index)
        .or_else(|| core.entry(index).fd().filter(|_| error).and_then(sys::take_error));
    if let Some(error) = broken {
        return core.fail(index, error);
    }
    let peek = core.entry(index).peek();
    let buffer = &mut buffer[..peek.bytes_max];
    let held = core.rare(index).map_or(&[][..], |rare| &rare.received);
    let mut count = held.len().min(buffer.len());
    buffer[..count].copy_from_slice(&held[..count]);
    let entry = core.entry_mut(index);
    let mut ended = entry.has(flag::READ_ENDED);
    if !ended && count < buffer.len() {
        let Some(fd) = entry.fd() else { return };
        match sys::receive(fd, &mut buffer[count..], libc::MSG_PEEK) {
            Ok(0) => ended = true,
            Ok(seen) => {
                count += seen;
                // Where the end is known to follow and there was room for more, this was the last of it.
                ended = entry.has(flag::HANGUP) && count < buffer.len();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => entry.clear(flag::READABLE),
            Err(error) => return core.fail(index, error),
        }
    }
    let is_news = count > peek.told || ended && peek.told != Peek::ALL;
    if is_news {
        entry.set_peek(Peek { told: if ended { Peek::ALL } else { count }, ..peek });
        let (connection, token) = (entry.id(index), entry.token);
        give(core, sink, Event::Peeked { connection, token, bytes: &buffer[..count], ended });
        deliver(core, sink);
    }
}

/// Bytes that were taken earlier and not delivered.
fn take_held(core: &mut Core, index: u32) -> Option<Vec<u8>> {
    let rare = core.entry(index).rare().and_then(|place| core.rares.get_mut(place))?;
    if rare.received.is_empty() {
        return None;
    }
    let held = std::mem::take(&mut rare.received);
    core.tidy_rare(index);
    Some(held)
}

/// What broke a connection while nobody listened.
fn take_error(core: &mut Core, index: u32) -> Option<io::Error> {
    core.entry(index).rare().and_then(|place| core.rares.get_mut(place))?.error.take()
}

/// Datagrams wait on a socket.
pub(crate) fn datagrams<S: Sink>(core: &mut Core, sink: &mut S, index: u32, batch: &mut DatagramBatch) {
    let Some(socket) = core.datagram_sockets.get(index) else { return };
    let token = socket.token;
    udp::receive(&socket.fd, batch);
    if !batch.is_empty() {
        give(core, sink, Event::Datagrams { socket: DatagramSocketId(index), token, batch });
    }
}

/// What comes after the kernel's events: what was put off, timers, housekeeping.
pub(crate) fn finish<S: Sink>(core: &mut Core, sink: &mut S, buffer: &mut [u8]) {
    let mut redo = std::mem::take(&mut core.redo);
    for id in redo.drain(..) {
        let Some(index) = core.place(id) else { continue };
        core.entry_mut(index).clear(flag::QUEUED);
        match core.entry(index).phase() {
            Phase::Relay => core.pump(index, buffer),
            Phase::Open => open_readable(core, sink, index, false, buffer),
            Phase::Free
            | Phase::Dialling
            | Phase::Breaking
            | Phase::Closing
            | Phase::Stopping
            | Phase::Exporting => {}
        }
        deliver(core, sink);
    }
    // Keep the memory, unless something was put off again meanwhile.
    if core.redo.is_empty() {
        core.redo = redo;
    }
    while let Some((timer, token)) = core.timers.pop(core.now) {
        give(core, sink, Event::TimerFired { timer, token });
        deliver(core, sink);
    }
    core.housekeeping();
    deliver(core, sink);
}

/// Whether polling before parking is worth it: only while work comes within the budget.
pub(crate) struct SpinGauge {
    budget: Duration,
    /// Moving average of recent waits, in nanoseconds; long ones count as twice the budget.
    average: u64,
}

impl SpinGauge {
    pub(crate) fn new(budget: Duration) -> Self {
        Self { budget, average: u64::MAX >> 8 }
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.budget.is_zero()
    }

    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    pub(crate) fn is_worth_it(&self) -> bool {
        self.is_on() && u128::from(self.average) < self.budget.as_nanos() * 3 / 2
    }

    /// Notes how long the last wait took.
    pub(crate) fn note(&mut self, waited: Duration) {
        let longest = u64::try_from(self.budget.as_nanos() * 2).unwrap_or(u64::MAX >> 8);
        let waited = u64::try_from(waited.as_nanos()).unwrap_or(longest).min(longest);
        self.average = self.average.min(longest) / 8 * 7 + waited / 8;
    }
}
