//! One certificate of a store: its files, what it says, and its key once that is loaded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::sign::CertifiedKey;

use super::CertificateProblem;
use super::files::CertificateFiles;
use super::read::{Facts, Failure, facts, load};
use crate::tls::file::Stamp;

/// What a loaded key takes at most beside the bytes of its chain: one of RSA with 2,048 bits takes 2.6 KiB, one on P-256 takes 1.0,
/// by the memory of 5,000 of each.
const KEY_BYTES: usize = 3 << 10;

/// A certificate in one version of its files.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) files: CertificateFiles,
    pub(super) facts: Facts,
    /// Of the key and the staple, when the names were read.
    stamps: [Option<Stamp>; 2],
    loaded: OnceLock<Result<Arc<CertifiedKey>, Failure>>,
    /// Why a file could not be read, once; it may be there by now.
    unreadable: OnceLock<Box<Failure>>,
    /// It could be loaded, and was let go.
    is_verified: AtomicBool,
}

impl Entry {
    /// Reads what the certificate says.
    pub(super) fn read(files: &CertificateFiles) -> Result<Self, Failure> {
        // Before it is read: what changes meanwhile is another version.
        let stamps = stamps(files);
        Ok(Self {
            facts: facts(&files.chain)?,
            files: files.clone(),
            stamps,
            loaded: OnceLock::new(),
            unreadable: OnceLock::new(),
            is_verified: AtomicBool::new(false),
        })
    }

    /// Whether it is what would be read now, and nothing is known to be wrong with it.
    fn is_good_still(&self) -> bool {
        self.failure().is_none()
            && Stamp::at(&self.files.chain) == Some(self.facts.stamp)
            && stamps(&self.files) == self.stamps
    }

    /// Why it cannot be served, as far as that is known.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match self.loaded.get() {
            Some(loaded) => loaded.as_ref().err(),
            None => self.unreadable.get().map(|failure| &**failure),
        }
    }

    /// Whether it is loaded, or known to be of no use.
    pub(super) fn is_settled(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// About how much memory its key and chain take, if they are loaded.
    pub(super) fn loaded_bytes(&self) -> usize {
        self.loaded().map_or(0, |key| bytes_of(&key))
    }

    /// The key and chain, if they are loaded.
    pub(super) fn loaded(&self) -> Option<Arc<CertifiedKey>> {
        self.loaded.get()?.as_ref().ok().cloned()
    }

    /// The key and chain, loaded now if they were not before. What comes of it is kept, unless a file could not be read: there
    /// may have been no descriptor for it at the moment.
    pub(super) fn load(&self) -> Result<Arc<CertifiedKey>, Failure> {
        if let Some(known) = self.loaded.get() {
            return known.clone();
        }
        match load(&self.files) {
            Err(failure) if matches!(failure.problem, CertificateProblem::Unreadable(_)) => {
                self.unreadable.get_or_init(|| Box::new(failure.clone()));
                Err(failure)
            }
            found => self.loaded.get_or_init(|| found.map(Arc::new)).clone(),
        }
    }

    /// Looks whether it can be served. Says how much more memory it takes now: none unless what is loaded `is_kept`.
    pub(super) fn verify(&self, is_kept: bool) -> Result<usize, Failure> {
        match self.loaded.get() {
            Some(Ok(_)) => return Ok(0),
            Some(Err(failure)) => return Err(failure.clone()),
            None if !is_kept && self.is_verified.load(Ordering::Relaxed) => return Ok(0),
            None => {}
        }
        let key = load(&self.files)?;
        self.is_verified.store(true, Ordering::Relaxed);
        if !is_kept {
            return Ok(0);
        }
        let bytes = bytes_of(&key);
        // A client may have been faster.
        Ok(self.loaded.set(Ok(Arc::new(key))).map_or(0, |()| bytes))
    }
}

/// The same files in the same versions.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let version = |entry: &Self| (entry.facts.stamp, entry.stamps);
        self.files == other.files && version(self) == version(other)
    }
}

/// Those of the key and the staple.
fn stamps(files: &CertificateFiles) -> [Option<Stamp>; 2] {
    [Some(&files.key), files.ocsp.as_ref()].map(|path| Stamp::at(path?))
}

fn bytes_of(key: &CertifiedKey) -> usize {
    let chain: usize = key.cert.iter().map(|certificate| certificate.len()).sum();
    chain + key.ocsp.as_ref().map_or(0, Vec::len) + KEY_BYTES
}

/// The certificates of an earlier store.
pub(super) struct Earlier<'a> {
    entries: &'a [Arc<Entry>],
    /// Made when one is not where it was.
    by_files: OnceLock<HashMap<&'a CertificateFiles, &'a Arc<Entry>>>,
}

impl<'a> Earlier<'a> {
    pub(super) fn new(entries: &'a [Arc<Entry>]) -> Self {
        Self { entries, by_files: OnceLock::new() }
    }

    /// The one of these files, most likely of this number, if it is good still.
    pub(super) fn find(&self, number: usize, files: &CertificateFiles) -> Option<&'a Arc<Entry>> {
        let entry = match self.entries.get(number) {
            Some(entry) if entry.files == *files => entry,
            _ if self.entries.is_empty() => return None,
            _ => self.by_files().get(files)?,
        };
        entry.is_good_still().then_some(entry)
    }

    fn by_files(&self) -> &HashMap<&'a CertificateFiles, &'a Arc<Entry>> {
        self.by_files.get_or_init(|| self.entries.iter().map(|entry| (&entry.files, entry)).collect())
    }
}
