//! The one table of metrics, and the counters behind it.
//!
//! Every metric is one row here: its name, kind, unit, labels and help. The Prometheus page ([`page`]) and the reference page
//! ([`mod@reference`]) are written from the rows, so neither can forget one. Each worker counts into its own padded
//! block ([`WorkerMetrics`]) and nobody sums before somebody asks.

pub mod page;
pub mod reference;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// All counters of a process: one block for each thread that counts, and one for the control plane.
pub struct Metrics {
    apps: Vec<Arc<str>>,
    close_labels: &'static [CloseLabels],
    workers: Vec<Arc<WorkerMetrics>>,
    process: Arc<ProcessMetrics>,
}

impl Metrics {
    /// Counters for these apps, at zero. `threads`: how many threads count (the workers and the prober).
    /// `close_labels`: everything that a connection can end with; counted by its place in this list.
    pub fn new(apps: Vec<Arc<str>>, threads: usize, close_labels: &'static [CloseLabels]) -> Self {
        let workers =
            (0..threads).map(|_| Arc::new(WorkerMetrics::new(apps.len(), close_labels.len()))).collect();
        Self { apps, close_labels, workers, process: Arc::default() }
    }

    /// The block of one thread.
    ///
    /// # Panics
    /// If there is no such thread.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        Arc::clone(&self.workers[index])
    }

    /// The counters of the control plane.
    pub fn process(&self) -> Arc<ProcessMetrics> {
        Arc::clone(&self.process)
    }

    /// The names of the apps, in the order of their places.
    pub fn apps(&self) -> &[Arc<str>] {
        &self.apps
    }

    /// Everything that a connection can end with.
    pub fn close_labels(&self) -> &'static [CloseLabels] {
        self.close_labels
    }

    /// A counter of an app, over all threads.
    pub fn app_total(&self, counter: AppCounter, app: usize) -> u64 {
        self.sum(|worker| &worker.apps[app].counters[counter as usize])
    }

    /// Connections of an app that ended with the close reason at `reason`, over all threads.
    pub fn closed_total(&self, app: usize, reason: usize) -> u64 {
        self.sum(|worker| worker.apps[app].closed(reason))
    }

    /// A counter of the workers, over all threads.
    pub fn worker_total(&self, counter: WorkerCounter) -> u64 {
        self.sum(|worker| &worker.own.counters[counter as usize])
    }

    fn sum(&self, of: impl Fn(&WorkerMetrics) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| of(worker).load(Ordering::Relaxed)).sum()
    }
}

/// The counters of one thread. Only that thread writes them; anybody may read.
pub struct WorkerMetrics {
    own: Padded<{ WorkerCounter::COUNT }>,
    apps: Vec<AppBlock>,
}

/// Two cache lines, because processors fetch lines in pairs.
#[repr(align(128))]
struct Padded<const N: usize> {
    counters: [AtomicU64; N],
}

#[repr(align(128))]
struct AppBlock {
    counters: [AtomicU64; AppCounter::COUNT],
    /// By the place of the close reason, sixteen in a block.
    closed: Vec<Padded<16>>,
}

impl AppBlock {
    fn closed(&self, reason: usize) -> &AtomicU64 {
        &self.closed[reason / 16].counters[reason % 16]
    }
}

impl<const N: usize> Padded<N> {
    const fn new() -> Self {
        Self { counters: [const { AtomicU64::new(0) }; N] }
    }
}

impl WorkerMetrics {
    /// Counters at zero, for so many apps and close reasons.
    pub fn new(apps: usize, close_reasons: usize) -> Self {
        let apps = (0..apps)
            .map(|_| AppBlock {
                counters: [const { AtomicU64::new(0) }; _],
                closed: (0..close_reasons.div_ceil(16)).map(|_| Padded::new()).collect(),
            })
            .collect();
        Self { own: Padded::new(), apps }
    }

    /// Adds `n` to a counter of the app at `app`.
    ///
    /// # Panics
    /// If there is no such app.
    pub fn add(&self, counter: AppCounter, app: usize, n: u64) {
        self.apps[app].counters[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Counts a connection of the app at `app` that ended with the close reason at `reason`.
    ///
    /// # Panics
    /// If there is no such app, or no such reason.
    pub fn add_closed(&self, app: usize, reason: usize) {
        self.apps[app].closed(reason).fetch_add(1, Ordering::Relaxed);
    }

    /// Adds `n` to a counter of the thread itself.
    pub fn add_worker(&self, counter: WorkerCounter, n: u64) {
        self.own.counters[counter as usize].fetch_add(n, Ordering::Relaxed);
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
        let metrics = Metrics::new(vec!["a".into(), "b".into()], 2, LABELS);
        metrics.worker(0).add(AppCounter::ConnectionsAccepted, 1, 2);
        metrics.worker(1).add(AppCounter::ConnectionsAccepted, 1, 3);
        metrics.worker(1).add_worker(WorkerCounter::AcceptPauses, 4);
        assert_eq!(metrics.app_total(AppCounter::ConnectionsAccepted, 1), 5);
        assert_eq!(metrics.app_total(AppCounter::ConnectionsAccepted, 0), 0);
        assert_eq!(metrics.worker_total(WorkerCounter::AcceptPauses), 4);
    }

    #[test]
    fn endings_are_counted_by_app_and_reason() {
        let metrics = Metrics::new(vec!["a".into(), "b".into()], 2, LABELS);
        metrics.worker(0).add_closed(1, 1);
        metrics.worker(1).add_closed(1, 1);
        assert_eq!(
            (metrics.closed_total(1, 1), metrics.closed_total(1, 0), metrics.closed_total(0, 1)),
            (2, 0, 0)
        );
    }

    #[test]
    fn blocks_of_different_threads_share_no_cache_line() {
        assert!(align_of::<WorkerMetrics>() >= 128);
        assert!(align_of::<AppBlock>() >= 128);
    }
}
