//! TLS that ends here, between real programs; and how streams end that are whole, cut short, or slow.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_proto::proxy_protocol::{parse, tlv_type};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tempfile::TempDir;
use testkit::backend::{Backend, Behaviour, Ending};
use testkit::client::connect;
use testkit::server::{Nginx, need, run};
use testkit::{PATIENCE, Pattern, Ringway, eventually, free_address, skip};

use crate::reloading::{reload, write_config};
use crate::support::{Engine, NO_CHECKS, access_line, command, field, ringway};

on_both_engines!(
    programs_are_served_in_both_versions_and_by_what_they_agree_on,
    half_closes_pass_in_both_directions,
    streams_that_are_cut_short_do_not_look_complete,
    a_byte_at_a_time_is_a_handshake_and_silence_is_none,
    failed_handshakes_are_told_and_logged,
    bulk_is_whole_in_both_directions_at_once,
    keys_are_updated_in_the_midst_of_streams,
    streams_are_whole_and_no_faster_than_their_limit,
    a_reload_limits_open_streams_and_lets_them_go,
    terminated_connections_finish_in_the_old_process,
    backends_are_told_of_the_tls_in_their_header,
    backends_are_spoken_to_in_tls_and_verified,
    checks_are_made_in_tls,
);

const NAME: &str = "www.example.com";

/// A certificate for [`NAME`] and its key, in files.
struct Pair {
    directory: TempDir,
}

impl Pair {
    fn new() -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("chain.pem"), cert.pem()).expect("it is written");
        std::fs::write(directory.path().join("key.pem"), signing_key.serialize_pem()).expect("it is written");
        Self { directory }
    }

    fn chain(&self) -> PathBuf {
        self.directory.path().join("chain.pem")
    }

    /// `[app.tls]` with this certificate.
    fn tls(&self, more: &str) -> String {
        let directory = self.directory.path().display();
        format!(
            "[app.tls]\nmode = \"terminate\"\ncertificates = [{{ chain = \"{directory}/chain.pem\", key = \"{directory}/key.pem\" }}]\n{more}\n"
        )
    }

    /// A client that trusts it.
    fn client(&self, alpn: &[&str]) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.chain()).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(NAME).expect("a name");
        ClientConnection::new(Arc::new(config), name).expect("a client")
    }

    fn dial(&self, frontend: SocketAddr) -> Tls {
        let socket = connect(frontend).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        rustls::StreamOwned::new(self.client(&[]), socket)
    }
}

type Tls = rustls::StreamOwned<ClientConnection, TcpStream>;

/// One app in front of one backend, with TLS.
fn start(engine: Engine, pair: &Pair, backend: SocketAddr, more: &str) -> (Ringway, SocketAddr) {
    let frontend = free_address();
    let text = format!(
        "[[app]]\nname = \"edge\"\nlisten = [\"{frontend}\"]\nbackends = [\"{backend}\"]\n{more}\n{NO_CHECKS}{}",
        pair.tls("")
    );
    (ringway(engine).config(&text).start(), frontend)
}

fn programs_are_served_in_both_versions_and_by_what_they_agree_on(engine: Engine) {
    let pair = Pair::new();
    let (openssl, curl) = match (need("openssl"), need("curl")) {
        (Ok(openssl), Ok(curl)) => (openssl, curl),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let (old, new) = match (Nginx::start("", "$server_protocol"), Nginx::start("http2", "$server_protocol")) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let frontend = free_address();
    let ringway = ringway(engine)
        .config(&format!(
            "[[app]]\nname = \"edge\"\nlisten = [\"{frontend}\"]\nbackends = [\"{}\"]\n{}\
             [[app.route]]\nname = \"h2\"\nalpn = [\"h2\"]\nbackends = [\"{}\"]\n",
            old.address(),
            pair.tls("alpn = [\"h2\", \"http/1.1\"]"),
            new.address(),
        ))
        .start();
    let (address, port, ca) =
        (frontend.to_string(), frontend.port().to_string(), pair.chain().display().to_string());
    let (resolve, url) = (format!("{NAME}:{port}:127.0.0.1"), format!("https://{NAME}:{port}/"));
    for (option, protocol) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2.0")] {
        for version in ["1.2", "1.3"] {
            let arguments = ["--silent", "--fail", "--noproxy", "*", "--max-time", "30", "--cacert", &ca];
            let exact = if version == "1.2" { vec!["--tls-max", "1.2"] } else { vec!["--tlsv1.3"] };
            let page = run(Command::new(&curl).args(arguments).args(exact).args([
                option,
                "--resolve",
                &resolve,
                &url,
            ]));
            assert_eq!(page, protocol, "over {version}");
        }
    }
    for (version, word) in [("-tls1_2", "1.2"), ("-tls1_3", "1.3")] {
        let arguments = ["s_client", "-connect", &address, "-servername", NAME, "-CAfile", &ca, version];
        let mut command = Command::new(&openssl);
        command.args(arguments).args(["-verify_return_error", "-verify_hostname", NAME]).stdin(Stdio::null());
        let output = command.output().expect("it can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Verification: OK"), "{word}: {text}");
    }
    match need("gnutls-cli") {
        Ok(gnutls) => {
            let arguments = ["--x509cafile", &ca, "--sni-hostname", NAME, "--verify-hostname", NAME];
            let mut command = Command::new(gnutls);
            command.args(arguments).args(["--port", &port, "127.0.0.1"]).stdin(Stdio::null());
            let output = command.output().expect("it can be started");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("The certificate is trusted"), "{text}");
        }
        Err(reason) => testkit::log_skip(&format!("GnuTLS: {reason}")),
    }
    let line = ringway.process().wait_for_line("HTTP/2", PATIENCE, |line| line.contains("tls_alpn=h2"));
    assert_eq!((field(&line, "route"), field(&line, "sni")), ("h2", NAME));
    assert!(matches!(field(&line, "tls"), "1.2" | "1.3") && field(&line, "cipher").starts_with("TLS_"));
    let handshakes = ringway.metric("ringway_tls_handshakes_total", "kind=\"full\"");
    assert!(handshakes >= 6.0, "{handshakes}");
    let explanation =
        command_text(&ringway, &["explain", "--app", "edge", "--sni", NAME, "--alpn", "http/1.1,h2"]);
    assert!(explanation.contains("by the route h2"), "the server's order counts: {explanation}");
}

fn command_text(ringway: &Ringway, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&command(ringway, arguments).stdout).into_owned()
}

fn keys_are_updated_in_the_midst_of_streams(engine: Engine) {
    let pair = Pair::new();
    let backend = Backend::start(Behaviour::Echo);
    let (ringway, frontend) = start(engine, &pair, backend.address(), "");
    let mut client = pair.dial(frontend);
    let address = client.sock.local_addr().expect("an address");
    let (mut pattern, mut heard) = (vec![0; 40_000], vec![0; 40_000]);
    for round in 0..50 {
        Pattern::new(round).fill(&mut pattern);
        client.write_all(&pattern[..20_000]).expect("it is open");
        // It asks for the same of the other side, whose answer is read with the bytes.
        client.conn.refresh_traffic_keys().expect("it is TLS 1.3");
        client.write_all(&pattern[20_000..]).expect("it is open");
        client.read_exact(&mut heard).expect("it is echoed");
        assert!(heard == pattern, "round {round}");
    }
    client.conn.send_close_notify();
    client.flush().expect("it is open");
    assert_eq!(client.read(&mut [0]).expect("a clean end"), 0);
    drop(client);
    let line = access_line(&ringway, address);
    assert_eq!((field(&line, "tls"), field(&line, "why")), ("1.3", "finished"));
    assert_eq!((field(&line, "sent"), field(&line, "received")), ("2000000", "2000000"));
}

fn half_closes_pass_in_both_directions(engine: Engine) {
    let pair = Pair::new();
    // The client ends first; the backend, which waits for that, answers then.
    let backend = Backend::start(Behaviour::Count);
    let (ringway, frontend) = start(engine, &pair, backend.address(), "");
    let mut client = pair.dial(frontend);
    let address = client.sock.local_addr().expect("an address");
    client.write_all(&[7; 100_000]).expect("it is open");
    client.conn.send_close_notify();
    client.flush().expect("it is open");
    client.sock.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer, and an end that is one");
    assert_eq!(answer, "100000");
    drop(client);
    let line = access_line(&ringway, address);
    assert_eq!((field(&line, "by"), field(&line, "why")), ("client", "finished"));
    assert_eq!((field(&line, "sent"), field(&line, "received")), ("100000", "6"));

    // The backend ends first; the client hears that and is still listened to.
    let backend = Backend::start(Behaviour::SendThenEnd(300_000));
    let (ringway, frontend) = start(engine, &pair, backend.address(), "");
    let mut client = pair.dial(frontend);
    let address = client.sock.local_addr().expect("an address");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("an end that is one");
    assert_eq!(answer.len(), 300_000);
    client.write_all(&[7; 1_000]).expect("this direction is open");
    client.conn.send_close_notify();
    client.flush().expect("it is open");
    drop(client);
    assert_eq!(backend.wait_endings(1, PATIENCE), [Ending::End]);
    assert_eq!(backend.received_bytes(), 1_000);
    assert_eq!(field(&access_line(&ringway, address), "by"), "backend");
}

fn streams_that_are_cut_short_do_not_look_complete(engine: Engine) {
    let pair = Pair::new();
    let backend = Backend::start(Behaviour::Echo);
    let (ringway, frontend) = start(engine, &pair, backend.address(), "");
    let mut client = pair.dial(frontend);
    let address = client.sock.local_addr().expect("an address");
    client.write_all(b"question").expect("it is open");
    let mut answer = [0; 8];
    client.read_exact(&mut answer).expect("an echo");
    // The socket ends, and the stream of TLS has not.
    client.sock.shutdown(Shutdown::Write).expect("it is open");
    assert!(matches!(backend.wait_endings(1, PATIENCE)[..], [Ending::Broken(_)]));
    let line = access_line(&ringway, address);
    assert_eq!((field(&line, "by"), field(&line, "why")), ("client", "cut_short"));

    // A record that nobody sealed.
    let mut client = pair.dial(frontend);
    let address = client.sock.local_addr().expect("an address");
    client.write_all(b"question").expect("it is open");
    client.read_exact(&mut answer).expect("an echo");
    client
        .sock
        .write_all(&[23, 3, 3, 0, 40])
        .and_then(|()| client.sock.write_all(&[0; 40]))
        .expect("it is open");
    let error = client.read(&mut answer).expect_err("an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    let line = access_line(&ringway, address);
    assert_eq!((field(&line, "by"), field(&line, "why")), ("client", "tls_failed"));

    // A backend that breaks: the client's stream does not end either.
    let backend = Backend::start(Behaviour::SendThenReset(5_000));
    let (ringway, frontend) = start(engine, &pair, backend.address(), "");
    let mut client = pair.dial(frontend);
    let address = client.sock.local_addr().expect("an address");
    client.write_all(b"?").expect("it is open");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect_err("no end");
    assert_eq!(answer.len(), 5_000, "what was received before the reset is handed on");
    assert_eq!(field(&access_line(&ringway, address), "why"), "reset");
}

fn a_byte_at_a_time_is_a_handshake_and_silence_is_none(engine: Engine) {
    let pair = Pair::new();
    let backend = Backend::start(Behaviour::Echo);
    let (_ringway, frontend) = start(engine, &pair, backend.address(), "timeouts = { handshake = \"20s\" }");
    let (mut client, mut socket) = (pair.client(&[]), connect(frontend).expect("it listens"));
    socket.set_nodelay(true).expect("an option");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    client.writer().write_all(b"slowly").expect("memory");
    let mut answer = Vec::new();
    while answer.len() < 6 {
        let mut said = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut said).expect("memory");
        }
        said.iter().for_each(|byte| socket.write_all(&[*byte]).expect("it is open"));
        client.read_tls(&mut socket).expect("an answer");
        client.process_new_packets().expect("good records");
        let _ = client.reader().read_to_end(&mut answer);
    }
    assert_eq!(answer, b"slowly");

    let (ringway, frontend) = start(engine, &pair, backend.address(), "timeouts = { handshake = \"300ms\" }");
    let mut hello = Vec::new();
    pair.client(&[]).write_tls(&mut hello).expect("memory");
    let began = Instant::now();
    let mut silent = connect(frontend).expect("it listens");
    let address = silent.local_addr().expect("an address");
    silent.set_read_timeout(Some(PATIENCE)).expect("an option");
    silent.write_all(&hello).expect("it is open");
    let mut flight = Vec::new();
    let _ = silent.read_to_end(&mut flight);
    assert!(!flight.is_empty() && began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
    let line = access_line(&ringway, address);
    assert_eq!((field(&line, "why"), field(&line, "sni")), ("handshake_timeout", NAME));
    let mut leaving = connect(frontend).expect("it listens");
    let address = leaving.local_addr().expect("an address");
    leaving.write_all(&hello).expect("it is open");
    leaving.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(field(&access_line(&ringway, address), "why"), "left_handshake");
}

fn failed_handshakes_are_told_and_logged(engine: Engine) {
    let (pair, other) = (Pair::new(), Pair::new());
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let text = format!(
        "[[app]]\nname = \"edge\"\nlisten = [\"{frontend}\"]\nbackends = [\"{}\"]\n{NO_CHECKS}{}",
        backend.address(),
        pair.tls("alpn = [\"http/1.1\"]")
    );
    let ringway = ringway(engine).config(&text).start();
    let attempt = |client: ClientConnection| {
        let socket = connect(frontend).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        let address = socket.local_addr().expect("an address");
        let mut stream = rustls::StreamOwned::new(client, socket);
        let error = stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0])).expect_err("it fails");
        drop(stream);
        (error.to_string(), access_line(&ringway, address))
    };
    let (error, line) = attempt(pair.client(&["ftp"]));
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    assert_eq!((field(&line, "why"), field(&line, "tls_failure")), ("handshake_failed", "no_protocol"));
    assert_eq!((field(&line, "sni"), field(&line, "alpn")), (NAME, "ftp"));
    let (error, line) = attempt(other.client(&[]));
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(field(&line, "tls_failure"), "peer_alert");
    for reason in ["no_protocol", "peer_alert"] {
        let failures =
            ringway.metric("ringway_tls_handshake_failures_total", &format!("reason=\"{reason}\""));
        assert_eq!(failures, 1.0, "{reason}");
    }
    assert_eq!(backend.accepted(), 0);
}

fn bulk_is_whole_in_both_directions_at_once(engine: Engine) {
    const BYTES: usize = 8 << 20;
    let pair = Pair::new();
    let backend = Backend::start(Behaviour::Echo);
    let (_ringway, frontend) = start(engine, &pair, backend.address(), "");
    let (mut client, mut socket) = (pair.client(&[]), connect(frontend).expect("it listens"));
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    client.complete_io(&mut socket).expect("a handshake");
    // Both directions at once: the other half is written by a thread, in records that are sealed before.
    let bytes: Vec<u8> = (0..BYTES).map(|at| (at * 31 % 251) as u8).collect();
    client.set_buffer_limit(None);
    client.writer().write_all(&bytes).expect("memory");
    let mut sealed = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut sealed).expect("memory");
    }
    let mut writer = socket.try_clone().expect("a handle");
    let writing = std::thread::spawn(move || writer.write_all(&sealed));
    let mut echoed = Vec::new();
    while echoed.len() < BYTES {
        client.read_tls(&mut socket).expect("more");
        client.process_new_packets().expect("good records");
        let _ = client.reader().read_to_end(&mut echoed);
    }
    writing.join().expect("no panic").expect("all is sent");
    assert!(echoed == bytes);
}

fn streams_are_whole_and_no_faster_than_their_limit(engine: Engine) {
    const BYTES: usize = 1 << 20;
    // A tenth of a second's worth goes at once, and a slice of each worker.
    let least = Duration::from_millis(360);
    let pair = Pair::new();
    let mut expected = vec![0; BYTES];
    Pattern::new(0).fill(&mut expected);

    // From the backend, whose end the client hears behind the last byte; of two clients half as much each.
    for (key, clients) in [("bandwidth_per_connection", 1), ("bandwidth", 2)] {
        let bytes = BYTES / clients;
        let backend = Backend::start(Behaviour::SendThenEnd(bytes));
        let (ringway, frontend) =
            start(engine, &pair, backend.address(), &format!("limits = {{ {key} = \"2MiB\" }}"));
        let began = Instant::now();
        let all: Vec<Tls> = (0..clients).map(|_| pair.dial(frontend)).collect();
        let all = all.into_iter().map(|mut client| {
            std::thread::spawn(move || {
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).expect("an end that is one");
                client.conn.send_close_notify();
                client.flush().expect("this direction is open");
                (answer, client.sock.local_addr().expect("an address"))
            })
        });
        // All of them begin before the first is waited for.
        for client in all.collect::<Vec<_>>() {
            let (answer, address) = client.join().expect("no panic");
            assert!(answer == expected[..bytes], "{} bytes of {bytes}", answer.len());
            let line = access_line(&ringway, address);
            assert_eq!((field(&line, "by"), field(&line, "why")), ("backend", "finished"));
            assert_eq!(field(&line, "received"), bytes.to_string(), "payload counts: {line}");
        }
        let took = began.elapsed();
        assert!(took >= least && took < PATIENCE, "{BYTES} bytes in {took:?}, at 2 MiB a second: {key}");
        assert!(ringway.metric("ringway_bandwidth_waits_total", "") > 0.0);
        assert_eq!(backend.wait_endings(clients, PATIENCE), vec![Ending::End; clients]);
    }

    // From the client, whose end the backend hears as late.
    let backend = Backend::start(Behaviour::Count);
    let limits = "limits = { bandwidth_per_connection = \"2MiB\" }";
    let (ringway, frontend) = start(engine, &pair, backend.address(), limits);
    let began = Instant::now();
    let mut client = pair.dial(frontend);
    let address = client.sock.local_addr().expect("an address");
    client.write_all(&expected).expect("it is open");
    client.conn.send_close_notify();
    client.flush().expect("it is open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer, and an end that is one");
    assert_eq!(answer, BYTES.to_string());
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    let line = access_line(&ringway, address);
    assert_eq!((field(&line, "why"), field(&line, "sent")), ("finished", answer.as_str()), "{line}");
}

fn a_reload_limits_open_streams_and_lets_them_go(engine: Engine) {
    const MIB: usize = 1 << 20;
    let pair = Pair::new();
    let backend = Backend::start(Behaviour::Flood);
    let frontend = free_address();
    let text = |limits: &str| {
        let backend = backend.address();
        format!(
            "[[app]]\nname = \"edge\"\nlisten = [\"{frontend}\"]\nbackends = [\"{backend}\"]\n{limits}\n{NO_CHECKS}{}",
            pair.tls("")
        )
    };
    let ringway = ringway(engine).config(&text("")).start();
    let mut client = pair.dial(frontend);
    let mut buffer = vec![0; MIB];
    let mut take = |mib: usize| {
        let began = Instant::now();
        (0..mib).for_each(|_| client.read_exact(&mut buffer).expect("it goes on"));
        began.elapsed()
    };
    take(2);
    write_config(&ringway, &text("limits = { bandwidth_per_connection = \"4MiB\" }"));
    reload(&ringway);
    // What the kernels on the way hold comes first.
    take(24);
    let took = take(4);
    assert!(took >= Duration::from_millis(700), "4 MiB in {took:?}, at 4 MiB a second");
    write_config(&ringway, &text(""));
    reload(&ringway);
    let waits = ringway.metric("ringway_bandwidth_waits_total", "");
    take(16);
    assert_eq!(ringway.metric("ringway_bandwidth_waits_total", ""), waits, "nothing waits any more");
    assert_eq!(backend.accepted(), 1, "it is the same connection");
}

fn backends_are_told_of_the_tls_in_their_header(engine: Engine) {
    let pair = Pair::new();
    let backend = Backend::start(Behaviour::Echo);
    let send = "proxy_protocol = { send = \"v2\" }";
    let (ringway, frontend) = start(engine, &pair, backend.address(), send);
    let mut client = pair.dial(frontend);
    let own = client.sock.local_addr().expect("an address");
    client.write_all(b"hello").expect("it is open");
    let mut echoed = Vec::new();
    let length = loop {
        let mut chunk = [0; 512];
        let count = client.read(&mut chunk).expect("it is echoed");
        echoed.extend_from_slice(&chunk[..count]);
        if let Some((_, length)) = parse(&echoed).expect("a header")
            && echoed.len() == length + 5
        {
            break length;
        }
    };
    assert_eq!(&echoed[length..], b"hello");
    let (header, _) = parse(&echoed).expect("a header").expect("all of it");
    assert_eq!(header.source(), Some(own));
    assert_eq!(header.tlvs.get(tlv_type::AUTHORITY), Some(NAME.as_bytes()));
    let ssl = header.tlvs.get(tlv_type::SSL).expect("it is told");
    assert!(ssl.windows(7).any(|part| part == b"TLSv1.3"), "{ssl:?}");
    let id = String::from_utf8_lossy(header.tlvs.get(tlv_type::UNIQUE_ID).expect("it has one")).into_owned();
    drop(client);
    let line = access_line(&ringway, own);
    assert!(id.ends_with(&format!("-{}", field(&line, "connection"))), "{id} in {line}");
}

/// A server of HTTP in TLS with this certificate.
fn tls_server(pair: &Pair) -> Result<Nginx, String> {
    let directory = pair.directory.path().display();
    let more = "ssl_protocols TLSv1.2 TLSv1.3";
    let files = format!("ssl_certificate {directory}/chain.pem; ssl_certificate_key {directory}/key.pem");
    Nginx::start(&format!("ssl; {files}; {more}"), "$ssl_server_name over $ssl_protocol")
}

fn backends_are_spoken_to_in_tls_and_verified(engine: Engine) {
    let (pair, other) = (Pair::new(), Pair::new());
    let (good, bad) = match (tls_server(&pair), tls_server(&other)) {
        (Ok(good), Ok(bad)) => (good, bad),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let frontends = [(); 4].map(|()| free_address());
    let ca = pair.chain();
    let app = |name: &str, frontend: SocketAddr, backends: &[SocketAddr], tls: &str, more: &str| {
        let backends: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
        format!(
            "[[app]]\nname = \"{name}\"\nlisten = [\"{frontend}\"]\nbackends = [{}]\nbalance = \"round-robin\"\n{NO_CHECKS}\
             [app.backend_tls]\n{tls}\n{more}",
            backends.join(", ")
        )
    };
    let known = format!("ca = \"{}\"\nserver_name = \"{NAME}\"", ca.display());
    let text = [
        // The other one has a certificate of nobody, and the next backend is tried.
        app("both", frontends[0], &[bad.address(), good.address()], &known, &pair.tls("")),
        app("plain", frontends[1], &[good.address()], &known, ""),
        app("unknown", frontends[2], &[good.address()], "server_name = \"other.example.com\"", ""),
        app("anybody", frontends[3], &[bad.address()], "verify = false\nserver_name = \"any.example\"", ""),
    ];
    let ringway = ringway(engine).config(&text.concat()).start();
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    let ask = |frontend: SocketAddr| {
        let mut client = connect(frontend).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("an option");
        let address = client.local_addr().expect("an address");
        client.write_all(request.as_bytes()).expect("it is open");
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer);
        drop(client);
        (answer, access_line(&ringway, address))
    };
    for _ in 0..4 {
        let mut client = pair.dial(frontends[0]);
        client.write_all(request.as_bytes()).expect("it is open");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("a clean end");
        assert!(answer.ends_with(&format!("{NAME} over TLSv1.3")), "{answer}");
    }
    assert!(ringway.metric("ringway_connect_failures_total", "app=\"both\"") >= 1.0);
    let (answer, line) = ask(frontends[1]);
    assert!(answer.ends_with(&format!("{NAME} over TLSv1.3")), "{answer}");
    assert_eq!(field(&line, "in"), "relay");
    let (answer, line) = ask(frontends[2]);
    assert_eq!((answer.as_str(), field(&line, "in"), field(&line, "why")), ("", "connect", "tls_failed"));
    let (answer, _) = ask(frontends[3]);
    assert!(answer.ends_with("any.example over TLSv1.3"), "{answer}");
}

fn checks_are_made_in_tls(engine: Engine) {
    let pair = Pair::new();
    let secure = match tls_server(&pair) {
        Ok(secure) => secure,
        Err(reason) => skip!("{reason}"),
    };
    let plain = Backend::start(Behaviour::Http("plain".to_owned()));
    let quick = "interval = \"200ms\"\ntimeout = \"200ms\"\nrise = 1\nfall = 3\n";
    let app = |name: &str, backends: &str, health: &str, more: &str| {
        format!(
            "[[app]]\nname = \"{name}\"\nlisten = [\"{}\"]\nbackends = [{backends}]\n[app.health]\n{health}\n{quick}{more}",
            free_address()
        )
    };
    let tls = format!("[app.backend_tls]\nca = \"{}\"\nserver_name = \"{NAME}\"\n", pair.chain().display());
    let text = [
        app("a", &format!("\"{}\", \"{}\"", secure.address(), plain.address()), "check = \"tls\"", ""),
        app("b", &format!("\"{}\"", secure.address()), "check = \"http\"", &tls),
        app("c", &format!("\"{}\"", secure.address()), "check = \"tls\"", &tls),
        app("d", &format!("\"{}\"", secure.address()), "check = \"tls\"", &tls.replace(NAME, "d.example")),
    ];
    let ringway = ringway(engine).config(&text.concat()).start();
    let up = |app: &str, address: SocketAddr| {
        let page = ringway.admin("/metrics").body;
        let is_it = |line: &&str| {
            line.starts_with("ringway_endpoint_up{")
                && line.contains(&format!("app=\"{app}\""))
                && line.contains(&format!("backend=\"{address}\""))
        };
        page.lines().find(is_it).and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    for (app, address, wanted) in [
        ("a", secure.address(), 1.0),
        ("a", plain.address(), 0.0),
        ("b", secure.address(), 1.0),
        ("c", secure.address(), 1.0),
        ("d", secure.address(), 0.0),
    ] {
        eventually(&format!("{address} of {app} is {wanted}"), PATIENCE, || {
            let checks =
                format!("app=\"{app}\",result=\"{}\"", if wanted > 0.5 { "passed" } else { "failed" });
            let is_checked = ringway.metric("ringway_health_checks_total", &checks) >= 1.0;
            (is_checked && up(app, address) == Some(wanted)).then_some(())
        });
    }
    let status = command_text(&ringway, &["status", "--json"]);
    assert!(status.contains("the handshake of TLS failed"), "{status}");
}

fn terminated_connections_finish_in_the_old_process(engine: Engine) {
    let pair = Pair::new();
    let backend = Backend::start(Behaviour::Echo);
    let (ringway, frontend) = start(engine, &pair, backend.address(), "");
    let mut client = pair.dial(frontend);
    let mut answer = [0; 4];
    client.write_all(b"old?").and_then(|()| client.read_exact(&mut answer)).expect("an echo");
    let report = command_text(&ringway, &["upgrade", "--json"]);
    assert!(report.contains("tls_that_ends_here"), "{report}");
    client.write_all(b"old!").and_then(|()| client.read_exact(&mut answer)).expect("it goes on");
    let mut new = pair.dial(frontend);
    new.write_all(b"new!").and_then(|()| new.read_exact(&mut answer)).expect("the new process serves");
    assert_eq!(&answer, b"new!");
    // Another one follows: then there are two old processes, and the last one is asked for both.
    command_text(&ringway, &["upgrade"]);
    let left = || {
        let text = command_text(&ringway, &["connections", "--generation", "old", "--json"]);
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
    };
    let left_now = left();
    assert_eq!(left_now["matched"], 2, "{left_now}");
    assert_eq!(left_now["connections"][0]["why"], "tls_that_ends_here", "{left_now}");
    // The process between ends before the one that it followed.
    drop(new);
    eventually("the second process has ended", PATIENCE, || {
        let processes = left()["processes"].as_array().map(Vec::len);
        (processes == Some(1)).then_some(())
    });
    client.write_all(b"more").and_then(|()| client.read_exact(&mut answer)).expect("it still goes on");
    client.conn.send_close_notify();
    client.flush().expect("it is open");
    drop(client);
    eventually("the backend saw its end", PATIENCE, || {
        backend.endings().contains(&Ending::End).then_some(())
    });
    eventually("what old processes counted is known to the last one", PATIENCE, || {
        let count = |name| ringway.metric(name, "app=\"edge\"");
        let counts = ["ringway_connections_accepted_total", "ringway_connections_closed_total"].map(count);
        (counts == [2.0, 2.0]).then_some(())
    });
}

#[test]
fn a_certificate_that_is_of_no_use_is_told_with_its_place() {
    let pair = Pair::new();
    let directory = tempfile::tempdir().expect("a directory");
    let other = Pair::new();
    let file = |name: &str| directory.path().join(name);
    std::fs::copy(pair.chain(), file("a.pem")).expect("it is copied");
    std::fs::copy(other.directory.path().join("key.pem"), file("b.key")).expect("it is copied");
    std::fs::write(file("empty"), "").expect("it is written");
    let text = "[[app]]\nname = \"edge\"\nlisten = [\":8443\"]\nbackends = [\"10.0.0.1:80\"]\n[app.tls]\nmode = \"terminate\"\n\
                certificates = [\n{ chain = \"a.pem\", key = \"b.key\" },\n{ chain = \"empty\", key = \"gone\" },\n]\n";
    std::fs::write(file("edge.toml"), text).expect("it is written");
    let output = Command::new(Path::new(crate::support::PROGRAM))
        .args(["check", "--config", "edge.toml"])
        .current_dir(directory.path())
        .output()
        .expect("it can be started");
    let told =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("edge.toml:8") && told.contains("its key is not that of"), "{told}");
    assert!(told.contains("edge.toml:9") && told.contains("cannot be read"), "{told}");
}
