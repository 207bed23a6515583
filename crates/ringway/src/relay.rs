//! The transform relay: two connections joined by the program, which sees every byte on its way.
//!
//! What [`Operations::start_relay`] does beside the system calls this does with what a handler is told, for bytes that
//! may not simply pass: a [`Gate`] says how many may go on, and when. It keeps the laws of the other relay:
//! half-closes are passed on after the last byte, an unsent tail pauses the other side's receive, a reset hands on what
//! was received before it, and what is cut is reset unless it was complete.
//!
//! Either side may have a [`Layer`] between its connection and what is relayed, as TLS is. The gate and the counts are of the
//! payload. A layer that ends its stream ends it as a half-close does; a connection that ends without that is cut short,
//! and handed on as such: the other layer does not finish, and a side without one is reset.
//!
//! The handler gives both connections its token, tells the relay of their events, and gets back what came of it, as a
//! [`Step`]. While bytes wait for the gate their source is paused: what one receive brought is kept, at most 256 KiB, and
//! nothing otherwise.

use std::io;

use crate::layer::{Buffers, Layer, Scratch};
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
    /// What lies between the bytes of a side's connection and those that are relayed.
    layers: [Option<Box<dyn Layer>>; 2],
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
    /// The connection of its source ended, where the layer had not.
    is_cut_short: bool,
    /// Nothing more comes out of the connection of its source.
    is_over: bool,
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
            layers: [None, None],
        };
        for side in [Side::A, Side::B] {
            relay.follow(ops, side);
        }
        relay
    }

    /// The same relay, just started, with a layer on these sides. What waits for the gate is without it.
    #[must_use]
    pub fn with_layers(mut self, layers: [Option<Box<dyn Layer>>; 2]) -> Self {
        self.layers = layers;
        self
    }

    /// Goes on where a relay of the driver was stopped. Ends that were passed on before are told of again.
    pub fn resume(
        ops: &mut Operations<'_>,
        stop: RelayStop,
        gate: &mut impl Gate,
        buffers: &mut Buffers,
    ) -> (Self, Step) {
        let RelayStop { a, b, token, bytes, pending } = stop;
        let mut relay = Self::start(ops, [a, b], token, bytes);
        let mut step = Step::default();
        for (side, pending) in [Side::A, Side::B].into_iter().zip(pending) {
            relay.pump(ops, side, &pending, gate, &mut buffers.wire);
            relay.settle(ops, side, &mut step, &mut buffers.wire);
        }
        (relay, step)
    }

    /// Leaves the connections to a relay of the driver; what waits for the gate goes on at once. `false`: it stays and goes
    /// on itself, as it is about to end, an end is still on its way behind bytes that the other side does not take, or it has
    /// layers.
    /// Otherwise this one is to be forgotten.
    pub fn release(&mut self, ops: &mut Operations<'_>) -> bool {
        let is_done = |from: Side| self.directions[from.index()].is_done;
        let owes_end = |from: Side| is_done(from) && ops.queued_bytes(self.sides[from.other().index()]) > 0;
        if self.broken.is_some()
            || self.has_layers()
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
            self.send_held(ops, side, &mut Scratch::default());
        }
        let [a, b] = self.sides;
        let bytes = [0, 1].map(|index| self.directions[index].sent);
        let last_activity = Some(self.last_activity);
        ops.start_relay(a, b, RelayOptions { bytes, last_activity, ..RelayOptions::default() });
        true
    }

    /// Takes the relay apart: both connections live on, nothing is read from them, and this one is to be forgotten. The
    /// pending bytes of the stop have not passed the gate; its count is of those that have, also where the destination
    /// has not taken them yet. `None`: it stays, as one of its connections is gone, or has a layer.
    pub fn stop(&mut self, ops: &mut Operations<'_>) -> Option<RelayStop> {
        if self.broken.is_some() || self.has_layers() {
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

    /// Whether a side has a layer. Such a relay can neither be released nor stopped.
    pub fn has_layers(&self) -> bool {
        self.layers.iter().any(Option::is_some)
    }

    /// Bytes came from `side`.
    pub fn on_read(
        &mut self,
        ops: &mut Operations<'_>,
        side: Side,
        bytes: &mut [u8],
        gate: &mut impl Gate,
        buffers: &mut Buffers,
    ) -> Step {
        let mut step = Step::default();
        let Buffers { payload, wire, answer } = buffers;
        // What comes after a layer's end means nothing.
        if self.broken.is_some() || self.directions[side.index()].is_ended {
            return step;
        }
        match self.layers[side.index()].as_deref_mut() {
            None => self.pump(ops, side, bytes, gate, wire),
            Some(layer) => {
                answer.clear();
                let heard = layer.receive(bytes, payload, answer);
                let has_finished = layer.has_peer_finished();
                if !answer.is_empty() {
                    // If it is gone, an event on its way says so.
                    let _ = ops.send(self.sides[side.index()], answer.as_slice());
                }
                if !heard.payload.is_empty() {
                    self.pump(ops, side, heard.payload, gate, wire);
                }
                if has_finished {
                    self.note_end(side);
                }
                if let Some(error) = heard.failure {
                    self.give_up(ops, side, error, wire);
                }
            }
        }
        self.settle(ops, side, &mut step, wire);
        step
    }

    /// `side` has finished sending.
    pub fn on_end(&mut self, ops: &mut Operations<'_>, side: Side, buffers: &mut Buffers) -> Step {
        let mut step = Step::default();
        let (other, wire) = (side.other(), &mut buffers.wire);
        let direction = &mut self.directions[side.index()];
        (direction.is_receiving, direction.is_over) = (false, true);
        if !direction.is_ended && self.broken.is_none() {
            // A layer that ended would have said so. Nobody minds once the stream to this side is complete: many close then.
            let is_cut_short = self.layers[side.index()].is_some() && !self.directions[other.index()].is_done;
            if is_cut_short && self.layers[other.index()].is_none() {
                self.give_up(ops, side, io::ErrorKind::UnexpectedEof.into(), wire);
            } else {
                self.directions[side.index()].is_cut_short = is_cut_short;
                self.note_end(side);
            }
            self.settle(ops, side, &mut step, wire);
        }
        step
    }

    /// Everything that waited for `side` to take it has left.
    pub fn on_write(
        &mut self,
        ops: &mut Operations<'_>,
        side: Side,
        gate: &mut impl Gate,
        buffers: &mut Buffers,
    ) -> Step {
        let (from, mut step) = (side.other(), Step::default());
        self.directions[from.index()].is_blocked = false;
        if self.broken.is_none() {
            self.last_activity = ops.now();
            self.pump(ops, from, &[], gate, &mut buffers.wire);
        }
        self.settle(ops, from, &mut step, &mut buffers.wire);
        step
    }

    /// A timer fired; `None` if it is not the relay's.
    pub fn on_timer(
        &mut self,
        ops: &mut Operations<'_>,
        timer: TimerId,
        gate: &mut impl Gate,
        buffers: &mut Buffers,
    ) -> Option<Step> {
        let wire = &mut buffers.wire;
        if self.timer != timer {
            return None;
        }
        self.timer = TimerId::NONE;
        let mut step = Step::default();
        for side in [Side::A, Side::B] {
            if self.broken.is_none() && self.directions[side.index()].due.is_some_and(|due| due <= ops.now())
            {
                self.pump(ops, side, &[], gate, wire);
            }
            if step.end.is_none() {
                self.settle(ops, side, &mut step, wire);
            }
        }
        Some(step)
    }

    /// The connection of `side` broke and is gone. The other one gets what was received before that, and is reset.
    pub fn on_close(
        &mut self,
        ops: &mut Operations<'_>,
        side: Side,
        reason: CloseReason,
        buffers: &mut Buffers,
    ) -> Step {
        let mut step = Step::default();
        let cause = match reason {
            CloseReason::Failed(error) => RelayCause::Failed(error),
            CloseReason::Reset | CloseReason::Closed => RelayCause::Reset,
        };
        match self.broken.take() {
            // It was given up, and closed for that.
            Some((first, cause)) if first == side => self.broken = Some((first, cause)),
            // The other is gone too.
            Some((first, cause)) => step.end = Some(self.end(ops, first, cause)),
            None => self.break_off(ops, side, cause, &mut buffers.wire),
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

    /// What `side` says cannot be gone on with: its connection closes after what was sent on it.
    fn give_up(&mut self, ops: &mut Operations<'_>, side: Side, error: io::Error, wire: &mut Scratch) {
        if self.broken.is_none() {
            self.break_off(ops, side, RelayCause::Failed(error), wire);
            ops.close(self.sides[side.index()]);
        }
    }

    /// Nothing more comes from `side`, and the other side is to know that it is not complete.
    fn break_off(&mut self, ops: &mut Operations<'_>, side: Side, cause: RelayCause, wire: &mut Scratch) {
        self.send_held(ops, side, wire);
        ops.pause_receive(self.sides[side.other().index()]);
        self.broken = Some((side, cause));
        // What was just sent leaves when this call is over.
        self.wake_at(ops, ops.now());
    }

    fn note_end(&mut self, side: Side) {
        self.directions[side.index()].is_ended = true;
        self.first_end.get_or_insert(side);
    }

    /// Sends on what `from` sent before and `fresh`, as far as the gate and the destination let it.
    fn pump(
        &mut self,
        ops: &mut Operations<'_>,
        from: Side,
        fresh: &[u8],
        gate: &mut impl Gate,
        wire: &mut Scratch,
    ) {
        let destination = self.sides[from.other().index()];
        let layer = &mut self.layers[from.other().index()];
        let mut failure = None;
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
                    let chunk = match wrap(layer, &bytes[done..end], wire) {
                        Ok(chunk) => chunk,
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    };
                    match ops.send(destination, chunk) {
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
        if let Some(error) = failure {
            self.give_up(ops, from.other(), error, wire);
        }
    }

    /// Sends on what `from` sent, whatever the gate says.
    fn send_held(&mut self, ops: &mut Operations<'_>, from: Side, wire: &mut Scratch) {
        let direction = &mut self.directions[from.index()];
        let held = std::mem::take(&mut direction.held);
        direction.due = None;
        if !held.is_empty()
            && let Ok(chunk) = wrap(&mut self.layers[from.other().index()], &held, wire)
            && ops.send(self.sides[from.other().index()], chunk).is_ok()
        {
            direction.sent += held.len() as u64;
        }
    }

    /// After anything happened to the direction of `from`: passes an end on, goes on or rests, or ends the relay.
    fn settle(&mut self, ops: &mut Operations<'_>, from: Side, step: &mut Step, wire: &mut Scratch) {
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
            let destination = self.sides[from.other().index()];
            if let Some(layer) = self.layers[from.other().index()].as_deref_mut()
                && !direction.is_cut_short
            {
                wire.clear();
                layer.finish(wire);
                // If it is gone, an event on its way says so.
                let _ = ops.send(destination, wire.as_slice());
            }
            ops.shut(destination);
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
        // After the end of a layer what still comes is taken and means nothing, so that closing resets nobody.
        let receives = match direction.is_ended {
            false => direction.held.is_empty() && !direction.is_blocked,
            true => self.layers[from.index()].is_some() && !direction.is_over,
        };
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

    /// Bytes handed to the kernel. Those that a layer adds to what is queued are taken for payload.
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

/// How `payload` is said through a layer, if there is one.
fn wrap<'a>(
    layer: &mut Option<Box<dyn Layer>>,
    payload: &'a [u8],
    wire: &'a mut Scratch,
) -> io::Result<&'a [u8]> {
    let Some(layer) = layer.as_deref_mut() else { return Ok(payload) };
    wire.clear();
    layer.send(payload, wire)?;
    Ok(wire.as_slice())
}
