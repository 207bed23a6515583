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
    /// When no directory can be made there.
    pub(super) fn new(purpose: &str) -> io::Result<Self> {
        let parent = std::env::var_os("RUNTIME_DIRECTORY").filter(|path| Path::new(path).is_absolute());
        Self::inside(&parent.map_or_else(std::env::temp_dir, PathBuf::from), purpose)
    }

    fn inside(parent: &Path, purpose: &str) -> io::Result<Self> {
        remove_abandoned(parent, &format!("ringway-{purpose}-"));
        let mut result = Err(io::ErrorKind::AlreadyExists.into());
        for attempt in 0..ATTEMPTS {
            let random = RandomState::new().hash_one((std::process::id(), attempt));
            let path = parent.join(format!("ringway-{purpose}-{random:016x}"));
            // Fails if anything of that name is there already, a link included.
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                // None: whoever removes what is abandoned was here first.
                Ok(()) => match hold(&path) {
                    Some(held) => return Ok(Self { path, _held: held }),
                    None => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let shown = parent.display();
                    result = Err(io::Error::new(error.kind(), format!("{shown}: {error}")));
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

/// Locks the directory at `path`, if nobody has and it is still there. Ends with this process, whatever ends that: no
/// process that it starts has the descriptor.
fn hold(path: &Path) -> Option<File> {
    let directory = File::open(path).ok()?;
    flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
    // Its name may have gone, or have become another's, before it was locked.
    let (locked, named) = (directory.metadata().ok()?, fs::symlink_metadata(path).ok()?);
    (locked.ino() == named.ino() && locked.dev() == named.dev()).then_some(directory)
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
        if is_ours && let Some(_held) = hold(&path) {
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
        let living = PrivateDirectory::inside(parent.path(), "test").expect("a directory");
        assert!(!dead.exists());
        let next = PrivateDirectory::inside(parent.path(), "test").expect("a directory");
        assert!(living.path().exists() && next.path().exists());
        assert!(of_others.iter().all(|path| path.join("socket").exists()) && link.is_symlink());
    }
}
