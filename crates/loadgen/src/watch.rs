//! CPU time of processes, as the scheduler counts it: nanoseconds, all threads.

use std::fs;
use std::io;

/// Run time of all threads of the processes, in nanoseconds.
///
/// # Errors
/// When a process is gone, or the system has no `schedstat`.
pub(crate) fn cpu_nanos(pids: &[u32]) -> io::Result<u64> {
    let mut sum = 0;
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the listing and the reading; its time is lost, not the run.
            if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
                sum += parse_schedstat(&text).unwrap_or(0);
            }
        }
    }
    Ok(sum)
}

/// Run time of this process in nanoseconds, where the system tells.
pub(crate) fn own_cpu_nanos() -> Option<u64> {
    cpu_nanos(&[std::process::id()]).ok()
}

/// The first field of `/proc/PID/task/TID/schedstat`.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_time_is_the_first_field() {
        assert_eq!(parse_schedstat("1234567 89 10\n"), Some(1_234_567));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(cpu_nanos(&[u32::MAX]).is_err());
    }
}
