//! A ring of points: each endpoint has many, by its weight, and a source belongs to the next point behind its hash.
//!
//! Source: Karger et al., "Consistent Hashing and Random Trees" (STOC 1997). A lookup is a binary search, and whoever
//! leaves gives its sources to the neighbours of its points: nobody else moves.

use super::{Member, Walk, by_identity, common_divisor, mix};

/// Points for one unit of weight: the share of an endpoint is off by one in the square root of its points, 3 %.
const POINTS_A_UNIT: u64 = 1_024;
/// Points in all, 8 bytes each; above it units get half as many, and half of that, and so on.
const POINTS_MAX: u64 = 1 << 20;

/// The points in order.
#[derive(Debug)]
pub(crate) struct Ring {
    hashes: Vec<u32>,
    places: Vec<u32>,
    /// For each beginning of a hash the first point that has it or is behind: a search in a dozen points, in the cache,
    /// instead of one in a million.
    starts: Vec<u32>,
    /// Bits of a hash behind its beginning.
    rest_bits: u32,
}

/// Points between two starts.
const POINTS_A_START: usize = 8;

impl Ring {
    /// The ring of `members`; empty if there are none.
    pub(crate) fn new(members: &[Member]) -> Self {
        let members = by_identity(members);
        let divisor = common_divisor(&members);
        let units: u64 = members.iter().map(|member| u64::from(member.weight / divisor)).sum();
        let mut points_a_unit = POINTS_A_UNIT;
        while points_a_unit > 1 && points_a_unit * units > POINTS_MAX {
            points_a_unit /= 2;
        }
        let mut points: Vec<(u32, u64, u32)> = Vec::new();
        for member in &members {
            // The points of a lower weight are among those of a higher one.
            let count = u64::from(member.weight / divisor) * points_a_unit;
            let point = |index| {
                let hash = mix(member.identity, index + 4);
                ((hash >> 32) as u32, hash, member.place)
            };
            points.extend((0..count).map(point));
        }
        points.sort_unstable();
        let hashes: Vec<u32> = points.iter().map(|(hash, _, _)| *hash).collect();
        let places = points.iter().map(|(_, _, place)| *place).collect();
        let bits = (hashes.len() / POINTS_A_START).max(2).ilog2();
        let rest_bits = 32 - bits;
        let start_of = |beginning: u64| {
            let first = hashes.partition_point(|hash| u64::from(*hash) < beginning << rest_bits);
            u32::try_from(first).expect("points are bounded")
        };
        let starts = (0..=1u64 << bits).map(start_of).collect();
        Self { hashes, places, starts, rest_bits }
    }

    /// The places to try for `hash`, in order: that of the next point, then those of the points behind. The same
    /// place may come more than once.
    pub(crate) fn walk(&self, hash: u64) -> Walk<'_> {
        let hash = (hash >> 32) as u32;
        let beginning = (hash >> self.rest_bits) as usize;
        let (from, to) = (self.starts[beginning] as usize, self.starts[beginning + 1] as usize);
        let start = from + self.hashes[from..to].partition_point(|point| *point < hash);
        self.places[start..].iter().chain(&self.places[..start]).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{members, moved, sources};
    use super::*;

    const CLIENTS: u32 = 20_000;

    fn choices(members: &[Member]) -> Vec<u32> {
        let ring = Ring::new(members);
        sources(CLIENTS).map(|hash| ring.walk(hash).next().expect("there are members")).collect()
    }

    #[test]
    fn nobody_moves_but_the_sources_of_the_backend_that_left() {
        let all = members(&[1; 20]);
        let before = choices(&all);
        let without: Vec<Member> = all.iter().copied().filter(|member| member.place != 7).collect();
        let after = choices(&without);
        assert!(before.contains(&7) && !after.contains(&7));
        assert_eq!(moved(&before, &after, |from, _| from == 7), 0);
    }

    #[test]
    fn who_moves_when_a_backend_joins_moves_to_it() {
        let all = members(&[1; 21]);
        let (before, after) = (choices(&all[..20]), choices(&all));
        assert_eq!(moved(&before, &after, |_, to| to == 20), 0);
        let gained = after.iter().filter(|place| **place == 20).count();
        assert!((800..1_100).contains(&gained), "{gained} of {CLIENTS} moved to the new one");
    }

    #[test]
    fn shares_are_near_the_weights() {
        let weights = [1, 2, 3, 4];
        let chosen = choices(&members(&weights));
        for (place, weight) in weights.iter().enumerate() {
            let held = chosen.iter().filter(|chosen| **chosen == place as u32).count() as f64;
            let ideal = f64::from(CLIENTS) * f64::from(*weight) / 10.0;
            assert!((held - ideal).abs() < ideal * 0.1, "{held} sources instead of {ideal}");
        }
    }

    #[test]
    fn many_backends_share_a_bounded_number_of_points() {
        let ring = Ring::new(&members(&[1; 10_000]));
        assert!(ring.places.len() <= POINTS_MAX as usize);
        assert_eq!(ring.places.len() % 10_000, 0);
        assert_eq!(Ring::new(&[]).walk(7).next(), None);
    }
}
