//! The admin interface's Unix socket: never open to others, not even for a moment, and never taken from the living.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Removes the socket's file when dropped, if it is still the one that was made.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// That of a socket that another process made.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_path_buf(), identity: (metadata.dev(), metadata.ino()) })
    }

    /// Leaves it to another process.
    pub(super) fn leave(self) {
        std::mem::forget(self);
    }
}

/// Listens at `path` with mode 0600. A socket there that nobody listens on any more is replaced.
///
/// # Errors
/// `AddrInUse` when somebody listens there, `AlreadyExists` when something else than a socket is there, and what the
/// file system says.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
    }
    // Bound under another name and renamed once it has its mode: there is no moment at which others may connect.
    let fresh = fresh_name(path, std::process::id());
    let bound = bind_private(&fresh, path);
    if bound.is_err() {
        // It may not have been made at all.
        let _ = fs::remove_file(&fresh);
    }
    bound
}

/// The name under which a process binds a socket that is to be at `path`.
fn fresh_name(path: &Path, process: u32) -> PathBuf {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{process}"));
    PathBuf::from(fresh)
}

/// Whether a socket that says to be bound to `bound` is one that was made for `path`: by [`bind`], which leaves it the name
/// from before it was renamed, or by whoever passed it.
pub(super) fn is_made_for(bound: &Path, path: &Path) -> bool {
    let process = bound.extension().and_then(|process| process.to_str()?.parse().ok());
    bound == path || process.is_some_and(|process| bound == fresh_name(path, process))
}

fn bind_private(fresh: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let listener = UnixListener::bind(fresh)?;
    fs::set_permissions(fresh, fs::Permissions::from_mode(0o600))?;
    let metadata = fs::symlink_metadata(fresh)?;
    fs::rename(fresh, path)?;
    let identity = (metadata.dev(), metadata.ino());
    Ok((listener, SocketFile { path: path.to_path_buf(), identity }))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity);
        if is_ours {
            // Nobody is left to hear of a failure, and the next start copes with what is left.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, removed at the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringway-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_only_and_goes_away_at_the_end() {
        let directory = Directory::new("owner");
        let path = directory.0.join("admin.sock");
        let (_listener, file) = bind(&path).expect("it binds");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_is_known_as_the_one_of_its_path_by_the_process_that_gets_it() {
        let directory = Directory::new("known");
        let path = directory.0.join("admin.sock");
        let (listener, _file) = bind(&path).expect("it binds");
        let address = listener.local_addr().expect("it is bound");
        let bound = address.as_pathname().expect("it has a name");
        assert!(is_made_for(bound, &path));
        assert!(is_made_for(&path, &path));
        assert!(!is_made_for(bound, &directory.0.join("other.sock")));
        assert!(!is_made_for(&directory.0.join("admin.sock.old"), &path));
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = Directory::new("dead");
        let path = directory.0.join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("it binds"));
        let (_listener, _file) = bind(&path).expect("nobody listened");
        let error = bind(&path).err().expect("somebody listens");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = Directory::new("file");
        let path = directory.0.join("admin.sock");
        fs::write(&path, "precious").expect("it can be written");
        assert_eq!(bind(&path).err().expect("refused").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
    }
}
