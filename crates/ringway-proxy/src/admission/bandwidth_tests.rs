//! Bytes a second, on one thread. Beside its file and not in it: loom includes that.

use proptest::prelude::*;

use super::Pacer;
use super::bandwidth::slice;

const SECOND: u64 = 1_000_000_000;

#[test]
fn what_was_not_used_is_kept_for_a_tenth_of_a_second() {
    let pacer = Pacer::new();
    let now = 50 * SECOND;
    // 1,000 bytes a second: a hundred are there at once, and then one comes each millisecond.
    assert!((0..100).all(|_| pacer.reserve(now, 1, 1_000) < now));
    assert_eq!(pacer.reserve(now, 1, 1_000), now);
    assert_eq!(pacer.reserve(now, 5, 1_000), now + SECOND / 1_000);
    assert_eq!(pacer.reserve(now, 1, 1_000), now + 6 * SECOND / 1_000);
}

#[test]
fn another_rate_holds_from_the_next_slice_on() {
    let pacer = Pacer::new();
    let now = 50 * SECOND;
    while pacer.reserve(now, 100, 1_000) < now {}
    let start = pacer.reserve(now, 1_000, 1_000_000_000);
    assert_eq!(pacer.reserve(now, 1, 1_000), start + 1_000);
}

#[test]
fn slices_grow_with_the_rate_up_to_a_bound() {
    assert_eq!((slice(1), slice(64 << 10), slice(1 << 40)), (1, 1 << 10, 64 << 10));
}

proptest! {
    #[test]
    fn over_any_stretch_no_more_is_sent_than_the_rate_and_its_depth(
        rate in 1u64..1_000_000_000,
        asks in prop::collection::vec((0u64..400_000_000, 1usize..70_000), 1..60),
    ) {
        let pacer = Pacer::new();
        let (mut now, mut sent) = (7 * SECOND, Vec::new());
        for (pause, bytes) in asks {
            now += pause;
            let bytes = bytes.min(slice(rate));
            sent.push((pacer.reserve(now, bytes, rate).max(now), bytes as u64));
        }
        sent.sort_unstable();
        for (first, (begin, _)) in sent.iter().enumerate() {
            let mut total = 0;
            for (end, bytes) in &sent[first..] {
                total += bytes;
                let most = u128::from(rate) * u128::from(end - begin + SECOND / 10) / u128::from(SECOND);
                prop_assert!(u128::from(total) <= most + slice(rate) as u128 + 1);
            }
        }
    }
}
