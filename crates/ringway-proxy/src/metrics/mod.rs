//! The one table of metrics, and the counters behind it.
//!
//! Every metric is one row here: its name, kind, unit, labels and help. The Prometheus page ([`page`]) and the reference page
//! ([`mod@reference`]) are written from the rows, so neither can forget one. Each thread counts into padded
//! blocks of its own ([`WorkerMetrics`], and an [`AppBlock`] for each app) and nobody sums before somebody asks.

pub mod page;
pub mod reference;
mod table;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use table::{AppCounter, Kind, ProcessCounter, Reading, Row, WorkerCounter};

/// What a closed connection is counted under: the label values that its close reason gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseLabels {
    /// Who ended it: `client`, `backend`, `ringway` or `system`.
    pub initiator: &'static str,
    /// How far it had come: `accept`, `connect` or `relay`.
    pub phase: &'static str,
    /// Why, in one word.
    pub reason: &'static str,
}

/// The most close reasons that an app can count.
pub const CLOSE_REASONS_MAX: usize = 96;

/// The counters of a process that belong to no app: one block for each worker, and one for the control plane.
pub struct Metrics {
    close_labels: &'static [CloseLabels],
    workers: Vec<Arc<WorkerMetrics>>,
    process: Arc<ProcessMetrics>,
}

impl Metrics {
    /// Counters at zero for so many workers. `close_labels`: everything that a connection can end with; counted by its
    /// place in this list.
    pub fn new(workers: usize, close_labels: &'static [CloseLabels]) -> Self {
        let workers = (0..workers).map(|_| Arc::default()).collect();
        Self { close_labels, workers, process: Arc::default() }
    }

    /// The block of one worker.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        Arc::clone(&self.workers[index])
    }

    /// The counters of the control plane.
    pub fn process(&self) -> Arc<ProcessMetrics> {
        Arc::clone(&self.process)
    }

    /// Everything that a connection can end with.
    pub fn close_labels(&self) -> &'static [CloseLabels] {
        self.close_labels
    }

    /// A counter of the workers, over all of them.
    pub fn worker_total(&self, counter: WorkerCounter) -> u64 {
        self.sum(|worker| &worker.own.counters[counter as usize])
    }

    /// Connections of all apps, those included that are gone: `(that ended, of these cut by the end of the process)`.
    pub fn ended(&self) -> (u64, u64) {
        (self.sum(|worker| &worker.ends.counters[0]), self.sum(|worker| &worker.ends.counters[1]))
    }

    /// Connections of clients that are open, of each worker.
    pub fn open_by_worker(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.ends.counters[2].load(Ordering::Relaxed)).collect()
    }

    fn sum(&self, of: impl Fn(&WorkerMetrics) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| of(worker).load(Ordering::Relaxed)).sum()
    }
}

/// The counters of one worker. Only that thread writes them; anybody may read.
#[derive(Default)]
pub struct WorkerMetrics {
    own: Padded<{ WorkerCounter::COUNT }>,
    /// Connections that ended, those of them that were cut by the end of the process, and those that are open.
    ends: Padded<3>,
}

/// Two cache lines, because processors fetch lines in pairs.
#[repr(align(128))]
struct Padded<const N: usize> {
    counters: [AtomicU64; N],
}

impl<const N: usize> Default for Padded<N> {
    fn default() -> Self {
        Self { counters: [const { AtomicU64::new(0) }; N] }
    }
}

impl WorkerMetrics {
    /// Adds `n` to a counter.
    pub fn add_worker(&self, counter: WorkerCounter, n: u64) {
        self.own.counters[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Counts a connection that ended. `is_cut`: because the process ends.
    pub fn count_end(&self, is_cut: bool) {
        self.ends.counters[0].fetch_add(1, Ordering::Relaxed);
        self.ends.counters[1].fetch_add(u64::from(is_cut), Ordering::Relaxed);
    }

    /// Counts connections that another process ended: `[all, of these cut]`.
    pub fn add_ended(&self, ended: [u64; 2]) {
        for (counter, n) in self.ends.counters.iter().zip(ended) {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// So many connections of clients are open in this worker.
    pub fn note_open(&self, connections: usize) {
        self.ends.counters[2].store(connections as u64, Ordering::Relaxed);
    }
}

/// The counters of an app: a block for each thread that counts. They belong to the app and go when it does.
#[derive(Default)]
pub struct AppCounters {
    blocks: Mutex<Vec<Arc<AppBlock>>>,
}

/// What one thread counts of an app.
// On cache lines of its own: see `Padded`.
#[repr(align(128))]
pub struct AppBlock {
    counters: [AtomicU64; AppCounter::COUNT],
    /// By the place of the close reason.
    closed: [AtomicU64; CLOSE_REASONS_MAX],
}

impl AppCounters {
    /// A block for the calling thread, which alone writes it as long as it keeps it. One that its thread has dropped is
    /// taken up again, with what it has counted: an app that comes and goes does not gather blocks.
    pub fn block(&self) -> Arc<AppBlock> {
        let mut blocks = self.lock();
        if let Some(free) = blocks.iter().find(|block| Arc::strong_count(block) == 1) {
            return Arc::clone(free);
        }
        let block = Arc::new(AppBlock {
            counters: [const { AtomicU64::new(0) }; _],
            closed: [const { AtomicU64::new(0) }; _],
        });
        blocks.push(Arc::clone(&block));
        block
    }

    /// A counter over all threads.
    pub fn total(&self, counter: AppCounter) -> u64 {
        self.sum(|block| &block.counters[counter as usize])
    }

    /// Connections that ended with the close reason at `reason`, over all threads.
    ///
    /// # Panics
    /// If there is no such reason.
    pub fn closed_total(&self, reason: usize) -> u64 {
        self.sum(|block| &block.closed[reason])
    }

    fn sum(&self, of: impl Fn(&AppBlock) -> &AtomicU64) -> u64 {
        self.lock().iter().map(|block| of(block).load(Ordering::Relaxed)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<AppBlock>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AppCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppCounters").field("blocks", &self.lock().len()).finish()
    }
}

impl AppBlock {
    /// Adds `n` to a counter.
    pub fn add(&self, counter: AppCounter, n: u64) {
        self.counters[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Counts `n` connections that ended with the close reason at `reason`.
    ///
    /// # Panics
    /// If there is no such reason.
    pub fn add_closed(&self, reason: usize, n: u64) {
        self.closed[reason].fetch_add(n, Ordering::Relaxed);
    }
}

impl fmt::Debug for AppBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppBlock")
    }
}

/// The counters of the control plane: events that are rare, counted by any thread.
pub struct ProcessMetrics {
    counters: [AtomicU64; ProcessCounter::COUNT],
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self { counters: [const { AtomicU64::new(0) }; _] }
    }
}

impl ProcessMetrics {
    /// Adds `n` to a counter.
    pub fn add(&self, counter: ProcessCounter, n: u64) {
        self.counters[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// What a counter says.
    pub fn get(&self, counter: ProcessCounter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: &[CloseLabels] = &[
        CloseLabels { initiator: "client", phase: "relay", reason: "finished" },
        CloseLabels { initiator: "ringway", phase: "accept", reason: "limit" },
    ];

    #[test]
    fn counters_of_all_threads_are_summed_when_read() {
        let metrics = Metrics::new(2, LABELS);
        metrics.worker(1).add_worker(WorkerCounter::AcceptPauses, 4);
        metrics.worker(0).add_worker(WorkerCounter::AcceptPauses, 1);
        metrics.worker(0).count_end(false);
        metrics.worker(1).count_end(true);
        assert_eq!(metrics.worker_total(WorkerCounter::AcceptPauses), 5);
        assert_eq!(metrics.ended(), (2, 1));

        let app = AppCounters::default();
        let (one, two) = (app.block(), app.block());
        one.add(AppCounter::ConnectionsAccepted, 2);
        two.add(AppCounter::ConnectionsAccepted, 3);
        one.add_closed(1, 1);
        two.add_closed(1, 1);
        assert_eq!(app.total(AppCounter::ConnectionsAccepted), 5);
        assert_eq!((app.closed_total(1), app.closed_total(0)), (2, 0));
    }

    #[test]
    fn block_that_its_thread_dropped_is_taken_up_again_with_its_count() {
        let app = AppCounters::default();
        for _ in 0..10 {
            app.block().add(AppCounter::ConnectAttempts, 1);
        }
        assert_eq!(app.total(AppCounter::ConnectAttempts), 10);
        assert_eq!(app.lock().len(), 1);
    }

    #[test]
    fn blocks_of_different_threads_share_no_cache_line() {
        assert!(align_of::<WorkerMetrics>() >= 128);
        assert!(align_of::<AppBlock>() >= 128);
    }
}
