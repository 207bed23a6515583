//! What a name means: addresses, and for those of a service what its records say of them.

use std::sync::atomic::{AtomicU32, Ordering};

use ringway::SocketAddress;

use crate::model::Backend;

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Where it is.
    pub address: SocketAddress,
    /// What the record of a service says of it; `None`: it goes by the configuration alone.
    pub record: Option<Record>,
}

impl From<SocketAddress> for Resolved {
    fn from(address: SocketAddress) -> Self {
        Self { address, record: None }
    }
}

/// What the record of a service says of one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// In 256ths, at least one: a target shares its weight among its addresses.
    pub(super) weight: u32,
    /// Others go before it.
    pub(super) backup: bool,
}

/// What one unit of a record's weight is worth here.
const UNIT: u32 = 256;
const HAS_RECORD: u32 = 1 << 31;
const IS_BACKUP: u32 = 1 << 30;

impl Record {
    /// Of a record with this weight, whose target has so many addresses. `backup`: records of lower priority go first.
    pub fn new(weight: u16, addresses: usize, backup: bool) -> Self {
        let addresses = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
        // Weight zero is a very small chance and not none (RFC 2782).
        let weight = (u32::from(weight.max(1)) * UNIT / addresses).max(1);
        Self { weight, backup }
    }
}

/// A record that all threads see.
#[derive(Debug, Default)]
pub(super) struct RecordCell(AtomicU32);

impl RecordCell {
    pub(super) fn get(&self) -> Option<Record> {
        let word = self.0.load(Ordering::Relaxed);
        let record = Record { weight: word & (IS_BACKUP - 1), backup: word & IS_BACKUP != 0 };
        (word & HAS_RECORD != 0).then_some(record)
    }

    pub(super) fn set(&self, record: Option<Record>) {
        let word =
            record.map_or(0, |record| HAS_RECORD | if record.backup { IS_BACKUP } else { 0 } | record.weight);
        self.0.store(word, Ordering::Relaxed);
    }
}

/// Weight and rank of each address of a backend.
///
/// The weight of the backend multiplies those of its records. Where the products fit no weight of ours they are scaled, so
/// that the largest of each rank is the largest there is.
pub(super) fn ranks(backend: &Backend, records: &[Option<Record>]) -> Vec<(u16, bool)> {
    let product = |record: &Record| u64::from(record.weight) * u64::from(backend.weight);
    let largest = |backup: bool| {
        let own = records.iter().flatten().filter(|record| record.backup == backup);
        let products: Vec<u64> = own.map(product).collect();
        let (unit, most) = (u64::from(UNIT), u64::from(Backend::WEIGHT_MAX));
        let fits = products.iter().all(|product| product % unit == 0 && product / unit <= most);
        if fits { most * unit } else { products.into_iter().max().unwrap_or(1) }
    };
    let largest = [largest(false), largest(true)];
    let rank = |record: &Option<Record>| {
        let Some(record) = record else { return (backend.weight, backend.backup) };
        let backup = record.backup || backend.backup;
        if backend.weight == 0 {
            return (0, backup);
        }
        let largest = largest[usize::from(record.backup)];
        let scaled = (product(record) * u64::from(Backend::WEIGHT_MAX) + largest / 2) / largest;
        (u16::try_from(scaled).unwrap_or(Backend::WEIGHT_MAX).max(1), backup)
    };
    records.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Target;

    fn backend(weight: u16, backup: bool) -> Backend {
        Backend { weight, backup, ..Backend::new("_a._tcp.b", Target::Service { name: "_a._tcp.b".into() }) }
    }

    fn weights(weight: u16, records: &[(u16, usize)]) -> Vec<u16> {
        let record = |(weight, addresses): &(u16, usize)| Some(Record::new(*weight, *addresses, false));
        let records: Vec<_> = records.iter().map(record).collect();
        ranks(&backend(weight, false), &records).into_iter().map(|(weight, _)| weight).collect()
    }

    #[test]
    fn weights_of_records_are_kept_where_they_fit_and_scaled_where_not() {
        assert_eq!(weights(1, &[(10, 1), (60, 1), (256, 1)]), [10, 60, 256]);
        assert_eq!(weights(1, &[(0, 1), (0, 1)]), [1, 1]);
        assert_eq!(weights(1, &[(0, 1), (100, 1)]), [1, 100]);
        assert_eq!(weights(3, &[(10, 1), (60, 1)]), [30, 180], "the backend's own multiplies them");
        assert_eq!(weights(1, &[(1_000, 1), (500, 1), (1, 1)]), [256, 128, 1]);
        assert_eq!(
            weights(1, &[(10, 2), (10, 2), (10, 1)]),
            [5, 5, 10],
            "a target's addresses share its weight"
        );
        assert_eq!(weights(1, &[(1, 2), (1, 2), (1, 1)]), [128, 128, 256]);
        assert_eq!(weights(0, &[(10, 1), (20, 1)]), [0, 0], "an operator's word goes before");
    }

    #[test]
    fn each_rank_is_scaled_for_itself_and_a_backup_stays_one() {
        let records = [Some(Record::new(65_535, 1, false)), Some(Record::new(7, 1, true)), None];
        assert_eq!(ranks(&backend(1, false), &records), [(256, false), (7, true), (1, false)]);
        assert_eq!(ranks(&backend(1, true), &records), [(256, true), (7, true), (1, true)]);
    }

    proptest! {
        #[test]
        fn a_heavier_record_is_never_lighter_and_none_is_without_weight(
            weight in 1u16..=256, records in prop::collection::vec((any::<u16>(), 1usize..300, any::<bool>()), 1..20),
        ) {
            let records: Vec<_> =
                records.into_iter().map(|(weight, count, backup)| Some(Record::new(weight, count, backup))).collect();
            let ranks = ranks(&backend(weight, false), &records);
            for (one, (weight, _)) in records.iter().flatten().zip(&ranks) {
                prop_assert!((1..=Backend::WEIGHT_MAX).contains(weight));
                for (other, (other_weight, _)) in records.iter().flatten().zip(&ranks) {
                    prop_assert!(one.backup != other.backup || one.weight < other.weight || weight >= other_weight);
                }
            }
        }

        #[test]
        fn a_record_comes_back_as_it_was_kept(weight: u16, addresses in 1usize..1_000, backup: bool) {
            let cell = RecordCell::default();
            prop_assert_eq!(cell.get(), None);
            let record = Record::new(weight, addresses, backup);
            cell.set(Some(record));
            prop_assert_eq!(cell.get(), Some(record));
        }
    }
}
