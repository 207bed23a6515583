//! Real servers for end-to-end tests, each on a free loopback port with its data in a directory of its own.
//!
//! `start` fails with a reason for [`skip!`](crate::skip) where a program is not installed.

mod dns;
mod haproxy;
mod iperf;
mod nginx;
mod postgres;
mod redis;

use std::path::PathBuf;
use std::process::{Command, Output};

pub use dns::Dns;
pub use haproxy::HaProxy;
pub use iperf::Iperf;
pub use nginx::Nginx;
pub use postgres::Postgres;
pub use redis::Redis;

use crate::find_program;

/// The path of a program, or the reason to skip.
///
/// # Errors
///
/// When it is not installed.
pub fn need(name: &str) -> Result<PathBuf, String> {
    find_program(name).ok_or_else(|| format!("{name} is not installed"))
}

/// Runs `command` to its end and returns its output.
///
/// # Panics
///
/// When it fails; its output is in the message.
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}
