//! Programs that insist on TLS, passed through and ended here: Redis, a browser, and one that looks for weaknesses.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testkit::backend::{Backend, Behaviour};
use testkit::server::{Nginx, Redis, need, run};
use testkit::{PATIENCE, Ringway, free_address, skip};

use crate::support::{Engine, NO_CHECKS, field, ringway};

on_both_engines!(redis_is_benchmarked_over_tls, a_browser_loads_pages_in_http_2);

const NAME: &str = "www.example.com";

/// A certificate for [`NAME`], which is its own authority, and its key.
struct Certificate {
    directory: TempDir,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: String| fs::write(directory.path().join(name), text);
        write("chain.pem", made.cert.pem()).expect("it is written");
        write("key.pem", made.signing_key.serialize_pem()).expect("it is written");
        Self { directory }
    }

    fn chain(&self) -> PathBuf {
        self.directory.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// What a browser is told to trust: SHA-256 of the public key.
    fn pin(&self, openssl: &Path) -> String {
        let (openssl, key) = (openssl.display(), self.key().display().to_string());
        let script = format!(
            "{openssl} pkey -in {key} -pubout -outform der | {openssl} dgst -sha256 -binary | {openssl} base64"
        );
        run(Command::new("sh").args(["-c", &script])).trim().to_owned()
    }
}

/// Ringway in front of a server that ends TLS itself.
fn passing(engine: Engine, backend: SocketAddr) -> (Ringway, SocketAddr) {
    let frontend = free_address();
    let text = format!(
        "[[app]]\nname = \"edge\"\nlisten = [\"{frontend}\"]\n{NO_CHECKS}[app.tls]\nmode = \"passthrough\"\n\
         [[app.route]]\nserver_names = [\"{NAME}\"]\nbackends = [\"{backend}\"]\n"
    );
    (ringway(engine).config(&text).start(), frontend)
}

/// Ringway in front of a server without TLS.
fn ending(
    engine: Engine,
    backend: SocketAddr,
    certificate: &Certificate,
    more: &str,
) -> (Ringway, SocketAddr) {
    let frontend = free_address();
    let (chain, key) = (certificate.chain(), certificate.key());
    let text = format!(
        "[[app]]\nname = \"edge\"\nlisten = [\"{frontend}\"]\nbackends = [\"{backend}\"]\n{NO_CHECKS}\
         [app.tls]\nmode = \"terminate\"\n{more}\n\
         certificates = [{{ chain = \"{}\", key = \"{}\" }}]\n",
        chain.display(),
        key.display(),
    );
    (ringway(engine).config(&text).start(), frontend)
}

fn redis_is_benchmarked_over_tls(engine: Engine) {
    let certificate = Certificate::new();
    let plain = Redis::start();
    let tls = Redis::start_tls(&certificate.chain(), &certificate.key());
    let (plain, tls) = match (plain, tls) {
        (Ok(plain), Ok(tls)) => (plain, tls),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let (cli, benchmark) = match (need("redis-cli"), need("redis-benchmark")) {
        (Ok(cli), Ok(benchmark)) => (cli, benchmark),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    for (_ringway, frontend) in
        [passing(engine, tls.address()), ending(engine, plain.address(), &certificate, "")]
    {
        let client = |program: &Path, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(["-h", "127.0.0.1", "-p", &frontend.port().to_string(), "--tls", "--sni", NAME]);
            run(command.arg("--cacert").arg(certificate.chain()).args(arguments))
        };
        assert_eq!(client(&cli, &["SET", "greeting", "hello"]).trim(), "OK");
        assert_eq!(client(&cli, &["GET", "greeting"]).trim(), "hello");
        // Values of several records, to many clients at once.
        let report = client(&benchmark, &["-t", "set,get", "-c", "20", "-n", "1000", "-d", "50000", "-q"]);
        assert!(report.contains("GET: ") && report.contains("requests per second"), "{report}");
        assert!(!report.contains("Error"), "{report}");
    }
}

fn a_browser_loads_pages_in_http_2(engine: Engine) {
    let (chromium, openssl) = match (need("chromium"), need("openssl")) {
        (Ok(chromium), Ok(openssl)) => (chromium, openssl),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let certificate = Certificate::new();
    let (chain, key) = (certificate.chain(), certificate.key());
    let listen =
        format!("ssl http2; ssl_certificate {}; ssl_certificate_key {}", chain.display(), key.display());
    let body = "$host over $server_protocol";
    let (tls, plain) = match (Nginx::start(&listen, body), Nginx::start("http2", body)) {
        (Ok(tls), Ok(plain)) => (tls, plain),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let pin = certificate.pin(&openssl);
    let edges = [
        passing(engine, tls.address()),
        ending(engine, plain.address(), &certificate, "alpn = [\"h2\", \"http/1.1\"]"),
    ];
    for (ringway, frontend) in edges {
        let profile = tempfile::tempdir().expect("a directory");
        // It asks nobody but this server, and trusts this key beside the authorities that it knows.
        let mut command = Command::new("timeout");
        command.arg("100").arg(&chromium).args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--no-proxy-server",
            &format!("--host-resolver-rules=MAP {NAME} 127.0.0.1, MAP * ~NOTFOUND"),
            &format!("--ignore-certificate-errors-spki-list={pin}"),
            &format!("--user-data-dir={}", profile.path().display()),
            "--dump-dom",
            &format!("https://{NAME}:{}/", frontend.port()),
        ]);
        let page = run(&mut command);
        assert!(page.contains(&format!("{NAME} over HTTP/2.0")), "{page}");
        let line = ringway.process().wait_for_line("the browser", PATIENCE, |line| line.contains("sni="));
        assert_eq!(field(&line, "sni"), NAME);
    }
}

/// What testssl.sh calls a weakness of these severities is one.
const SEVERITIES: [&str; 3] = ["MEDIUM", "HIGH", "CRITICAL"];

#[test]
fn testssl_finds_nothing_of_medium_or_worse() {
    let testssl = match need("testssl").or_else(|_| need("testssl.sh")) {
        Ok(testssl) => testssl,
        Err(reason) => skip!("{reason}"),
    };
    let certificate = Certificate::new();
    let backend = Backend::start(Behaviour::Http("page".to_owned()));
    let (_ringway, frontend) =
        ending(Engine::Epoll, backend.address(), &certificate, "alpn = [\"http/1.1\"]");
    let report = certificate.directory.path().join("report.json");
    let mut command = Command::new("timeout");
    command.arg("300").arg(testssl).args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none"]);
    // Protocols, suites and key exchanges, what the server says of itself, and weaknesses that have a name. What pages say in
    // their headers is the backend's, and that nobody vouches for the certificate is the test's.
    command.args(["--protocols", "--std", "--fs", "--server-preference", "--vulnerable"]);
    command.arg("--jsonfile").arg(&report).arg(format!("{frontend}"));
    let output = command.output().expect("it can be started");
    let text = fs::read_to_string(&report).unwrap_or_else(|error| panic!("no report: {error}: {output:?}"));
    let findings: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let said = |id: &str| findings.iter().find(|finding| finding["id"] == id).map(|found| &found["finding"]);
    assert!(said("TLS1_3").is_some_and(|finding| finding.to_string().contains("offered")), "{text}");
    let bad = |finding: &&Value| SEVERITIES.contains(&finding["severity"].as_str().unwrap_or_default());
    let bad: Vec<&Value> = findings.iter().filter(bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
