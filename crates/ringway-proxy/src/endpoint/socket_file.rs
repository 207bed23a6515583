//! The file of a Unix socket: it outlives the process that made it, and stands in the way of the next.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A socket file as it was when looked at. Another one at the same path is not it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The socket file at `path`; `None` if there is none, or something else.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok().filter(|metadata| metadata.file_type().is_socket())?;
        Some(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// Removes the file, if it is still the same.
    pub(crate) fn remove(&self) {
        if Self::at(&self.path).as_ref() == Some(self) {
            // Whether it went or not shows when the path is bound.
            let _ = fs::remove_file(&self.path);
        }
    }
}
