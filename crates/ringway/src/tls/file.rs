//! Reading a file that may be another one the next time.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which version of a file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp([i64; 7]);

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self([
            metadata.dev() as i64,
            metadata.ino() as i64,
            metadata.size() as i64,
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ])
    }

    /// Of the file that is there now, if there is one.
    pub(super) fn at(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|metadata| Self::of(&metadata))
    }
}

/// Reads a file of at most so many bytes, and says which version of it that is.
pub(super) fn read(path: &Path, bytes_max: usize) -> io::Result<(Vec<u8>, Stamp)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let expected = usize::try_from(metadata.len()).unwrap_or(bytes_max);
    let mut bytes = Vec::with_capacity(expected.min(bytes_max) + 1);
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        let message = format!("it has more than {} KiB", bytes_max >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok((bytes, Stamp::of(&metadata)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_a_file_has_another_stamp() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        assert_eq!(Stamp::at(&path), None);
        std::fs::write(&path, "1").expect("it is written");
        let (bytes, first) = read(&path, 1).expect("it is read");
        assert_eq!((bytes, Some(first)), (b"1".to_vec(), Stamp::at(&path)));
        let other = directory.path().join("other");
        std::fs::write(&other, "2").expect("it is written");
        std::fs::rename(&other, &path).expect("it is moved");
        assert_ne!(Stamp::at(&path), Some(first));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, [0; 1_025]).expect("it is written");
        assert_eq!(read(&path, 1_024).expect_err("too large").to_string(), "it has more than 1 KiB");
        assert!(read(&path, 1_025).is_ok());
        assert!(read(directory.path(), 1_024).is_err());
    }
}
