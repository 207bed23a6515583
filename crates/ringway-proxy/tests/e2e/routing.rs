//! Routes between real programs: TLS by server name untouched, several protocols on one port, and why a client goes where.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use testkit::backend::{Backend, Behaviour};
use testkit::client::connect;
use testkit::server::{Nginx, Postgres, need, run};
use testkit::{PATIENCE, free_address, skip};

use crate::support::{Engine, access_line, command, field, ringway};

on_both_engines!(
    tls_clients_reach_the_backend_of_their_name,
    one_port_serves_several_protocols,
    explanation_is_what_is_done,
);

const APP: &str = "[[app]]\nname = \"edge\"\n";

/// A server of TLS with a certificate of its own for this name; where the certificate is.
fn tls_server(directory: &Path, name: &str) -> Result<(Nginx, PathBuf), String> {
    let openssl = need("openssl")?;
    let (certificate, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
    run(Command::new(openssl)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .stderr(Stdio::null()));
    let (shown, secret) = (certificate.display(), key.display());
    let listen = format!(
        "ssl http2; ssl_certificate {shown}; ssl_certificate_key {secret}; \
         ssl_protocols TLSv1.2 TLSv1.3"
    );
    let server = Nginx::start(&listen, "$ssl_server_name over $server_protocol")?;
    Ok((server, certificate))
}

fn talk(program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{program:?}: {error}"))
}

fn tls_clients_reach_the_backend_of_their_name(engine: Engine) {
    let (openssl, curl) = match (need("openssl"), need("curl")) {
        (Ok(openssl), Ok(curl)) => (openssl, curl),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let directory = tempfile::tempdir().expect("a directory");
    let start = |name| tls_server(directory.path(), name);
    let ((one, one_ca), (two, two_ca)) = match (start("one.example.com"), start("two.example.com")) {
        (Ok(one), Ok(two)) => (one, two),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let frontend = free_address();
    let route = |name: &str, to: SocketAddr| {
        format!("[[app.route]]\nserver_names = [\"{name}\"]\nbackends = [\"{to}\"]\n")
    };
    let ringway = ringway(engine)
        .config(&format!(
            "{APP}listen = [\"{frontend}\"]\n[app.tls]\nmode = \"passthrough\"\n{}{}",
            route("one.example.com", one.address()),
            route("*.example.com", two.address()),
        ))
        .start();
    for (name, ca) in [("one.example.com", &one_ca), ("two.example.com", &two_ca)] {
        let (address, port, ca) =
            (frontend.to_string(), frontend.port().to_string(), ca.display().to_string());
        for version in ["-tls1_2", "-tls1_3"] {
            let arguments = [
                "s_client",
                "-connect",
                &address,
                "-servername",
                name,
                "-CAfile",
                &ca,
                "-verify_return_error",
            ];
            let output = talk(&openssl, &[&arguments[..], &["-verify_hostname", name, version]].concat());
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("Verification: OK") && text.contains(&format!("CN = {name}")), "{text}");
        }
        let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
        for (option, protocol) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2.0")] {
            let arguments = ["--silent", "--fail", "--noproxy", "*", "--max-time", "30", "--cacert", &ca];
            let page = run(Command::new(&curl).args(arguments).args([option, "--resolve", &resolve, &url]));
            assert_eq!(page, format!("{name} over {protocol}"));
        }
        match need("gnutls-cli") {
            Ok(gnutls) => {
                let arguments = ["--x509cafile", &ca, "--sni-hostname", name, "--verify-hostname", name];
                let output = talk(&gnutls, &[&arguments[..], &["--port", &port, "127.0.0.1"]].concat());
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(text.contains("The certificate is trusted"), "{text}");
            }
            Err(reason) => testkit::log_skip(&format!("GnuTLS through passthrough: {reason}")),
        }
    }
    let address = frontend.to_string();
    for refused in [&["-servername", "other.test"][..], &["-noservername"]] {
        let output = talk(&openssl, &[&["s_client", "-connect", &address][..], refused].concat());
        assert!(!String::from_utf8_lossy(&output.stdout).contains("CN = "), "{refused:?}");
    }
    let line =
        ringway.process().wait_for_line("a refused name", PATIENCE, |line| line.contains("other.test"));
    assert_eq!((field(&line, "sni"), field(&line, "why")), ("other.test", "no_route"));
    let line = ringway.process().wait_for_line("HTTP/2 offered", PATIENCE, |line| {
        line.contains("alpn=h2,http/1.1") && line.contains("sni=one.example.com")
    });
    assert_eq!((field(&line, "route"), field(&line, "protocol")), ("one.example.com", "tls"));
}

/// A server that speaks first, for one client.
fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let _ = client.write_all(b"220 ready\r\n");
            let _ = client.read(&mut [0]);
        }
    });
    address
}

fn first_bytes(mut client: TcpStream, count: usize) -> Vec<u8> {
    client.set_read_timeout(Some(PATIENCE)).expect("an option");
    let mut answer = vec![0; count];
    client.read_exact(&mut answer).expect("an answer");
    answer
}

fn one_port_serves_several_protocols(engine: Engine) {
    let curl = match need("curl") {
        Ok(curl) => curl,
        Err(reason) => skip!("{reason}"),
    };
    let [first, second, rest] =
        ["first", "second", "rest"].map(|body| Backend::start(Behaviour::Http(body.to_owned())));
    let postgres = Postgres::start();
    let database = postgres.as_ref().map_or_else(|_| free_address(), |server| server.address());
    let frontend = free_address();
    let http = |host: &str, to: SocketAddr| {
        format!(
            "[[app.route]]\nprotocols = [\"http1\"]\nserver_names = [\"{host}\"]\nbackends = [\"{to}\"]\n"
        )
    };
    let ringway = ringway(engine)
        .config(&format!(
            "{APP}listen = [\"{frontend}\"]\nbackends = [\"{}\"]\ntimeouts = {{ sniff = \"100ms\" }}\n\
             health = {{ check = \"none\" }}\n{}{}\
             [[app.route]]\nprotocols = [\"postgresql\"]\nbackends = [\"{database}\"]\n\
             [[app.route]]\nprotocols = [\"silent\"]\nbackends = [\"{}\"]\n",
            rest.address(),
            http("first.example", first.address()),
            http("*.second.example", second.address()),
            greeter(),
        ))
        .start();
    let port = frontend.port();
    for (host, body) in
        [("first.example", "first"), ("a.b.second.example", "second"), ("third.example", "rest")]
    {
        let (resolve, url) = (format!("{host}:{port}:127.0.0.1"), format!("http://{host}:{port}/"));
        let arguments =
            ["--silent", "--fail", "--noproxy", "*", "--max-time", "30", "--resolve", &resolve, &url];
        assert_eq!(run(Command::new(&curl).args(arguments)), body);
    }
    let silent = connect(frontend).expect("it listens");
    let address = silent.local_addr().expect("an address");
    assert_eq!(first_bytes(silent, 11), b"220 ready\r\n");
    assert_eq!(field(&access_line(&ringway, address), "protocol"), "silent");
    match (postgres, need("psql")) {
        (Ok(_server), Ok(psql)) => {
            let port = port.to_string();
            let arguments =
                ["-h", "127.0.0.1", "-U", "postgres", "-p", &port, "-d", "postgres", "-Atc", "select 6 * 7"];
            assert_eq!(run(Command::new(psql).args(arguments)).trim(), "42");
        }
        (Err(reason), _) | (_, Err(reason)) => {
            testkit::log_skip(&format!("PostgreSQL beside others: {reason}"))
        }
    }
}

fn explanation_is_what_is_done(engine: Engine) {
    let [one, two] = ["one", "two"].map(|body| Backend::start(Behaviour::Http(body.to_owned())));
    let frontend = free_address();
    let text = format!(
        "{APP}listen = [\"{frontend}\"]\nhealth = {{ check = \"none\" }}\n\
         [[app.route]]\nname = \"other\"\nserver_names = [\"other.example\"]\nbackends = [\"{}\"]\n\
         [[app.route]]\nname = \"local\"\nsource = [\"127.0.0.0/8\"]\nserver_names = [\"*.example\"]\nbackends = [\"{}\"]\n",
        one.address(),
        two.address(),
    );
    let ringway = ringway(engine).config(&text).start();
    let explain = |arguments: &[&str]| {
        let output = command(&ringway, &[&["explain", "--app", "edge"][..], arguments].concat());
        let (text, problem) = (output.stdout, output.stderr);
        format!("{}{}", String::from_utf8_lossy(&text), String::from_utf8_lossy(&problem))
    };
    let text = explain(&["--host", "a.example", "--source", "127.0.0.1"]);
    let chosen = format!("goes as http1 by the route local, to {} (least-connections)", two.address());
    assert!(text.contains(&chosen) && text.contains("a.example is none of other.example"), "{text}");
    assert!(text.contains("edge/local") && text.contains(" up "), "{text}");
    let mut client = connect(frontend).expect("it listens");
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").expect("it is open");
    let address = client.local_addr().expect("an address");
    let mut answer = String::new();
    client.set_read_timeout(Some(PATIENCE)).expect("an option");
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("two"), "{answer}");
    drop(client);
    let line = access_line(&ringway, address);
    assert_eq!((field(&line, "route"), field(&line, "host")), ("local", "a.example"));

    let text = explain(&["--host", "a.example", "--source", "192.0.2.1"]);
    assert!(text.contains("is refused as http1: no_route") && text.contains("source: 192.0.2.1"), "{text}");
    assert!(explain(&["--sni", "192.0.2.1"]).contains("an IP address is no host name"));
    let output = command(&ringway, &["explain", "--app", "egde", "--sni", "a"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean \"edge\""));
}
