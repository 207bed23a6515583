//! What may lie between the bytes of a connection and those that are relayed: encryption, framing.
//!
//! A [`Layer`] owns no socket. The relay hands it what came and what is to go, together with memory of the worker to
//! write into ([`Buffers`]), so that a connection that rests holds none.

use std::fmt;
use std::io;

/// One side's way of saying things, in both directions.
pub trait Layer: fmt::Debug {
    /// Takes in what came. The payload that it amounts to lies in `bytes` or in `payload`; what has to be answered at
    /// once is appended to `answer`. What is not complete is kept inside, and bounded.
    fn receive<'a>(
        &mut self,
        bytes: &'a mut [u8],
        payload: &'a mut Scratch,
        answer: &mut Scratch,
    ) -> Heard<'a>;

    /// Whether the other end said that no more payload comes.
    fn has_peer_finished(&self) -> bool;

    /// Appends to `wire` how this is said.
    ///
    /// # Errors
    /// When nothing can be said any more; the connection is to be given up.
    fn send(&mut self, payload: &[u8], wire: &mut Scratch) -> io::Result<()>;

    /// Appends to `wire` that no more payload comes.
    fn finish(&mut self, wire: &mut Scratch);
}

/// What a [`Layer`] made of received bytes.
#[derive(Debug)]
pub struct Heard<'a> {
    /// What is good.
    pub payload: &'a [u8],
    /// What came after it breaks the rules: the connection is to be given up, once it got the answer.
    pub failure: Option<io::Error>,
}

/// Memory that all layers of a worker write into, one call after the other.
#[derive(Debug, Default)]
pub struct Buffers {
    /// What came, without its layer.
    pub payload: Scratch,
    /// What goes, in its layer.
    pub wire: Scratch,
    /// What a layer says by itself.
    pub answer: Scratch,
}

/// A buffer that keeps its memory when it is emptied, and is never written with zeros but where it grows.
#[derive(Default)]
pub struct Scratch {
    bytes: Vec<u8>,
    len: usize,
}

impl Scratch {
    /// Forgets what is in it.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is in it.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The same, to be written to.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// Appends these.
    pub fn extend(&mut self, more: &[u8]) {
        self.room(more.len()).copy_from_slice(more);
        self.advance(more.len());
    }

    /// So many bytes after what is in it, to be written to; what they are now means nothing.
    pub fn room(&mut self, count: usize) -> &mut [u8] {
        let end = self.len + count;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.len..end]
    }

    /// The first `count` bytes of the room are written.
    ///
    /// # Panics
    /// If there was not so much room.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.len, "more than the room that was asked for");
        self.len += count;
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_stays_in_order_and_room_that_is_not_used_is_nothing() {
        let mut scratch = Scratch::default();
        scratch.extend(b"one ");
        scratch.room(10)[..3].copy_from_slice(b"two");
        scratch.advance(3);
        assert_eq!(scratch.as_slice(), b"one two");
        scratch.clear();
        assert!(scratch.is_empty());
        scratch.extend(b"x");
        assert_eq!(scratch.as_mut_slice(), b"x");
    }
}
