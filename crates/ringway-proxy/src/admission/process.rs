//! The limit on connections of clients, over all apps and workers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::ExactCount;

/// Of so many places that a worker takes while clients of other workers wait, it leaves the next one to them.
const TAKEN_FOR_ONE_LEFT: u32 = 8;

/// Counts the connections of clients in the process against their limit.
#[derive(Debug)]
pub struct Admission {
    /// Changes with the configuration.
    max: AtomicU32,
    open: ExactCount,
    /// Clients that wait, in the lines of all workers.
    waiting: ExactCount,
    /// Whoever waits is not let in any more.
    is_over: AtomicBool,
}

impl Admission {
    /// At most `connections_max` at once.
    pub fn new(connections_max: u32) -> Self {
        Self {
            max: AtomicU32::new(connections_max),
            open: ExactCount::new(),
            waiting: ExactCount::new(),
            is_over: AtomicBool::new(false),
        }
    }

    /// The limit.
    pub fn connections_max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// Sets another limit, and gives the one until now. Those that are open stay, also where they are more; workers look
    /// whether clients that wait have room when a connection ends, and every now and then.
    pub fn set_connections_max(&self, connections_max: u32) -> u32 {
        self.max.swap(connections_max, Ordering::Relaxed)
    }

    /// Connections that are admitted now.
    pub fn open(&self) -> u32 {
        self.open.get()
    }

    /// Clients that were accepted and wait to be admitted.
    pub fn waiting(&self) -> u32 {
        self.waiting.get()
    }

    /// All connections are about to be cut, in one worker after the other: nobody who waits gets a place that this makes.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether nobody is to get a place any more. Whoever heard of a place by a message of another worker sees it.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Admits one more, unless the limit is reached.
    #[must_use]
    pub fn try_admit(&self) -> bool {
        self.try_admit_below(self.connections_max())
    }

    fn try_admit_below(&self, max: u32) -> bool {
        !self.is_over() && self.open.try_acquire(max)
    }

    /// Admits one that another process had admitted: it is open, whatever the limit says.
    pub fn admit_anyway(&self) {
        self.open.acquire();
    }

    /// One that was admitted is gone.
    pub fn release(&self) {
        self.open.release();
    }

    /// Whether the next one would have to wait.
    pub fn is_full(&self) -> bool {
        self.open.get() >= self.connections_max()
    }
}

/// The clients of one worker that wait to be admitted, in the order in which they came.
///
/// A worker whose connection ends sees the free place first. So that it does not keep it for ever from those who wait
/// elsewhere, it leaves one in so many to the others, until the next [`tick`](Self::tick): all workers look then.
#[derive(Debug)]
pub struct WaitingLine<T> {
    admission: Arc<Admission>,
    line: VecDeque<T>,
    /// Those in the line that have not left.
    present: u32,
    taken: u32,
    /// Places that are left to the clients of other workers.
    left: u32,
}

impl<T: Copy> WaitingLine<T> {
    /// An empty line before this limit.
    pub fn new(admission: Arc<Admission>) -> Self {
        Self { admission, line: VecDeque::new(), present: 0, taken: 0, left: 0 }
    }

    /// Admits one more, if the limit allows it.
    #[must_use]
    pub fn try_admit(&mut self) -> bool {
        let others_wait = self.admission.waiting.get() > self.present;
        if !others_wait {
            self.left = 0;
        }
        if !self.admission.try_admit_below(self.admission.connections_max().saturating_sub(self.left)) {
            return false;
        }
        if others_wait {
            self.taken = (self.taken + 1) % TAKEN_FOR_ONE_LEFT;
            self.left += u32::from(self.taken == 0);
        }
        true
    }

    /// Whether nobody is to get a place any more, of whatever kind.
    pub fn is_over(&self) -> bool {
        self.admission.is_over()
    }

    /// One that was admitted is gone.
    pub fn release(&self) {
        self.admission.release();
    }

    /// Puts a client at the end.
    pub fn push(&mut self, client: T) {
        self.line.push_back(client);
        self.present += 1;
        self.admission.waiting.acquire();
    }

    /// Who is first, though it may have left.
    pub fn first(&self) -> Option<T> {
        self.line.front().copied()
    }

    /// Takes the first one off: it was admitted, or had left.
    pub fn pop(&mut self) {
        self.line.pop_front();
    }

    /// One of the line does not wait any more: it was admitted or left.
    pub fn forget(&mut self) {
        self.present -= 1;
        self.admission.waiting.release();
    }

    /// Whether a newcomer would have to wait.
    pub fn must_wait(&self) -> bool {
        self.present > 0 || self.admission.is_full()
    }

    /// Time has passed: places that were left to others and not taken are anybody's.
    pub fn tick(&mut self) {
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(admission: &Arc<Admission>) -> WaitingLine<u32> {
        WaitingLine::new(Arc::clone(admission))
    }

    #[test]
    fn limit_is_never_passed_by_workers_that_race() {
        let admission = Admission::new(10);
        let admitted = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if admission.try_admit() {
                            let now = admitted.fetch_add(1, std::sync::atomic::Ordering::AcqRel) + 1;
                            assert!(now <= 10, "{now} admitted at once");
                            admitted.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
                            admission.release();
                        }
                    }
                });
            }
        });
        assert_eq!(admission.open(), 0);
        assert!(!admission.is_full());
    }

    #[test]
    fn worker_that_frees_all_places_does_not_keep_those_of_others_waiting_for_ever() {
        let admission = Arc::new(Admission::new(1));
        let (mut busy, mut starved) = (line(&admission), line(&admission));
        assert!(busy.try_admit());
        starved.push(1);
        for _ in 0..TAKEN_FOR_ONE_LEFT {
            busy.release();
            assert!(busy.try_admit());
        }
        busy.release();
        assert!(!busy.try_admit(), "this one is left to the other");
        starved.tick();
        assert!(starved.try_admit());
        starved.pop();
        starved.forget();
        starved.release();
        assert!(busy.try_admit(), "nobody waits any more");
        assert_eq!((admission.open(), admission.waiting()), (1, 0));
    }

    #[test]
    fn place_that_was_left_and_not_taken_is_anybodys_after_a_tick() {
        let admission = Arc::new(Admission::new(1));
        let mut busy = line(&admission);
        line(&admission).push(1);
        for _ in 0..TAKEN_FOR_ONE_LEFT {
            assert!(busy.try_admit());
            busy.release();
        }
        assert!(!busy.try_admit());
        busy.tick();
        assert!(busy.try_admit());
    }
}
