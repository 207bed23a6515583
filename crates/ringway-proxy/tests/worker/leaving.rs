//! Connections of which another process has the sockets too: copies are made of real ones, so this is on the kernel's engines.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ringway::{Engine, EngineConfig, EngineKind, Worker};
use ringway_proxy::admission::Admission;
use ringway_proxy::model;
use ringway_proxy::snapshot::Lineage;
use ringway_proxy::worker::{CopiedAhead, CopyAhead, LetGo, Loader, ProxyHandler, WorkerMail, WorkerSetup};
use testkit::PATIENCE;

use crate::world::{Shelf, app};

/// A worker that stands still with three relays, of whose sockets there are copies.
struct Rested {
    worker: Worker<ProxyHandler>,
    clients: Vec<TcpStream>,
    served: Vec<TcpStream>,
    _copies: Vec<CopiedAhead>,
}

fn turn_until<T>(worker: &mut Worker<ProxyHandler>, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        worker.turn(Some(Duration::from_millis(10))).expect("the kernel's interface works");
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
    }
}

impl Rested {
    fn new(kind: EngineKind) -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").expect("a free port");
        backend.set_nonblocking(true).expect("a socket");
        let mut model = app(1);
        model.frontends[0].address =
            "127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into();
        let address = backend.local_addr().expect("it is bound");
        model.backends[0].target = model::Target::Address(address.into());
        let snapshot = Lineage::of_apps(vec![model]).current();
        let setup = WorkerSetup {
            worker: 0,
            workers: 1,
            snapshot: Arc::clone(&snapshot),
            admission: Arc::new(Admission::new(100)),
            metrics: Arc::default(),
            recorder: Box::new(Shelf::default()),
            loader: Loader::default(),
            congestion: None,
            seed: 1,
        };
        let engine = Engine::new(&EngineConfig { kind, ..EngineConfig::default() }).expect("an engine");
        let mut worker = Worker::with(engine, |mailer| ProxyHandler::new(setup, mailer));
        let frontend = snapshot.app(0).expect("there is one").frontends()[0].clone();
        let address = turn_until(&mut worker, "a frontend", || frontend.listening().address);
        let address = address.inet().expect("it is one");
        let clients: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(address).expect("it listens")).collect();
        let mut served = Vec::new();
        turn_until(&mut worker, "three dials", || {
            served.extend(backend.accept().map(|(stream, _)| stream));
            (served.len() == 3).then_some(())
        });
        // Which is whose: each says so.
        for (index, client) in clients.iter().enumerate() {
            (&*client).write_all(&[index as u8]).expect("it takes a byte");
        }
        let order: Vec<u8> = served.iter().map(|stream| read_byte(&mut worker, stream)).collect();
        let mut served: Vec<(u8, TcpStream)> = order.into_iter().zip(served).collect();
        served.sort_by_key(|(index, _)| *index);
        let mut rested = Self {
            worker,
            clients,
            served: served.into_iter().map(|(_, stream)| stream).collect(),
            _copies: Vec::new(),
        };
        rested.rest();
        rested
    }

    fn rest(&mut self) {
        let (reply, pieces) = mpsc::channel();
        let request = CopyAhead { worker: 0, from: 0, version: 2, reply };
        self.worker.mailer().send(WorkerMail::CopyAhead(request));
        let piece = turn_until(&mut self.worker, "copies", || pieces.try_recv().ok());
        assert_eq!((piece.count, piece.next), (3, None));
        self._copies.push(piece);
        let (reply, answers) = mpsc::channel();
        self.worker.mailer().send(WorkerMail::Rest(reply));
        let rested = turn_until(&mut self.worker, "rest", || answers.try_recv().ok());
        assert_eq!((rested.taken.held.relaying, rested.taken.sessions.len()), (3, 0));
    }

    /// That the other process has what it needs: nothing was said on any socket.
    fn assert_untouched(&self, index: usize) {
        for mut stream in [&self.clients[index], &self.served[index]] {
            stream.set_nonblocking(true).expect("a socket");
            let error = stream.read(&mut [0]).expect_err("nobody sends or ends");
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        }
    }
}

fn read_byte(worker: &mut Worker<ProxyHandler>, mut stream: &TcpStream) -> u8 {
    stream.set_nonblocking(true).expect("a socket");
    let mut byte = [0];
    turn_until(worker, "a byte", || stream.read(&mut byte).ok().filter(|count| *count == 1));
    byte[0]
}

fn engines() -> impl Iterator<Item = EngineKind> {
    [EngineKind::Epoll, EngineKind::IoUring].into_iter().filter(|kind| EngineKind::probe(*kind).is_ok())
}

#[test]
fn worker_that_is_told_to_leave_lets_go_of_all_that_stands_still_whether_or_not_it_was_asked_before() {
    for kind in engines() {
        let mut rested = Rested::new(kind);
        rested.worker.mailer().send(WorkerMail::Leave);
        let deadline = Instant::now() + PATIENCE;
        while !rested.worker.end() {
            rested.worker.turn(Some(Duration::from_millis(10))).expect("the kernel's interface works");
            assert!(Instant::now() < deadline, "{} are left", rested.worker.handler().connection_count());
        }
        (0..3).for_each(|index| rested.assert_untouched(index));
    }
}

#[test]
fn connection_that_is_kept_goes_on_when_all_others_are_let_go_of_and_the_worker_leaves() {
    for kind in engines() {
        let mut rested = Rested::new(kind);
        let (reply, left) = mpsc::channel();
        // Numbers begin with 0, in the order in which they came.
        rested.worker.mailer().send(WorkerMail::LetGo(LetGo {
            keep: Arc::new([1].into()),
            worker: 5,
            reply,
        }));
        let left = turn_until(&mut rested.worker, "an answer", || left.try_recv().ok());
        assert_eq!((left, rested.worker.handler().connection_count()), ((5, 0), 1));
        rested.worker.mailer().send(WorkerMail::Leave);
        for (index, byte) in [(0, None), (1, Some(7)), (2, None)] {
            let Some(byte) = byte else {
                rested.assert_untouched(index);
                continue;
            };
            (&rested.clients[index]).write_all(&[byte]).expect("it takes a byte");
            assert_eq!(read_byte(&mut rested.worker, &rested.served[index]), byte);
        }
        assert!(!rested.worker.end(), "it has one to serve");
        let Rested { clients, served, mut worker, .. } = rested;
        drop((clients, served));
        let deadline = Instant::now() + PATIENCE;
        while !worker.end() {
            worker.turn(Some(Duration::from_millis(10))).expect("the kernel's interface works");
            assert!(Instant::now() < deadline, "{} are left", worker.handler().connection_count());
        }
    }
}
