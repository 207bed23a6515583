//! Connections of each source, exact over all workers: how many are open, and how fast new ones come.
//!
//! The table is cut into shards, each with a lock that is held for one look-up. A source has an entry while it has
//! connections open, or came within the last second where its rate is limited; so there are never more entries than
//! connections, and new ones of a second.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringway::Time;

use super::rate::take;

/// More than any machine has workers: two of them seldom want the same.
const SHARDS: usize = 128;
/// Entries of a shard at which it is looked through for those that may go, at the earliest.
const SWEEP_FROM: usize = 64;

/// Whom clients are counted as: an IPv4 address, or an IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(u128);

impl Source {
    /// The source of a client. `prefix_v6`: how many leading bits of an IPv6 address name one.
    pub fn of(ip: IpAddr, prefix_v6: u8) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix_v6.min(128))).unwrap_or(0);
                Self(Ipv6Addr::to_bits(ip) & mask)
            }
        }
    }
}

/// What a source may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceLimits {
    /// Connections at once.
    pub connections: Option<u32>,
    /// New connections a second.
    pub per_second: Option<u32>,
}

/// Which limit of a source is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRefusal {
    /// Too many are open.
    Connections,
    /// Too many came.
    Rate,
}

/// The sources of an app.
#[derive(Debug)]
pub struct SourceTable {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    sources: BTreeMap<Source, Entry>,
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    open: u32,
    /// See [`Rate`](super::Rate).
    full_at: u64,
}

/// One open connection of a source; dropped, it is counted no more.
#[derive(Debug)]
pub struct SourcePermit {
    table: Arc<SourceTable>,
    source: Source,
}

impl Drop for SourcePermit {
    fn drop(&mut self) {
        self.table.leave(self.source);
    }
}

impl Default for SourceTable {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl SourceTable {
    /// Counts one more connection of `source`, unless that passes its limits.
    ///
    /// # Errors
    /// Which limit; nothing is counted then.
    pub fn enter(
        self: &Arc<Self>,
        source: Source,
        limits: SourceLimits,
        now: Time,
    ) -> Result<SourcePermit, SourceRefusal> {
        let now = now.as_nanos();
        let mut shard = self.shard(source);
        shard.sweep(now);
        let mut entry = shard.sources.get(&source).copied().unwrap_or_default();
        if limits.connections.is_some_and(|max| entry.open >= max) {
            return Err(SourceRefusal::Connections);
        }
        if let Some(per_second) = limits.per_second {
            entry.full_at = take(entry.full_at, now, per_second).ok_or(SourceRefusal::Rate)?;
        }
        entry.open += 1;
        shard.sources.insert(source, entry);
        drop(shard);
        Ok(SourcePermit { table: Arc::clone(self), source })
    }

    /// Sources that have an entry.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).sources.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn leave(&self, source: Source) {
        let mut shard = self.shard(source);
        if let Some(entry) = shard.sources.get_mut(&source) {
            entry.open -= 1;
            if entry.open == 0 && entry.full_at == 0 {
                shard.sources.remove(&source);
            }
        }
    }

    fn shard(&self, source: Source) -> MutexGuard<'_, Shard> {
        // The golden ratio spreads neighbours; who chooses addresses to meet in one shard only makes itself wait.
        let mixed = (source.0 as u64 ^ (source.0 >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        lock(&self.shards[(mixed >> 57) as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    /// Forgets sources without a connection whose bucket is full again, once there may be many of them.
    fn sweep(&mut self, now: u64) {
        if self.sources.len() < self.sweep_at.max(SWEEP_FROM) {
            return;
        }
        self.sources.retain(|_, entry| entry.open > 0 || entry.full_at > now);
        // Each look at all is paid for by as many newcomers.
        self.sweep_at = self.sources.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().expect("an address"), 64)
    }

    #[test]
    fn ipv6_addresses_of_one_network_are_one_source_and_ipv4_addresses_are_not() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
    }

    #[test]
    fn entry_lives_as_long_as_a_connection_of_its_source() {
        let table = Arc::new(SourceTable::default());
        let limits = SourceLimits { connections: Some(2), per_second: None };
        let enter = |address| table.enter(source(address), limits, Time::ZERO);
        let first = enter("192.0.2.1").expect("room");
        let second = enter("192.0.2.1").expect("room");
        assert_eq!(enter("192.0.2.1").err(), Some(SourceRefusal::Connections));
        let other = enter("192.0.2.2").expect("room for another");
        drop(first);
        let third = enter("192.0.2.1").expect("room again");
        assert_eq!(table.len(), 2);
        drop((second, third, other));
        assert!(table.is_empty());
    }

    #[test]
    fn sources_that_come_once_and_go_do_not_stay() {
        let table = Arc::new(SourceTable::default());
        let limits = SourceLimits { connections: None, per_second: Some(5) };
        for number in 0..200_000_u32 {
            let ip = IpAddr::V4(number.into());
            let now = Time::ZERO + Duration::from_millis(u64::from(number));
            drop(table.enter(Source::of(ip, 64), limits, now).expect("it came once"));
            assert!(number % 1_000 != 0 || table.len() <= 20_000, "{} at {number}", table.len());
        }
        assert!(table.len() <= SHARDS * SWEEP_FROM * 2, "{} are left", table.len());
    }

    #[test]
    fn rate_is_counted_for_each_source_alone() {
        let table = Arc::new(SourceTable::default());
        let limits = SourceLimits { connections: None, per_second: Some(2) };
        let enter = |address, seconds| {
            table.enter(source(address), limits, Time::ZERO + Duration::from_secs(seconds)).map(drop)
        };
        assert_eq!([enter("192.0.2.1", 9), enter("192.0.2.1", 9)], [Ok(()), Ok(())]);
        assert_eq!(enter("192.0.2.1", 9), Err(SourceRefusal::Rate));
        assert_eq!(enter("192.0.2.2", 9), Ok(()));
        assert_eq!(enter("192.0.2.1", 10), Ok(()));
    }

    #[test]
    fn maximum_is_never_passed_by_workers_that_race() {
        let table = Arc::new(SourceTable::default());
        let limits = SourceLimits { connections: Some(3), per_second: None };
        let open = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let Ok(permit) = table.enter(source("192.0.2.1"), limits, Time::ZERO) else {
                            continue;
                        };
                        let now = open.fetch_add(1, std::sync::atomic::Ordering::AcqRel) + 1;
                        assert!(now <= 3, "{now} at once");
                        open.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
                        drop(permit);
                    }
                });
            }
        });
        assert!(table.is_empty());
    }

    proptest! {
        /// Over any stretch of time no more are let in than the bucket held and was refilled with; and who keeps to the
        /// rate is never refused.
        #[test]
        fn rate_is_never_passed_and_a_steady_client_never_refused(
            per_second in 1_u32..2_000,
            pauses in prop::collection::vec(0_u64..20_000_000, 1..400),
        ) {
            let rate = crate::admission::Rate::new();
            let mut now = 5_000_000_000;
            let mut taken: Vec<u64> = Vec::new();
            for pause in pauses {
                now += pause;
                if rate.try_take(now, per_second) {
                    taken.push(now);
                }
            }
            for (index, start) in taken.iter().enumerate() {
                let seconds = (now - start) as f64 / 1e9;
                let most = f64::from(per_second) * (1.0 + seconds) + 1.0;
                prop_assert!((taken.len() - index) as f64 <= most * 1.001);
            }
            let steady = crate::admission::Rate::new();
            let interval = 1_000_000_000_u64.div_ceil(u64::from(per_second));
            for turn in 0..1_000 {
                prop_assert!(steady.try_take(turn * interval, per_second));
            }
        }
    }
}
