//! Stores made of files.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use ringway_proto::certificate::Certificate;
use testkit::certificates::{Authority, Issued, Request};

use super::*;

/// As much of an answer of an OCSP server as is looked at.
const STAPLE: [u8; 7] = [0x30, 5, 10, 1, 0, 0xa0, 0];

struct Rig {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Rig {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory"), authority: Authority::new("ours") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).expect("it is written");
        self.path(name)
    }

    fn put(&self, name: &str, issued: &Issued) -> CertificateFiles {
        let chain = self.write(&format!("{name}.pem"), &issued.chain);
        let key = self.write(&format!("{name}.key"), &issued.key);
        CertificateFiles { chain, key, ocsp: None }
    }

    fn issue(&self, name: &str, names: &[&str]) -> CertificateFiles {
        self.put(name, &self.authority.issue(names))
    }

    /// The name of a file without its directory.
    fn told(&self, faults: &[CertificateFault]) -> Vec<String> {
        let directory = format!("{}/", self.directory.path().display());
        faults.iter().map(|fault| format!("{}: {}", fault.number, fault).replace(&directory, "")).collect()
    }
}

/// The second name or the first of the certificate that is served, which tests take for its own.
/// From its files, if need be.
fn load(entry: &Entry) -> Option<Arc<CertifiedKey>> {
    entry.load().ok()
}

fn served(store: &CertificateStore, host: Option<&str>) -> Option<String> {
    let found = store.find(host, load, |_| true)?;
    Some(Certificate::parse(&found.cert[0]).expect("it is one").dns_names().next()?.to_owned())
}

#[test]
fn a_client_gets_the_certificate_of_the_host_it_asks_for_or_else_the_first() {
    let rig = Rig::new();
    let files = vec![
        rig.issue("default", &["default.example.com"]),
        rig.issue("wild", &["*.example.com", "example.com"]),
        rig.issue("www", &["WWW.example.com"]),
    ];
    let store = CertificateStore::read(files, None).expect("they can be read");
    for (host, name) in [
        (None, "default.example.com"),
        (Some("default.example.com"), "default.example.com"),
        (Some("www.example.com"), "WWW.example.com"),
        (Some("other.example.com"), "*.example.com"),
        (Some("example.com"), "*.example.com"),
        (Some("a.b.example.com"), "default.example.com"),
        (Some("example.org"), "default.example.com"),
    ] {
        assert_eq!(served(&store, host).as_deref(), Some(name), "{host:?}");
    }
}

#[test]
fn of_two_kinds_of_key_the_client_gets_the_one_that_it_can_use() {
    let rig = Rig::new();
    let names = &["a.example.com"];
    let request = Request { names, is_ed25519: true, ..Request::default() };
    let files = vec![rig.put("ed", &rig.authority.issue_as(&request)), rig.issue("ec", names)];
    let store = CertificateStore::read(files, None).expect("they can be read");
    let kind = |host, wanted| {
        let found = store.find(host, load, |key| key.key.algorithm() == wanted);
        found.expect("there is one").key.algorithm()
    };
    for host in [Some("a.example.com"), None, Some("other.org")] {
        assert_eq!(
            kind(host, rustls::SignatureAlgorithm::ECDSA),
            rustls::SignatureAlgorithm::ECDSA,
            "{host:?}"
        );
        assert_eq!(kind(host, rustls::SignatureAlgorithm::ED25519), rustls::SignatureAlgorithm::ED25519);
        assert_eq!(
            kind(host, rustls::SignatureAlgorithm::RSA),
            rustls::SignatureAlgorithm::ED25519,
            "the first"
        );
    }
    assert_eq!(store.oddities(1_767_225_600), Vec::new(), "neither is in the way of the other");
}

#[test]
fn every_certificate_whose_names_cannot_be_read_is_told() {
    let rig = Rig::new();
    let key = rig.write("key", "");
    let files = |name: &str| CertificateFiles { chain: rig.path(name), key: key.clone(), ocsp: None };
    rig.write("text", "text");
    rig.write("bytes", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    rig.write("large", vec![b' '; (1 << 20) + 1]);
    let good = rig.issue("good", &["a.com"]);
    let all = vec![files("gone"), good, files("text"), files("bytes"), files("large")];
    let faults = CertificateStore::read(all, None).expect_err("they cannot be read");
    assert_eq!(
        rig.told(&faults),
        [
            "0: gone: it cannot be read: No such file or directory (os error 2)",
            "2: text: there is no certificate in it (PEM)",
            "3: bytes: what is in it is no certificate",
            "4: large: it cannot be read: it has more than 1024 KiB",
        ]
    );
    let other = CertificateFiles { key: key.clone(), ..rig.issue("other", &["b.com"]) };
    let all = [files("text"), other, CertificateFiles { key: rig.path("text"), ..files("text") }];
    assert_eq!(
        rig.told(&CertificateStore::faults(&all)),
        [
            "0: text: there is no certificate in it (PEM)",
            "0: key: there is no private key in it (PEM, not encrypted)",
            "1: key: there is no private key in it (PEM, not encrypted)",
            "2: text: there is no certificate in it (PEM)",
        ],
        "keys, too"
    );
}

#[test]
fn every_key_and_staple_that_does_not_belong_is_told_and_the_others_are_served() {
    let rig = Rig::new();
    let good = rig.issue("good", &["good.com"]);
    let other = CertificateFiles { key: good.key.clone(), ..rig.issue("other", &["other.com"]) };
    let mut none = rig.issue("none", &["none.com"]);
    none.key = rig.write("none.key", "nothing");
    let mut gone = rig.issue("gone", &["gone.com"]);
    gone.key = rig.path("missing");
    let mut stapled = rig.issue("stapled", &["stapled.com"]);
    stapled.ocsp = Some(rig.write("good.ocsp", STAPLE));
    let mut unstapled = rig.issue("unstapled", &["unstapled.com"]);
    unstapled.ocsp = Some(rig.write("bad.ocsp", [0x30, 3, 10, 1, 6]));
    let both = rig.authority.issue(&["both.com"]);
    let path = rig.write("both.pem", both.chain.clone() + &both.key);
    let both = CertificateFiles { chain: path.clone(), key: path, ocsp: None };
    let store = CertificateStore::read(vec![good, other, none, gone, stapled, unstapled, both], None)
        .expect("names are good");
    let expected = [
        "1: good.key: its key is not that of the certificate",
        "2: none.key: there is no private key in it (PEM, not encrypted)",
        "3: missing: it cannot be read: No such file or directory (os error 2)",
        "5: bad.ocsp: it is no successful answer of an OCSP server (DER)",
    ];
    assert_eq!(rig.told(&store.verify(2, usize::MAX).expect_err("some are wrong")), expected);
    assert!(store.reports().all(|report| report.problem.is_none()), "nothing is kept of that");
    assert_eq!(rig.told(&store.load_all().expect_err("some are wrong")), expected);
    assert_eq!(store.reports().filter(|report| report.problem.is_some()).count(), 4);
    assert_eq!(served(&store, Some("other.com")), None, "and not the certificate of somebody else");
    assert_eq!(served(&store, Some("both.com")).as_deref(), Some("both.com"));
    let stapled = store.find(Some("stapled.com"), load, |_| true).expect("it is served");
    assert_eq!(stapled.ocsp.as_deref(), Some(&STAPLE[..]));
}

#[test]
fn what_holds_no_longer_and_what_nobody_would_get_is_odd() {
    let rig = Rig::new();
    let issue = |name: &str, names: &[&str], days| {
        rig.put(name, &rig.authority.issue_as(&Request { names, days, ..Request::default() }))
    };
    let always = Request::default().days;
    let files = vec![
        issue("default", &[], always),
        issue("old", &["a.com", "b.com"], [(2020, 1, 1), (2021, 1, 1)]),
        issue("early", &["*.c.com"], [(2099, 1, 1), (2100, 1, 1)]),
        issue("again", &["b.com", "a.com", "*.c.com"], always),
        issue("more", &["b.com", "d.com"], always),
        issue("nameless", &[], always),
    ];
    let store = CertificateStore::read(files, None).expect("they can be read");
    // The beginning of 2026.
    assert_eq!(
        rig.told(&store.oddities(1_767_225_600)),
        [
            "1: old.pem: the certificate expired at 2021-01-01T00:00:00Z",
            "2: early.pem: the certificate is not valid before 2099-01-01T00:00:00Z",
            "3: again.pem: nobody would get it: all that it names has a certificate already, old.pem",
            "5: nameless.pem: the certificate names no host, so that nobody would get it",
        ]
    );
    assert!(store.load_all().is_ok(), "they can be served all the same");
}

#[test]
fn a_store_is_another_one_when_any_of_its_files_is() {
    let rig = Rig::new();
    let mut files = rig.issue("a", &["a.com"]);
    files.ocsp = Some(rig.write("a.ocsp", STAPLE));
    let read =
        |files: &CertificateFiles| CertificateStore::read(vec![files.clone()], None).expect("it can be read");
    let mut before = read(&files);
    assert_eq!(before, read(&files));
    for path in [&files.chain, &files.key, files.ocsp.as_ref().expect("it has one")] {
        let content = fs::read(path).expect("it is read");
        // As tools do that mind readers.
        let new = rig.write("new", content);
        fs::rename(new, path).expect("it is moved");
        let after = read(&files);
        assert_ne!(before, after, "{}", path.display());
        before = after;
    }
}

#[test]
fn what_is_loaded_stays_as_it_was_when_its_file_goes() {
    let rig = Rig::new();
    let files = rig.issue("a", &["a.com"]);
    let store = CertificateStore::read(vec![files.clone()], None).expect("it can be read");
    assert!(served(&store, Some("a.com")).is_some());
    fs::remove_file(&files.chain).expect("it is removed");
    fs::remove_file(&files.key).expect("it is removed");
    assert!(served(&store, Some("a.com")).is_some());
    assert!(store.verify(1, 0).is_ok());
}

#[test]
fn many_are_read_in_their_order() {
    let rig = Rig::new();
    let one = rig.authority.issue(&["a.com"]);
    let other = rig.authority.issue(&["b.com"]);
    let files =
        (0..300).map(|number| rig.put(&format!("{number}"), if number == 177 { &other } else { &one }));
    let store = CertificateStore::read(files.collect(), None).expect("they can be read");
    assert_eq!(store.len(), 300);
    let names: Vec<&str> = store.reports().filter_map(|report| report.name).collect();
    assert!((0..300).all(|number| names[number] == if number == 177 { "b.com" } else { "a.com" }));
    assert!(store.load_all().is_ok());
    let reports: Vec<usize> = store.reports().map(|report| report.names).collect();
    assert_eq!(reports, [1; 300]);
}

#[test]
fn a_file_that_could_not_be_read_once_is_read_when_it_is_asked_for_again() {
    let rig = Rig::new();
    let files = vec![rig.issue("default", &["default.example.com"]), rig.issue("a", &["a.example.com"])];
    let store = CertificateStore::read(files, None).expect("names can be read");
    let (key, away) = (rig.path("a.key"), rig.path("away"));
    fs::rename(&key, &away).expect("it is moved");
    assert_eq!(served(&store, Some("a.example.com")), None);
    assert_eq!(rig.told(&store.load_all().expect_err("it is away")).len(), 1);
    fs::rename(&away, &key).expect("it is moved back");
    assert_eq!(served(&store, Some("a.example.com")).as_deref(), Some("a.example.com"));
    // What was loaded is kept, and what is of no use is.
    fs::remove_file(&key).expect("it is removed");
    assert_eq!(served(&store, Some("a.example.com")).as_deref(), Some("a.example.com"));
}

/// In one step, as tools do that mind readers.
fn put_in_place(rig: &Rig, name: &str, text: &str) {
    fs::rename(rig.write("new", text), rig.path(name)).expect("it is moved");
}

fn exchange(rig: &Rig, name: &str, issued: &Issued) {
    put_in_place(rig, &format!("{name}.pem"), &issued.chain);
    put_in_place(rig, &format!("{name}.key"), &issued.key);
}

#[test]
fn what_did_not_change_is_taken_over_with_its_key_and_what_did_is_read() {
    let rig = Rig::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| rig.issue(name, &[&format!("{name}.com")]));
    let before = CertificateStore::read(vec![a.clone(), b.clone(), c.clone()], None).expect("they are good");
    let key = |store: &CertificateStore, host| store.find(Some(host), load, |_| true).expect("it is served");
    let of_before = ["a.com", "b.com", "c.com"].map(|host| key(&before, host));
    exchange(&rig, "b", &rig.authority.issue(&["b.com"]));

    let after = CertificateStore::read(vec![a.clone(), b.clone(), c.clone()], Some(&before)).expect("good");
    assert_ne!(after, before);
    assert!(Arc::ptr_eq(&key(&after, "a.com"), &of_before[0]));
    assert!(!Arc::ptr_eq(&key(&after, "b.com"), &of_before[1]), "another certificate");
    assert!(Arc::ptr_eq(&after.names, &before.names), "all names are the same");

    // Another order, one more and one less.
    let d = rig.issue("d", &["d.com"]);
    let moved = CertificateStore::read(vec![d, c, a], Some(&after)).expect("they are good");
    assert!(Arc::ptr_eq(&key(&moved, "a.com"), &of_before[0]));
    assert!(Arc::ptr_eq(&key(&moved, "c.com"), &of_before[2]));
    for (host, name) in [("a.com", "a.com"), ("b.com", "d.com"), ("c.com", "c.com"), ("d.com", "d.com")] {
        assert_eq!(served(&moved, Some(host)).as_deref(), Some(name));
    }
}

#[test]
fn what_was_of_no_use_is_read_again_though_its_files_are_as_they_were() {
    let rig = Rig::new();
    let good = rig.issue("good", &["good.com"]);
    let bad = CertificateFiles { key: good.key.clone(), ..rig.issue("bad", &["bad.com"]) };
    let all = vec![good, bad];
    let before = CertificateStore::read(all.clone(), None).expect("names are good");
    assert_eq!(before.load_all().expect_err("one is wrong").len(), 1);
    let after = CertificateStore::read(all, Some(&before)).expect("names are good");
    assert!(Arc::ptr_eq(&after.entries[0], &before.entries[0]));
    assert!(!Arc::ptr_eq(&after.entries[1], &before.entries[1]));
    assert_eq!(after, before);
}

#[test]
fn what_is_verified_is_kept_up_to_a_bound_and_never_read_for_that_again() {
    let rig = Rig::new();
    let names: Vec<String> = (0..6).map(|number| format!("h{number}.com")).collect();
    let files: Vec<CertificateFiles> = names.iter().map(|name| rig.issue(name, &[name])).collect();
    let before = CertificateStore::read(files.clone(), None).expect("they are good");
    assert!(before.verify(1, 0).is_ok());
    assert_eq!(before.loaded_bytes(), 0);
    assert!(before.verify(1, 1).is_ok());
    let of_one = before.loaded_bytes();
    assert!(of_one > 1_000, "{of_one}");
    // Two and a bit have room, so that a third begins.
    assert!(before.verify(1, 2 * of_one + of_one / 2).is_ok());
    let is_loaded =
        |store: &CertificateStore| store.entries.iter().filter(|entry| entry.loaded_bytes() > 0).count();
    assert_eq!(is_loaded(&before), 3);

    let after = CertificateStore::read(files.clone(), Some(&before)).expect("they are good");
    files.iter().flat_map(|files| files.paths()).for_each(|path| fs::remove_file(path).expect("it is there"));
    assert!(after.verify(1, 0).is_ok(), "nothing is read for that");
    assert_eq!(is_loaded(&after), 3);
    assert_eq!(after.verify(1, usize::MAX).expect_err("now they are").len(), 3);
    assert!(after.reports().all(|report| report.problem.is_none()), "and what is wrong is not kept");
}

#[test]
fn whether_a_host_is_ready_is_known_without_reading_and_what_is_prepared_is() {
    let rig = Rig::new();
    let names = &["a.example.com"];
    let request = Request { names, is_ed25519: true, ..Request::default() };
    let bad = CertificateFiles { key: rig.write("bad.key", "nothing"), ..rig.issue("bad", &["bad.com"]) };
    let files = vec![
        rig.issue("default", &["default.com"]),
        rig.issue("ec", names),
        rig.put("ed", &rig.authority.issue_as(&request)),
        bad,
    ];
    let store = CertificateStore::read(files.clone(), None).expect("names are good");
    let all = [None, Some("default.com"), Some("A.example.com"), Some("bad.com"), Some("other.com")];
    let ready = |store: &CertificateStore| all.map(|host| store.is_ready(host));
    assert_eq!(ready(&store), [false; 5]);
    let only_loaded = |host| store.find(Some(host), Entry::loaded, |_| true);
    assert!(only_loaded("a.example.com").is_none(), "it reads no file");
    assert!(served(&store, Some("a.example.com")).is_some());
    assert_eq!(ready(&store), [false; 5], "one of two is not");
    store.prepare(Some("a.EXAMPLE.com"));
    assert_eq!(ready(&store), [false, false, true, false, false]);
    assert!(only_loaded("a.example.com").is_some());
    store.prepare(Some("nobody.com"));
    assert_eq!(ready(&store), [true, true, true, false, true], "the default is for whoever has no other");
    store.prepare(Some("bad.com"));
    assert_eq!(ready(&store), [true; 5]);
    let good = CertificateStore::read(files[..3].to_vec(), None).expect("names are good");
    good.load_all().expect("they are good");
    assert_eq!(ready(&good), [true; 5]);
}

/// A step in the life of a directory, by the number of a certificate.
#[derive(Clone, Copy, Debug)]
enum Step {
    Exchange { file: usize, issued: usize },
    OtherKey { file: usize, issued: usize },
    Remove { file: usize },
    Load { file: usize },
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_files_change_what_follows_is_as_if_all_was_read(
        steps in prop::collection::vec(
            prop_oneof![
                (0..4usize, 0..5usize).prop_map(|(file, issued)| Step::Exchange { file, issued }),
                (0..4usize, 0..5usize).prop_map(|(file, issued)| Step::OtherKey { file, issued }),
                (0..4usize).prop_map(|file| Step::Remove { file }),
                (0..4usize).prop_map(|file| Step::Load { file }),
            ],
            1..20,
        ),
    ) {
        let rig = Rig::new();
        let names: [&[&str]; 5] = [&["a.com"], &["b.com"], &["*.com"], &["a.com", "c.com"], &[]];
        let issued = names.map(|names| rig.authority.issue(names));
        let mut before: Option<CertificateStore> = None;
        exchange(&rig, "f0", &issued[0]);
        for step in steps {
            match step {
                Step::Exchange { file, issued: by } => exchange(&rig, &format!("f{file}"), &issued[by]),
                Step::OtherKey { file, issued: by } => {
                    put_in_place(&rig, &format!("f{file}.key"), &issued[by].key);
                }
                // One has to be left.
                Step::Remove { file } => drop(fs::remove_file(rig.path(&format!("f{}.pem", file.max(1))))),
                Step::Load { file } => {
                    let entry = before.as_ref().and_then(|before| before.entries.get(file));
                    drop(entry.map(|entry| entry.load()));
                }
            }
            let files = certificates_in(rig.directory.path()).expect("it is read");
            let whole = CertificateStore::read(files.clone(), None).expect("they are certificates");
            let after = CertificateStore::read(files, before.as_ref()).expect("they are certificates");
            prop_assert_eq!(&after, &whole);
            for host in ["a.com", "b.com", "c.com", "d.com"] {
                let found = [&after, &whole].map(|store| {
                    let found = store.find(Some(host), load, |_| true);
                    found.map(|key| (key.cert[0].to_vec(), key.keys_match().is_ok()))
                });
                prop_assert_eq!(&found[0], &found[1], "{}", host);
            }
            before = Some(after);
        }
    }
}
