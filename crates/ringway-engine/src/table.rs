//! Tables that grow by chunk and never move: connections by index and generation, and slabs of rare records.

/// Entries in a chunk.
const CHUNK: usize = 256;

/// A slab: takes values in, gives places out; freed places are used again, the last first.
pub(crate) struct Slab<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: u32,
    len: usize,
}

enum Slot<T> {
    /// The next free place, or `NONE`.
    Free(u32),
    Taken(T),
}

const NONE: u32 = u32::MAX;

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: NONE, len: 0 }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if self.free == NONE {
            let first = (self.chunks.len() * CHUNK) as u32;
            let chunk: Vec<Slot<T>> = (1..=CHUNK as u32)
                .map(|next| Slot::Free(if next == CHUNK as u32 { NONE } else { first + next }))
                .collect();
            self.chunks.push(chunk.into_boxed_slice());
            self.free = first;
        }
        let index = self.free;
        let slot = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        if let Slot::Free(next) = *slot {
            self.free = next;
        }
        *slot = Slot::Taken(value);
        self.len += 1;
        index
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        match self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)? {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)? {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let slot = self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)?;
        if matches!(slot, Slot::Free(_)) {
            return None;
        }
        let Slot::Taken(value) = std::mem::replace(slot, Slot::Free(self.free)) else { return None };
        self.free = index;
        self.len -= 1;
        Some(value)
    }

    /// Places that are taken, in order.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        let slots = self.chunks.iter().flat_map(|chunk| chunk.iter());
        slots.enumerate().filter(|(_, slot)| matches!(slot, Slot::Taken(_))).map(|(index, _)| index as u32)
    }
}

/// A table of plain records that are told apart by index alone; each knows by itself whether it is in use.
pub(crate) struct Table<T> {
    chunks: Vec<Box<[T]>>,
    free: Vec<u32>,
}

impl<T: Default> Table<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }

    /// A place for a new record; what stood there before is still to be seen (its generation).
    pub(crate) fn take(&mut self) -> u32 {
        if self.free.is_empty() {
            let first = (self.chunks.len() * CHUNK) as u32;
            self.chunks.push((0..CHUNK).map(|_| T::default()).collect());
            self.free.extend((first..first + CHUNK as u32).rev());
        }
        self.free.pop().expect("a chunk was just added")
    }

    pub(crate) fn give_back(&mut self, index: u32) {
        self.free.push(index);
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }

    /// Records in use.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len() * CHUNK - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slab_gives_back_what_it_took(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 1..2000)) {
            let mut slab = Slab::new();
            let mut model = BTreeMap::new();
            for (insert, value) in steps {
                if insert {
                    let index = slab.insert(value);
                    prop_assert!(model.insert(index, value).is_none(), "the place was taken");
                } else if let Some(index) = model.keys().copied().nth(usize::from(value) % model.len().max(1)) {
                    prop_assert_eq!(slab.remove(index), model.remove(&index));
                    prop_assert_eq!(slab.remove(index), None);
                }
                prop_assert_eq!(slab.len(), model.len());
            }
            for (index, value) in &model {
                prop_assert_eq!(slab.get(*index), Some(value));
            }
            prop_assert!(slab.indices().eq(model.keys().copied()));
        }
    }
}
