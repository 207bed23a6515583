//! What two processes of one machine need to hand sockets over to each other: a [`Channel`] that carries descriptors,
//! the [`CommitWord`] that decides once and for all whose they are, and a [`ProcessHandle`] that tells when the other
//! process has ended.
//!
//! Nothing here knows in which order a hand-over goes: that is `ringway::handover`.

mod channel;
mod commit_word;
mod process;

pub use channel::{Channel, ChannelListener, DESCRIPTORS_MAX, MESSAGE_BYTES_MAX, Message, PeerCredentials};
pub use commit_word::{CommitWord, Decision};
pub use process::ProcessHandle;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What [`wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read, or an end; of a [`ProcessHandle`]: that the process has ended.
    Read,
    /// Room to write, or an end.
    Write,
}

/// Waits until one of a few descriptors is ready, at most for `timeout` (`None`: for ever), and says which are. Comes
/// back early, with none, when a signal arrives.
///
/// # Errors
/// When the kernel has no memory for the wait.
pub fn wait<const N: usize>(
    wanted: [(BorrowedFd<'_>, Interest); N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polls = wanted.map(|(fd, interest)| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: match interest {
            Interest::Read => libc::POLLIN,
            Interest::Write => libc::POLLOUT,
        },
        revents: 0,
    });
    // Rounded up, so that the time is over when the wait ends.
    let milliseconds =
        timeout.map_or(-1, |timeout| i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: `polls` holds exactly N whole records and lives until the call returns.
    let result = unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
    match crate::sys::check(result) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Ok(_) | Err(_) => Ok(polls.map(|poll| poll.revents != 0)),
    }
}
