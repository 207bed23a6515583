//! Slab and table against plain maps, by arbitrary operations.
#![no_main]
#![allow(dead_code, reason = "the engine's own files are compiled here, and not all of them is used")]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/ringway-engine/src/table.rs"]
mod table;

use table::{Slab, Table};

#[derive(Arbitrary, Debug)]
enum Operation {
    Insert(u64),
    Remove(u16),
    Get(u32),
    Take,
    GiveBack(u16),
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut slab = Slab::new();
    let mut expected = BTreeMap::new();
    let mut table: Table<u64> = Table::new();
    let mut taken = BTreeSet::new();
    for operation in operations {
        match operation {
            // Boxed, so that the sanitizer sees a value that is dropped twice or never.
            Operation::Insert(value) => {
                let index = slab.insert(Box::new(value));
                assert!(expected.insert(index, value).is_none(), "{index} was taken");
            }
            Operation::Remove(index) => {
                let removed = slab.remove(u32::from(index)).map(|value| *value);
                assert_eq!(removed, expected.remove(&u32::from(index)));
            }
            Operation::Get(index) => {
                assert_eq!(slab.get(index).map(|value| **value), expected.get(&index).copied());
            }
            Operation::Take => {
                let index = table.take();
                assert!(taken.insert(index), "{index} was taken");
                *table.get_mut(index).expect("it was just taken") = u64::from(index);
            }
            Operation::GiveBack(index) => {
                if taken.remove(&u32::from(index)) {
                    assert_eq!(table.get(u32::from(index)), Some(&u64::from(index)));
                    table.give_back(u32::from(index));
                }
            }
        }
        assert_eq!(table.len(), taken.len());
    }
    assert!(slab.indices().eq(expected.keys().copied()));
});
