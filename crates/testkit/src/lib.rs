//! Ports, clients, backends and a process runner for the tests of Ringway.
//!
//! A dev-dependency only. Nothing here knows Ringway's crates: what is tested is the program, from outside.
//! Everything waits for an event with a deadline; a deadline that passes panics with what was seen until then.
#![forbid(unsafe_code)]

pub mod backend;
pub mod certificates;
pub mod client;
mod descriptors;
pub mod http;
mod pattern;
mod port;
mod process;
mod program;
mod ringway;
mod runtime;
mod seccomp;
pub mod server;
mod wait;

pub use descriptors::raise_descriptor_limit;
pub use pattern::{Pattern, PatternChecker};
pub use port::{free_address, free_port, listener_for_several};
pub use process::Process;
pub use program::{find_program, log_skip};
pub use ringway::{Ringway, RingwayBuilder};
pub use runtime::{block_on, spawn};
pub use rustix::process::Signal;
pub use seccomp::spawn_without_io_uring;
pub use wait::{PATIENCE, eventually};

/// Ends the test here as passed, with the reason why it could not run; `.ci/run` prints all such reasons.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::log_skip(&format!("{}: {}", module_path!(), format_args!($($reason)*)));
        return;
    }};
}
