//! Pipes for splicing: few, large, and back in the pool as soon as they are empty.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys;

/// What a pipe should hold: smaller ones cost 6 to 28 % more CPU per byte (measured).
pub(crate) const PIPE_BYTES: usize = 1 << 20;

/// Below this a pipe is worse than copying by 256 KiB.
const PIPE_BYTES_MIN: usize = 256 << 10;

/// A pipe, empty whenever it is in the pool.
#[derive(Debug)]
pub(crate) struct Pipe {
    read_end: OwnedFd,
    write_end: OwnedFd,
}

impl Pipe {
    pub(crate) fn read_end(&self) -> BorrowedFd<'_> {
        self.read_end.as_fd()
    }

    pub(crate) fn write_end(&self) -> BorrowedFd<'_> {
        self.write_end.as_fd()
    }
}

/// The pipes of one engine.
pub(crate) struct PipePool {
    idle: Vec<Pipe>,
    /// How many exist, idle and in use.
    count: usize,
    count_max: usize,
}

impl PipePool {
    pub(crate) fn new(count_max: usize) -> Self {
        Self { idle: Vec::new(), count: 0, count_max }
    }

    /// An empty pipe; `None` if there are no more, and the caller copies.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if self.count >= self.count_max {
            return None;
        }
        match Self::open() {
            Some(pipe) => {
                self.count += 1;
                Some(pipe)
            }
            None => {
                // Out of descriptors, or of the pages that an unprivileged user may have in pipes
                // (pipe-user-pages-soft): asking again for each chunk would cost more than a pipe gains.
                self.count_max = self.count;
                None
            }
        }
    }

    fn open() -> Option<Pipe> {
        let (read_end, write_end) = sys::pipe().ok()?;
        let bytes = sys::set_pipe_size(write_end.as_fd(), PIPE_BYTES)
            .or_else(|_| sys::set_pipe_size(write_end.as_fd(), PIPE_BYTES_MIN))
            .ok()?;
        (bytes >= PIPE_BYTES_MIN).then_some(Pipe { read_end, write_end })
    }

    /// Takes back a pipe that is empty.
    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        self.idle.push(pipe);
    }

    /// Forgets a pipe that could not be emptied; dropping it discards what it holds.
    pub(crate) fn discard(&mut self, pipe: Pipe) {
        self.count -= 1;
        drop(pipe);
    }
}
