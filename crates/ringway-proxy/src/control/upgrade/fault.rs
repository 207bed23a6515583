//! Faults on purpose, for tests: RINGWAY_UPGRADE_FAULT=`SIDE.POINT=WHAT` ends a process at a point of the hand-over, has it
//! hang there, or stops it until a signal has it continue. Whoever may set the environment of a process may do that to it in
//! any case.

use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

/// The variable.
const VARIABLE: &str = "RINGWAY_UPGRADE_FAULT";

/// By then a process that was told to stop has stopped.
const STOPS: Duration = Duration::from_millis(100);

/// Fails here if the environment says so.
pub(super) fn point(side: &str, name: &str) {
    let Ok(wanted) = std::env::var(VARIABLE) else { return };
    match wanted.strip_prefix(&format!("{side}.{name}=")) {
        Some("kill") => {
            tracing::warn!(side, name, "killed by {VARIABLE}");
            let _ = kill_process(getpid(), Signal::KILL);
        }
        Some("stop") => {
            // The line that says so may not be written any more.
            let _ = kill_process(getpid(), Signal::STOP);
            // Another thread may get the signal, which stops this one a moment later.
            std::thread::sleep(STOPS);
        }
        Some("hang") => {
            tracing::warn!(side, name, "stopped by {VARIABLE}");
            loop {
                std::thread::park();
            }
        }
        Some(_) | None => {}
    }
}
