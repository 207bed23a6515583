//! The transform relay: two connections joined by the program, which sees every byte on its way.
//!
//! What [`Operations::start_relay`] does beside the system calls this does with what a handler is told, for bytes that
//! may not simply pass: a [`Gate`] says how many may go on, and when. It keeps the laws of the other relay:
//! half-closes are passed on after the last byte, an unsent tail pauses the other side's receive, a reset hands on what
//! was received before it, and what is cut is reset unless it was complete.
//!
//! The handler gives both connections its token, tells the relay of their events, and gets back what came of it, as a
//! [`Step`]. While bytes wait for the gate their source is paused: what one receive brought is kept, at most 256 KiB, and
//! nothing otherwise.

use crate::{
    CloseReason, ConnectionId, Operations, RelayCause, RelayEnd, RelayOptions, RelayProgress, RelayStop,
    Side, Time, TimerId, Token,
};

/// Decides when bytes may go on.
pub trait Gate {
    /// How many of the `waiting` bytes that `from` sent may go on. What was told to wait is asked for again at that time,
    /// with at least as many waiting.
    fn pass(&mut self, from: Side, waiting: usize, now: Time) -> Passage;
}

/// What a [`Gate`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// So many go on, at least one.
    Go(usize),
    /// None do before this time.
    Wait(Time),
}

/// What an event of a relayed connection brought about.
#[derive(Debug, Default)]
#[must_use]
pub struct Step {
    /// This side has finished sending, and the other was told.
    pub half_closed: Option<Side>,
    /// The relay is over; both connections are closed, or are being closed.
    pub end: Option<RelayEnd>,
}

/// Two connections joined by the program.
#[derive(Debug)]
pub struct TransformRelay {
    sides: [ConnectionId; 2],
    token: Token,
    /// By the side that sends.
    directions: [Direction; 2],
    last_activity: Time,
    timer: TimerId,
    timer_at: Time,
    first_end: Option<Side>,
    /// This side is gone, and the other is reset as soon as it has got what was received before.
    broken: Option<(Side, RelayCause)>,
}

/// What goes from one side to the other.
#[derive(Debug, Default)]
struct Direction {
    /// Received and not yet let through.
    held: Vec<u8>,
    /// When the first of them may be.
    due: Option<Time>,
    /// Bytes sent on, those included that wait for the destination to take them.
    sent: u64,
    /// The destination takes no more at the moment.
    is_blocked: bool,
    is_receiving: bool,
    /// Its source has finished sending.
    is_ended: bool,
    /// And the destination was told.
    is_done: bool,
}

impl TransformRelay {
    /// Joins two established connections, whose token is `token`. `bytes`: what the counts begin with.
    pub fn start(ops: &mut Operations<'_>, [a, b]: [ConnectionId; 2], token: Token, bytes: [u64; 2]) -> Self {
        let mut relay = Self {
            sides: [a, b],
            token,
            directions: bytes.map(|sent| Direction { sent, ..Direction::default() }),
            last_activity: ops.now(),
            timer: TimerId::NONE,
            timer_at: Time::ZERO,
            first_end: None,
            broken: None,
        };
        for side in [Side::A, Side::B] {
            relay.follow(ops, side);
        }
        relay
    }

    /// Goes on where a relay of the driver was stopped. Ends that were passed on before are told of again.
    pub fn resume(ops: &mut Operations<'_>, stop: RelayStop, gate: &mut impl Gate) -> (Self, Step) {
        let RelayStop { a, b, token, bytes, pending } = stop;
        let mut relay = Self::start(ops, [a, b], token, bytes);
        let mut step = Step::default();
        for (side, pending) in [Side::A, Side::B].into_iter().zip(pending) {
            relay.pump(ops, side, &pending, gate);
            relay.settle(ops, side, &mut step);
        }
        (relay, step)
    }

    /// Leaves the connections to a relay of the driver; what waits for the gate goes on at once. `false`: it stays and goes
    /// on itself, as it is about to end, or an end is still on its way behind bytes that the other side does not take.
    /// Otherwise this one is to be forgotten.
    pub fn release(&mut self, ops: &mut Operations<'_>) -> bool {
        let is_done = |from: Side| self.directions[from.index()].is_done;
        let owes_end = |from: Side| is_done(from) && ops.queued_bytes(self.sides[from.other().index()]) > 0;
        if self.broken.is_some()
            || is_done(Side::A) && is_done(Side::B)
            || owes_end(Side::A)
            || owes_end(Side::B)
        {
            return false;
        }
        if !self.timer.is_none() {
            ops.cancel_timer(std::mem::replace(&mut self.timer, TimerId::NONE));
        }
        for side in [Side::A, Side::B] {
            self.send_held(ops, side);
        }
        let [a, b] = self.sides;
        let bytes = [0, 1].map(|index| self.directions[index].sent);
        let last_activity = Some(self.last_activity);
        ops.start_relay(a, b, RelayOptions { bytes, last_activity, ..RelayOptions::default() });
        true
    }

    /// Takes the relay apart: both connections live on, nothing is read from them, and this one is to be forgotten. The
    /// pending bytes of the stop have not passed the gate; its count is of those that have, also where the destination
    /// has not taken them yet. `None`: it stays, as one of its connections is gone.
    pub fn stop(&mut self, ops: &mut Operations<'_>) -> Option<RelayStop> {
        if self.broken.is_some() {
            return None;
        }
        if !self.timer.is_none() {
            ops.cancel_timer(std::mem::replace(&mut self.timer, TimerId::NONE));
        }
        self.sides.iter().for_each(|side| ops.pause_receive(*side));
        let [a, b] = self.sides;
        let bytes = [0, 1].map(|index| self.directions[index].sent);
        let pending = [0, 1].map(|index| std::mem::take(&mut self.directions[index].held));
        Some(RelayStop { a, b, token: self.token, bytes, pending })
    }

    /// The same relay, in which bytes moved last at this time.
    #[must_use]
    pub fn with_last_activity(mut self, last_activity: Time) -> Self {
        self.last_activity = last_activity;
        self
    }

    /// Bytes came from `side`.
    pub fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        side: Side,
        bytes: &[u8],
        gate: &mut impl Gate,
    ) -> Step {
        let mut step = Step::default();
        if self.broken.is_none() {
            self.pump(ops, side, bytes, gate);
            self.settle(ops, side, &mut step);
        }
        step
    }

    /// `side` has finished sending.
    pub fn on_end(&mut self, ops: &mut Operations<'_>, side: Side) -> Step {
        let mut step = Step::default();
        let direction = &mut self.directions[side.index()];
        if !direction.is_ended {
            (direction.is_ended, direction.is_receiving) = (true, false);
            self.first_end.get_or_insert(side);
            self.settle(ops, side, &mut step);
        }
        step
    }

    /// Everything that waited for `side` to take it has left.
    pub fn on_write(&mut self, ops: &mut Operations<'_>, side: Side, gate: &mut impl Gate) -> Step {
        let (from, mut step) = (side.other(), Step::default());
        self.directions[from.index()].is_blocked = false;
        if self.broken.is_none() {
            self.last_activity = ops.now();
            self.pump(ops, from, &[], gate);
        }
        self.settle(ops, from, &mut step);
        step
    }

    /// A timer fired; `None` if it is not the relay's.
    pub fn on_timer(
        &mut self,
        ops: &mut Operations<'_>,
        timer: TimerId,
        gate: &mut impl Gate,
    ) -> Option<Step> {
        if self.timer != timer {
            return None;
        }
        self.timer = TimerId::NONE;
        let mut step = Step::default();
        for side in [Side::A, Side::B] {
            if self.broken.is_none() && self.directions[side.index()].due.is_some_and(|due| due <= ops.now())
            {
                self.pump(ops, side, &[], gate);
            }
            if step.end.is_none() {
                self.settle(ops, side, &mut step);
            }
        }
        Some(step)
    }

    /// The connection of `side` broke and is gone. The other one gets what was received before that, and is reset.
    pub fn on_close(&mut self, ops: &mut Operations<'_>, side: Side, reason: CloseReason) -> Step {
        let mut step = Step::default();
        let cause = match reason {
            CloseReason::Failed(error) => RelayCause::Failed(error),
            CloseReason::Reset | CloseReason::Closed => RelayCause::Reset,
        };
        match self.broken.take() {
            // The other is gone too.
            Some((first, cause)) => step.end = Some(self.end(ops, first, cause)),
            None => {
                self.send_held(ops, side);
                ops.pause_receive(self.sides[side.other().index()]);
                self.broken = Some((side, cause));
                // What was just sent leaves when this call is over.
                self.wake_at(ops, ops.now());
            }
        }
        step
    }

    /// Ends it now. A side that was owed bytes, or had not been told the end of its stream, is reset.
    pub fn cut(&mut self, ops: &mut Operations<'_>) -> RelayEnd {
        let end = self.end(ops, Side::A, RelayCause::Cut);
        for side in [Side::A, Side::B] {
            let connection = self.sides[side.index()];
            let is_complete = self.directions[side.other().index()].is_done;
            match is_complete && ops.queued_bytes(connection) == 0 {
                true => ops.close(connection),
                false => ops.reset(connection),
            }
        }
        end
    }

    /// How far it has come. Bytes that wait for the gate are no silence: it is not the peers' doing.
    pub fn progress(&self, ops: &Operations<'_>) -> RelayProgress {
        let is_held_back = self.directions.iter().any(|direction| direction.due.is_some());
        RelayProgress {
            bytes: self.bytes(ops),
            last_activity: if is_held_back { ops.now() } else { self.last_activity },
            half_closed: [0, 1].map(|index| self.directions[index].is_done),
        }
    }

    /// Sends on what `from` sent before and `fresh`, as far as the gate and the destination let it.
    fn pump(&mut self, ops: &mut Operations<'_>, from: Side, fresh: &[u8], gate: &mut impl Gate) {
        let destination = self.sides[from.other().index()];
        let direction = &mut self.directions[from.index()];
        let mut held = std::mem::take(&mut direction.held);
        direction.due = None;
        if !held.is_empty() {
            held.extend_from_slice(fresh);
        }
        let bytes = if held.is_empty() { fresh } else { &held };
        let mut done = 0;
        while done < bytes.len() && !direction.is_blocked {
            match gate.pass(from, bytes.len() - done, ops.now()) {
                Passage::Go(count) => {
                    let end = bytes.len().min(done + count.max(1));
                    match ops.send(destination, &bytes[done..end]) {
                        Ok(queued) => {
                            direction.sent += (end - done) as u64;
                            direction.is_blocked = queued > 0;
                            done = end;
                        }
                        // It is gone, and an event on its way says so.
                        Err(_) => done = bytes.len(),
                    }
                    self.last_activity = ops.now();
                }
                Passage::Wait(due) => {
                    direction.due = Some(due);
                    break;
                }
            }
        }
        if held.is_empty() {
            direction.held = bytes[done..].to_vec();
        } else {
            held.drain(..done);
            direction.held = held;
        }
        if direction.held.is_empty() {
            direction.held = Vec::new();
        }
    }

    /// Sends on what `from` sent, whatever the gate says.
    fn send_held(&mut self, ops: &mut Operations<'_>, from: Side) {
        let direction = &mut self.directions[from.index()];
        let held = std::mem::take(&mut direction.held);
        direction.due = None;
        if !held.is_empty() && ops.send(self.sides[from.other().index()], &held).is_ok() {
            direction.sent += held.len() as u64;
        }
    }

    /// After anything happened to the direction of `from`: passes an end on, goes on or rests, or ends the relay.
    fn settle(&mut self, ops: &mut Operations<'_>, from: Side, step: &mut Step) {
        if let Some((side, _)) = &self.broken {
            let side = *side;
            let other = self.sides[side.other().index()];
            if ops.queued_bytes(other) == 0 && self.timer.is_none() {
                let cause = self.broken.take().map_or(RelayCause::Reset, |(_, cause)| cause);
                step.end = Some(self.end(ops, side, cause));
                ops.reset(other);
            }
            return;
        }
        let direction = &mut self.directions[from.index()];
        if direction.is_ended && direction.held.is_empty() && !direction.is_done {
            direction.is_done = true;
            ops.shut(self.sides[from.other().index()]);
            step.half_closed = Some(from);
        }
        let is_over = self.directions.iter().all(|direction| direction.is_done)
            && self.sides.iter().all(|side| ops.queued_bytes(*side) == 0);
        if is_over {
            step.end = Some(self.end(ops, self.first_end.unwrap_or(from), RelayCause::Finished));
            self.sides.iter().for_each(|side| ops.close(*side));
            return;
        }
        self.follow(ops, from);
    }

    /// Receives from `from` while what comes can go on, and wakes when what waits can.
    fn follow(&mut self, ops: &mut Operations<'_>, from: Side) {
        let source = self.sides[from.index()];
        let direction = &mut self.directions[from.index()];
        let receives = direction.held.is_empty() && !direction.is_blocked && !direction.is_ended;
        if receives != direction.is_receiving {
            direction.is_receiving = receives;
            match receives {
                true => ops.start_receive(source),
                false => ops.pause_receive(source),
            }
        }
        if let Some(due) = direction.due {
            self.wake_at(ops, due);
        }
    }

    fn wake_at(&mut self, ops: &mut Operations<'_>, due: Time) {
        if !self.timer.is_none() {
            if self.timer_at <= due {
                return;
            }
            ops.cancel_timer(self.timer);
        }
        self.timer = ops.set_timer(due, self.token);
        self.timer_at = due;
    }

    /// Bytes handed to the kernel.
    fn bytes(&self, ops: &Operations<'_>) -> [u64; 2] {
        [Side::A, Side::B].map(|from| {
            let queued = ops.queued_bytes(self.sides[from.other().index()]) as u64;
            self.directions[from.index()].sent.saturating_sub(queued)
        })
    }

    fn end(&mut self, ops: &mut Operations<'_>, side: Side, cause: RelayCause) -> RelayEnd {
        if !self.timer.is_none() {
            ops.cancel_timer(std::mem::replace(&mut self.timer, TimerId::NONE));
        }
        let bytes = self.bytes(ops);
        let undelivered = [0, 1].map(|index| {
            let direction = &self.directions[index];
            direction.sent - bytes[index] + direction.held.len() as u64
        });
        let [a, b] = self.sides;
        RelayEnd { a, b, token: self.token, bytes, undelivered, side, cause }
    }
}
