//! Workers, a prober, clients and backends in one simulated network, turned in step.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringway::simulated::{SimulatedFaults, SimulatedNetwork};
use ringway::{
    CloseReason, ConnectOptions, ConnectionId, Engine, EngineConfig, EventHandler, ListenOptions, ListenerId,
    Operations, SocketAddress, Time, Token, Worker,
};
use ringway_proxy::admission::Admission;
use ringway_proxy::control::access_log::AccessRecord;
use ringway_proxy::endpoint::AppState;
use ringway_proxy::model;
use ringway_proxy::prober::{ProbeHandler, ProbeMail, ProbeSetup};
use ringway_proxy::snapshot::{Adoption, Lineage, Origin};
use ringway_proxy::worker::{Loader, ProxyHandler, Recorder, WorkerMail, WorkerSetup};

/// More turns than any of these tests takes.
const TURNS_MAX: usize = 200_000;

/// Everything that takes part.
pub(crate) struct World {
    pub(crate) network: SimulatedNetwork,
    pub(crate) lineage: Lineage,
    /// The first app, as it was at the start.
    pub(crate) app: Arc<AppState>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) workers: Vec<Worker<ProxyHandler>>,
    pub(crate) prober: Worker<ProbeHandler>,
    peers: Worker<Peers>,
    records: Arc<Mutex<Vec<AccessRecord>>>,
}

/// Where backend `index` is.
pub(crate) fn backend(index: u8) -> SocketAddress {
    SocketAddr::from(([10, 0, 0, index], 80)).into()
}

/// An app with so many backends, without checks.
pub(crate) fn app(backends: u8) -> model::App {
    model::App {
        frontends: vec![model::Frontend {
            name: "front".into(),
            address: SocketAddr::from(([10, 1, 0, 1], 0)).into(),
            dual_stack: false,
            backlog: 64,
            freebind: false,
            mode: None,
        }],
        balance: model::Balance::RoundRobin,
        backends: (0..backends)
            .map(|index| model::Backend {
                name: format!("backend-{index}"),
                target: model::Target::Address(backend(index)),
                weight: 1,
                backup: false,
                max_connections: None,
            })
            .collect(),
        timeouts: model::Timeouts {
            idle: Some(Duration::from_secs(60)),
            half_close: Some(Duration::from_secs(10)),
            ..model::Timeouts::default()
        },
        health: model::Health { check: model::Check::None, ..model::Health::default() },
        keep_alive: None,
        ..model::App::new("app")
    }
}

impl World {
    /// One worker and no limit.
    pub(crate) fn new(app: &model::App) -> Self {
        Self::with(app, 1, 1_000)
    }

    pub(crate) fn with(app: &model::App, workers: u32, connections_max: u32) -> Self {
        let network = SimulatedNetwork::new(1, SimulatedFaults::none());
        let lineage = Lineage::of_apps(vec![app.clone()]);
        let snapshot = lineage.current();
        let app = Arc::clone(snapshot.app(0).expect("there is one"));
        let admission = Arc::new(Admission::new(connections_max));
        let records = Arc::new(Mutex::new(Vec::new()));
        let engine = || Engine::simulated(&network, &EngineConfig::default());
        let setup = |worker| WorkerSetup {
            worker,
            workers,
            snapshot: Arc::clone(&snapshot),
            admission: Arc::clone(&admission),
            metrics: Arc::default(),
            recorder: Box::new(Shelf(Arc::clone(&records))),
            loader: Loader::default(),
            congestion: None,
            seed: worker.into(),
        };
        let prober = ProbeHandler::new(ProbeSetup {
            on_down: Box::new(|_, _| {}),
            snapshot: Arc::clone(&snapshot),
            congestion: None,
            seed: 1,
        });
        let mut world = Self {
            workers: (0..workers)
                .map(|worker| Worker::with(engine(), |mailer| ProxyHandler::new(setup(worker), mailer)))
                .collect(),
            prober: Worker::new(engine(), prober),
            peers: Worker::new(engine(), Peers::default()),
            network,
            lineage,
            app,
            admission,
            records,
        };
        world.settle();
        world
    }

    /// Turns everybody until nothing more is due at this moment.
    pub(crate) fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            for worker in &mut self.workers {
                worker.turn(Some(Duration::ZERO)).expect("a simulated turn");
            }
            self.prober.turn(Some(Duration::ZERO)).expect("a simulated turn");
            self.peers.turn(Some(Duration::ZERO)).expect("a simulated turn");
            if !self.network.has_work() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.network.now() + time;
        self.settle();
        while self.network.now() < end {
            self.network.advance_at_most(end.since(self.network.now()));
            self.settle();
        }
    }

    /// Lets time pass until `is_so`, at most an hour of it.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&mut Self) -> bool) {
        let end = self.network.now() + Duration::from_secs(3_600);
        self.settle();
        while !is_so(self) {
            assert!(self.network.now() < end && self.network.advance(), "not within an hour: {what}");
            self.settle();
        }
    }

    /// Moves on by a second: for what travels to arrive.
    pub(crate) fn arrive(&mut self) {
        self.pass(Duration::from_secs(1));
    }

    pub(crate) fn now(&self) -> Time {
        self.network.now()
    }

    /// Starts a backend that only listens.
    pub(crate) fn start_backend(&mut self, index: u8) {
        let (peers, mut ops) = self.peers.parts();
        let listener = ops.bind(&backend(index), &ListenOptions::default()).expect("a free address");
        let id = ops.start_accept(listener, Token(index.into())).expect("an own listener");
        peers.listeners.insert(index, id);
    }

    /// A client that dials the frontend.
    pub(crate) fn client(&mut self) -> ConnectionId {
        let address = self.app.frontends()[0].listening().address.expect("it listens");
        self.client_of(&address)
    }

    /// A client that dials this address.
    pub(crate) fn client_of(&mut self, address: &SocketAddress) -> ConnectionId {
        let (peers, mut ops) = self.peers.parts();
        let id = ops.connect(address, &ConnectOptions::default(), Token(0));
        peers.known.insert(id, Known::default());
        id
    }

    /// What a client or backend connection saw.
    pub(crate) fn seen(&self, connection: ConnectionId) -> &Known {
        &self.peers.handler().known[&connection]
    }

    /// Connections that backend `index` accepted.
    pub(crate) fn accepted(&self, index: u8) -> Vec<ConnectionId> {
        self.peers.handler().accepted.iter().filter(|(at, _)| *at == index).map(|(_, id)| *id).collect()
    }

    pub(crate) fn send(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.peers.parts().1.send(connection, bytes).expect("it is open");
    }

    /// It reads nothing from now on.
    pub(crate) fn hold(&mut self, connection: ConnectionId) {
        self.peers.parts().1.pause_receive(connection);
    }

    /// It reads again.
    pub(crate) fn read_on(&mut self, connection: ConnectionId) {
        self.peers.parts().1.start_receive(connection);
    }

    pub(crate) fn shut(&mut self, connection: ConnectionId) {
        self.peers.parts().1.shut(connection);
    }

    pub(crate) fn close(&mut self, connection: ConnectionId) {
        self.peers.parts().1.close(connection);
    }

    pub(crate) fn reset(&mut self, connection: ConnectionId) {
        self.peers.parts().1.reset(connection);
    }

    pub(crate) fn mail(&mut self, mail: &WorkerMail) {
        for worker in &self.workers {
            worker.mailer().send(mail.clone());
        }
        self.settle();
    }

    /// Has everybody go on by these apps.
    pub(crate) fn reload(&mut self, apps: Vec<model::App>) {
        let config = model::Config { apps, ..self.lineage.current().config() };
        let adopted = Arc::new(Mutex::new(0));
        let count = Arc::clone(&adopted);
        let adoption = Adoption::new(self.lineage.advance(config, Origin::Admin), move || {
            *count.lock().expect("no panic before") += 1;
        });
        self.prober.mailer().send(ProbeMail::Adopt(adoption.clone()));
        self.mail(&WorkerMail::Adopt(adoption));
        assert_eq!(*adopted.lock().expect("no panic before"), self.workers.len() + 1);
    }

    /// Records of connections that ended, in their order.
    pub(crate) fn records(&self) -> Vec<AccessRecord> {
        self.records.lock().expect("no panic before").clone()
    }

    /// `initiator phase reason` of the only connection that ended.
    pub(crate) fn only_end(&self) -> String {
        let records = self.records();
        assert_eq!(records.len(), 1, "{records:?}");
        let AccessRecord { initiator, phase, reason, .. } = records[0];
        format!("{initiator} {phase} {reason}")
    }

    /// All counts are back at zero, as after every test in which everybody left.
    pub(crate) fn assert_nothing_is_open(&self) {
        assert_eq!(self.admission.open(), 0);
        assert_eq!(self.app.active().get(), 0);
        assert_eq!(self.app.counts().open().get(), 0);
        assert_eq!(self.app.queue().waiting(), 0);
        for endpoint in self.app.endpoints().endpoints() {
            assert_eq!(endpoint.active().get(), 0, "{}", endpoint.address());
        }
        for worker in &self.workers {
            assert_eq!(worker.handler().connection_count(), 0);
        }
    }
}

/// Keeps records.
#[derive(Default)]
pub(crate) struct Shelf(Arc<Mutex<Vec<AccessRecord>>>);

impl Recorder for Shelf {
    fn is_on(&self) -> bool {
        true
    }

    fn record(&mut self, record: AccessRecord) {
        self.0.lock().expect("no panic before").push(record);
    }
}

/// What a connection of a client or backend saw.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) received: Vec<u8>,
    /// The other end finished sending.
    pub(crate) ended: bool,
    /// It is gone, and how.
    pub(crate) closed: Option<&'static str>,
}

/// Clients and backends; a test says what they do.
#[derive(Default)]
struct Peers {
    listeners: BTreeMap<u8, ListenerId>,
    accepted: Vec<(u8, ConnectionId)>,
    known: BTreeMap<ConnectionId, Known>,
}

impl EventHandler for Peers {
    type Mail = ();

    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        _: ListenerId,
        token: Token,
        connection: ConnectionId,
        _: SocketAddress,
    ) {
        self.accepted.push((token.0 as u8, connection));
        self.known.insert(connection, Known::default());
        ops.start_receive(connection);
    }

    fn on_connect(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, _: Token) {
        ops.start_receive(connection);
    }

    fn on_read(&mut self, _: &mut Operations<'_>, connection: ConnectionId, _: Token, bytes: &mut [u8]) {
        self.known.entry(connection).or_default().received.extend_from_slice(bytes);
    }

    fn on_end(&mut self, _: &mut Operations<'_>, connection: ConnectionId, _: Token) {
        self.known.entry(connection).or_default().ended = true;
    }

    fn on_connect_failed(
        &mut self,
        _: &mut Operations<'_>,
        connection: ConnectionId,
        _: Token,
        _: std::io::Error,
    ) {
        self.known.entry(connection).or_default().closed = Some("not connected");
    }

    fn on_close(&mut self, _: &mut Operations<'_>, connection: ConnectionId, _: Token, reason: CloseReason) {
        let word = match reason {
            CloseReason::Closed => "closed",
            CloseReason::Reset => "reset",
            CloseReason::Failed(_) => "failed",
        };
        self.known.entry(connection).or_default().closed = Some(word);
    }
}
