//! What processes hold: memory, descriptors, threads.

use std::fs;
use std::thread;
use std::time::Duration;

use super::super::procfs;
use super::super::stats::median;

/// Readings of which the medians count: connections come and go meanwhile.
const READINGS: usize = 9;
const BETWEEN: Duration = Duration::from_millis(50);

/// What some processes hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    pub(super) processes: usize,
    pub(super) anonymous_bytes: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
}

impl Footprint {
    /// Read now. A process that is gone holds nothing.
    pub(super) fn now(pids: &[u32]) -> Self {
        let sum = |of: fn(u32) -> u64| pids.iter().map(|&pid| of(pid)).sum();
        Self {
            processes: pids.len(),
            anonymous_bytes: sum(|pid| procfs::anonymous_bytes(&[pid]).unwrap_or(0)),
            descriptors: sum(|pid| entries(&format!("/proc/{pid}/fd"))),
            threads: sum(|pid| entries(&format!("/proc/{pid}/task"))),
        }
    }

    /// The medians of several readings.
    pub(super) fn settled(pids: &[u32]) -> Self {
        let readings: Vec<Self> = (0..READINGS)
            .map(|_| {
                thread::sleep(BETWEEN);
                Self::now(pids)
            })
            .collect();
        Self::middle(&readings)
    }

    fn middle(readings: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> u64| {
            median(readings.iter().map(|reading| of(reading) as f64)).unwrap_or(0.0) as u64
        };
        Self {
            processes: readings.first().map_or(0, |reading| reading.processes),
            anonymous_bytes: middle(|reading| reading.anonymous_bytes),
            descriptors: middle(|reading| reading.descriptors),
            threads: middle(|reading| reading.threads),
        }
    }

    /// Nothing grew by more than what comes and goes: 1 MiB or a twentieth, and a hundredth of the descriptors.
    pub(super) fn is_flat_since(&self, before: &Self) -> bool {
        let bytes = before.anonymous_bytes + (before.anonymous_bytes / 20).max(1 << 20);
        let descriptors = before.descriptors + (before.descriptors / 100).max(16);
        self.anonymous_bytes <= bytes && self.descriptors <= descriptors && self.threads <= before.threads
    }
}

/// Connections that a proxy's process relays: half of its sockets, those it listens on aside.
pub(super) fn relayed_connections(pid: u32) -> usize {
    let Ok(directory) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let links = directory.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count() / 2
}

fn entries(path: &str) -> u64 {
    fs::read_dir(path).map_or(0, |directory| directory.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(anonymous_bytes: u64, descriptors: u64, threads: u64) -> Footprint {
        Footprint { processes: 1, anonymous_bytes, descriptors, threads }
    }

    #[test]
    fn a_thread_a_megabyte_or_many_descriptors_more_are_growth() {
        let before = footprint(4 << 20, 18_000, 4);
        assert!(footprint(5 << 20, 18_180, 4).is_flat_since(&before));
        assert!(!footprint(6 << 20, 18_000, 4).is_flat_since(&before));
        assert!(!footprint(4 << 20, 18_500, 4).is_flat_since(&before));
        assert!(!footprint(4 << 20, 18_000, 5).is_flat_since(&before));
    }

    #[test]
    fn one_odd_reading_does_not_count() {
        let readings = [footprint(1, 2, 3), footprint(900, 900, 900), footprint(1, 2, 3)];
        assert_eq!(Footprint::middle(&readings), footprint(1, 2, 3));
    }

    #[test]
    fn this_process_holds_something() {
        let own = Footprint::now(&[std::process::id()]);
        assert!(own.anonymous_bytes > 0 && own.descriptors > 0 && own.threads > 0, "{own:?}");
        assert_eq!(Footprint::now(&[u32::MAX]).descriptors, 0);
    }
}
