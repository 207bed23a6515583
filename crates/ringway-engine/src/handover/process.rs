//! A handle to another process: tells when it has ended, and can end it. Source: pidfd_open(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::Interest;
use crate::sys::check;

/// Names a process and never another one that gets its number later. [`Interest::Read`] of it means that all threads of
/// the process have ended: by then the kernel has closed its descriptors.
#[derive(Debug)]
pub struct ProcessHandle {
    fd: OwnedFd,
    pid: u32,
}

impl ProcessHandle {
    pub(crate) fn new(fd: OwnedFd, pid: u32) -> Self {
        Self { fd, pid }
    }

    /// A handle to the process of this number. Sure to be the one that is meant only for a child that was not waited
    /// for yet; for the other end of a channel ask [`Channel::peer_process`](super::Channel::peer_process).
    ///
    /// # Errors
    /// ESRCH if there is none; ENOSYS before Linux 5.3.
    pub fn open(pid: u32) -> io::Result<Self> {
        // SAFETY: no pointers.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = check(i32::try_from(result).unwrap_or(-1))?;
        // SAFETY: the kernel made this descriptor for this call; nobody else has it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, pid })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended. A child that was not waited for has.
    pub fn has_ended(&self) -> bool {
        // A failure of the call says nothing: it lives until the kernel says otherwise.
        super::wait([(self.as_fd(), Interest::Read)], Some(Duration::ZERO)).is_ok_and(|[ended]| ended)
    }

    /// Ends it, without asking (SIGKILL). It has ended only when [`Self::has_ended`] says so.
    ///
    /// # Errors
    /// ESRCH if it has ended already; EPERM if it belongs to somebody else.
    pub fn kill(&self) -> io::Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: without a record of its own the signal is sent as `kill` would; no pointer is read.
        let result = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), libc::SIGKILL, none, 0)
        };
        check(i32::try_from(result).unwrap_or(-1)).map(drop)
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_end_of_a_process_is_noticed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let handle = ProcessHandle::open(child.id()).expect("a child that lives");
        assert!(!handle.has_ended());
        handle.kill().expect("a process of this user");
        let [ended] = super::super::wait([(handle.as_fd(), Interest::Read)], Some(Duration::from_secs(10)))
            .expect("to wait");
        assert!(ended && handle.has_ended());
        child.wait().expect("it has ended");
        assert!(handle.has_ended());
        assert_eq!(handle.kill().expect_err("it is gone").raw_os_error(), Some(libc::ESRCH));
    }
}
