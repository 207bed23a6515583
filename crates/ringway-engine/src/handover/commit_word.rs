//! The word that decides a hand-over: shared memory that both processes see, changed once.
//!
//! It survives the death of either process, so that whoever is left can read what was decided, or decide it. The memory
//! is a sealed memfd: nobody can shrink it under the other's feet, so that reading it never faults.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::check;

/// What a [`CommitWord`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nobody has decided yet: the sockets are the old process's, which may have stopped using them.
    Undecided,
    /// They are the new process's; the old one touches them no more.
    New,
    /// They stay the old process's; the new one has never touched them and never will.
    Old,
}

const UNDECIDED: u32 = 0;
const NEW: u32 = 1;
const OLD: u32 = 2;

impl Decision {
    fn from_word(word: u32) -> Self {
        match word {
            UNDECIDED => Self::Undecided,
            NEW => Self::New,
            // Nobody writes another number; if somebody did, both sides would read the same.
            _ => Self::Old,
        }
    }
}

/// Bytes of the shared memory; the kernel gives a whole page.
const BYTES: usize = 4096;
/// The memory can neither shrink nor grow, and that cannot be changed.
const SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// One process's view of the word.
#[derive(Debug)]
pub struct CommitWord {
    fd: OwnedFd,
    word: NonNull<AtomicU32>,
}

// SAFETY: the pointer is to shared memory that stays mapped as long as this value lives, and is used only for atomic
// operations.
unsafe impl Send for CommitWord {}
// SAFETY: as above.
unsafe impl Sync for CommitWord {}

impl CommitWord {
    /// A new word, undecided.
    ///
    /// # Errors
    /// EMFILE or ENOMEM.
    pub fn new() -> io::Result<Self> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a C string that lives for ever.
        let fd = check(unsafe { libc::memfd_create(c"ringway-commit".as_ptr(), flags) })?;
        // SAFETY: the kernel made this descriptor for this call; nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: no pointers.
        check(unsafe { libc::ftruncate(fd.as_raw_fd(), BYTES as libc::off_t) })?;
        // SAFETY: no pointers.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, SEALS) })?;
        Self::map(fd)
    }

    /// The word that another process made, from the descriptor that it sent.
    ///
    /// # Errors
    /// `InvalidData` if the descriptor is not of such a word.
    pub fn from_descriptor(fd: OwnedFd) -> io::Result<Self> {
        let other = || io::Error::new(io::ErrorKind::InvalidData, "not the descriptor of a commit word");
        // SAFETY: no pointers.
        let seals = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) }).map_err(|_| other())?;
        let length = std::fs::File::from(fd.try_clone()?).metadata()?.len();
        if seals & SEALS != SEALS || length != BYTES as u64 {
            return Err(other());
        }
        Self::map(fd)
    }

    fn map(fd: OwnedFd) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice disturbs no other.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), BYTES, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let word = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { fd, word })
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the mapping is a page long, aligned to one, zeroed by the kernel, sealed against shrinking, and stays
        // until `self` is dropped. Both processes use it for atomic operations only.
        unsafe { self.word.as_ref() }
    }

    /// What is decided so far.
    pub fn decision(&self) -> Decision {
        Decision::from_word(self.word().load(Ordering::SeqCst))
    }

    /// Decides for `wanted`, unless it is decided already; says what holds from now on, for both processes and for ever.
    ///
    /// # Panics
    /// If `wanted` is [`Decision::Undecided`].
    pub fn decide(&self, wanted: Decision) -> Decision {
        let wanted = match wanted {
            Decision::New => NEW,
            Decision::Old => OLD,
            Decision::Undecided => panic!("that is no decision"),
        };
        match self.word().compare_exchange(UNDECIDED, wanted, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Decision::from_word(wanted),
            Err(standing) => Decision::from_word(standing),
        }
    }
}

impl AsFd for CommitWord {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for CommitWord {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, whole, and nobody holds a reference into it any more.
        unsafe { libc::munmap(self.word.as_ptr().cast(), BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn other_view(word: &CommitWord) -> CommitWord {
        let fd = word.as_fd().try_clone_to_owned().expect("a descriptor");
        CommitWord::from_descriptor(fd).expect("the descriptor of a word")
    }

    #[test]
    fn the_first_decision_holds_for_both() {
        for (first, second) in [(Decision::New, Decision::Old), (Decision::Old, Decision::New)] {
            let one = CommitWord::new().expect("a word");
            let other = other_view(&one);
            assert_eq!(other.decision(), Decision::Undecided);
            assert_eq!(one.decide(first), first);
            assert_eq!(other.decision(), first);
            assert_eq!(other.decide(second), first);
            drop(one);
            assert_eq!(other.decision(), first, "it outlives who made it");
        }
    }

    #[test]
    fn two_that_decide_at_once_come_to_the_same() {
        for _ in 0..200 {
            let one = CommitWord::new().expect("a word");
            let other = other_view(&one);
            let barrier = Barrier::new(2);
            let decide = |word: CommitWord, wanted| {
                barrier.wait();
                word.decide(wanted)
            };
            let both = thread::scope(|scope| {
                let one = scope.spawn(|| decide(one, Decision::New));
                let other = scope.spawn(|| decide(other, Decision::Old));
                [one, other].map(|thread| thread.join().expect("a decision"))
            });
            assert_eq!(both[0], both[1]);
        }
    }

    #[test]
    fn what_is_no_word_is_refused() {
        let file = std::fs::File::open("/dev/null").expect("a file");
        assert!(CommitWord::from_descriptor(file.into()).is_err());
        // SAFETY: the name is a C string that lives for ever.
        let fd = check(unsafe { libc::memfd_create(c"short".as_ptr(), libc::MFD_ALLOW_SEALING) });
        // SAFETY: the kernel made this descriptor for this call; nobody else has it.
        let unsealed = unsafe { OwnedFd::from_raw_fd(fd.expect("a memfd")) };
        let error = CommitWord::from_descriptor(unsealed).expect_err("it could be shrunk");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
