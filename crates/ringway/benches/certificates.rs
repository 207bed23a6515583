//! What a hundred thousand certificates cost: `cargo bench -p ringway --features tls --bench certificates`.
//!
//! Makes them first, each with a name of its own, a wildcard and a key, in files of their own. Then, with the files in the page
//! cache: reading the names of all, with the memory that it takes, and looking at all keys.
#![forbid(unsafe_code)]

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

    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        let (before, began) = (resident_kib(), Instant::now());
        let files = certificates_in(directory.path()).expect("it is read");
        let listed = began.elapsed();
        let store = CertificateStore::read(files).expect("they are certificates");
        let read = began.elapsed();
        assert_eq!(store.len(), CERTIFICATES);
        best = [best[0].min(listed), best[1].min(read)];
        let memory = resident_kib().saturating_sub(before);
        println!("listed after {listed:.2?}, names read after {read:.2?}, {memory} KiB of memory");
        drop(black_box(store));
    }
    println!("best: listed after {:.2?}, names read after {:.2?}", best[0], best[1]);

    let files = certificates_in(directory.path()).expect("it is read");
    let store = CertificateStore::read(files).expect("they are certificates");
    let began = Instant::now();
    store.verify(usize::MAX).expect("they are good");
    println!("all keys looked at in {:.2?}", began.elapsed());
}

fn make(directory: &Path) {
    let authority = Authority::new("bench");
    for number in 0..CERTIFICATES {
        let (name, wildcard) = (format!("host{number}.example.com"), format!("*.zone{number}.example.com"));
        let issued = authority.issue(&[&name, &wildcard]);
        fs::write(directory.join(format!("{name}.pem")), issued.chain).expect("it is written");
        fs::write(directory.join(format!("{name}.key")), issued.key).expect("it is written");
    }
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
