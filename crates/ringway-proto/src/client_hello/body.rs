//! A cursor over the bytes of a message that lie in several records.

use super::record::HEAD_BYTES;
use crate::reader::Incomplete;

/// Some of the bytes of a message, in the records that they came in. The records were surveyed: they hold the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Body<'a> {
    /// What is left of the record at hand.
    fragment: &'a [u8],
    /// The records after it.
    records: &'a [u8],
    /// Bytes that belong to this part of the message.
    left: usize,
}

impl<'a> Body<'a> {
    /// The first `whole` bytes that `records` carry.
    pub(super) fn new(records: &'a [u8], whole: usize) -> Self {
        Self { fragment: &[], records, left: whole }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// The next bytes that lie together, at most `count` of them.
    fn run(&mut self, count: usize) -> Result<&'a [u8], Incomplete> {
        if self.left < count {
            return Err(Incomplete);
        }
        while self.fragment.is_empty() {
            let (head, rest) = self.records.split_at_checked(HEAD_BYTES).ok_or(Incomplete)?;
            let length = usize::from(u16::from_be_bytes([head[3], head[4]])).min(rest.len());
            (self.fragment, self.records) = rest.split_at(length);
        }
        let (run, rest) = self.fragment.split_at(count.min(self.fragment.len()));
        self.fragment = rest;
        self.left -= run.len();
        Ok(run)
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Incomplete> {
        let mut missing = count;
        while missing > 0 {
            missing -= self.run(missing)?.len();
        }
        Ok(())
    }

    /// Fills `to` with the next bytes.
    pub(super) fn copy(&mut self, to: &mut [u8]) -> Result<(), Incomplete> {
        let mut filled = 0;
        while filled < to.len() {
            let run = self.run(to.len() - filled)?;
            to[filled..filled + run.len()].copy_from_slice(run);
            filled += run.len();
        }
        Ok(())
    }

    /// The next `count` bytes as a part of their own.
    pub(super) fn take(&mut self, count: usize) -> Result<Self, Incomplete> {
        let part = Self { left: count, ..*self };
        self.skip(count)?;
        Ok(part)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Incomplete> {
        let mut bytes = [0; 1];
        self.copy(&mut bytes)?;
        Ok(bytes[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Incomplete> {
        let mut bytes = [0; 2];
        self.copy(&mut bytes)?;
        Ok(u16::from_be_bytes(bytes))
    }

    /// What a length of one byte stands before.
    pub(super) fn vector8(&mut self) -> Result<Self, Incomplete> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// What a length of two bytes stands before.
    pub(super) fn vector16(&mut self) -> Result<Self, Incomplete> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
