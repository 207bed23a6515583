//! The limit on connections of clients, over all apps and workers.

use crate::endpoint::ExactCount;

/// Counts the connections of clients in the process against their limit.
#[derive(Debug)]
pub struct Admission {
    max: u32,
    open: ExactCount,
}

impl Admission {
    /// At most `connections_max` at once.
    pub fn new(connections_max: u32) -> Self {
        Self { max: connections_max, open: ExactCount::new() }
    }

    /// The limit.
    pub fn connections_max(&self) -> u32 {
        self.max
    }

    /// Connections that are admitted now.
    pub fn open(&self) -> u32 {
        self.open.get()
    }

    /// Admits one more, unless the limit is reached.
    #[must_use]
    pub fn try_admit(&self) -> bool {
        self.open.try_acquire(self.max)
    }

    /// One that was admitted is gone.
    pub fn release(&self) {
        self.open.release();
    }

    /// Whether the next one would have to wait.
    pub fn is_full(&self) -> bool {
        self.open.get() >= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
