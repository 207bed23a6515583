//! A cursor over received bytes that cannot leave them.

use core::fmt;

/// There are fewer bytes than asked for; more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete;

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more bytes are needed")
    }
}

impl core::error::Error for Incomplete {}

/// Reads a slice from front to back. A read that asks for more than there is takes nothing.
///
/// ```
/// use ringway_proto::reader::{Incomplete, Reader};
/// let mut reader = Reader::new(&[1, 0, 2, b'h', b'i']);
/// assert_eq!(reader.u8(), Ok(1));
/// let length = reader.u16()?;
/// assert_eq!(reader.take(usize::from(length)), Ok(&b"hi"[..]));
/// assert_eq!(reader.u8(), Err(Incomplete));
/// # Ok::<(), Incomplete>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// A reader of nothing.
    pub const EMPTY: Self = Self { bytes: &[], position: 0 };

    /// A reader at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// The next byte, which stays unread.
    pub fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Incomplete`] when there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Incomplete> {
        let taken = self.rest().get(..count).ok_or(Incomplete)?;
        self.position += count;
        Ok(taken)
    }

    /// The bytes before the next `delimiter`, which is read too and not returned.
    ///
    /// # Errors
    /// [`Incomplete`] when it does not occur.
    pub fn take_until(&mut self, delimiter: u8) -> Result<&'a [u8], Incomplete> {
        let length = self.rest().iter().position(|byte| *byte == delimiter).ok_or(Incomplete)?;
        let taken = self.take(length)?;
        self.position += 1;
        Ok(taken)
    }

    /// The longest run of bytes that `belongs` accepts; may be empty.
    pub fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|byte| !belongs(*byte)).unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    /// Reads `expected` if it comes next; says whether it did.
    pub fn skip(&mut self, expected: &[u8]) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.position += expected.len();
        }
        found
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Incomplete`] at the end.
    pub fn u8(&mut self) -> Result<u8, Incomplete> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    /// Two bytes, the higher first.
    ///
    /// # Errors
    /// [`Incomplete`] when there are fewer.
    pub fn u16(&mut self) -> Result<u16, Incomplete> {
        self.array().map(u16::from_be_bytes)
    }

    /// Three bytes, the highest first.
    ///
    /// # Errors
    /// [`Incomplete`] when there are fewer.
    pub fn u24(&mut self) -> Result<u32, Incomplete> {
        self.array().map(|[a, b, c]: [u8; 3]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Four bytes, the highest first.
    ///
    /// # Errors
    /// [`Incomplete`] when there are fewer.
    pub fn u32(&mut self) -> Result<u32, Incomplete> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`Incomplete`] when there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Incomplete> {
        let array = *self.rest().first_chunk().ok_or(Incomplete)?;
        self.position += N;
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_with_the_highest_byte_first() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.u16(), Ok(0x0203));
        assert_eq!(reader.u24(), Ok(0x04_0506));
        assert_eq!(reader.u32(), Ok(0x0708_090a));
        assert!(reader.is_empty());
    }

    #[test]
    fn a_read_beyond_the_end_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32(), Err(Incomplete));
        assert_eq!(reader.take(4), Err(Incomplete));
        assert_eq!(reader.take(usize::MAX), Err(Incomplete));
        assert_eq!(reader.take_until(9), Err(Incomplete));
        assert_eq!(reader.position(), 0);
        assert_eq!(reader.take(3), Ok(&[1, 2, 3][..]));
    }

    #[test]
    fn a_delimiter_is_read_and_not_returned() {
        let mut reader = Reader::new(b"one two");
        assert_eq!(reader.take_until(b' '), Ok(&b"one"[..]));
        assert!(!reader.skip(b"three"));
        assert!(reader.skip(b"tw"));
        assert_eq!(reader.take_while(|byte| byte == b'o'), b"o");
        assert_eq!(reader.take_while(|_| true), b"");
        assert_eq!(reader.peek(), None);
    }
}
