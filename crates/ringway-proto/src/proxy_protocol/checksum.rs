//! CRC32c (Castagnoli), as RFC 4960, appendix B, has it.

/// The polynomial, lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What each value of a byte does to the sum.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

/// The CRC32c of `parts`, one after the other.
///
/// ```
/// # use ringway_proto::proxy_protocol::crc32c;
/// assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
/// ```
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let add = |sum: u32, byte: &u8| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ *byte)];
    !parts.iter().flat_map(|part| part.iter()).fold(u32::MAX, add)
}
