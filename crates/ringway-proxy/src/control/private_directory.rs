//! A directory that only this user may enter, for a socket that only this user may find. Removed at the end.
//!
//! A process that is killed leaves its own behind. Its owner holds a lock on it, which ends with the process: whoever makes
//! the next directory for the same purpose removes those that nobody holds.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

/// Attempts to find a name that is free.
const ATTEMPTS: usize = 8;
/// The most directories of others that are looked at.
const LOOKS: usize = 256;

/// Made for one purpose, and removed with what is in it when dropped.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
    /// Holds the lock.
    _held: File,
}

impl PrivateDirectory {
    /// A new one, in the runtime directory that systemd made for the service, or else where temporary files go.
    ///
    /// # Errors
    /// When no directory can be made there, or none be locked.
    pub(super) fn new(purpose: &str) -> io::Result<Self> {
        let parent = std::env::var_os("RUNTIME_DIRECTORY").filter(|path| Path::new(path).is_absolute());
        Self::inside(&parent.map_or_else(std::env::temp_dir, PathBuf::from), purpose, hold)
    }

    fn inside(parent: &Path, purpose: &str, hold: Hold) -> io::Result<Self> {
        let in_words =
            |error: &io::Error| io::Error::new(error.kind(), format!("{}: {error}", parent.display()));
        remove_abandoned(parent, &format!("ringway-{purpose}-"));
        let mut result = Err(io::ErrorKind::AlreadyExists.into());
        for attempt in 0..ATTEMPTS {
            let random = RandomState::new().hash_one((std::process::id(), attempt));
            let path = parent.join(format!("ringway-{purpose}-{random:016x}"));
            // Fails if anything of that name is there already, a link included.
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => match hold(&path) {
                    Ok(Some(held)) => return Ok(Self { path, _held: held }),
                    // Whoever removes what is abandoned was here first.
                    Ok(None) => {}
                    Err(error) => {
                        let _ = fs::remove_dir(&path);
                        result = Err(in_words(&error));
                        break;
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    result = Err(in_words(&error));
                    break;
                }
            }
        }
        result
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Locks the directory at `path`; see [`hold`].
type Hold = fn(&Path) -> io::Result<Option<File>>;

/// Locks the directory at `path`; none if somebody else has, or its name is gone. Ends with this process, whatever ends that:
/// no process that it starts has the descriptor.
fn hold(path: &Path) -> io::Result<Option<File>> {
    let try_hold = || {
        let directory = File::open(path)?;
        flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
        // Its name may have become another's before it was locked.
        let (locked, named) = (directory.metadata()?, fs::symlink_metadata(path)?);
        let is_it = locked.ino() == named.ino() && locked.dev() == named.dev();
        Ok(is_it.then_some(directory))
    };
    try_hold().or_else(|error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::WouldBlock => Ok(None),
        _ => Err(error),
    })
}

/// Removes directories of this user whose names begin so and whose processes are gone. What cannot be removed stays.
fn remove_abandoned(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let is_named = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(prefix));
        number.is_some_and(|number| number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    for path in entries.flatten().filter(is_named).take(LOOKS).map(|entry| entry.path()) {
        let is_ours = fs::symlink_metadata(&path)
            .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw());
        if is_ours && let Ok(Some(_held)) = hold(&path) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_may_enter_it_and_it_goes_with_what_is_in_it() {
        let directory = PrivateDirectory::new("test").expect("temporary files can be made");
        let path = directory.path().to_path_buf();
        assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o700);
        fs::write(path.join("file"), "").expect("it is ours");
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn directories_of_dead_processes_are_removed_and_no_others() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let named = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).expect("it is ours");
            fs::write(path.join("socket"), "").expect("it is ours");
            path
        };
        let dead = named("ringway-test-0123456789abcdef");
        let of_others = [
            "ringway-other-0123456789abcdef",
            "ringway-test-0123456789abcde",
            "ringway-test-0123456789abcdeg",
        ];
        let of_others = of_others.map(named);
        let link = parent.path().join("ringway-test-fedcba9876543210");
        std::os::unix::fs::symlink(&of_others[0], &link).expect("it is ours");
        let living = PrivateDirectory::inside(parent.path(), "test", hold).expect("a directory");
        assert!(!dead.exists());
        let next = PrivateDirectory::inside(parent.path(), "test", hold).expect("a directory");
        assert!(living.path().exists() && next.path().exists());
        assert!(of_others.iter().all(|path| path.join("socket").exists()) && link.is_symlink());
    }

    #[test]
    fn directory_that_cannot_be_locked_is_removed_and_it_is_said_why() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let error =
            PrivateDirectory::inside(parent.path(), "test", |_| Err(io::ErrorKind::Unsupported.into()));
        let error = error.expect_err("it cannot be locked");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains(&parent.path().display().to_string()), "{error}");
        assert_eq!(fs::read_dir(parent.path()).expect("it is there").count(), 0);
    }

    #[test]
    fn what_somebody_else_holds_or_is_gone_is_no_error_and_all_else_is() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let held = hold(parent.path()).expect("it can be locked");
        assert!(held.is_some());
        assert!(hold(parent.path()).is_ok_and(|held| held.is_none()), "it is held");
        assert!(hold(&parent.path().join("gone")).is_ok_and(|held| held.is_none()));
        let loops = parent.path().join("loop");
        std::os::unix::fs::symlink(&loops, &loops).expect("it is ours");
        hold(&loops).expect_err("it cannot be opened");
    }
}
