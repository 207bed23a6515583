//! Descriptors that a program is started with beside its standard streams: sockets that a service manager holds.
//!
//! Source: sd_listen_fds(3).

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys;

/// The first one follows the standard streams (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;
/// What announces them: the process that they are for, how many, and their names.
const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// A descriptor that the process was started with.
#[derive(Debug)]
pub struct PassedDescriptor {
    /// What the service manager calls it (`FileDescriptorName=` of systemd); `unknown` where it gave no names.
    pub name: String,
    /// What it is shows when it is [taken as a listener](crate::Listener::from_descriptor).
    pub descriptor: OwnedFd,
}

/// Takes the descriptors that the environment announces (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES) and removes these
/// variables. Nothing where there are none, or where they are for another process; nothing from the second call on.
///
/// Call it first of all: before anything else may open a descriptor, and while the process has one thread.
///
/// # Errors
/// When the announcement is not as it should be, a descriptor is not open, or the process has other threads already.
pub fn take_passed_descriptors() -> io::Result<Vec<PassedDescriptor>> {
    take(std::process::id())
}

/// As [`take_passed_descriptors`], in a process that was started by the one that they are for, in its place: LISTEN_PID is
/// its parent's id. For a supervisor that leaves them as it got them to what it starts, each time that it does: nobody can
/// know the id of a process before there is one.
///
/// # Errors
/// As with [`take_passed_descriptors`].
pub fn take_descriptors_of_parent() -> io::Result<Vec<PassedDescriptor>> {
    take(std::os::unix::process::parent_id())
}

/// Takes those that are for this process, or for the one that leaves them to it.
fn take(addressee: u32) -> io::Result<Vec<PassedDescriptor>> {
    static ARE_TAKEN: AtomicBool = AtomicBool::new(false);
    let [pid, count, names] = VARIABLES.map(|name| std::env::var(name).ok());
    if (pid.is_none() && count.is_none() && names.is_none()) || ARE_TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("passed descriptors are taken before other threads start"));
    }
    for name in VARIABLES {
        // SAFETY: the process has no other thread that could read the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    let names =
        announced(pid.as_deref(), count.as_deref(), names.as_deref(), addressee).map_err(io::Error::other)?;
    let mut passed = Vec::with_capacity(names.len());
    for (fd, name) in (FIRST..).zip(names) {
        if !sys::is_open(fd) {
            return Err(io::Error::other(format!("LISTEN_FDS announces descriptor {fd}, which is not open")));
        }
        // SAFETY: it is open, and whoever started the process left it to the process to take (LISTEN_PID is its id, or that
        // of the parent, which says so); nobody else in it has, as this code runs once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
        sys::close_on_exec(descriptor.as_fd())?;
        passed.push(PassedDescriptor { name, descriptor });
    }
    Ok(passed)
}

/// The names of the descriptors that are announced to the process `addressee`, in their order.
fn announced(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
    addressee: u32,
) -> Result<Vec<String>, String> {
    let (Some(pid), Some(count)) = (pid, count) else { return Ok(Vec::new()) };
    let pid: u32 = pid.parse().map_err(|_| format!("LISTEN_PID is no process id: {pid:?}"))?;
    if pid != addressee {
        return Ok(Vec::new());
    }
    // A descriptor is an int, and a table of them has no more entries than 16 bits count for any service.
    let count: u16 =
        count.parse().map_err(|_| format!("LISTEN_FDS is no number of descriptors: {count:?}"))?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let Some(names) = names else { return Ok(vec!["unknown".to_owned(); usize::from(count)]) };
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    if names.len() != usize::from(count) {
        return Err(format!("LISTEN_FDNAMES has {} names, LISTEN_FDS says {count}", names.len()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_this_process_have_a_name_each() {
        let names = announced(Some("7"), Some("2"), Some("web:admin"), 7).expect("it is well-formed");
        assert_eq!(names, ["web", "admin"]);
        let names = announced(Some("7"), Some("2"), None, 7).expect("names may be missing");
        assert_eq!(names, ["unknown", "unknown"]);
    }

    #[test]
    fn descriptors_of_another_process_are_left_alone() {
        assert_eq!(announced(Some("8"), Some("2"), Some("web:admin"), 7), Ok(Vec::new()));
        assert_eq!(announced(None, Some("2"), None, 7), Ok(Vec::new()));
        assert_eq!(announced(Some("7"), None, None, 7), Ok(Vec::new()));
        assert_eq!(announced(Some("7"), Some("0"), Some(""), 7), Ok(Vec::new()));
    }

    #[test]
    fn announcement_that_does_not_fit_together_is_refused() {
        for (pid, count, names) in [
            ("seven", "2", None),
            ("7", "many", None),
            ("7", "-1", None),
            ("7", "70000", None),
            ("7", "2", Some("web")),
            ("7", "1", Some("web:admin")),
        ] {
            assert!(announced(Some(pid), Some(count), names, 7).is_err(), "{pid} {count} {names:?}");
        }
    }
}
