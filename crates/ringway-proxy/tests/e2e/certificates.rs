//! Certificates, authorities and tickets of TLS that ends here: exchanged while connections go on, and never got around.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use testkit::backend::{Backend, Behaviour};
use testkit::certificates::{Authority, Issued, Request};
use testkit::client::connect;
use testkit::server::{Postgres, Redis, need, run};
use testkit::{PATIENCE, eventually, free_address, raise_descriptor_limit, skip};

use crate::reloading::{reload, write_config};
use crate::support::{Engine, NO_CHECKS, access_line, command, field, ringway, status};
use crate::upgrade::{pid, upgrade, wait_gone};

on_both_engines!(
    certificates_and_authorities_are_exchanged_under_load_and_no_connection_is_lost,
    a_certificate_that_changes_is_served_when_files_are_watched,
    each_name_gets_its_certificate_and_the_status_tells_of_all,
    a_certificate_that_takes_its_time_to_load_keeps_nobody_else_waiting,
    sessions_are_resumed_by_all_workers,
    no_resumption_gets_around_terms_that_it_was_not_issued_under,
    sessions_are_resumed_after_upgrades_and_not_after_a_restart,
    sessions_are_resumed_whoever_of_the_two_dies_in_an_upgrade,
    no_resumption_gets_around_an_authority_that_an_upgrade_changed,
    machines_that_share_ticket_keys_resume_each_others_sessions,
    clients_show_certificates_or_are_refused_with_a_fitting_alert,
    the_verified_name_of_a_client_is_logged_told_to_backends_and_routed_by,
    postgresql_is_reached_with_its_certificate_verified,
    redis_is_reached_over_tls_that_ends_here,
);

const NAME: &str = "www.example.com";

/// Files of certificates, and who issues them.
struct Rig {
    directory: tempfile::TempDir,
    authority: Authority,
    /// Issues certificates of clients.
    clients: Authority,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let rig =
            Self { directory, authority: Authority::new("servers"), clients: Authority::new("clients") };
        rig.put("www", &rig.authority.issue(&[NAME]));
        rig.write("ca.pem", rig.authority.pem());
        rig.write("clients.pem", rig.clients.pem());
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// In one step, so that nobody reads half of it.
    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().expect("it has one")).expect("it is made");
        fs::write(self.path("new"), text).expect("it is written");
        fs::rename(self.path("new"), self.path(name)).expect("it is moved");
    }

    fn put(&self, name: &str, issued: &Issued) {
        self.write(&format!("{name}.pem"), &(issued.chain.clone() + &issued.key));
    }

    /// An app that ends TLS, with the certificate `www`.
    fn app(&self, name: &str, frontend: SocketAddr, backend: SocketAddr, tls: &str) -> String {
        format!(
            "[[app]]\nname = \"{name}\"\nlisten = [\"{frontend}\"]\nbackends = [\"{backend}\"]\n{NO_CHECKS}[app.tls]\n\
             mode = \"terminate\"\ncertificates = [{{ chain = \"{}\" }}]\n{}\n",
            self.path("www.pem").display(),
            tls.replace("DIR", &self.directory.path().display().to_string()),
        )
    }

    /// A client that trusts the authority of servers, and shows `own`.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Issued>) -> Client {
        let mut roots = RootCertStore::empty();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        roots.add(der(self.authority.pem())).expect("a root");
        let builder =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_protocol_versions(versions)
                .expect("versions")
                .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![der(&own.chain)], key).expect("they fit")
            }
        };
        Client(Arc::new(config))
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// A client that goes on with its sessions.
struct Client(Arc<ClientConfig>);

struct Tls(rustls::StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// Opens a connection, and has an echo answer.
    fn open(&self, frontend: SocketAddr) -> io::Result<Tls> {
        self.open_as(frontend, NAME)
    }

    fn open_as(&self, frontend: SocketAddr, name: &'static str) -> io::Result<Tls> {
        let name = ServerName::try_from(name).expect("a name");
        let connection = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        let mut tls = Tls(rustls::StreamOwned::new(connection, connect(frontend)?));
        tls.echo("hello")?;
        Ok(tls)
    }

    /// Why it is refused.
    fn refused(&self, frontend: SocketAddr) -> String {
        match self.open(frontend) {
            Ok(_) => panic!("it is let in"),
            Err(error) => error.to_string(),
        }
    }
}

impl Tls {
    fn echo(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())?;
        let mut answer = vec![0; text.len()];
        self.0.read_exact(&mut answer)?;
        assert_eq!(answer, text.as_bytes());
        Ok(())
    }

    fn is_resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate of the server, in DER.
    fn certificate(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().expect("it showed one")[0].to_vec()
    }
}

fn der(issued: &Issued) -> Vec<u8> {
    CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a certificate").to_vec()
}

fn certificates_and_authorities_are_exchanged_under_load_and_no_connection_is_lost(engine: Engine) {
    let rig = Rig::new();
    let backend = Backend::start(Behaviour::Echo);
    let (public, private) = (free_address(), free_address());
    let apps = [
        rig.app("public", public, backend.address(), ""),
        rig.app("private", private, backend.address(), "client_ca = \"DIR/clients.pem\""),
    ];
    let ringway = ringway(engine).config(&apps.concat()).start();
    let successor = Authority::new("clients of later");
    let (first, later) = (rig.clients.issue_client("first"), successor.issue_client("later"));
    let (anybody, first, later) =
        (rig.client(BOTH, None), rig.client(BOTH, Some(&first)), rig.client(BOTH, Some(&later)));
    let mut open: Vec<Tls> = (0..30)
        .flat_map(|_| {
            [anybody.open(public).expect("it is let in"), first.open(private).expect("it is let in")]
        })
        .collect();
    later.refused(private);

    let (is_over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Each begins anew, so that each gets a certificate.
                while !is_over.load(Ordering::Relaxed) {
                    let client = rig.client(BOTH, None);
                    client.open(public).expect("nobody is refused meanwhile");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..6 {
            let before = served.load(Ordering::Relaxed);
            let issued = rig.authority.issue(&[NAME]);
            rig.put("www", &issued);
            match round {
                // First both authorities, then the new one alone.
                2 => rig.write("clients.pem", &format!("{}{}", rig.clients.pem(), successor.pem())),
                4 => rig.write("clients.pem", successor.pem()),
                _ => {}
            }
            let told = reload(&ringway);
            assert!(told.starts_with(&format!("version {} runs", round + 2)), "{told}");
            let new = rig.client(BOTH, None).open(public).expect("it is let in");
            assert_eq!(new.certificate(), der(&issued), "the new certificate at once");
            match round {
                0 | 1 => drop(later.refused(private)),
                2 | 3 => {
                    first.open(private).expect("the old one is still good");
                    open.push(later.open(private).expect("the new one is, too"));
                }
                _ => {
                    first.refused(private);
                    open.push(later.open(private).expect("it is let in"));
                }
            }
            open.iter_mut().for_each(|tls| tls.echo("still here").expect("it goes on"));
            eventually("more come", PATIENCE, || (served.load(Ordering::Relaxed) > before).then_some(()));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(open.len(), 64);
    open.iter_mut().for_each(|tls| tls.echo("to the end").expect("it goes on"));
}

fn a_certificate_that_changes_is_served_when_files_are_watched(engine: Engine) {
    let rig = Rig::new();
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let text = format!(
        "[server]\nwatch = true\n{}",
        rig.app("web", frontend, backend.address(), "").replace(
            "certificates = [",
            &format!("certificates = [{{ directory = \"{}\" }}, ", rig.path("hosts").display())
        )
    );
    rig.put("hosts/a", &rig.authority.issue(&["a.example.com"]));
    let ringway = ringway(engine).config(&text).start();
    ringway.process().wait_for_line("it watches", PATIENCE, |line| line.contains("watching the files"));
    let client = || rig.client(BOTH, None);
    let mut open = client().open(frontend).expect("it is let in");

    let issued = rig.authority.issue(&[NAME]);
    rig.put("www", &issued);
    eventually("the new one is served", PATIENCE, || {
        let served = client().open(frontend).expect("it is let in").certificate();
        (served == der(&issued)).then_some(())
    });

    // One more in a directory.
    let issued = rig.authority.issue(&["b.example.com"]);
    rig.put("hosts/b", &issued);
    eventually("the one more is served", PATIENCE, || {
        let served = client().open_as(frontend, "b.example.com").ok()?.certificate();
        (served == der(&issued)).then_some(())
    });

    // What is of no use changes nothing.
    rig.write("www.pem", "nothing");
    ringway.process().wait_for_line("it is refused", PATIENCE, |line| line.contains("configuration refused"));
    assert!(client().open(frontend).is_ok());
    open.echo("still here").expect("it goes on");
}

fn each_name_gets_its_certificate_and_the_status_tells_of_all(engine: Engine) {
    let rig = Rig::new();
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    for (file, names) in [("a", &["a.example.com"][..]), ("wild", &["*.example.com", "example.com"])] {
        rig.put(&format!("hosts/{file}"), &rig.authority.issue(names));
    }
    let text = rig
        .app("web", frontend, backend.address(), "")
        .replace("}]\n", &format!("}}, {{ directory = \"{}\" }}]\n", rig.path("hosts").display()));
    let ringway = ringway(engine).config(&text).start();
    let client = rig.client(BOTH, None);
    for name in [NAME, "a.example.com", "b.example.com", "example.com"] {
        client.open_as(frontend, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(client.open_as(frontend, "example.org").is_err(), "the first is not for it");

    let web = status(&ringway)["apps"][0].clone();
    assert_eq!(web["certificates_total"], 3);
    let shown: Vec<&str> = web["certificates"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(web["certificates"][0]["days_left"].as_i64().expect("a number") > 1_000);
    assert_eq!(ringway.metric("ringway_certificates", "app=\"web\""), 3.0);
    assert!(ringway.metric("ringway_certificate_days_left", "wild.pem") > 1_000.0);
    let output = command(&ringway, &["status"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("CERTIFICATE") && text.contains("*.example.com and 1 more"), "{text}");
}

fn a_certificate_that_takes_its_time_to_load_keeps_nobody_else_waiting(engine: Engine) {
    raise_descriptor_limit();
    let rig = Rig::new();
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    // So many that keys are not loaded at the start. The first one's never comes, so that the background looks at none of them.
    let issued = rig.authority.issue(&["first.example.com"]);
    rig.write("hosts/0.pem", &issued.chain);
    let seventh = rig.authority.issue(&["seven.example.com"]);
    for number in 1..=1_000 {
        rig.put(&format!("hosts/{number}"), if number == 7 { &seventh } else { &issued });
    }
    let slow = rig.authority.issue(&["slow.example.com"]);
    rig.write("hosts/slow.pem", &slow.chain);
    for name in ["hosts/0.key", "hosts/slow.key"] {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, rig.path(name), mode).expect("a pipe");
    }
    let text = rig
        .app("web", frontend, backend.address(), "")
        .replace("}]\n", &format!("}}, {{ directory = \"{}\" }}]\n", rig.path("hosts").display()));
    let ringway = ringway(engine).config(&text).start();
    let client = || rig.client(BOTH, None);
    client().open(frontend).expect("it is let in, and its certificate is loaded from here on");
    thread::scope(|scope| {
        let waits =
            scope.spawn(|| client().open_as(frontend, "slow.example.com").map(|tls| tls.certificate()));
        // It can be opened once somebody reads it: the client has been heard.
        let key = eventually("somebody reads the key", PATIENCE, || {
            let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
            rustix::fs::open(rig.path("hosts/slow.key"), flags, rustix::fs::Mode::empty()).ok()
        });
        let mut key = fs::File::from(key);
        // As many as find each worker.
        for _ in 0..10 {
            client().open(frontend).expect("the workers turn");
        }
        let listed = command(&ringway, &["connections", "--json"]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.contains("\"waiting\"") && listed.contains("slow.example.com"), "{listed}");
        // Another version of its files comes meanwhile, of which nothing is loaded.
        rig.write("slow.key", &slow.key);
        fs::rename(rig.path("slow.key"), rig.path("hosts/slow.key")).expect("it is moved");
        assert!(command(&ringway, &["reload"]).status.success());
        key.write_all(slow.key.as_bytes()).expect("it is read");
        drop(key);
        assert_eq!(waits.join().expect("no panic").expect("it is let in"), der(&slow));
    });
    client().open_as(frontend, "slow.example.com").expect("it is loaded now");

    // One whose key is gone is refused, until it is back.
    let (file, away) = (rig.path("hosts/7.pem"), rig.path("away"));
    fs::rename(&file, &away).expect("it is moved");
    assert!(client().open_as(frontend, "seven.example.com").is_err(), "there is no key");
    let refused = "tls_failure=no_certificate";
    ringway.process().wait_for_line(refused, PATIENCE, |line| line.contains(refused));
    fs::rename(&away, &file).expect("it is moved back");
    client().open_as(frontend, "seven.example.com").expect("its key is back");

    // One that leaves while it waits is gone.
    let greet = || {
        let mut socket = connect(frontend).expect("it listens");
        let name = ServerName::try_from("first.example.com").expect("a name");
        let mut hello = ClientConnection::new(Arc::clone(&client().0), name).expect("a client");
        hello.write_tls(&mut socket).expect("it is sent");
        socket
    };
    let gone = greet();
    let address = gone.local_addr().expect("an address");
    drop(gone);
    let line = access_line(&ringway, address);
    assert_eq!(field(&line, "by"), "client", "{line}");
    // More than can wait: the last ones are refused at once, and nobody else is.
    let waiting: Vec<TcpStream> = (0..1_030).map(|_| greet()).collect();
    let refused = "tls_failure=overloaded";
    ringway.process().wait_for_line(refused, PATIENCE, |line| line.contains(refused));
    client().open(frontend).expect("the worker turns");
    drop(waiting);
}

fn sessions_are_resumed_by_all_workers(engine: Engine) {
    let rig = Rig::new();
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = ringway(engine).config(&rig.app("web", frontend, backend.address(), "")).start();
    for version in BOTH {
        let client = rig.client(&[version], None);
        assert!(!client.open(frontend).expect("it is let in").is_resumed());
        let open: Vec<Tls> = (0..20).map(|_| client.open(frontend).expect("it is let in")).collect();
        assert!(open.iter().all(Tls::is_resumed), "{version:?}");
        for worker in ["worker=\"0\"", "worker=\"1\""] {
            assert!(ringway.metric("ringway_worker_connections", worker) > 0.0, "both workers have some");
        }
    }
    // A reload that does not concern them leaves the tickets as they are.
    let client = rig.client(BOTH, None);
    client.open(frontend).expect("it is let in");
    write_config(
        &ringway,
        &rig.app("web", frontend, backend.address(), "").replace("name", "connect_attempts = 2\nname"),
    );
    assert!(reload(&ringway).starts_with("version 2 runs"));
    assert!(client.open(frontend).expect("it is let in").is_resumed());
}

fn no_resumption_gets_around_terms_that_it_was_not_issued_under(engine: Engine) {
    for version in BOTH {
        let rig = Rig::new();
        let backend = Backend::start(Behaviour::Echo);
        let (first, second) = (free_address(), free_address());
        let apps = |policy: &str| {
            [first, second].map(|frontend| {
                let name = if frontend == first { "first" } else { "second" };
                rig.app(name, frontend, backend.address(), policy)
            })
        };
        let optional = "client_ca = \"DIR/clients.pem\"\nclient_auth = \"optional\"";
        let required = "client_ca = \"DIR/clients.pem\"";
        let with_crl = "client_ca = \"DIR/clients.pem\"\nclient_crl = \"DIR/crl.pem\"";
        let ringway = ringway(engine).config(&apps(optional).concat()).start();
        let change = |policy: &str| {
            write_config(&ringway, &apps(policy).concat());
            let told = reload(&ringway);
            assert!(told.starts_with("version "), "{told}");
        };

        // Another app, with the same certificate and the same policy: each has tickets of its own.
        let anybody = rig.client(&[version], None);
        assert!(!anybody.open(first).expect("it is let in").is_resumed());
        assert!(anybody.open(first).expect("it is let in").is_resumed());
        assert!(!anybody.open(second).expect("it is let in").is_resumed(), "{version:?}");
        // Its session is that of the other app now; the next one is of the first again.
        assert!(!anybody.open(first).expect("it is let in").is_resumed());

        // A certificate that is demanded from now on.
        change(required);
        anybody.refused(first);

        let alice = rig.clients.issue_client("alice");
        let known = rig.client(&[version], Some(&alice));
        assert!(!known.open(first).expect("it is let in").is_resumed());
        assert!(known.open(first).expect("it is let in").is_resumed());
        // A list on which nobody is: other terms, and the client shows its certificate again.
        rig.write("crl.pem", &rig.clients.revoke(&[]));
        change(with_crl);
        assert!(!known.open(first).expect("it is let in").is_resumed());
        assert!(known.open(first).expect("it is let in").is_resumed());
        // It is on the list: the ticket is worth nothing.
        rig.write("crl.pem", &rig.clients.revoke(&[&alice]));
        change(with_crl);
        let refused = known.refused(first);
        assert!(refused.contains("CertificateRevoked"), "{refused}");

        // Another authority in the same file.
        rig.write("crl.pem", &rig.clients.revoke(&[]));
        change(with_crl);
        assert!(!known.open(first).expect("it is let in").is_resumed());
        let successor = Authority::new("clients of later");
        rig.write("clients.pem", successor.pem());
        rig.write("crl.pem", &successor.revoke(&[]));
        change(with_crl);
        let refused = known.refused(first);
        assert!(refused.contains("UnknownCA"), "{refused}");
    }
}

fn machines_that_share_ticket_keys_resume_each_others_sessions(engine: Engine) {
    let rig = Rig::new();
    let backend = Backend::start(Behaviour::Echo);
    let frontends = [free_address(), free_address()];
    rig.write("tickets", &format!("{}\n", "a5".repeat(32)));
    let start = |frontend| {
        let app = rig.app("web", frontend, backend.address(), "ticket_keys = \"DIR/tickets\"");
        ringway(engine).config(&app).start()
    };
    let [first, _second] = frontends.map(start);
    let client = rig.client(BOTH, None);
    assert!(!client.open(frontends[0]).expect("it is let in").is_resumed());
    assert!(client.open(frontends[1]).expect("it is let in").is_resumed());
    // The new key first; the old one still opens.
    rig.write("tickets", &format!("{}\n{}\n", "5a".repeat(32), "a5".repeat(32)));
    assert!(reload(&first).starts_with("version 2 runs"));
    assert!(client.open(frontends[0]).expect("it is let in").is_resumed());
    assert!(
        !client.open(frontends[1]).expect("it is let in").is_resumed(),
        "it does not know the new key yet"
    );
}

fn sessions_are_resumed_after_upgrades_and_not_after_a_restart(engine: Engine) {
    let openssl = match need("openssl") {
        Ok(openssl) => openssl,
        Err(reason) => skip!("{reason}"),
    };
    let rig = Rig::new();
    let backend = Backend::start(Behaviour::Http("good".to_owned()));
    let frontend = free_address();
    let config = rig.app("web", frontend, backend.address(), "");
    let ringway = ringway(engine).config(&config).start();
    // Whether the session of this file, if any, went on; the next one is left in the other.
    let visit = |version: &str, earlier: Option<&str>, next: &str| {
        let mut command = Command::new(&openssl);
        command.args([
            "s_client",
            "-connect",
            &frontend.to_string(),
            "-servername",
            NAME,
            "-ign_eof",
            version,
        ]);
        command.arg("-CAfile").arg(rig.path("ca.pem")).arg("-sess_out").arg(rig.path(next));
        if let Some(earlier) = earlier {
            command.arg("-sess_in").arg(rig.path(earlier));
        }
        // A ticket of TLS 1.3 comes after the handshake, and before the answer.
        let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
        let told = told_by(&mut command, request.as_bytes());
        assert!(told.contains("good"), "{told}");
        let [is_new, is_reused] = ["New, TLSv", "Reused, TLSv"].map(|words| told.contains(words));
        assert_ne!(is_new, is_reused, "{told}");
        // In TLS 1.2 the ticket of a session that goes on is good for the next time, too.
        assert!(is_reused || rig.path(next).is_file(), "{told}");
        is_reused
    };
    const VERSIONS: [&str; 2] = ["-tls1_3", "-tls1_2"];
    for version in VERSIONS {
        assert!(!visit(version, None, &format!("first{version}")));
        assert!(visit(version, Some(&format!("first{version}")), "other"));
    }
    upgrade(&ringway, &[]);
    for version in VERSIONS {
        assert!(visit(version, Some(&format!("first{version}")), "other"), "{version}");
        assert!(!visit(version, None, &format!("second{version}")));
    }
    upgrade(&ringway, &[]);
    for version in VERSIONS {
        for earlier in ["first", "second"] {
            let earlier = format!("{earlier}{version}");
            assert!(visit(version, Some(&earlier), "other"), "{earlier}");
        }
    }
    drop(ringway);
    let _ringway = super::support::ringway(engine).config(&config).start();
    for version in VERSIONS {
        assert!(
            !visit(version, Some(&format!("first{version}")), "other"),
            "{version}: its keys were another's"
        );
    }
}

fn sessions_are_resumed_whoever_of_the_two_dies_in_an_upgrade(engine: Engine) {
    for fault in ["new.prepared=kill", "old.sent-ahead=kill", "old.prepared=kill"] {
        let rig = Rig::new();
        let backend = Backend::start(Behaviour::Echo);
        let frontend = free_address();
        let config = rig.app("web", frontend, backend.address(), "");
        let ringway = ringway(engine).config(&config).environment("RINGWAY_UPGRADE_FAULT", fault).start();
        let client = rig.client(BOTH, None);
        // A ticket is used once, also by a visit that a dying process cuts: each of these brings two.
        for is_resumed in [false, true, true, true] {
            assert_eq!(client.open(frontend).expect("it is let in").is_resumed(), is_resumed);
        }
        let before = pid(&ringway);
        // What it says is cut off if the old process dies.
        drop(command(&ringway, &["upgrade"]));
        if fault.starts_with("old.") {
            wait_gone(before);
        }
        let tls = eventually(&format!("one serves after {fault}"), PATIENCE, || client.open(frontend).ok());
        assert!(tls.is_resumed(), "{fault}");
        assert_eq!(pid(&ringway) == before, fault.starts_with("new."), "{fault}");
    }
}

fn no_resumption_gets_around_an_authority_that_an_upgrade_changed(engine: Engine) {
    for version in BOTH {
        let rig = Rig::new();
        let backend = Backend::start(Behaviour::Echo);
        let (required, optional) = (free_address(), free_address());
        let policy = "client_ca = \"DIR/clients.pem\"\n";
        let apps = [
            rig.app("required", required, backend.address(), policy),
            rig.app("optional", optional, backend.address(), &format!("{policy}client_auth = \"optional\"")),
        ];
        let ringway = ringway(engine).config(&apps.concat()).start();
        let alice = rig.clients.issue_client("alice");
        let (known, anybody) = (rig.client(&[version], Some(&alice)), rig.client(&[version], None));
        for is_resumed in [false, true] {
            assert_eq!(known.open(required).expect("it is let in").is_resumed(), is_resumed);
            assert_eq!(anybody.open(optional).expect("it is let in").is_resumed(), is_resumed);
        }
        upgrade(&ringway, &[]);
        assert!(known.open(required).expect("it is let in").is_resumed(), "nothing has changed");
        assert!(anybody.open(optional).expect("it is let in").is_resumed(), "nothing has changed");
        // The new process reads it; the old one was not told to.
        rig.write("clients.pem", Authority::new("clients of later").pem());
        assert!(known.open(required).expect("it is let in").is_resumed(), "it has not been read");
        upgrade(&ringway, &[]);
        let refused = known.refused(required);
        assert!(refused.contains("UnknownCA"), "{refused}");
        assert!(!anybody.open(optional).expect("it is let in").is_resumed(), "{version:?}");
        assert!(anybody.open(optional).expect("it is let in").is_resumed(), "{version:?}");
    }
}

/// What a client says to the end that was given this to send.
fn told_by(command: &mut Command, input: &[u8]) -> String {
    let mut client = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it can be started");
    // Gone already, if it was refused.
    let _ = client.stdin.take().expect("it has one").write_all(input);
    let output = client.wait_with_output().expect("it ends");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a client to its end, whatever comes of it.
fn said(command: &mut Command) -> String {
    let output = command.stdin(std::process::Stdio::null()).output().expect("it can be started");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn clients_show_certificates_or_are_refused_with_a_fitting_alert(engine: Engine) {
    let (openssl, curl) = match (need("openssl"), need("curl")) {
        (Ok(openssl), Ok(curl)) => (openssl, curl),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    let rig = Rig::new();
    let backend = Backend::start(Behaviour::Http("good".to_owned()));
    let (required, optional) = (free_address(), free_address());
    let (alice, mallory) = (rig.clients.issue_client("alice"), rig.clients.issue_client("mallory"));
    let days = [(2020, 1, 1), (2021, 1, 1)];
    let old =
        rig.clients.issue_as(&Request { common_name: "old", is_client: true, days, ..Request::default() });
    let stranger = Authority::new("strangers").issue_client("alice");
    for (name, issued) in [("alice", &alice), ("mallory", &mallory), ("stranger", &stranger), ("old", &old)] {
        rig.put(name, issued);
    }
    rig.write("crl.pem", &rig.clients.revoke(&[&mallory]));
    let policy = "client_ca = \"DIR/clients.pem\"\nclient_crl = \"DIR/crl.pem\"\n";
    let ringway = ringway(engine)
        .config(&format!(
            "{}{}",
            rig.app("required", required, backend.address(), policy),
            rig.app("optional", optional, backend.address(), &format!("{policy}client_auth = \"optional\"")),
        ))
        .start();
    let ca = rig.path("ca.pem").display().to_string();
    let curl = |frontend: SocketAddr, who: &str, version: &[&str]| {
        let port = frontend.port();
        let (resolve, url) = (format!("{NAME}:{port}:127.0.0.1"), format!("https://{NAME}:{port}/"));
        let mut command = Command::new(&curl);
        command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "30", "--cacert", &ca]);
        command.args(version).args(["--resolve", &resolve, &url]);
        if !who.is_empty() {
            command.arg("--cert").arg(rig.path(&format!("{who}.pem")));
        }
        said(&mut command)
    };
    for version in [&["--tlsv1.3"][..], &["--tlsv1.2", "--tls-max", "1.2"]] {
        assert_eq!(curl(required, "alice", version), "good", "{version:?}");
        assert_eq!(curl(optional, "alice", version), "good", "{version:?}");
        assert_eq!(curl(optional, "", version), "good", "{version:?}");
        for (frontend, who) in
            [(required, ""), (required, "mallory"), (required, "stranger"), (optional, "stranger")]
        {
            let told = curl(frontend, who, version);
            assert!(told.contains("alert") && !told.contains("good"), "{who} {version:?}: {told}");
        }
    }
    let openssl = |frontend: SocketAddr, who: &str, version: &str| {
        let mut command = Command::new(&openssl);
        command.args(["s_client", "-connect", &frontend.to_string(), "-servername", NAME, "-CAfile", &ca]);
        command.args([version, "-verify_return_error", "-ign_eof"]);
        if !who.is_empty() {
            let path = rig.path(&format!("{who}.pem"));
            command.arg("-cert").arg(&path).arg("-key").arg(&path);
        }
        // It asks for something, so that it hears of a refusal that comes after its side of the handshake.
        told_by(&mut command, b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
    };
    for version in ["-tls1_3", "-tls1_2"] {
        for (frontend, who) in [(required, "alice"), (optional, "alice"), (optional, "")] {
            let told = openssl(frontend, who, version);
            assert!(told.contains("Verification: OK") && told.contains("good"), "{who} {version}: {told}");
        }
        for (frontend, who, alert) in [
            (required, "mallory", "certificate revoked"),
            (optional, "mallory", "certificate revoked"),
            (required, "stranger", "unknown ca"),
            (required, "old", "certificate expired"),
        ] {
            let told = openssl(frontend, who, version);
            assert!(told.contains(alert) && !told.contains("good"), "{who} {version}: {told}");
        }
    }
    let told = openssl(required, "", "-tls1_2");
    assert!(told.contains("alert handshake failure"), "{told}");
    let told = openssl(required, "", "-tls1_3");
    assert!(told.contains("certificate required"), "{told}");
    assert!(told.contains("Acceptable client certificate CA names\nCN = clients"), "{told}");
    for (word, count) in [("missing", 4.0), ("revoked", 4.0), ("expired", 2.0), ("untrusted", 4.0)] {
        let line = format!("tls_failure=peer_certificate_{word}");
        ringway.process().wait_for_line(&line, PATIENCE, |found| found.contains(&line));
        let labels = format!("app=\"required\",reason=\"peer_certificate_{word}\"");
        eventually(&labels, PATIENCE, || {
            let counted = ringway.metric("ringway_tls_handshake_failures_total", &labels);
            (counted == count).then_some(())
        });
    }
}

fn the_verified_name_of_a_client_is_logged_told_to_backends_and_routed_by(engine: Engine) {
    let rig = Rig::new();
    let echo = Backend::start(Behaviour::Echo);
    let (frontend, behind) = (free_address(), free_address());
    let app = rig.app("web", frontend, behind, "client_ca = \"DIR/clients.pem\"\nclient_auth = \"optional\"");
    // A second app takes the header, so that what is relayed is an echo again.
    let text = format!(
        "{}[[app.route]]\nname = \"robots\"\nclient_names = [\"~robot-[0-9]+\"]\nbackends = [\"{behind}\"]\n\
         [[app]]\nname = \"behind\"\nlisten = [\"{behind}\"]\nbackends = [\"{}\"]\n\
         proxy_protocol = {{ accept = true, trusted = [\"127.0.0.0/8\"] }}\n{NO_CHECKS}",
        app.replace("name = \"web\"\n", "name = \"web\"\nproxy_protocol = { send = \"v2\" }\n"),
        echo.address(),
    );
    let ringway = ringway(engine).config(&text).start();
    for (who, route) in [("alice", None), ("robot-7", Some("robots"))] {
        let issued = rig.clients.issue_client(who);
        let client = rig.client(BOTH, Some(&issued));
        for is_resumed in [false, true] {
            let tls = client.open(frontend).expect("it is let in");
            assert_eq!(tls.is_resumed(), is_resumed);
            let address = tls.0.sock.local_addr().expect("an address");
            drop(tls);
            let line = access_line(&ringway, address);
            assert_eq!(field(&line, "tls_client"), who, "{line}");
            assert_eq!(line.contains("route=robots"), route.is_some(), "{line}");
        }
    }
    let anonymous = rig.client(BOTH, None).open(frontend).expect("it is let in");
    let address = anonymous.0.sock.local_addr().expect("an address");
    drop(anonymous);
    let line = access_line(&ringway, address);
    assert!(!line.contains("tls_client") && !line.contains("route="), "{line}");
    let output = command(&ringway, &["explain", "--app", "web", "--sni", NAME, "--client-name", "robot-8"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("by the route robots"), "{told}");
}

fn postgresql_is_reached_with_its_certificate_verified(engine: Engine) {
    let psql = match need("psql") {
        Ok(psql) => psql,
        Err(reason) => skip!("{reason}"),
    };
    let rig = Rig::new();
    let issued = rig.authority.issue(&["db.example.com"]);
    let postgres = match Postgres::start_with_tls(&issued.chain, &issued.key) {
        Ok(postgres) => postgres,
        Err(reason) => skip!("{reason}"),
    };
    let (plain, routed) = (free_address(), free_address());
    let _ringway = ringway(engine)
        .config(&format!(
            "[[app]]\nname = \"plain\"\nlisten = [\"{plain}\"]\nbackends = [\"{0}\"]\n\
             [[app]]\nname = \"routed\"\nlisten = [\"{routed}\"]\n\
             [[app.route]]\nprotocols = [\"postgresql\"]\nbackends = [\"{0}\"]\n",
            postgres.address()
        ))
        .start();
    for frontend in [plain, routed] {
        let ask = |host: &str| {
            let target = format!(
                "host={host} hostaddr=127.0.0.1 port={} user=postgres dbname=postgres sslmode=verify-full sslrootcert={}",
                frontend.port(),
                rig.path("ca.pem").display()
            );
            let query = "select version from pg_stat_ssl where pid = pg_backend_pid()";
            said(Command::new(&psql).args([&target, "-Atc", query]))
        };
        assert_eq!(ask("db.example.com").trim(), "TLSv1.3");
        assert!(ask("other.example.com").contains("does not match"), "{}", ask("other.example.com"));
    }
}

fn redis_is_reached_over_tls_that_ends_here(engine: Engine) {
    let (redis, client) = match (Redis::start(), need("redis-cli")) {
        (Ok(redis), Ok(client)) => (redis, client),
        (Err(reason), _) | (_, Err(reason)) => skip!("{reason}"),
    };
    if !said(Command::new(&client).arg("--help")).contains("--tls") {
        skip!("redis-cli is without TLS");
    }
    let rig = Rig::new();
    rig.put("alice", &rig.clients.issue_client("alice"));
    let frontend = free_address();
    let _ringway = ringway(engine)
        .config(&rig.app("redis", frontend, redis.address(), "client_ca = \"DIR/clients.pem\""))
        .start();
    let ask = |with: &[&str]| {
        let mut command = Command::new(&client);
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &frontend.port().to_string(),
            "--tls",
            "--sni",
            NAME,
            "--cacert",
        ]);
        command.arg(rig.path("ca.pem")).args(with);
        command
    };
    let alice = rig.path("alice.pem").display().to_string();
    let with = ["--cert", &alice, "--key", &alice];
    let value = "x".repeat(100_000);
    assert_eq!(run(ask(&with).args(["set", "key", &value])).trim(), "OK");
    assert_eq!(run(ask(&with).args(["get", "key"])).trim(), value);
    let told = said(ask(&[]).args(["get", "key"]));
    assert!(!told.contains("xxx"), "{told}");
}
