//! Starts a child to which io_uring is forbidden, as container runtimes forbid it by default.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command};
use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// `io_uring_setup`: the same number on all architectures (they share the table from 424 on).
const IO_URING_SETUP: i64 = 425;

/// EPERM, what Docker's and containerd's default profiles answer.
const NOT_PERMITTED: u32 = 1;

/// Starts `command` under a filter that answers `io_uring_setup` with EPERM.
///
/// A filter belongs to a thread and is inherited by what that thread forks: so it is set on a thread that does
/// nothing else, and this process keeps its own io_uring.
///
/// # Errors
///
/// When the kernel takes no filter, or the command cannot be started.
pub fn spawn_without_io_uring(command: &mut Command) -> io::Result<Child> {
    let filter = filter().map_err(io::Error::other)?;
    thread::scope(|scope| {
        let spawned = scope.spawn(|| {
            apply_filter(&filter).map_err(io::Error::other)?;
            command.spawn()
        });
        spawned.join().unwrap_or_else(|_| Err(io::Error::other("the thread that forks panicked")))
    })
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = BTreeMap::from([(IO_URING_SETUP, Vec::new())]);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(NOT_PERMITTED), architecture)?
        .try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PATIENCE, Process};

    #[test]
    fn the_child_runs_under_the_filter() {
        let mut command = Command::new("grep");
        command.args(["^Seccomp:", "/proc/self/status"]);
        let mut process = Process::spawn_with(command, spawn_without_io_uring).expect("the filter is taken");
        assert!(process.wait(PATIENCE).success());
        assert_eq!(process.lines(), ["Seccomp:\t2"]);
    }
}
