//! The certificates of a server, by the names of hosts.
//!
//! When a store is made, of each certificate only its names are read, by several threads: that is fast for a hundred
//! thousand. Keys and chains are loaded when a client first asks for one, and stay. [`CertificateStore::verify`] looks
//! at all that was not asked for yet, and keeps nothing.

mod fault;
mod files;
mod index;
mod read;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use ringway_proto::host_name::HostName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use fault::{CertificateFault, CertificateProblem};
use files::DIRECTORY_CERTIFICATES_MAX;
pub use files::{CertificateFiles, certificates_in};
use index::NameIndex;
use read::{Facts, Failure, facts, load, private_key};

use super::file::Stamp;

/// The most certificates of a store: more than in a directory, from several.
const CERTIFICATES_MAX: usize = 4 * DIRECTORY_CERTIFICATES_MAX;

/// Certificates of which the one for a client is found by the name that it asks for. The first is the default: whoever
/// names no host, or one that no certificate is for, gets it.
#[derive(Debug)]
pub struct CertificateStore {
    entries: Vec<Entry>,
    names: NameIndex,
}

/// A certificate.
#[derive(Debug)]
struct Entry {
    files: CertificateFiles,
    facts: Facts,
    /// Of the key and the staple, when the names were read.
    stamps: [Option<Stamp>; 2],
    loaded: OnceLock<Result<Arc<CertifiedKey>, Failure>>,
    /// Why a file could not be read, once; it may be there by now.
    unreadable: OnceLock<Box<Failure>>,
}

/// What a store says of a certificate.
#[derive(Clone, Copy, Debug)]
pub struct CertificateReport<'a> {
    /// The file of its chain.
    pub chain: &'a Path,
    /// The first of its names, in lower case.
    pub name: Option<&'a str>,
    /// How many names it has.
    pub names: usize,
    /// The last second in which it holds, counted from the beginning of 1970.
    pub not_after: i64,
    /// Why it cannot be served, as far as that is known.
    pub problem: Option<&'a CertificateProblem>,
}

impl CertificateStore {
    /// Reads the names of these certificates, on as many threads as there are processors.
    ///
    /// # Errors
    /// Each certificate that cannot be read, in their order.
    ///
    /// # Panics
    /// If there is none, or there are more than four million.
    pub fn read(files: Vec<CertificateFiles>) -> Result<Self, Vec<CertificateFault>> {
        assert!(!files.is_empty() && files.len() <= CERTIFICATES_MAX, "a store has some certificates");
        let all = on_threads(usize::MAX, files.len(), |number| {
            let files = &files[number];
            // Before they are read: what changes meanwhile is another version.
            let stamps = [Some(&files.key), files.ocsp.as_ref()].map(|path| Stamp::at(path?));
            (facts(&files.chain), stamps)
        });
        let mut faults = Vec::new();
        let mut entries = Vec::with_capacity(files.len());
        for (number, (files, (facts, stamps))) in files.into_iter().zip(all).enumerate() {
            match facts {
                Ok(facts) => entries.push(Entry {
                    files,
                    facts,
                    stamps,
                    loaded: OnceLock::new(),
                    unreadable: OnceLock::new(),
                }),
                Err(failure) => faults.push(failure.of(number)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut names = NameIndex::with_capacity(entries.iter().map(|entry| entry.facts.names.len()).sum());
        for (number, entry) in (0..).zip(&entries) {
            entry.facts.names.iter().for_each(|name| names.add(name, number));
        }
        Ok(Self { entries, names })
    }

    /// All that makes these certificates useless, keys and staples included: what [`Self::read`] tells of is less, as it reads
    /// less.
    pub fn faults(files: &[CertificateFiles]) -> Vec<CertificateFault> {
        let failures = on_threads(usize::MAX, files.len(), |number| {
            let of = &files[number];
            match facts(&of.chain) {
                Ok(_) => [load(of).err(), None],
                // Of the same file it has been said.
                Err(of_chain) if of.key == of.chain => [Some(of_chain), None],
                Err(of_chain) => [Some(of_chain), private_key(&of.key).err()],
            }
        });
        let all = failures.into_iter().enumerate();
        all.flat_map(|(number, failures)| {
            failures.into_iter().flatten().map(move |failure| failure.of(number))
        })
        .collect()
    }

    /// How many there are; at least one.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Loads all of them, and keeps them.
    ///
    /// # Errors
    /// What cannot be served.
    pub fn load_all(&self) -> Result<(), Vec<CertificateFault>> {
        none_of(on_threads(usize::MAX, self.len(), |number| self.load(number).err()))
    }

    /// Looks whether all can be served, as far as this is not known yet, on at most so many threads; keeps nothing.
    ///
    /// # Errors
    /// What cannot be served.
    pub fn verify(&self, threads_max: usize) -> Result<(), Vec<CertificateFault>> {
        none_of(on_threads(threads_max, self.len(), |number| {
            let entry = &self.entries[number];
            match entry.loaded.get() {
                Some(known) => known.as_ref().err().cloned(),
                None => load(&entry.files).err(),
            }
        }))
    }

    /// What is odd at `now`, in seconds since the beginning of 1970, though it can be served: what holds no longer or not
    /// yet, and what no client would get.
    pub fn oddities(&self, now: i64) -> Vec<CertificateFault> {
        let mut faults = Vec::new();
        for (number, Entry { files, facts, .. }) in self.entries.iter().enumerate() {
            let expired = (facts.not_after < now).then_some(CertificateProblem::Expired(facts.not_after));
            let early = (facts.not_before > now).then_some(CertificateProblem::NotYetValid(facts.not_before));
            for problem in [expired, early, self.why_unused(number)].into_iter().flatten() {
                faults.push(CertificateFault { number, path: files.chain.clone(), problem });
            }
        }
        faults
    }

    /// What is said of each, in their order.
    pub fn reports(&self) -> impl Iterator<Item = CertificateReport<'_>> {
        self.entries.iter().map(|entry| CertificateReport {
            chain: &entry.files.chain,
            name: entry.facts.names.first().map(|name| &**name),
            names: entry.facts.names.len(),
            not_after: entry.facts.not_after,
            problem: match entry.loaded.get() {
                Some(loaded) => loaded.as_ref().err().map(|failure| &failure.problem),
                None => entry.unreadable.get().map(|failure| &failure.problem),
            },
        })
    }

    /// The certificate for a host, in lower case; of several the first whose key `suits`. If none does, the first that can
    /// be served: why a client cannot use it the handshake tells best.
    fn find(&self, host: Option<&str>, suits: impl Fn(&CertifiedKey) -> bool) -> Option<Arc<CertifiedKey>> {
        let mut of_host = host.into_iter().flat_map(|host| self.names.find(host)).peekable();
        let default_name = match of_host.peek() {
            Some(_) => None,
            None => Some(self.entries[0].facts.names.first()),
        };
        // The default, and what is for the same host with a key of another kind.
        let default = default_name.into_iter().flat_map(|name| {
            let others = name.into_iter().flat_map(|name| self.names.with_name(name));
            std::iter::once(0).chain(others.filter(|number| *number != 0))
        });
        let mut first = None;
        for number in of_host.chain(default) {
            let Ok(key) = self.load(number as usize) else { continue };
            if suits(&key) {
                return Some(key);
            }
            first.get_or_insert(key);
        }
        first
    }

    /// The key and chain of a certificate, loaded now if they were not before. What comes of it is kept, unless a file could not
    /// be read: there may have been no descriptor for it at the moment.
    fn load(&self, number: usize) -> Result<Arc<CertifiedKey>, Failure> {
        let entry = &self.entries[number];
        if let Some(known) = entry.loaded.get() {
            return known.clone();
        }
        match load(&entry.files) {
            Err(failure) if matches!(failure.problem, CertificateProblem::Unreadable(_)) => {
                entry.unreadable.get_or_init(|| Box::new(failure.clone()));
                Err(failure)
            }
            found => entry.loaded.get_or_init(|| found.map(Arc::new)).clone(),
        }
    }

    /// Why no client would get a certificate, if none would.
    fn why_unused(&self, number: usize) -> Option<CertificateProblem> {
        if number == 0 {
            return None;
        }
        let facts = &self.entries[number].facts;
        let mut by = None;
        for name in &facts.names {
            let mut earlier = self.names.with_name(name).take_while(|other| (*other as usize) < number);
            let other =
                earlier.find(|other| self.entries[*other as usize].facts.key_kind == facts.key_kind)?;
            by.get_or_insert(other);
        }
        Some(match by {
            Some(by) => CertificateProblem::Shadowed(self.entries[by as usize].files.chain.clone()),
            None => CertificateProblem::Nameless,
        })
    }
}

impl ResolvesServerCert for CertificateStore {
    /// Loads a certificate that is asked for the first time: two short files, on the thread of the connection.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().and_then(|name| HostName::new(name.as_bytes()).ok());
        let schemes = hello.signature_schemes();
        self.find(host.as_deref(), |key| key.key.choose_scheme(schemes).is_some())
    }
}

/// The same files in the same versions.
impl PartialEq for CertificateStore {
    fn eq(&self, other: &Self) -> bool {
        let version = |entry: &Entry| (entry.facts.stamp, entry.stamps);
        self.len() == other.len()
            && self
                .entries
                .iter()
                .zip(&other.entries)
                .all(|(own, other)| own.files == other.files && version(own) == version(other))
    }
}

fn none_of(failures: Vec<Option<Failure>>) -> Result<(), Vec<CertificateFault>> {
    let of = |(number, failure): (usize, Option<Failure>)| Some(failure?.of(number));
    let faults: Vec<CertificateFault> = failures.into_iter().enumerate().filter_map(of).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

/// So many are taken at once: far less than what a thread does in a second, and enough to seldom meet another one.
const SHARE: usize = 64;

/// What `of` makes of each number below `count`, on as many threads as there are processors, and no more than `threads_max`.
fn on_threads<T: Send>(threads_max: usize, count: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(threads_max).min(count.div_ceil(SHARE));
    if threads <= 1 {
        return (0..count).map(of).collect();
    }
    let next = AtomicUsize::new(0);
    let shares: Mutex<Vec<(usize, Vec<T>)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let start = next.fetch_add(SHARE, Ordering::Relaxed);
                    if start >= count {
                        return;
                    }
                    let share = (start..count.min(start + SHARE)).map(&of).collect();
                    shares.lock().unwrap_or_else(PoisonError::into_inner).push((start, share));
                }
            });
        }
    });
    let mut shares = shares.into_inner().unwrap_or_else(PoisonError::into_inner);
    shares.sort_unstable_by_key(|(start, _)| *start);
    shares.into_iter().flat_map(|(_, share)| share).collect()
}

#[cfg(test)]
mod tests;
