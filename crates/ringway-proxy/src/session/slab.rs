//! Records by place: a table that grows by chunk and never moves what it holds.
//!
//! A place that became free is the first to be used again, so the records in use stay together in memory.

/// Slots in a chunk: a chunk of sessions is 36 KiB, and the system lends memory only for the pages that are touched.
const CHUNK: usize = 512;

/// Marks the end of the chain of free slots.
const END: u32 = u32::MAX;

/// Records of one kind, each at a place that stays its own until it is removed.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    first_free: u32,
    len: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Occupied(T),
    /// The next free one.
    Free(u32),
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    /// Bytes that a record takes.
    pub const SLOT_SIZE: usize = size_of::<Slot<T>>();

    /// An empty table, without memory.
    pub fn new() -> Self {
        Self { chunks: Vec::new(), first_free: END, len: 0 }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `record` in and gives its place.
    ///
    /// # Panics
    /// At 2³² - 1 records: there are not as many descriptors in a system.
    pub fn insert(&mut self, record: T) -> u32 {
        let place = if self.first_free == END { self.grow() } else { self.first_free };
        let slot = self.slot_mut(place).expect("free places are within the table");
        let Slot::Free(next) = *slot else { unreachable!("a place in the chain of free ones is occupied") };
        *slot = Slot::Occupied(record);
        self.first_free = next;
        self.len += 1;
        place
    }

    /// The record at `place`, if there is one.
    pub fn get(&self, place: u32) -> Option<&T> {
        match self.chunks.get(place as usize / CHUNK)?.get(place as usize % CHUNK)? {
            Slot::Occupied(record) => Some(record),
            Slot::Free(_) => None,
        }
    }

    /// The record at `place`, to be changed.
    pub fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        match self.slot_mut(place)? {
            Slot::Occupied(record) => Some(record),
            Slot::Free(_) => None,
        }
    }

    /// Takes the record at `place` out; the place may be used again.
    pub fn remove(&mut self, place: u32) -> Option<T> {
        let next = self.first_free;
        let slot = self.slot_mut(place)?;
        if let Slot::Free(_) = slot {
            return None;
        }
        let Slot::Occupied(record) = std::mem::replace(slot, Slot::Free(next)) else { return None };
        self.first_free = place;
        self.len -= 1;
        Some(record)
    }

    /// One more than the highest place ever used: for walks over all places while records come and go.
    pub fn places(&self) -> u32 {
        match self.chunks.split_last() {
            Some((last, full)) => (full.len() * CHUNK + last.len()) as u32,
            None => 0,
        }
    }

    /// Makes a new free slot and gives its place.
    fn grow(&mut self) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let place = self.places();
        assert!(place < END, "more records than places");
        let chunk = self.chunks.last_mut().expect("a chunk with room was just seen to");
        chunk.push(Slot::Free(END));
        place
    }

    fn slot_mut(&mut self, place: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(place as usize / CHUNK)?.get_mut(place as usize % CHUNK)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn does_what_a_map_does(steps in prop::collection::vec(any::<(bool, u16)>(), 1..3_000)) {
            let mut slab = Slab::new();
            let mut map = BTreeMap::new();
            for (step, (remove, number)) in steps.into_iter().enumerate() {
                if remove && number % 2 == 0 {
                    let place = u32::from(number) % (slab.places() + 1);
                    prop_assert_eq!(slab.remove(place), map.remove(&place));
                } else {
                    let place = slab.insert(step);
                    prop_assert!(map.insert(place, step).is_none(), "place {} was in use", place);
                }
                prop_assert_eq!(slab.len(), map.len());
            }
            for place in 0..slab.places() + 2 {
                prop_assert_eq!(slab.get(place), map.get(&place));
                prop_assert_eq!(slab.get_mut(place).copied(), map.get(&place).copied());
            }
        }
    }

    #[test]
    fn freed_place_is_the_next_to_be_used_and_nothing_moves() {
        let mut slab = Slab::new();
        let places: Vec<u32> = (0..2_000).map(|n| slab.insert(n)).collect();
        let address = std::ptr::from_ref(slab.get(places[0]).expect("inserted"));
        slab.remove(places[700]);
        slab.remove(places[3]);
        assert_eq!(slab.insert(0), places[3]);
        assert_eq!(slab.insert(0), places[700]);
        assert_eq!(slab.places(), 2_000);
        (0..5_000).for_each(|n| _ = slab.insert(n));
        assert_eq!(std::ptr::from_ref(slab.get(places[0]).expect("inserted")), address);
    }
}
