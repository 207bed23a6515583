//! Programs of the system that tests talk to, where they are installed.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where Debian keeps what it does not put on the path.
const POSTGRES_ROOT: &str = "/usr/lib/postgresql";

/// Finds `name` on the path, in the directories of administrators, and in PostgreSQL's own.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(postgres_directories())
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn postgres_directories() -> Vec<PathBuf> {
    let Ok(versions) = fs::read_dir(POSTGRES_ROOT) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = versions.flatten().map(|version| version.path().join("bin")).collect();
    found.sort();
    // The newest first.
    found.reverse();
    found
}

/// Prints why a test was skipped, and adds it to the file named by `TESTKIT_SKIP_LOG`. Used by [`skip!`](crate::skip).
pub fn log_skip(reason: &str) {
    eprintln!("skipped: {reason}");
    if let Some(log) = env::var_os("TESTKIT_SKIP_LOG") {
        let written = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(Path::new(&log))
            .and_then(|mut file| writeln!(file, "{reason}"));
        if let Err(error) = written {
            eprintln!("TESTKIT_SKIP_LOG: {error}");
        }
    }
}
