//! What a hundred thousand certificates cost: `cargo bench -p ringway --features tls --bench certificates`.
//!
//! Makes them first, each with a name of its own, a wildcard and a key, in files of their own. Then, with the files in the page
//! cache: reading the names of all, and what they and all keys take of memory; reading them again after one has changed, as a
//! reload does; looking at all keys.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use ringway::tls::{CertificateStore, certificates_in};
use testkit::certificates::Authority;

const CERTIFICATES: usize = 100_000;
const ROUNDS: usize = 5;

fn main() {
    // Tests of everything ask for nothing that takes so long.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let began = Instant::now();
    make(directory.path());
    println!("{CERTIFICATES} certificates made in {:.1} s", began.elapsed().as_secs_f64());

    let mut best = [Cost::MAX; 2];
    for round in 0..ROUNDS {
        let (before, watch) = (resident_kib(), Watch::start());
        let files = certificates_in(directory.path()).expect("it is read");
        let listed = watch.cost();
        let store = CertificateStore::read(files, None).expect("they are certificates");
        let read = watch.cost();
        assert_eq!(store.len(), CERTIFICATES);
        best = [best[0].min(listed), best[1].min(read)];
        let memory = resident_kib().saturating_sub(before);
        println!("listed after {listed}, names read after {read}, {memory} KiB of memory");
        if round == 0 {
            // While nothing that was let go is there to be taken again.
            let before = resident_kib();
            store.verify(usize::MAX, usize::MAX).expect("they are good");
            let (memory, told) = (resident_kib().saturating_sub(before), store.loaded_bytes() >> 10);
            println!("{memory} KiB of memory for all keys and chains, told to be {told} KiB");
        }
        drop(black_box(store));
    }
    println!("best: listed after {}, names read after {}", best[0], best[1]);

    let read = |before: Option<&CertificateStore>| {
        let files = certificates_in(directory.path()).expect("it is read");
        let watch = Watch::start();
        (CertificateStore::read(files, before).expect("they are certificates"), watch.cost())
    };
    let (mut store, _) = read(None);
    let authority = Authority::new("bench");
    for round in 0..ROUNDS {
        let name = format!("host{round}.example.com");
        write(directory.path(), &authority, &[&name, &format!("*.zone{round}.example.com")]);
        let (next, cost) = read(Some(&store));
        assert!(next != store, "one has changed");
        println!("names read after {cost} where one of them has changed");
        store = next;
    }
    write(directory.path(), &authority, &["one-more.example.com"]);
    let (next, cost) = read(Some(&store));
    println!("names read after {cost} where there is one more");

    let watch = Watch::start();
    next.verify(usize::MAX, 0).expect("they are good");
    println!("all keys looked at in {}", watch.cost());
    let watch = Watch::start();
    next.verify(usize::MAX, 0).expect("they are good");
    println!("and again in {}", watch.cost());
}

/// What something took: by the clock, and of processors, which others may be at, too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    elapsed: Duration,
    processors: Duration,
}

impl Cost {
    const MAX: Self = Self { elapsed: Duration::MAX, processors: Duration::MAX };
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?} ({:.2?} of processors)", self.elapsed, self.processors)
    }
}

struct Watch {
    start: Instant,
    processors: Duration,
}

impl Watch {
    fn start() -> Self {
        Self { start: Instant::now(), processors: processor_time() }
    }

    fn cost(&self) -> Cost {
        Cost { elapsed: self.start.elapsed(), processors: processor_time().saturating_sub(self.processors) }
    }
}

/// What all threads took until now, to 10 ms.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Fields 14 and 15 (proc_pid_stat(5)), of which the second, in parentheses, may have spaces in it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn make(directory: &Path) {
    let authority = Authority::new("bench");
    for number in 0..CERTIFICATES {
        let (name, wildcard) = (format!("host{number}.example.com"), format!("*.zone{number}.example.com"));
        write(directory, &authority, &[&name, &wildcard]);
    }
}

fn write(directory: &Path, authority: &Authority, names: &[&str]) {
    let issued = authority.issue(names);
    fs::write(directory.join(format!("{}.pem", names[0])), issued.chain).expect("it is written");
    fs::write(directory.join(format!("{}.key", names[0])), issued.key).expect("it is written");
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
