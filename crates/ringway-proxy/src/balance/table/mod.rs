//! What the balancing methods look things up in: built once for a set of endpoints, off the path of a connection,
//! and shared by all workers. Pure: endpoints are numbers, identities and weights here.

pub(crate) mod bounds;
mod hash;
mod maglev;
mod random;
mod ring;
mod sequence;

/// The atomics that [`bounds`] is built on.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

pub(crate) use hash::{hash_of_address, hash_of_source, mix};
pub(crate) use maglev::MaglevTable;
pub use random::Random;
pub(crate) use ring::Ring;
pub(crate) use sequence::turns_by_weight;

/// Places in the order in which they are tried.
pub(crate) type Walk<'t> =
    std::iter::Copied<std::iter::Chain<std::slice::Iter<'t, u32>, std::slice::Iter<'t, u32>>>;

/// One endpoint to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its place in the set.
    pub(crate) place: u32,
    /// What it is known by in every process and at every time: the hash of its address.
    pub(crate) identity: u64,
    /// Share relative to the others, not zero.
    pub(crate) weight: u32,
}

/// What all weights can be divided by.
fn common_divisor(members: &[Member]) -> u32 {
    fn of_two(a: u32, b: u32) -> u32 {
        if b == 0 { a } else { of_two(b, a % b) }
    }
    members.iter().fold(0, |divisor, member| of_two(divisor, member.weight)).max(1)
}

/// `members` in an order that does not depend on that of the configuration, with doubled identities told apart.
fn by_identity(members: &[Member]) -> Vec<Member> {
    let mut sorted = members.to_vec();
    sorted.sort_by_key(|member| (member.identity, member.place));
    for index in 1..sorted.len() {
        if sorted[index].identity == sorted[index - 1].identity {
            sorted[index].identity = mix(sorted[index].identity, 1);
        }
    }
    sorted
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Members with these weights, known by names that stay when others leave.
    pub(super) fn members(weights: &[u32]) -> Vec<Member> {
        let member = |(place, weight): (usize, &u32)| Member {
            place: place as u32,
            identity: hash_of_address(&format!("10.0.{}.{}:80", place / 256, place % 256)),
            weight: *weight,
        };
        weights.iter().enumerate().map(member).collect()
    }

    /// The hashes of so many clients.
    pub(super) fn sources(count: u32) -> impl Iterator<Item = u64> {
        (0..count).map(|n| hash_of_source(Some(std::net::Ipv4Addr::from(0x0a10_0000 + n).into())))
    }

    /// How many of `after` differ from `before`, of those that did not have to move.
    pub(super) fn moved(before: &[u32], after: &[u32], had_to: impl Fn(u32, u32) -> bool) -> usize {
        before.iter().zip(after).filter(|(one, two)| one != two && !had_to(**one, **two)).count()
    }
}
