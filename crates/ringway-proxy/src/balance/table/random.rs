//! Chance that repeats: the same seed gives the same numbers.

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to spread connections and checks. Neighbouring
/// seeds give unrelated numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high half of the product (Lemire 2019); the bias is below end / 2^64.
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// A number from 0 to below 1.
    pub fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_the_same_numbers_within_their_bounds() {
        let mut twins = [Random::new(7), Random::new(7)];
        for end in 1..1_000 {
            let numbers = twins.each_mut().map(|random| random.below(end));
            assert_eq!(numbers[0], numbers[1]);
            assert!(numbers[0] < end);
            let share = twins.each_mut().map(Random::share)[0];
            assert!((0.0..1.0).contains(&share));
        }
    }
}
