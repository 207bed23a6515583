//! A handful of engines of one kind, turned together, and the things that tests do with them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ringway_engine::driver::simulated::{Random, SimulatedFaults, SimulatedNetwork};
use ringway_engine::{
    ConnectOptions, ConnectionId, Engine, EngineConfig, EngineKind, ListenOptions, ListenerId, Operations,
    RelayOptions, SocketAddress, Token,
};

use crate::log::{Log, Seen};

/// How long a test waits for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// Names an engine of a rig.
pub(crate) type Node = usize;

/// Engines, and one log for each.
pub(crate) struct Rig {
    pub kind: Kind,
    pub random: Random,
    nodes: Vec<(Engine, Log)>,
    /// Where [`Rig::pair`] dials, by node.
    pair_listeners: BTreeMap<Node, SocketAddress>,
}

/// What the engines are.
#[derive(Clone)]
pub(crate) enum Kind {
    Simulated(SimulatedNetwork),
    Real(EngineKind),
}

/// Two connections that a proxy joined: `client` and `server` are the outer ends, on node `ends`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    pub ends: Node,
    pub proxy: Node,
    pub client: ConnectionId,
    pub a: ConnectionId,
    pub b: ConnectionId,
    pub server: ConnectionId,
}

impl Joined {
    /// The outer end that sends in direction 0 (client to server) or 1.
    pub(crate) fn from(&self, direction: usize) -> ConnectionId {
        [self.client, self.server][direction]
    }

    /// The outer end that receives.
    pub(crate) fn to(&self, direction: usize) -> ConnectionId {
        [self.server, self.client][direction]
    }
}

impl Rig {
    /// Simulated engines in a ragged network: short reads and writes, any order, but nothing breaks.
    pub(crate) fn simulated(seed: u64) -> Self {
        let network = SimulatedNetwork::new(seed, SimulatedFaults::ragged());
        Self {
            kind: Kind::Simulated(network),
            random: Random::new(!seed),
            nodes: Vec::new(),
            pair_listeners: BTreeMap::new(),
        }
    }

    /// Engines on the kernel, if it allows them.
    pub(crate) fn real(kind: EngineKind) -> Option<Self> {
        if let Err(error) = Engine::new(&EngineConfig { kind, ..EngineConfig::default() }) {
            println!("skipped: {kind:?} is not available here: {error}");
            return None;
        }
        Some(Self {
            kind: Kind::Real(kind),
            random: Random::new(1),
            nodes: Vec::new(),
            pair_listeners: BTreeMap::new(),
        })
    }

    pub(crate) fn node(&mut self) -> Node {
        self.node_with(EngineConfig::default())
    }

    pub(crate) fn node_with(&mut self, config: EngineConfig) -> Node {
        let engine = match &self.kind {
            Kind::Simulated(network) => Engine::simulated(network, &config),
            Kind::Real(kind) => {
                Engine::new(&EngineConfig { kind: *kind, ..config }).expect("it was there a moment ago")
            }
        };
        self.nodes.push((engine, Log::default()));
        self.nodes.len() - 1
    }

    /// An engine of the other real kind, if there is one.
    pub(crate) fn other_node(&mut self) -> Option<Node> {
        let kind = match self.kind {
            Kind::Simulated(_) => return None,
            Kind::Real(EngineKind::Epoll) => EngineKind::IoUring,
            Kind::Real(EngineKind::IoUring) => EngineKind::Epoll,
        };
        let engine = Engine::new(&EngineConfig { kind, ..EngineConfig::default() }).ok()?;
        self.nodes.push((engine, Log::default()));
        Some(self.nodes.len() - 1)
    }

    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self.kind, Kind::Simulated(_))
    }

    pub(crate) fn ops(&mut self, node: Node) -> Operations<'_> {
        self.nodes[node].0.operations()
    }

    pub(crate) fn engine(&mut self, node: Node) -> &mut Engine {
        &mut self.nodes[node].0
    }

    pub(crate) fn log(&self, node: Node) -> &Log {
        &self.nodes[node].1
    }

    pub(crate) fn log_mut(&mut self, node: Node) -> &mut Log {
        &mut self.nodes[node].1
    }

    /// Ends the last engine that was made.
    pub(crate) fn drop_last_node(&mut self) {
        self.nodes.pop();
    }

    /// Turns every engine once, without waiting.
    pub(crate) fn turn(&mut self) {
        for (engine, log) in &mut self.nodes {
            engine.turn(log, Some(Duration::ZERO)).expect("a turn");
        }
    }

    /// Turns until `done`. Panics when that does not come about.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        let mut quiet_turns = 0;
        loop {
            let before = self.activity();
            self.turn();
            if done(self) {
                return;
            }
            quiet_turns = if self.activity() == before { quiet_turns + 1 } else { 0 };
            if start.elapsed() > DEADLINE {
                self.explain();
                panic!("waited in vain: {what}");
            }
            match &self.kind {
                Kind::Simulated(network) => {
                    if !network.has_work() && !network.advance() {
                        self.explain();
                        panic!("nothing will ever happen again, waiting for: {what}");
                    }
                }
                // Another node may be busy without saying so, as a relay is; when all are quiet, give way.
                Kind::Real(_) if quiet_turns > 20 => {
                    if let Some((engine, log)) = self.nodes.first_mut() {
                        engine.turn(log, Some(Duration::from_millis(1))).expect("a turn");
                    }
                }
                Kind::Real(_) => {}
            }
        }
    }

    /// Events that all nodes have seen.
    fn activity(&self) -> u64 {
        self.nodes.iter().map(|(_, log)| log.event_count).sum()
    }

    fn explain(&self) {
        for (index, (_, log)) in self.nodes.iter().enumerate() {
            let tail = log.seen.len().saturating_sub(30);
            println!("node {index} said: {:#?}", &log.seen[tail..]);
        }
    }

    /// Turns on for a while, to see that something does not happen: what is due within 50 ms.
    pub(crate) fn settle(&mut self) {
        match self.kind.clone() {
            Kind::Simulated(network) => {
                let end = network.now() + Duration::from_millis(200);
                while network.now() < end || network.has_work() {
                    self.turn();
                    if !network.has_work() {
                        network.advance_at_most(end.since(network.now()));
                    }
                }
            }
            Kind::Real(_) => {
                let node = self.nodes.len() - 1;
                let at = self.ops(node).now() + Duration::from_millis(50);
                let timer = self.ops(node).set_timer(at, Token(u32::MAX));
                self.until("the timer of settle", |rig| {
                    rig.log(node).has(|seen| matches!(seen, Seen::Timer { timer: t, token: Token(u32::MAX) } if *t == timer))
                });
                self.nodes[node]
                    .1
                    .seen
                    .retain(|seen| !matches!(seen, Seen::Timer { token: Token(u32::MAX), .. }));
            }
        }
    }

    /// Listens on a fresh port of the loopback and accepts.
    pub(crate) fn listen(&mut self, node: Node, token: Token) -> (ListenerId, SocketAddress) {
        let mut ops = self.ops(node);
        let listener = ops.bind(&loopback(0), &ListenOptions::default()).expect("a port");
        let address = listener.address().clone();
        (ops.start_accept(listener, token).expect("to accept"), address)
    }

    pub(crate) fn dial(&mut self, node: Node, address: &SocketAddress, token: Token) -> ConnectionId {
        self.ops(node).connect(address, &ConnectOptions::default(), token)
    }

    #[track_caller]
    pub(crate) fn wait_connected(&mut self, node: Node, connection: ConnectionId) {
        self.until("a dial to succeed", |rig| {
            rig.log(node)
                .has(|seen| matches!(seen, Seen::Connected { connection: c, .. } if *c == connection))
        });
    }

    #[track_caller]
    pub(crate) fn wait_bytes(&mut self, node: Node, connection: ConnectionId, len: usize) {
        self.until("bytes", |rig| rig.log(node).bytes(connection).len() >= len);
    }

    #[track_caller]
    pub(crate) fn wait_dead(&mut self, node: Node, connection: ConnectionId) {
        self.until("a connection's last event", |rig| rig.log(node).is_dead(connection));
    }

    /// A connection between two nodes: the dialled end on `from`, the accepted one on `to`.
    #[track_caller]
    pub(crate) fn pair(&mut self, from: Node, to: Node) -> (ConnectionId, ConnectionId) {
        let before = self.log(to).accepted().len();
        let address = match self.pair_listeners.get(&to) {
            Some(address) => address.clone(),
            None => {
                let (_, address) = self.listen(to, Token(900));
                self.pair_listeners.insert(to, address.clone());
                address
            }
        };
        let dialled = self.dial(from, &address, Token(901));
        self.wait_connected(from, dialled);
        self.until("a connection to be accepted", |rig| rig.log(to).accepted().len() > before);
        let accepted = self.log(to).accepted()[before];
        (dialled, accepted)
    }

    /// A client and a server on one node, joined by a relay on another. Both ends receive.
    #[track_caller]
    pub(crate) fn joined(&mut self, options: RelayOptions) -> Joined {
        let joined = self.unjoined();
        self.ops(joined.proxy).start_relay(joined.a, joined.b, options);
        joined
    }

    /// The same, before the relay starts.
    #[track_caller]
    pub(crate) fn unjoined(&mut self) -> Joined {
        let (ends, proxy) = (self.node(), self.node());
        let (client, a) = self.pair(ends, proxy);
        let (b, server) = self.pair(proxy, ends);
        let mut ops = self.ops(proxy);
        ops.set_token(a, Token(10));
        ops.set_token(b, Token(11));
        let mut ops = self.ops(ends);
        ops.start_receive(client);
        ops.start_receive(server);
        Joined { ends, proxy, client, a, b, server }
    }

    /// More bytes than two sockets hold between them.
    pub(crate) fn bulk(&mut self) -> Vec<u8> {
        self.payload(if self.is_simulated() { 600_000 } else { 12 << 20 })
    }

    /// `len` bytes that tell where they belong.
    pub(crate) fn payload(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.random.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// The loopback, with this port.
pub(crate) fn loopback(port: u16) -> SocketAddress {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port).into()
}

/// Compares long byte strings without printing them.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], wanted: &[u8]) {
    assert_eq!(got.len(), wanted.len(), "length");
    if got != wanted {
        let at = got.iter().zip(wanted).position(|(got, wanted)| got != wanted).unwrap_or(got.len());
        panic!("bytes differ from {at} on, of {}", wanted.len());
    }
}

/// That `got` is how `wanted` begins.
#[track_caller]
pub(crate) fn assert_prefix(got: &[u8], wanted: &[u8]) {
    assert!(got.len() <= wanted.len(), "{} bytes came of {}", got.len(), wanted.len());
    assert_same(got, &wanted[..got.len()]);
}
