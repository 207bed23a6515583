//! The certificates of a server, by the names of hosts.
//!
//! When a store is made, of each certificate only its names are read, by several threads: that is fast for a hundred
//! thousand. Keys and chains are loaded when a client first asks for one, and stay. [`CertificateStore::verify`] looks
//! at all that was not asked for yet, and keeps what it loads up to a bound.
//!
//! A store that follows another one takes over what did not change, so that one certificate more among a hundred thousand
//! does not cost what all of them do.

mod entry;
mod fault;
mod files;
mod index;
mod read;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ringway_proto::host_name::HostName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use entry::{Earlier, Entry};
pub use fault::{CertificateFault, CertificateProblem};
use files::DIRECTORY_CERTIFICATES_MAX;
pub use files::{CertificateFiles, certificates_in};
use index::NameIndex;
use read::{Failure, facts, load, private_key};

/// The most certificates of a store: more than in a directory, from several.
const CERTIFICATES_MAX: usize = 4 * DIRECTORY_CERTIFICATES_MAX;

/// Certificates of which the one for a client is found by the name that it asks for. The first is the default: whoever
/// names no host, or one that no certificate is for, gets it.
#[derive(Debug)]
pub struct CertificateStore {
    /// Shared with the stores before and behind it.
    entries: Vec<Arc<Entry>>,
    names: Arc<NameIndex>,
    /// All of them are loaded.
    is_loaded: AtomicBool,
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
    /// Reads the names of these certificates, on as many threads as there are processors. `before`: the store until now, of which
    /// the certificates whose files did not change are taken over, with their keys and chains if they were loaded. Whether a
    /// file changed its metadata says (device, inode, size, times of the last change): to read and digest them all would cost
    /// what is to be saved.
    ///
    /// # Errors
    /// Each certificate that cannot be read, in their order.
    ///
    /// # Panics
    /// If there is none, or there are more than four million.
    pub fn read(files: Vec<CertificateFiles>, before: Option<&Self>) -> Result<Self, Vec<CertificateFault>> {
        assert!(!files.is_empty() && files.len() <= CERTIFICATES_MAX, "a store has some certificates");
        let earlier = Earlier::new(before.map_or(&[], |before| &before.entries));
        let all = on_threads(usize::MAX, files.len(), |number| match earlier.find(number, &files[number]) {
            Some(entry) => Ok(Arc::clone(entry)),
            None => Entry::read(&files[number]).map(Arc::new),
        });
        let mut faults = Vec::new();
        let mut entries: Vec<Arc<Entry>> = Vec::with_capacity(files.len());
        for (number, found) in all.into_iter().enumerate() {
            match found {
                Ok(entry) => entries.push(entry),
                Err(failure) => faults.push(failure.of(number)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let names = match before {
            Some(before) if before.has_names_of(&entries) => Arc::clone(&before.names),
            _ => Arc::new(index_of(&entries)),
        };
        Ok(Self { entries, names, is_loaded: AtomicBool::new(false) })
    }

    /// Whether these certificates, in this order, are for the same names.
    fn has_names_of(&self, entries: &[Arc<Entry>]) -> bool {
        let is_same = |(own, other): (&Arc<Entry>, &Arc<Entry>)| {
            Arc::ptr_eq(own, other) || own.facts.names == other.facts.names
        };
        self.entries.len() == entries.len() && self.entries.iter().zip(entries).all(is_same)
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
        none_of(on_threads(usize::MAX, self.len(), |number| self.entries[number].load().err()))?;
        self.is_loaded.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether whoever asks for this host gets its certificate, or is refused, without that a file is read.
    pub fn is_ready(&self, host: Option<&str>) -> bool {
        self.is_loaded.load(Ordering::Relaxed)
            || self.candidates(canonical(host).as_deref()).all(|number| self.entries[number].is_settled())
    }

    /// Loads the certificates for this host, for whoever must not wait for a file when it is asked for.
    pub fn prepare(&self, host: Option<&str>) {
        // What cannot be loaded is told to whoever asks.
        self.candidates(canonical(host).as_deref()).for_each(|number| drop(self.entries[number].load()));
    }

    /// Looks whether all can be served, as far as this is not known yet, on at most so many threads. What it loads is kept as long as
    /// the store has [loaded](Self::loaded_bytes) less than `loaded_bytes_max`. What is wrong is not kept: it may be right when a
    /// client asks.
    ///
    /// # Errors
    /// What cannot be served.
    pub fn verify(&self, threads_max: usize, loaded_bytes_max: usize) -> Result<(), Vec<CertificateFault>> {
        let bytes = AtomicUsize::new(self.loaded_bytes());
        none_of(on_threads(threads_max, self.len(), |number| {
            let is_kept = bytes.load(Ordering::Relaxed) < loaded_bytes_max;
            match self.entries[number].verify(is_kept) {
                Ok(more) => {
                    bytes.fetch_add(more, Ordering::Relaxed);
                    None
                }
                Err(failure) => Some(failure),
            }
        }))
    }

    /// About how much memory the keys and chains take that are loaded.
    pub fn loaded_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.loaded_bytes()).sum()
    }

    /// What is odd at `now`, in seconds since the beginning of 1970, though it can be served: what holds no longer or not
    /// yet, and what no client would get.
    pub fn oddities(&self, now: i64) -> Vec<CertificateFault> {
        let mut faults = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            let Entry { files, facts, .. } = &**entry;
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
            problem: entry.failure().map(|failure| &failure.problem),
        })
    }

    /// Gives clients what is loaded, and reads no file: for threads that must not wait for one. Whoever asks for what is not
    /// loaded has no certificate; see [`Self::is_ready`] and [`Self::prepare`].
    pub fn only_loaded(self: &Arc<Self>) -> Arc<dyn ResolvesServerCert> {
        Arc::new(OnlyLoaded(Arc::clone(self)))
    }

    /// The certificate for whoever says this hello.
    fn answer(
        &self,
        hello: &ClientHello<'_>,
        get: impl Fn(&Entry) -> Option<Arc<CertifiedKey>>,
    ) -> Option<Arc<CertifiedKey>> {
        let host = canonical(hello.server_name());
        let schemes = hello.signature_schemes();
        self.find(host.as_deref(), get, |key| key.key.choose_scheme(schemes).is_some())
    }

    /// The certificate for a host, in lower case; of several that one can `get` the first whose key `suits`. If none does, the
    /// first of them: why a client cannot use it the handshake tells best.
    fn find(
        &self,
        host: Option<&str>,
        get: impl Fn(&Entry) -> Option<Arc<CertifiedKey>>,
        suits: impl Fn(&CertifiedKey) -> bool,
    ) -> Option<Arc<CertifiedKey>> {
        let mut first = None;
        for number in self.candidates(host) {
            let Some(key) = get(&self.entries[number]) else { continue };
            if suits(&key) {
                return Some(key);
            }
            first.get_or_insert(key);
        }
        first
    }

    /// The numbers of those for a host, in lower case; if there are none, the default and what is for the same host with a key
    /// of another kind.
    fn candidates(&self, host: Option<&str>) -> impl Iterator<Item = usize> + use<'_> {
        let mut of_host = host.map(|host| self.names.find(host)).into_iter().flatten().peekable();
        let default_name = match of_host.peek() {
            Some(_) => None,
            None => Some(self.entries[0].facts.names.first()),
        };
        let default = default_name.into_iter().flat_map(|name| {
            let others = name.into_iter().flat_map(|name| self.names.with_name(name));
            std::iter::once(0).chain(others.filter(|number| *number != 0))
        });
        of_host.chain(default).map(|number| number as usize)
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
    /// Loads a certificate that is asked for the first time, two short files, on the thread of the connection; where that must
    /// not be there is [`CertificateStore::only_loaded`].
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.answer(&hello, |entry| entry.load().ok())
    }
}

/// The certificates of a store that are loaded.
#[derive(Debug)]
struct OnlyLoaded(Arc<CertificateStore>);

impl ResolvesServerCert for OnlyLoaded {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.answer(&hello, Entry::loaded)
    }
}

/// The same files in the same versions.
impl PartialEq for CertificateStore {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |(own, other): (&Arc<Entry>, &Arc<Entry>)| Arc::ptr_eq(own, other) || own == other;
        self.len() == other.len() && self.entries.iter().zip(&other.entries).all(is_same)
    }
}

/// A host in the form in which certificates are found for it, if it can have any.
fn canonical(host: Option<&str>) -> Option<HostName> {
    host.and_then(|host| HostName::new(host.as_bytes()).ok())
}

fn index_of(entries: &[Arc<Entry>]) -> NameIndex {
    let mut names = NameIndex::with_capacity(entries.iter().map(|entry| entry.facts.names.len()).sum());
    for (number, entry) in (0..).zip(entries) {
        entry.facts.names.iter().for_each(|name| names.add(name, number));
    }
    names
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
