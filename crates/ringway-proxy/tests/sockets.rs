//! Listening and dialling on the real kernel: files of Unix sockets, one port for all workers, local addresses.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use ringway::{Engine, EngineConfig, EngineKind, Mailer, SocketAddress, Worker};
use ringway_proxy::admission::Admission;
use ringway_proxy::control::access_log::AccessLog;
use ringway_proxy::endpoint::AppState;
use ringway_proxy::model;
use ringway_proxy::snapshot::Lineage;
use ringway_proxy::worker::{Loader, ProxyHandler, WorkerMail, WorkerSetup, WorkerSummary};
use testkit::backend::{Backend, Behaviour};
use testkit::{PATIENCE, client, eventually};

/// Two workers on threads of their own.
struct Proxy {
    app: Arc<AppState>,
    mailers: Vec<Mailer<WorkerMail>>,
    threads: Vec<JoinHandle<WorkerSummary>>,
}

fn engines() -> impl Iterator<Item = EngineKind> {
    [EngineKind::Epoll, EngineKind::IoUring].into_iter().filter(|kind| kind.probe().is_ok())
}

impl Proxy {
    fn start(kind: EngineKind, app: &model::App) -> Self {
        const WORKERS: u32 = 2;
        let snapshot = Lineage::of_apps(vec![app.clone()]).current();
        let app = Arc::clone(snapshot.app(0).expect("there is one"));
        let admission = Arc::new(Admission::new(1_000));
        let mut proxy = Self { app: Arc::clone(&app), mailers: Vec::new(), threads: Vec::new() };
        for worker in 0..WORKERS {
            let setup = WorkerSetup {
                worker,
                workers: WORKERS,
                snapshot: Arc::clone(&snapshot),
                admission: Arc::clone(&admission),
                metrics: Arc::default(),
                recorder: Box::new(AccessLog::off()),
                loader: Loader::default(),
                congestion: None,
                seed: 1,
            };
            let (sender, receiver) = mpsc::channel();
            proxy.threads.push(thread::spawn(move || {
                let engine = Engine::new(&EngineConfig { kind, ..Default::default() }).expect("an engine");
                let worker = Worker::with(engine, |mailer| ProxyHandler::new(setup, mailer));
                sender.send(worker.mailer()).expect("somebody waits for it");
                worker.run().expect("the engine works").summary()
            }));
            proxy.mailers.push(receiver.recv().expect("the thread has started"));
        }
        proxy
    }

    /// Waits until all workers listen, and says where.
    fn address(&self) -> SocketAddress {
        eventually("all workers listen", PATIENCE, || {
            let listening = self.app.frontends()[0].listening();
            listening.address.filter(|_| listening.workers == self.threads.len())
        })
    }

    fn wait_for_error(&self) {
        eventually("it could not be bound", PATIENCE, || self.app.frontends()[0].listening().error);
    }

    /// Drains, and waits for the end of all workers.
    fn end(self) -> Vec<WorkerSummary> {
        self.mailers.iter().for_each(|mailer| mailer.send(WorkerMail::Drain));
        self.threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    }
}

fn app(frontend: SocketAddress, backend: SocketAddr) -> model::App {
    model::App {
        frontends: vec![model::Frontend {
            name: "front".into(),
            address: frontend,
            dual_stack: false,
            backlog: 64,
            freebind: false,
            mode: None,
        }],
        balance: model::Balance::LeastConnections,
        backends: vec![model::Backend {
            name: "backend".into(),
            target: model::Target::Address(backend.into()),
            weight: 1,
            backup: false,
            max_connections: None,
        }],
        timeouts: model::Timeouts { idle: None, half_close: None, ..model::Timeouts::default() },
        health: model::Health { check: model::Check::None, ..model::Health::default() },
        keep_alive: None,
        ..model::App::new("app")
    }
}

/// A directory for the sockets of one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringway-sockets-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for temporary files");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("front.sock")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn assert_echoes(mut stream: impl Read + Write) {
    stream.write_all(b"hello").expect("it takes bytes");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(&answer, b"hello");
}

fn assert_unix_echoes(path: &Path) {
    let stream = UnixStream::connect(path).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    assert_echoes(stream);
}

#[test]
fn socket_file_of_a_dead_process_is_replaced_and_gone_at_the_end() {
    for kind in engines() {
        let directory = Directory::new("stale");
        let path = directory.socket();
        drop(UnixListener::bind(&path).expect("a free path"));
        assert!(path.exists(), "the file outlives its socket");
        let backend = Backend::start(Behaviour::Echo);
        let proxy = Proxy::start(kind, &app(SocketAddress::unix(&path), backend.address()));
        assert_eq!(proxy.address(), SocketAddress::unix(&path));
        (0..4).for_each(|_| assert_unix_echoes(&path));
        let ended: u64 = proxy.end().iter().map(|summary| summary.ended).sum();
        assert_eq!(ended, 4);
        assert!(!path.exists(), "nobody comes to a socket that nobody serves");
    }
}

#[test]
fn socket_that_another_process_serves_is_left_alone_until_it_is_free() {
    for kind in engines() {
        let directory = Directory::new("busy");
        let path = directory.socket();
        let other = UnixListener::bind(&path).expect("a free path");
        let backend = Backend::start(Behaviour::Echo);
        let proxy = Proxy::start(kind, &app(SocketAddress::unix(&path), backend.address()));
        proxy.wait_for_error();
        UnixStream::connect(&path).expect("the other one listens still");
        drop(other);
        proxy.address();
        assert_unix_echoes(&path);
        proxy.end();
    }
}

#[test]
fn file_that_is_no_socket_is_never_removed() {
    for kind in engines() {
        let directory = Directory::new("file");
        let path = directory.socket();
        std::fs::write(&path, "precious").expect("it can be written");
        let backend = Backend::start(Behaviour::Echo);
        let proxy = Proxy::start(kind, &app(SocketAddress::unix(&path), backend.address()));
        proxy.wait_for_error();
        assert_eq!(std::fs::read(&path).expect("it is there"), b"precious");
        proxy.end();
        assert_eq!(std::fs::read(&path).expect("it is there still"), b"precious");
    }
}

#[test]
fn workers_share_the_port_that_the_first_was_given() {
    for kind in engines() {
        let backend = Backend::start(Behaviour::Echo);
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let proxy = Proxy::start(kind, &app(any.into(), backend.address()));
        let address = proxy.address().inet().expect("an IP address");
        // Enough for the kernel's hash to reach both.
        for _ in 0..40 {
            assert_echoes(client::connect(address).expect("it listens"));
        }
        let served: Vec<u64> = proxy.end().iter().map(|summary| summary.ended).collect();
        assert_eq!(served.iter().sum::<u64>(), 40);
        assert!(served.iter().all(|count| *count > 0), "{served:?}");
    }
}

#[test]
fn local_addresses_to_dial_from_take_turns_and_foreign_ones_are_passed_over() {
    for kind in engines() {
        let backend = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut model = app(any.into(), backend.local_addr().expect("its address"));
        // The last is of a range for documentation: no machine has it, and dialling from it fails at once.
        model.source = ["127.0.0.2", "127.0.0.3", "192.0.2.1"]
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect();
        let proxy = Proxy::start(kind, &model);
        let address = proxy.address().inet().expect("an IP address");
        let mut sources = Vec::new();
        for _ in 0..6 {
            let _client = client::connect(address).expect("it listens");
            let (_, source) = backend.accept().expect("it is dialled");
            sources.push(source.ip().to_string());
        }
        sources.sort();
        sources.dedup();
        assert_eq!(sources, ["127.0.0.2", "127.0.0.3"]);
        proxy.end();
    }
}
