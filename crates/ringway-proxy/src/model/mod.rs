//! The configuration as plain, checked data: what `config` makes of a file and everything else reads.
//!
//! No behaviour but defaults: what is not in a file has the value of [`Server::default`], [`App::new`] and so on.
//! Durations and sizes are final, relative paths made absolute.

mod backend_tls;
mod check;
mod ejection;
mod network;
mod rebalance;
mod route;
mod termination;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringway::{KeepAlive, SocketAddress};

pub use backend_tls::{BackendTls, name_of_backend};
pub use check::{Check, Expected, HttpCheck, Pattern, Preset, SendExpect};
pub use ejection::{EjectedUntil, Ejection};
pub use network::{Network, NetworkError};
pub use rebalance::Rebalance;
pub use route::{Client, NamePattern, PathPattern, Protocols, Route, Rule, RulesOfTls, Unreadable};
pub use termination::Termination;

/// A whole, checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The process.
    pub server: Server,
    /// The admin interface, if there is one.
    pub admin: Option<Admin>,
    /// The apps, in the order of the file; names are unique.
    pub apps: Vec<App>,
    /// The embedded demo backends run beside (only in the embedded demo configuration).
    pub demo: bool,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Number of workers; `None`: one for each processor that the process may use.
    pub workers: Option<usize>,
    /// Which engine.
    pub engine: EngineChoice,
    /// What is logged.
    pub log_level: LogLevel,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How long connections may take to finish after SIGTERM. Default 30 s.
    pub drain_timeout: Duration,
    /// Whether each connection is logged when it ends. Default on.
    pub access_log: bool,
    /// Whether the configuration is read again when a file of it changes. Default no.
    pub watch: bool,
    /// The most connections of clients at once; `None`: what the descriptor limit carries.
    pub max_connections: Option<usize>,
    /// How long a worker polls before it parks while work comes in quick succession. Default zero: never.
    pub spin: Duration,
    /// TCP_CONGESTION for all sockets; `None`: the system's.
    pub congestion: Option<String>,
    /// SO_RCVLOWAT in bytes for the source of bulk streams; `None`: none.
    pub bulk_low_water: Option<u32>,
    /// Whether idle connections go from workers that hold many to workers that hold few. Default on.
    pub even_workers: bool,
    /// Name servers that are asked for names of backends; empty: those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// How long a name server may take to answer, before it is asked again or another one is. Default 2 s.
    pub resolve_timeout: Duration,
    /// Who the process becomes once it listens, by name or number; `None`: it stays who it is.
    pub user: Option<String>,
    /// The group it gets then; `None`: that of the user.
    pub group: Option<String>,
    /// The program that an upgrade starts; `None`: the one that this process was started by.
    pub binary: Option<PathBuf>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: None,
            engine: EngineChoice::Auto,
            log_level: LogLevel::Info,
            log_format: LogFormat::Human,
            drain_timeout: Duration::from_secs(30),
            access_log: true,
            watch: false,
            max_connections: None,
            spin: Duration::ZERO,
            congestion: None,
            bulk_low_water: None,
            even_workers: true,
            resolvers: Vec::new(),
            resolve_timeout: Duration::from_secs(2),
            user: None,
            group: None,
            binary: None,
        }
    }
}

/// `server.engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// What the benchmark page shows to be best for a relay.
    Auto,
    /// io_uring; where it is forbidden, epoll, which the log says.
    IoUring,
    /// epoll.
    Epoll,
}

/// `server.log_level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Every event of the engine.
    Trace,
    /// Each connection.
    Debug,
    /// Changes of the whole.
    Info,
    /// Odd, but served.
    Warn,
    /// Wakes someone.
    Error,
    /// Nothing.
    Off,
}

/// `server.log_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// A JSON object a line.
    Json,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// A loopback address, or a Unix socket (made with mode 0600).
    pub listen: SocketAddress,
}

/// `[[app]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Unique, not empty.
    pub name: String,
    /// Its listening addresses, at least one.
    pub frontends: Vec<Frontend>,
    /// How a backend is chosen.
    pub balance: Balance,
    /// Its targets; none only where it has routes.
    pub backends: Vec<Backend>,
    /// Local addresses to dial from, taken in turn; empty: the system's choice.
    pub source: Vec<IpAddr>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How backends are checked.
    pub health: Health,
    /// Keep-alive probes on both sides; `None`: off. Default [`App::DEFAULT_KEEP_ALIVE`].
    pub keep_alive: Option<KeepAlive>,
    /// TCP_USER_TIMEOUT on both sides; `None`: the system's.
    pub user_timeout: Option<Duration>,
    /// How many backends are tried for one connection, the first included. Default 3.
    pub connect_attempts: u32,
    /// What becomes of connections to a backend that a change of the configuration removes.
    pub removed_backends: RemovedBackends,
    /// How long a backend that came up or joined takes to its whole weight; `None`: it has it at once. Default none.
    pub slow_start: Option<Duration>,
    /// How connections that are open spread to a backend that joins; `None`: they stay where they are. Default none.
    pub rebalance: Option<Rebalance>,
    /// Who may come, how many, and how fast.
    pub limits: Limits,
    /// PROXY headers from clients and to backends.
    pub proxy_protocol: ProxyProtocol,
    /// That clients speak TLS, and what becomes of it; `None`: nobody says so.
    pub tls: Option<RulesOfTls>,
    /// That backends speak TLS with Ringway; `None`: they get what clients send as it is.
    pub backend_tls: Option<Arc<BackendTls>>,
    /// Where clients go by what they say of themselves; the first that fits counts.
    pub routes: Vec<Route>,
}

impl App {
    /// A peer that vanished is noticed four minutes after its last byte, before the state of a usual firewall or
    /// cloud load balancer on the way (350 s and more) is lost; a live idle one costs a packet each two minutes.
    pub const DEFAULT_KEEP_ALIVE: KeepAlive =
        KeepAlive { idle: Duration::from_secs(120), interval: Duration::from_secs(30), count: 4 };

    /// An app with nothing but its name and defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            frontends: Vec::new(),
            balance: Balance::LeastConnections,
            backends: Vec::new(),
            source: Vec::new(),
            timeouts: Timeouts::default(),
            health: Health::default(),
            keep_alive: Some(Self::DEFAULT_KEEP_ALIVE),
            user_timeout: None,
            connect_attempts: 3,
            removed_backends: RemovedBackends::Keep,
            slow_start: None,
            rebalance: None,
            limits: Limits::default(),
            proxy_protocol: ProxyProtocol::default(),
            tls: None,
            backend_tls: None,
            routes: Vec::new(),
        }
    }

    /// Whether a client that waits for the server to speak first may be served: it fits a route, or there are backends for
    /// those that fit none.
    pub fn takes_silence(&self) -> bool {
        let may_take = |route: &Route| match route.rule.protocols.is_any() {
            true => self.tls.is_none() && !route.rule.needs_bytes(),
            false => route.rule.protocols.contains(Client::Silent),
        };
        self.routes.iter().any(may_take) || self.tls.is_none() && !self.backends.is_empty()
    }

    /// The pools of its routes, and at the end the one of clients that cannot be read, each with the name of its route.
    /// Each is an app without frontends, and without what is asked before a client is let in.
    pub fn pools(&self) -> impl Iterator<Item = (&str, &Arc<App>)> {
        let unreadable = match self.tls.as_ref().map(|tls| &tls.unreadable) {
            Some(Unreadable::Pool(pool)) => Some((Unreadable::NAME, pool)),
            Some(Unreadable::Refuse) | None => None,
        };
        self.routes.iter().map(|route| (route.name.as_str(), &route.pool)).chain(unreadable)
    }

    /// What a pool of its routes has if nothing else is said of it.
    pub fn pool(&self) -> Self {
        Self {
            frontends: Vec::new(),
            backends: Vec::new(),
            limits: Limits {
                queue: self.limits.queue,
                queue_timeout: self.limits.queue_timeout,
                bandwidth: self.limits.bandwidth,
                bandwidth_per_connection: self.limits.bandwidth_per_connection,
                ..Limits::default()
            },
            proxy_protocol: ProxyProtocol { send: self.proxy_protocol.send, ..ProxyProtocol::default() },
            tls: None,
            backend_tls: self.backend_tls.clone(),
            routes: Vec::new(),
            name: self.name.clone(),
            source: self.source.clone(),
            timeouts: self.timeouts.clone(),
            health: self.health.clone(),
            ..*self
        }
    }
}

/// `app.removed_backends`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedBackends {
    /// Their connections go on until they end. The default.
    Keep,
    /// Their connections are closed at once.
    Close,
    /// Their connections are closed after this time.
    CloseAfter(Duration),
}

/// One listening address of an app.
#[derive(Clone, Debug, PartialEq)]
pub struct Frontend {
    /// As it is written in the file, for logs and metrics.
    pub name: String,
    /// Where to bind.
    pub address: SocketAddress,
    /// `:443` takes IPv4 as well as IPv6 (address is then `[::]:443`).
    pub dual_stack: bool,
    /// Length of the kernel's queue. Default 4096.
    pub backlog: u32,
    /// IP_FREEBIND. Default off.
    pub freebind: bool,
    /// Permission bits of a Unix socket; `None`: by umask.
    pub mode: Option<u32>,
}

impl Frontend {
    /// A frontend with the defaults, not dual stack.
    pub fn new(name: impl Into<String>, address: SocketAddress) -> Self {
        Self { name: name.into(), address, dual_stack: false, backlog: 4096, freebind: false, mode: None }
    }
}

/// `app.balance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The fewest open connections for their weight. The default.
    LeastConnections,
    /// In turn, smoothly by weight.
    RoundRobin,
    /// At random by weight.
    Random,
    /// Of two at random by weight the one with fewer open connections for its weight.
    TwoChoices,
    /// By the client's address, on a ring: when backends leave or join nobody else's clients move.
    SourceHash,
    /// By the client's address, by Maglev's table: exact shares, and few others move.
    Maglev,
}

/// One target of an app, before its name is resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// As it is written in the file, for logs and metrics.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// Share relative to the others, 1 to 256; 0: no new connections. Default 1.
    pub weight: u16,
    /// Used only while no other backend is available. Default no.
    pub backup: bool,
    /// The most connections at once to each of its addresses; `None`: no limit. Default none.
    pub max_connections: Option<u32>,
}

impl Backend {
    /// The largest weight.
    pub const WEIGHT_MAX: u16 = 256;

    /// A backend with the defaults.
    pub fn new(name: impl Into<String>, target: Target) -> Self {
        Self { name: name.into(), target, weight: 1, backup: false, max_connections: None }
    }
}

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A fixed address.
    Address(SocketAddress),
    /// A host name, resolved at start and again by TTL; each of its addresses becomes an endpoint.
    Host {
        /// The name in lower case, without a trailing dot.
        name: String,
        /// The port.
        port: u16,
    },
    /// A service, by SRV records (RFC 2782): looked up at start and again by TTL; they say which targets there are, their
    /// ports, weights and priorities, and each address of a target becomes an endpoint.
    Service {
        /// The name in lower case, without a trailing dot.
        name: String,
    },
}

/// `[app.timeouts]`. `None`: no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    /// For one dial. Default 5 s.
    pub connect: Duration,
    /// Without a byte in either direction. Default 1 h.
    pub idle: Option<Duration>,
    /// Without a byte after one direction has ended. Default 1 min.
    pub half_close: Option<Duration>,
    /// For the whole connection. Default none.
    pub lifetime: Option<Duration>,
    /// For what must come before the first byte is relayed: a PROXY header, and then a hello of TLS or what else says
    /// where a client goes. Default 5 s.
    pub handshake: Duration,
    /// A client that has not sent a byte for so long waits for the server to speak first. Default 1 s.
    pub sniff: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Some(Duration::from_secs(3_600)),
            half_close: Some(Duration::from_secs(60)),
            lifetime: None,
            handshake: Duration::from_secs(5),
            sniff: Duration::from_secs(1),
        }
    }
}

/// `[app.limits]`. `None`: no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Connections at once.
    pub connections: Option<u32>,
    /// Connections at once from one source.
    pub connections_per_source: Option<u32>,
    /// New connections a second.
    pub connections_per_second: Option<u32>,
    /// New connections a second from one source.
    pub connections_per_second_per_source: Option<u32>,
    /// Clients at once that have not said where they go.
    pub handshakes: Option<u32>,
    /// The same from one source.
    pub handshakes_per_source: Option<u32>,
    /// Leading bits of an IPv6 address that name a source. Default 64.
    pub source_prefix_v6: u8,
    /// Connections that wait while all backends are full; `None`: they are closed.
    pub queue: Option<u32>,
    /// For that wait. Default 10 s.
    pub queue_timeout: Duration,
    /// Bytes a second of all connections together, in each direction.
    pub bandwidth: Option<u64>,
    /// Bytes a second of each connection, in each direction.
    pub bandwidth_per_connection: Option<u64>,
    /// Only these may come; `None`: everybody.
    pub allow: Option<Vec<Network>>,
    /// These may not come.
    pub deny: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_source: None,
            connections_per_second: None,
            connections_per_second_per_source: None,
            handshakes: None,
            handshakes_per_source: None,
            source_prefix_v6: 64,
            queue: None,
            queue_timeout: Duration::from_secs(10),
            bandwidth: None,
            bandwidth_per_connection: None,
            allow: None,
            deny: Vec::new(),
        }
    }
}

/// `app.proxy_protocol`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyProtocol {
    /// Whether connections of clients begin with a header. Default never.
    pub accept: AcceptHeader,
    /// Which header backends are sent. Default none.
    pub send: SendHeader,
    /// Whose headers are believed.
    pub trusted: Vec<Network>,
    /// Those of whoever may connect to a Unix socket, too.
    pub trusts_unix: bool,
}

/// `app.proxy_protocol.accept`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptHeader {
    /// What comes is relayed as it is.
    #[default]
    Never,
    /// A connection without one is refused, and so is one from elsewhere than a trusted source.
    Required,
    /// A trusted source may send one or not; others are not listened to.
    Optional,
}

/// `app.proxy_protocol.send`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendHeader {
    /// None.
    #[default]
    None,
    /// Version 1, a line of text.
    V1,
    /// Version 2, binary.
    V2,
}

/// `[app.health]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What a check does. Default TCP.
    pub check: Check,
    /// Time between the starts of two checks. Default 2 s.
    pub interval: Duration,
    /// For one check, at most the interval. Default 1 s, or the interval where that is shorter.
    pub timeout: Duration,
    /// Good checks in a row that take a backend back. Default 2.
    pub rise: u32,
    /// Failed checks in a row that leave a backend out. Default 3.
    pub fall: u32,
    /// Share of the interval by which each check is moved at random, 0 to 1. Default 0.1.
    pub jitter: f64,
    /// What happens to the connections of a backend that checks find down. Default keep.
    pub on_down: OnDown,
    /// Share of the backends below which health is not asked for, 0 to 1. Default 0: it always is.
    pub panic_threshold: f64,
    /// When an endpoint is left out because too many of its connections fail. Default never.
    pub ejection: Option<Ejection>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            check: Check::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            jitter: 0.1,
            on_down: OnDown::Keep,
            panic_threshold: 0.0,
            ejection: None,
        }
    }
}

/// `app.health.on_down`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They go on as long as they can.
    Keep,
    /// They are closed.
    Close,
}
