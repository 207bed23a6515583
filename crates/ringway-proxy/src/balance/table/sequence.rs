//! The order of turns by weight, worked out beforehand.
//!
//! It spreads each endpoint evenly: the n-th turn of one with weight w lies at (2n + 1) / w, the divisors by which
//! Sainte-Laguë shares seats. So each stretch holds each endpoint nearly as often as its weight says.

use super::{Member, common_divisor};

/// Places, each as often as its weight over the greatest common divisor of all.
pub(crate) fn turns_by_weight(members: &[Member]) -> Vec<u32> {
    let divisor = common_divisor(members);
    let mut turns: Vec<(u32, u32, u32)> = Vec::new();
    for member in members {
        let count = member.weight / divisor;
        turns.extend((0..count).map(|turn| (2 * turn + 1, count, member.place)));
    }
    turns.sort_by(|(one, one_count, one_place), (two, two_count, two_place)| {
        let (left, right) =
            (u64::from(*one) * u64::from(*two_count), u64::from(*two) * u64::from(*one_count));
        left.cmp(&right).then(one_place.cmp(two_place))
    });
    turns.into_iter().map(|(_, _, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::members;
    use super::*;

    #[test]
    fn equal_weights_make_a_short_sequence() {
        assert_eq!(turns_by_weight(&members(&[200, 200])), [0, 1]);
        assert_eq!(turns_by_weight(&members(&[3, 1])), [0, 0, 1, 0]);
        assert!(turns_by_weight(&[]).is_empty());
    }
}
