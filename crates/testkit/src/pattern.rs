//! Endless byte patterns from a seed: whoever knows the seed can check each byte at its place.

/// A stream of bytes that never repeats in practice, so that lost, doubled and swapped pieces are all seen.
#[derive(Clone, Debug)]
pub struct Pattern {
    state: u64,
    /// Bytes of the current word that are still to be given out.
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    /// The pattern of `seed`, from its start.
    pub fn new(seed: u64) -> Self {
        Self { state: seed, word: [0; 8], used: 8 }
    }

    /// Fills `buffer` with the bytes that come next.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            *byte = self.next_byte();
        }
    }

    fn next_byte(&mut self) -> u8 {
        if self.used == self.word.len() {
            self.word = self.next_word().to_le_bytes();
            self.used = 0;
        }
        let byte = self.word[self.used];
        self.used += 1;
        byte
    }

    /// SplitMix64: every seed gives a sequence of its own.
    fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

/// Checks that what arrives is a pattern's start, byte by byte.
#[derive(Clone, Debug)]
pub struct PatternChecker {
    expected: Pattern,
    bytes: u64,
}

impl PatternChecker {
    /// Expects the pattern of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { expected: Pattern::new(seed), bytes: 0 }
    }

    /// Takes the bytes that came next.
    ///
    /// # Errors
    ///
    /// Where the first wrong byte is, counted from the start of the stream.
    pub fn feed(&mut self, received: &[u8]) -> Result<(), String> {
        for byte in received {
            let expected = self.expected.next_byte();
            if *byte != expected {
                return Err(format!("byte {} is {byte:#04x}, expected {expected:#04x}", self.bytes));
            }
            self.bytes += 1;
        }
        Ok(())
    }

    /// How many bytes were right.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_make_the_same_pattern() {
        let mut whole = [0; 1000];
        Pattern::new(7).fill(&mut whole);
        let mut checker = PatternChecker::new(7);
        for piece in whole.chunks(13) {
            checker.feed(piece).expect("the same seed makes the same bytes");
        }
        assert_eq!(checker.bytes(), 1000);
    }

    #[test]
    fn a_missing_byte_is_seen() {
        let mut whole = [0; 100];
        Pattern::new(7).fill(&mut whole);
        let mut checker = PatternChecker::new(7);
        assert!(checker.feed(&whole[..50]).is_ok());
        assert!(checker.feed(&whole[51..]).is_err());
    }
}
