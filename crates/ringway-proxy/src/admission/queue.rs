//! The line of an app's clients that wait until a backend has room: one for all workers, in the order in which they came.
//!
//! Who made room calls the first of the line, and only that one: it is told through its worker's [`Bell`], chooses anew,
//! and either leaves the line or stays where it was. A call is never lost. Whoever joins, or stays, looks for room once
//! more after it is in the line; whoever makes room looks at the line after that; so one of both sees the other. A
//! client that was called and leaves without a place passes its call on, and one that got a place does so if there is
//! room for more.
//!
//! The lock is held for one step in the line, and nobody takes it while no one waits. The atomics and the
//! lock come from `super::sync`: loom's where `tests/loom_queue.rs` includes this file.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::ExactCount;
use super::sync::{Mutex, MutexGuard, Ordering, fence};

/// Tells a worker that one of its clients is called.
pub trait Bell: Send + Sync {
    /// Tells it so. The worker answers later, or when the client has left.
    fn ring(&self, call: Call);
}

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Place of the client's session in its worker.
    pub place: u32,
    /// Its number in the line; never used twice.
    pub ticket: u64,
}

/// The line of an app.
#[derive(Default)]
pub struct Queue {
    /// Those in the line, those included that are called and have not answered.
    waiting: ExactCount,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    next_ticket: u64,
    /// Those that are not called.
    waiters: BTreeMap<u64, Waiter>,
}

#[derive(Clone)]
struct Waiter {
    place: u32,
    bell: Arc<dyn Bell>,
}

/// A client's place in the line. It leaves when this is dropped.
pub struct Seat {
    queue: Arc<Queue>,
    ticket: u64,
    waiter: Waiter,
    has_place: bool,
}

impl Queue {
    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.get()
    }

    /// There may be room: calls the first of those that wait, if there is one.
    pub fn call(&self) {
        // Room was made before this looks at the line: see `join`.
        fence(Ordering::SeqCst);
        if self.waiting.get() == 0 {
            return;
        }
        // The bell is not rung under the lock.
        let first = self.lock().waiters.pop_first();
        if let Some((ticket, waiter)) = first {
            waiter.bell.ring(Call { place: waiter.place, ticket });
        }
    }

    /// Puts the client at `place` of a worker at the end of the line, unless as many as `max` wait. The caller then looks
    /// for room once more, and [calls](Self::call) if there is some.
    pub fn join(queue: &Arc<Self>, bell: &Arc<dyn Bell>, place: u32, max: u32) -> Option<Seat> {
        if !queue.waiting.try_acquire(max) {
            return None;
        }
        let waiter = Waiter { place, bell: Arc::clone(bell) };
        let ticket = {
            let mut line = queue.lock();
            let ticket = line.next_ticket;
            line.next_ticket += 1;
            line.waiters.insert(ticket, waiter.clone());
            ticket
        };
        // It is in the line before the caller looks for room: see `call`.
        fence(Ordering::SeqCst);
        Some(Seat { queue: Arc::clone(queue), ticket, waiter, has_place: false })
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Seat {
    /// Whether this is the one that is called.
    pub fn is_meant(&self, call: Call) -> bool {
        call.ticket == self.ticket
    }

    /// The client is at `place` of another worker now. It is where it was in the line; if it was called, it has to look
    /// for room there, for the call went to where it was.
    pub fn move_to(&mut self, bell: &Arc<dyn Bell>, place: u32) {
        self.waiter = Waiter { place, bell: Arc::clone(bell) };
        if let Some(waiter) = self.queue.lock().waiters.get_mut(&self.ticket) {
            waiter.clone_from(&self.waiter);
        }
    }

    /// It was called and got no place: it is where it was in the line. The caller then looks for room once more, and
    /// [calls](Queue::call) if there is some.
    pub fn stay(&self) {
        self.queue.lock().waiters.insert(self.ticket, self.waiter.clone());
    }

    /// It was called and got a place. `has_more`: there is room for another.
    pub fn leave_for_place(mut self, has_more: bool) {
        self.has_place = true;
        let queue = Arc::clone(&self.queue);
        drop(self);
        if has_more {
            queue.call();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let was_called = self.queue.lock().waiters.remove(&self.ticket).is_none();
        self.queue.waiting.release();
        if was_called && !self.has_place {
            self.queue.call();
        }
    }
}
