//! Two connections joined: what one sends, the other gets, until both have ended or one breaks.

use std::io;

use super::connection::{Connection, Phase};
use super::driver::{CHUNK, SimulatedDriver};
use super::stream::{LetGo, Read};
use crate::driver::{Event, RelayCause, RelayEnd, RelayProgress, RelayStop, Side, Sink};
use crate::{ConnectionId, Time};

/// Chunks that one direction moves in one turn.
const CHUNKS_A_TURN: usize = 4;

/// A relay. Pairs are in the order `[from A to B, from B to A]`, or `[A, B]`.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) ends: [ConnectionId; 2],
    bytes: [u64; 2],
    /// Taken from one side and not yet handed to the other.
    pending: [Vec<u8>; 2],
    undelivered: [u64; 2],
    /// That side's stream was read to its end, clean or not.
    read: [ReadState; 2],
    /// The end was passed on.
    passed: [bool; 2],
    told: [bool; 2],
    /// Nothing more can be handed to that side.
    write_broken: [bool; 2],
    first_finished: Option<Side>,
    failure: Option<(Side, i32)>,
    last_activity: Time,
    pub(super) stopping: bool,
    pub(super) cutting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadState {
    Open,
    Ended,
    Failed,
}

impl Relay {
    pub(super) fn new(ends: [ConnectionId; 2], bytes: [u64; 2], last_activity: Time) -> Self {
        Self {
            ends,
            bytes,
            pending: [Vec::new(), Vec::new()],
            undelivered: [0, 0],
            read: [ReadState::Open; 2],
            passed: [false; 2],
            told: [false; 2],
            write_broken: [false; 2],
            first_finished: None,
            failure: None,
            last_activity,
            stopping: false,
            cutting: false,
        }
    }

    /// Takes over what a connection brings along: bytes received and not delivered, ends that were seen.
    pub(super) fn start_side(&mut self, side: usize, connection: &mut Connection) {
        self.pending[side] = std::mem::take(&mut connection.received);
        if connection.ended {
            self.read[side] = ReadState::Ended;
        }
        if connection.shut {
            // The end of the other side's stream was passed on before.
            self.passed[1 - side] = true;
            self.told[1 - side] = true;
            self.first_finished.get_or_insert(SIDES[1 - side]);
        }
    }

    pub(super) fn progress(&self) -> RelayProgress {
        RelayProgress { bytes: self.bytes, last_activity: self.last_activity, half_closed: self.passed }
    }

    /// Whether it is neither broken nor about to be cut.
    pub(super) fn can_stop(&self) -> bool {
        self.failure.is_none() && !self.cutting
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.iter().map(Vec::len).sum()
    }
}

const SIDES: [Side; 2] = [Side::A, Side::B];

impl SimulatedDriver {
    pub(super) fn relay_of(&self, id: ConnectionId) -> Option<&Relay> {
        match self.connections.get(id)?.phase {
            Phase::Relayed(place) => self.relays[place].as_ref(),
            Phase::Dialling | Phase::Open => None,
        }
    }

    pub(super) fn relay_of_mut(&mut self, id: ConnectionId) -> Option<&mut Relay> {
        match self.connections.get(id)?.phase {
            Phase::Relayed(place) => self.relays[place].as_mut(),
            Phase::Dialling | Phase::Open => None,
        }
    }

    /// Moves what can be moved, and delivers at most one event.
    pub(super) fn look_at_relay<S: Sink>(&mut self, place: usize, sink: &mut S) {
        let Some(relay) = &self.relays[place] else { return };
        if relay.cutting {
            return self.end_relay(place, Side::A, RelayCause::Cut, sink);
        }
        let first = self.network.world().random.index(2);
        let mut more = self.pump(place, first);
        more |= self.pump(place, 1 - first);
        let Some(relay) = &mut self.relays[place] else { return };
        for side in 0..2 {
            // Nobody reads any more from a side that ended, so nobody would notice that it is reset after that.
            let key = self.connections.get(relay.ends[side]).map_or(0, Connection::key);
            if relay.read[side] == ReadState::Ended && self.network.world().peer_state(key).reset {
                relay.break_write(side, libc::ECONNRESET);
            }
        }
        let a = relay.ends[0];
        if relay.passed == [true, true] {
            let side = relay.first_finished.unwrap_or(Side::A);
            return self.end_relay(place, side, RelayCause::Finished, sink);
        }
        if let Some((side, error)) = relay.failure {
            // What was received before the break is handed on first, if it still can be.
            let from = side.index();
            let queued = self.connections.get(relay.ends[1 - from]).is_some_and(|c| !c.queue.is_empty());
            let handed_on = relay.read[from] != ReadState::Open && relay.pending[from].is_empty() && !queued;
            if handed_on || relay.write_broken[1 - from] {
                let cause = match error {
                    libc::ECONNRESET | libc::EPIPE => RelayCause::Reset,
                    other => RelayCause::Failed(io::Error::from_raw_os_error(other)),
                };
                return self.end_relay(place, side, cause, sink);
            }
        }
        if let Some(side) = (0..2).find(|side| relay.passed[*side] && !relay.told[*side]) {
            relay.told[side] = true;
            let from = relay.ends[side];
            self.touch(a);
            let Some(token) = self.connections.get(a).map(|connection| connection.token) else { return };
            return self.deliver(sink, Event::RelayHalfClosed { from, token });
        }
        if relay.stopping && relay.failure.is_none() {
            return self.stop_now(place, sink);
        }
        if more {
            self.touch(a);
        }
    }

    /// Moves bytes from one side to the other. True if there may be more at once.
    fn pump(&mut self, place: usize, from: usize) -> bool {
        let over_budget = crate::driver::DriverOperations::pending_bytes(self) >= self.pending_bytes_max;
        let Some(relay) = &self.relays[place] else { return false };
        let (source, target) = (relay.ends[from], relay.ends[1 - from]);
        // What the user queued on the target goes first.
        self.flush(target);
        let (Some(source), Some(target)) = (self.connections.get(source), self.connections.get(target))
        else {
            return false;
        };
        let (source, target_key) = (source.key(), target.key());
        let Some(relay) = &mut self.relays[place] else { return false };
        let mut world = self.network.world();
        if let Some(error) = target.broken {
            relay.break_write(1 - from, error);
        }
        if !target.queue.is_empty() {
            return false;
        }
        for _ in 0..CHUNKS_A_TURN {
            if relay.write_broken[1 - from] {
                relay.undelivered[from] += relay.pending[from].len() as u64;
                relay.pending[from] = Vec::new();
                return false;
            }
            if !relay.pending[from].is_empty() {
                match world.send(target_key, &relay.pending[from]) {
                    Ok(0) => return false,
                    Ok(taken) => {
                        relay.pending[from].drain(..taken);
                        relay.bytes[from] += taken as u64;
                        relay.last_activity = world.now;
                    }
                    Err(error) => relay.break_write(1 - from, error),
                }
                if !relay.pending[from].is_empty() {
                    // A short write: the network says when there is room.
                    continue;
                }
            }
            match relay.read[from] {
                ReadState::Failed => return false,
                ReadState::Ended => {
                    if !relay.passed[from] && !relay.write_broken[1 - from] {
                        relay.passed[from] = true;
                        relay.first_finished.get_or_insert(SIDES[from]);
                        world.shut(target_key);
                    }
                    return false;
                }
                ReadState::Open => {}
            }
            let limit = match over_budget {
                true => world.room(target_key).unwrap_or(0).min(CHUNK),
                false => CHUNK,
            };
            if limit == 0 {
                return false;
            }
            match world.receive(source, limit) {
                Read::Bytes(bytes) => {
                    relay.pending[from] = bytes;
                    relay.last_activity = world.now;
                }
                Read::NothingYet => return false,
                Read::Ended => relay.read[from] = ReadState::Ended,
                Read::Failed(error) => {
                    relay.read[from] = ReadState::Failed;
                    relay.failure.get_or_insert((SIDES[from], error));
                }
            }
        }
        true
    }

    fn stop_now<S: Sink>(&mut self, place: usize, sink: &mut S) {
        let Some(mut relay) = self.relays[place].take() else { return };
        let [a, b] = relay.ends;
        for (index, id) in [a, b].into_iter().enumerate() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.phase = Phase::Open;
            connection.shut |= relay.passed[1 - index];
            connection.shut_done |= relay.passed[1 - index];
            connection.ended |= relay.read[index] == ReadState::Ended;
            // Whoever receives from it now is told again.
            connection.told_ended = false;
            self.take_some(id);
            if let Some(connection) = self.connections.get_mut(id) {
                relay.pending[index].append(&mut connection.received);
            }
            self.touch(id);
        }
        let Some(token) = self.connections.get(a).map(|connection| connection.token) else { return };
        let stop = RelayStop { a, b, token, bytes: relay.bytes, pending: relay.pending };
        self.deliver(sink, Event::RelayStopped(stop));
    }

    fn end_relay<S: Sink>(&mut self, place: usize, side: Side, cause: RelayCause, sink: &mut S) {
        let Some(relay) = self.relays[place].take() else { return };
        let [a, b] = relay.ends;
        let removed = [self.connections.remove(a), self.connections.remove(b)];
        let [Some(of_a), Some(of_b)] = removed else { return };
        let token = of_a.token;
        let mut undelivered = relay.undelivered;
        for (index, connection) in [of_a, of_b].iter().enumerate() {
            undelivered[index] += relay.pending[index].len() as u64;
            // A cut stream must not look complete.
            let complete = relay.passed[1 - index] && connection.queue.is_empty();
            let clean = match cause {
                RelayCause::Finished => true,
                RelayCause::Cut => complete,
                RelayCause::Reset | RelayCause::Failed(_) => false,
            };
            let how = LetGo::of(!clean, connection.shared);
            self.network.world().let_go(connection.key(), Some(self.machine), how);
        }
        let end = RelayEnd { a, b, token, bytes: relay.bytes, undelivered, side, cause };
        self.deliver(sink, Event::RelayEnded(end));
    }
}

impl Relay {
    fn break_write(&mut self, side: usize, error: i32) {
        self.write_broken[side] = true;
        self.failure.get_or_insert((SIDES[side], error));
    }
}
