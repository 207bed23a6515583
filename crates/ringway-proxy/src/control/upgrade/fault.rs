//! Faults on purpose, for tests: RINGWAY_UPGRADE_FAULT=`SIDE.POINT=WHAT` ends or stops a process at a point of the
//! hand-over. Whoever may set the environment of a process may do that to it in any case.

use rustix::process::{Signal, getpid, kill_process};

/// The variable.
const VARIABLE: &str = "RINGWAY_UPGRADE_FAULT";

/// Fails here if the environment says so.
pub(super) fn point(side: &str, name: &str) {
    let Ok(wanted) = std::env::var(VARIABLE) else { return };
    match wanted.strip_prefix(&format!("{side}.{name}=")) {
        Some("kill") => {
            tracing::warn!(side, name, "killed by {VARIABLE}");
            let _ = kill_process(getpid(), Signal::KILL);
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
