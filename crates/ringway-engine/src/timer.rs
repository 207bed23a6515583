//! A coarse timer wheel: set and cancel in constant time, 16 bytes a timer, no allocation in steady state.
//!
//! Five levels of 64 slots; a tick is 2^22 ns (4.2 ms), so the wheel spans 52 days; later timers wait in the last
//! slot and are placed again. Each timer is a node of a doubly linked list in its slot.

use crate::{Time, TimerId, Token};

const TICK_SHIFT: u32 = 22;
const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;
const LEVELS: usize = 5;
const NONE: u32 = u32::MAX;
/// Timers in a chunk of the table.
const CHUNK: usize = 256;

#[derive(Clone, Copy)]
struct Node {
    next: u32,
    /// The node before; in the first of a slot `SLOT_MARK | slot`; in a free node `NONE`.
    previous: u32,
    /// Tick at which it is due, modulo 2^32 (208 days).
    due: u32,
    token: Token,
}

const _: () = assert!(size_of::<Node>() == 16);

const SLOT_MARK: u32 = 1 << 31;
/// The list of timers that are due, behind the slots of the wheel.
const DUE: usize = SLOTS * LEVELS;

/// Timers of one engine.
pub(crate) struct TimerWheel {
    nodes: Vec<Box<[Node; CHUNK]>>,
    free: u32,
    slots: [u32; DUE + 1],
    /// One bit a slot that is not empty.
    occupied: [u64; LEVELS + 1],
    /// The tick up to which everything has fired.
    now: u64,
    count: usize,
}

fn tick_of(time: Time) -> u64 {
    time.as_nanos() >> TICK_SHIFT
}

impl TimerWheel {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            nodes: Vec::new(),
            free: NONE,
            slots: [NONE; DUE + 1],
            occupied: [0; LEVELS + 1],
            now: tick_of(now),
            count: 0,
        }
    }

    fn node(&mut self, index: u32) -> &mut Node {
        &mut self.nodes[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// Sets a timer; it fires at the first tick that begins at or after `at`.
    pub(crate) fn set(&mut self, at: Time, token: Token) -> TimerId {
        if self.free == NONE {
            self.grow();
        }
        let index = self.free;
        // Rounded up: never early.
        let due = ((at.as_nanos() >> TICK_SHIFT) + 1).max(self.now + 1);
        // Farther than half of what the stored tick can tell apart (104 days): fires early then, and rarely.
        let due = due.min(self.now + (1 << 31));
        self.free = self.node(index).next;
        *self.node(index) = Node { next: NONE, previous: NONE, due: due as u32, token };
        self.place(index, due);
        self.count += 1;
        TimerId(index)
    }

    /// Forgets a timer that has not fired.
    pub(crate) fn cancel(&mut self, timer: TimerId) {
        if timer.is_none()
            || timer.0 as usize >= self.nodes.len() * CHUNK
            || self.node(timer.0).previous == NONE
        {
            return;
        }
        self.unlink(timer.0);
        self.release(timer.0);
    }

    /// When to look again; `None` if no timer is set. May be earlier than the earliest timer, never later.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        if self.count == 0 {
            return None;
        }
        if self.slots[DUE] != NONE {
            return Some(Time::from_nanos(self.now << TICK_SHIFT));
        }
        let mut earliest = u64::MAX;
        for level in 0..LEVELS {
            if self.occupied[level] == 0 {
                continue;
            }
            let shift = LEVEL_BITS * level as u32;
            let position = self.now >> shift;
            let rotated = self.occupied[level].rotate_right((position as u32 + 1) & 63);
            let distance = u64::from(rotated.trailing_zeros()) + 1;
            earliest = earliest.min((position + distance) << shift);
        }
        Some(Time::from_nanos(earliest << TICK_SHIFT))
    }

    /// Takes one timer that is due by `now`; call until there is none.
    ///
    /// Timers that are due together can still be cancelled by whoever handles the first of them.
    pub(crate) fn pop(&mut self, now: Time) -> Option<(TimerId, Token)> {
        if self.slots[DUE] == NONE {
            self.advance(tick_of(now));
        }
        let index = self.slots[DUE];
        if index == NONE {
            return None;
        }
        let token = self.node(index).token;
        self.unlink(index);
        self.release(index);
        Some((TimerId(index), token))
    }

    /// Moves on to `target`, or to the first tick at which timers are due.
    fn advance(&mut self, target: u64) {
        while self.now < target && self.slots[DUE] == NONE {
            if self.count == 0 {
                self.now = target;
                return;
            }
            // Jump to the next tick at which a slot must be looked at.
            let next = self.next_deadline().map_or(target, tick_of).min(target);
            self.now = next;
            for level in (1..LEVELS).rev() {
                let shift = LEVEL_BITS * level as u32;
                if self.now & ((1 << shift) - 1) == 0 {
                    self.cascade(level, (self.now >> shift) as usize % SLOTS);
                }
            }
            let mut index = self.take_slot(self.now as usize % SLOTS);
            while index != NONE {
                let next = self.node(index).next;
                self.link(index, DUE);
                index = next;
            }
        }
    }

    /// Timers that are set.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.count
    }

    fn grow(&mut self) {
        let first = (self.nodes.len() * CHUNK) as u32;
        let mut chunk = Box::new([Node { next: NONE, previous: NONE, due: 0, token: Token(0) }; CHUNK]);
        for (offset, node) in chunk.iter_mut().enumerate() {
            node.next = if offset + 1 == CHUNK { NONE } else { first + offset as u32 + 1 };
        }
        self.nodes.push(chunk);
        self.free = first;
    }

    fn release(&mut self, index: u32) {
        let free = self.free;
        let node = self.node(index);
        node.next = free;
        node.previous = NONE;
        self.free = index;
        self.count -= 1;
    }

    fn place(&mut self, index: u32, due: u64) {
        let distance = due - self.now;
        let level = (0..LEVELS).find(|level| distance < 1 << (LEVEL_BITS * (*level as u32 + 1)));
        let (level, due) = match level {
            Some(level) => (level, due),
            // Beyond the wheel: the last slot of the last level, to be placed again when it comes round.
            None => (LEVELS - 1, self.now + ((SLOTS as u64 - 1) << (LEVEL_BITS * (LEVELS as u32 - 1)))),
        };
        let slot = level * SLOTS + (due >> (LEVEL_BITS * level as u32)) as usize % SLOTS;
        self.link(index, slot);
    }

    fn link(&mut self, index: u32, slot: usize) {
        let head = self.slots[slot];
        if head != NONE {
            self.node(head).previous = index;
        }
        let node = self.node(index);
        node.next = head;
        node.previous = SLOT_MARK | slot as u32;
        self.slots[slot] = index;
        self.occupied[slot / SLOTS] |= 1 << (slot % SLOTS);
    }

    fn unlink(&mut self, index: u32) {
        let Node { next, previous, .. } = *self.node(index);
        if next != NONE {
            self.node(next).previous = previous;
        }
        if previous & SLOT_MARK == 0 {
            self.node(previous).next = next;
            return;
        }
        let slot = (previous & !SLOT_MARK) as usize;
        self.slots[slot] = next;
        if next == NONE {
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
    }

    fn take_slot(&mut self, slot: usize) -> u32 {
        self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        std::mem::replace(&mut self.slots[slot], NONE)
    }

    fn cascade(&mut self, level: usize, slot: usize) {
        let mut index = self.take_slot(level * SLOTS + slot);
        while index != NONE {
            let node = *self.node(index);
            // The low half of the tick is stored; the high half is that of the nearest such tick.
            let due = self.now + u64::from(node.due.wrapping_sub(self.now as u32));
            if due == self.now {
                // Due right now: the slot of this tick is looked at next.
                self.link(index, self.now as usize % SLOTS);
            } else {
                self.place(index, due);
            }
            index = node.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64),
        Cancel(usize),
        Advance(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let delay = prop_oneof![0..50_u64, 0..100_000_u64, 0..40_000_000_u64, 0..8_000_000_000_u64];
        let step = prop_oneof![
            delay.clone().prop_map(Step::Set),
            any::<usize>().prop_map(Step::Cancel),
            delay.prop_map(Step::Advance)
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn timers_fire_once_never_early_and_at_most_two_ticks_late(steps in steps()) {
            let mut now = Time::from_nanos(123_456_789_012);
            let mut wheel = TimerWheel::new(now);
            let mut waiting: BTreeMap<TimerId, (Time, Token)> = BTreeMap::new();
            let mut serial = 0;
            for step in steps {
                match step {
                    Step::Set(milliseconds) => {
                        let at = now + Duration::from_millis(milliseconds);
                        serial += 1;
                        let id = wheel.set(at, Token(serial));
                        prop_assert!(waiting.insert(id, (at, Token(serial))).is_none());
                    }
                    Step::Cancel(which) => {
                        if let Some(id) = waiting.keys().copied().nth(which % waiting.len().max(1)) {
                            waiting.remove(&id);
                            wheel.cancel(id);
                        }
                    }
                    Step::Advance(milliseconds) => {
                        now = now + Duration::from_millis(milliseconds);
                        let mut fired = Vec::new();
                        while let Some(pair) = wheel.pop(now) {
                            fired.push(pair);
                        }
                        for (id, token) in fired {
                            let (at, expected) = waiting.remove(&id).expect("a timer that was waiting");
                            prop_assert_eq!(token, expected);
                            prop_assert!(at <= now, "fired early");
                        }
                        let horizon = now - Duration::from_nanos(2 << TICK_SHIFT);
                        for (at, _) in waiting.values() {
                            prop_assert!(*at >= horizon, "late: {:?} at {:?}", at, now);
                        }
                    }
                }
                prop_assert_eq!(wheel.len(), waiting.len());
                if let (Some(next), Some(first)) = (wheel.next_deadline(), waiting.values().map(|(at, _)| *at).min()) {
                    prop_assert!(next <= first.max(now) + Duration::from_nanos(2 << TICK_SHIFT));
                }
            }
        }
    }
}
