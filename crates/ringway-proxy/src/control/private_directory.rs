//! A directory that only this user may enter, for a socket that only this user may find. Removed at the end.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Attempts to find a name that is free.
const ATTEMPTS: usize = 8;

/// Made for one purpose, and removed with what is in it when dropped.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
}

impl PrivateDirectory {
    /// A new one, in the runtime directory that systemd made for the service, or else where temporary files go.
    ///
    /// # Errors
    /// When no directory can be made there.
    pub(super) fn new(purpose: &str) -> io::Result<Self> {
        let parent = std::env::var_os("RUNTIME_DIRECTORY").filter(|path| Path::new(path).is_absolute());
        let parent = parent.map_or_else(std::env::temp_dir, PathBuf::from);
        let mut result = Err(io::ErrorKind::AlreadyExists.into());
        for attempt in 0..ATTEMPTS {
            let random = RandomState::new().hash_one((std::process::id(), attempt));
            let path = parent.join(format!("ringway-{purpose}-{random:016x}"));
            // Fails if anything of that name is there already, a link included.
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
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
}
