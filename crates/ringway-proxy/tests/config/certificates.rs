//! `[app.tls]` with files that are there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway::tls::{Demand, TlsVersion};
use ringway_proxy::config::{self, Format, Known};
use ringway_proxy::model::Termination;
use testkit::certificates::{Authority, Issued, Request};

struct Rig {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Rig {
    fn new() -> Self {
        let rig =
            Self { directory: tempfile::tempdir().expect("a directory"), authority: Authority::new("ours") };
        rig.put("www", &rig.authority.issue(&["www.example.com"]));
        rig.write("ca.pem", rig.authority.pem());
        rig
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is made");
        std::fs::write(&path, text).expect("it is written");
        path
    }

    fn put(&self, name: &str, issued: &Issued) {
        self.write(&format!("{name}.pem"), &issued.chain);
        self.write(&format!("{name}.key"), &issued.key);
    }

    fn text(keys: &str) -> String {
        format!(
            "[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['b:80']\n[app.tls]\nmode = 'terminate'\n{keys}\n"
        )
    }

    fn read(&self, keys: &str) -> Termination {
        let config = config::parse(&Self::text(keys), Format::Toml, self.directory.path(), &|_| None);
        let app = match config {
            Ok(mut config) => config.apps.remove(0),
            Err(errors) => panic!("{}", config::render_faults(&errors)),
        };
        (*app.tls.expect("it has TLS").termination.expect("it ends it")).clone()
    }

    /// What a check of the file says, without its path.
    fn told(&self, keys: &str, now: Option<i64>) -> Vec<String> {
        let path = self.write("ringway.toml", &Self::text(keys));
        let result = match now {
            Some(now) => config::verify(&path, now),
            None => config::load(&path),
        };
        let directory = format!("{}/", self.directory.path().display());
        let faults = result.err().map(|errors| errors.faults().to_vec()).unwrap_or_default();
        faults.iter().map(|fault| fault.to_string().replace(&directory, "")).collect()
    }
}

const WWW: &str = "certificates = [{ chain = 'www.pem', key = 'www.key' }]\n";
/// The beginning of 2026.
const NOW: i64 = 1_767_225_600;

#[test]
fn what_is_not_written_has_its_default() {
    let termination = Rig::new().read(WWW);
    assert_eq!(termination.certificates.len(), 1);
    assert_eq!(termination.alpn, Vec::<String>::new());
    assert_eq!(termination.min_version, TlsVersion::Tls12);
    assert_eq!(termination.clients, None);
    assert_eq!(termination.ticket_keys, None);
    assert_eq!(termination.ticket_lifetime, Some(Duration::from_secs(21_600)));
}

#[test]
fn files_and_directories_make_one_store_whose_first_is_the_default() {
    let rig = Rig::new();
    rig.put("hosts/b", &rig.authority.issue(&["b.example.com"]));
    rig.put("hosts/a", &rig.authority.issue(&["a.example.com"]));
    let termination = rig.read(
        "certificates = [{ directory = 'hosts' }, { chain = 'www.pem', key = 'www.key' }]\nalpn = ['h2', 'http/1.1']",
    );
    let names: Vec<&str> = termination.certificates.reports().filter_map(|report| report.name).collect();
    assert_eq!(names, ["a.example.com", "b.example.com", "www.example.com"]);
    assert_eq!(termination.alpn, ["h2", "http/1.1"]);
    let offers = |protocol: &[u8]| protocol == b"http/1.1";
    assert_eq!(termination.agrees_on(&offers), Some("http/1.1"));
}

#[test]
fn clients_are_asked_as_it_is_written_and_what_stands_in_files_makes_another_configuration() {
    let rig = Rig::new();
    let demand = |keys: &str| rig.read(&format!("{WWW}{keys}")).clients.map(|clients| clients.demand());
    assert_eq!(demand("client_ca = 'ca.pem'"), Some(Demand::Required));
    assert_eq!(demand("client_ca = 'ca.pem'\nclient_auth = 'optional'"), Some(Demand::Optional));
    let keys = format!("{WWW}client_ca = 'ca.pem'\nclient_crl = 'crl.pem'\nticket_keys = 'tickets'");
    let client = rig.authority.issue_client("alice");
    rig.write("crl.pem", &rig.authority.revoke(&[]));
    rig.write("tickets", &"0".repeat(64));
    let first = rig.read(&keys);
    assert_eq!(first, rig.read(&keys));
    rig.write("crl.pem", &rig.authority.revoke(&[&client]));
    let second = rig.read(&keys);
    assert_ne!(first, second);
    rig.write("tickets", &"1".repeat(64));
    let third = rig.read(&keys);
    assert_ne!(second, third);
    rig.put("www", &rig.authority.issue(&["www.example.com"]));
    assert_ne!(third, rig.read(&keys));
}

#[test]
fn each_file_that_is_of_no_use_is_told_at_its_place() {
    let rig = Rig::new();
    rig.write("text", "text");
    let ours = "www.pem";
    rig.put("other", &rig.authority.issue(&["other.example.com"]));
    let keys = format!(
        "certificates = [\n{{ chain = '{ours}', key = 'other.key' }},\n{{ chain = 'other.pem', key = 'text' }},\n\
         {{ chain = 'other.pem', key = 'other.key', ocsp = 'text' }},\n]\n\
         client_ca = 'text'\nclient_crl = ['text', 'gone']\nticket_keys = 'text'"
    );
    let missing = "it cannot be read: No such file or directory (os error 2)";
    assert_eq!(
        rig.told(&keys, None),
        [
            "ringway.toml:8:28: app[0].tls.certificates[0].key: its key is not that of the certificate",
            "ringway.toml:9:30: app[0].tls.certificates[1].key: there is no private key in it (PEM, not encrypted)",
            "ringway.toml:10:50: app[0].tls.certificates[2].ocsp: it is no successful answer of an OCSP server (DER)",
            "ringway.toml:12:13: app[0].tls.client_ca: of the file: there is no certificate in it (PEM)",
            "ringway.toml:13:15: app[0].tls.client_crl[0]: of the file: there is no list of revocations in it (PEM or DER)",
            &format!("ringway.toml:13:23: app[0].tls.client_crl[1]: of the file: {missing}"),
            "ringway.toml:14:15: app[0].tls.ticket_keys: of the file: line 1 is no key: 64 hexadecimal digits",
        ]
    );
}

#[test]
fn certificates_of_a_directory_are_told_by_their_files() {
    let rig = Rig::new();
    rig.put("hosts/good", &rig.authority.issue(&["a.example.com"]));
    rig.write("hosts/text.pem", "text");
    rig.write("hosts/keyless.pem", &rig.authority.issue(&["b.example.com"]).chain);
    std::fs::create_dir(rig.directory.path().join("nothing")).expect("it is made");
    assert_eq!(
        rig.told("certificates = [{ directory = 'hosts' }, { directory = 'nothing' }]", None),
        [
            "ringway.toml:7:31: app[0].tls.certificates[0].directory: hosts/keyless.pem: there is no private key in it (PEM, not \
             encrypted)",
            "ringway.toml:7:31: app[0].tls.certificates[0].directory: hosts/text.pem: there is no certificate in it (PEM)",
            "ringway.toml:7:56: app[0].tls.certificates[1].directory: there is no certificate in this directory",
        ]
    );
    std::fs::remove_file(rig.directory.path().join("hosts/text.pem")).expect("it is removed");
    assert_eq!(
        rig.told("certificates = [{ directory = 'hosts' }]", None),
        [
            "ringway.toml:7:31: app[0].tls.certificates[0].directory: hosts/keyless.pem: there is no private key in it (PEM, not \
             encrypted)",
        ]
    );
    for number in 0..30 {
        rig.write(&format!("many/{number}.pem"), "text");
    }
    let told = rig.told("certificates = [{ directory = 'many' }]", None);
    assert_eq!(told.len(), 21, "{told:?}");
    assert!(told[20].ends_with("and 10 more certificates are faulty"), "{told:?}");
}

#[test]
fn a_check_looks_at_what_a_start_does_not_stop_at() {
    let rig = Rig::new();
    let days = [(2020, 1, 1), (2021, 1, 1)];
    rig.put(
        "old",
        &rig.authority.issue_as(&Request { names: &["old.example.com"], days, ..Request::default() }),
    );
    rig.put("again", &rig.authority.issue(&["www.example.com"]));
    let keys = "certificates = [\n{ chain = 'www.pem', key = 'www.key' },\n{ chain = 'old.pem', key = 'old.key' },\n\
                { chain = 'again.pem', key = 'again.key' },\n]";
    assert_eq!(rig.told(keys, None), Vec::<String>::new());
    assert_eq!(
        rig.told(keys, Some(NOW)),
        [
            "ringway.toml:9:11: app[0].tls.certificates[1].chain: the certificate expired at 2021-01-01T00:00:00Z",
            "ringway.toml:10:11: app[0].tls.certificates[2].chain: nobody would get it: all that it names has a certificate already, \
             www.pem",
        ]
    );
}

#[test]
fn files_of_certificates_are_watched_and_so_are_directories_of_them() {
    let rig = Rig::new();
    rig.put("hosts/a", &rig.authority.issue(&["a.example.com"]));
    rig.write("hosts/b/tls.crt", "");
    let keys = format!(
        "{}, {{ directory = 'hosts' }}]\nclient_ca = 'ca.pem'\nclient_crl = ['crl.pem']\nticket_keys = 'tickets'",
        WWW.trim_end().trim_end_matches(']')
    );
    let path = rig.write("ringway.toml", &Rig::text(&keys));
    let files = config::files(&path);
    let below = |path: &Path| path.strip_prefix(rig.directory.path()).expect("below").display().to_string();
    let names: Vec<String> = files.files.iter().map(|path| below(path)).collect();
    assert_eq!(
        names,
        [
            "ca.pem",
            "crl.pem",
            "hosts/a.key",
            "hosts/a.pem",
            "hosts/b/tls.crt",
            "hosts/b/tls.key",
            "ringway.toml",
            "tickets",
            "www.key",
            "www.pem",
        ]
    );
    assert_eq!(files.directories.iter().map(|path| below(path)).collect::<Vec<_>>(), ["hosts"]);
    let listed: Vec<String> = files.certificates[&rig.directory.path().join("hosts")]
        .iter()
        .map(|certificate| below(&certificate.chain))
        .collect();
    assert_eq!(listed, ["hosts/a.pem", "hosts/b/tls.crt"]);
}

#[test]
fn what_stands_in_files_of_tls_to_backends_makes_another_configuration() {
    let rig = Rig::new();
    rig.put("own", &rig.authority.issue_client("ringway"));
    let text = "[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['b:80']\n[app.backend_tls]\nca = 'ca.pem'\n\
                certificate = { chain = 'own.pem', key = 'own.key' }\n";
    let read = || {
        let config = config::parse(text, Format::Toml, rig.directory.path(), &|_| None);
        config.unwrap_or_else(|errors| panic!("{}", config::render_faults(&errors)))
    };
    let first = read();
    assert_eq!(first, read());
    rig.write("ca.pem", &format!("{}{}", rig.authority.pem(), Authority::new("another").pem()));
    let second = read();
    assert_ne!(first, second);
    rig.put("own", &rig.authority.issue_client("ringway"));
    assert_ne!(second, read());
}

#[test]
fn a_directory_that_was_just_listed_is_not_listed_again() {
    let rig = Rig::new();
    rig.put("hosts/a", &rig.authority.issue(&["a.example.com"]));
    rig.put("hosts/b", &rig.authority.issue(&["b.example.com"]));
    let path = rig.write("ringway.toml", &Rig::text("certificates = [{ directory = 'hosts' }]"));
    let mut listings = config::files(&path).certificates;
    let count = |known: &Known| {
        let loaded = config::load_again(&path, None, known).expect("it is good");
        let tls = loaded.config.apps[0].tls.clone().expect("it has TLS");
        tls.termination.expect("it ends it").certificates.len()
    };
    // One that came since is another change, of which whoever watches is told.
    rig.put("hosts/c", &rig.authority.issue(&["c.example.com"]));
    assert_eq!(count(&Known::default().with_listings(listings.clone())), 2);
    listings.clear();
    assert_eq!(count(&Known::default().with_listings(listings)), 3);
}

#[test]
fn keys_that_are_loaded_stay_over_a_reload_but_for_those_of_files_that_changed() {
    // More than are loaded in any case.
    const CERTIFICATES: usize = 1_010;
    let rig = Rig::new();
    let issued = rig.authority.issue(&["www.example.com"]);
    for number in 0..CERTIFICATES {
        rig.put(&format!("hosts/{number:04}"), &issued);
    }
    let path = rig.write("ringway.toml", &Rig::text("certificates = [{ directory = 'hosts' }]"));
    let store = |loaded: &config::Loaded| {
        let tls = loaded.config.apps[0].tls.as_ref().expect("it has TLS");
        std::sync::Arc::clone(&tls.termination.as_ref().expect("it ends it").certificates)
    };
    let first = config::load(&path).expect("it is good");
    assert_eq!(store(&first).loaded_bytes(), 0);
    store(&first).verify(usize::MAX, usize::MAX).expect("they are good");
    let all = store(&first).loaded_bytes();
    assert!(all > 0);

    let again = |known: &Known| config::load_again(&path, None, known).expect("it is good");
    let known = Known::of(&first.config.apps);
    assert_eq!(store(&again(&known)).loaded_bytes(), all);
    assert_eq!(again(&known).config, first.config);
    rig.put("hosts/0007", &rig.authority.issue(&["other.example.com"]));
    let changed = again(&known);
    assert_eq!(store(&changed).loaded_bytes(), all / CERTIFICATES * (CERTIFICATES - 1));
    assert_ne!(changed.config, first.config);
    assert_eq!(store(&again(&Known::default())).loaded_bytes(), 0);
    rig.write("ringway.toml", &Rig::text("certificates = [{ directory = 'hosts' }]").replace("'a'", "'b'"));
    assert_eq!(store(&again(&known)).loaded_bytes(), 0, "of another app nothing is known");
}
