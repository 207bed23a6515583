//! What a run does: the command line, as plain data.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// Drives connections at a target and measures, with the backends behind the target in the same thread.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What the connections do
    #[arg(value_enum)]
    pub mode: Mode,

    /// Address to connect to: a proxy, or a server that does what the mode asks of a backend.
    /// Without it (and without --stdin) the clients connect to the backends directly
    #[arg(long)]
    pub target: Option<SocketAddr>,

    /// Address to serve as a backend; may be given many times; port 0 lets the system choose
    #[arg(long = "backend", value_name = "ADDRESS")]
    pub backends: Vec<SocketAddr>,

    /// Connections held (in mode `connections`: in flight) at once
    #[arg(long, default_value_t = 64)]
    pub connections: usize,

    /// Bytes of each request and of each reply
    #[arg(long, default_value_t = 64)]
    pub size: usize,

    /// Which way bulk data flows
    #[arg(long, value_enum, default_value_t = Direction::Down)]
    pub direction: Direction,

    /// Seconds of traffic before measuring starts
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    pub warmup: Duration,

    /// Seconds that are measured (in mode `idle`: how long the connections are held)
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub seconds: Duration,

    /// Seconds without a further connection after which setting them up is given up
    #[arg(long, default_value = "20", value_parser = seconds)]
    pub setup_patience: Duration,

    /// Numbers of idle connections to stop at on the way to --connections (mode `idle`), e.g. 1000,9000
    #[arg(long, value_delimiter = ',')]
    pub steps: Vec<usize>,

    /// Loopback addresses to dial from in turn (127.1.0.1 and up); 0 leaves the choice to the system
    #[arg(long, default_value_t = 0)]
    pub sources: u16,

    /// Clients speak TLS 1.3 with AES-128-GCM to the target, which ends it: backends do not
    #[arg(long, value_enum, value_name = "HANDSHAKES")]
    pub tls: Option<Handshakes>,

    /// Key exchange of --tls and --hello
    #[arg(long, value_enum, default_value_t = KeyExchange::X25519)]
    pub key_exchange: KeyExchange,

    /// Server that --tls and --hello ask for
    #[arg(long, value_name = "NAME", default_value = SERVER_NAME)]
    pub server_name: String,

    /// Each message is the hello of a TLS client, for proxies that look into it and pass it on (--size is its own)
    #[arg(long, conflicts_with = "tls")]
    pub hello: bool,

    /// How the load itself waits for its sockets
    #[arg(long, value_enum, default_value_t = LoadEngine::Epoll)]
    pub engine: LoadEngine,

    /// Microseconds the load polls before it sleeps
    #[arg(long, default_value_t = 0)]
    pub spin: u64,

    /// Process whose CPU time within the measured window is reported; may be given many times
    #[arg(long = "watch", value_name = "PID")]
    pub watch: Vec<u32>,

    /// Print events and the result as JSON, one object a line
    #[arg(long)]
    pub json: bool,

    /// Be led by lines on standard input: `watch PID`, `target ADDRESS` (begins), `next` (ends a hold)
    #[arg(long)]
    pub stdin: bool,
}

/// What the connections of a run do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One side streams as fast as the other takes it
    Bulk,
    /// Each connection sends a request when the reply to the last has come
    Pingpong,
    /// Connect, one request, one reply, close, again
    Connections,
    /// Each connection moves 64 KiB both ways and is then held open
    Idle,
}

impl Mode {
    /// The word of the command line and of reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Pingpong => "pingpong",
            Self::Connections => "connections",
            Self::Idle => "idle",
        }
    }
}

/// Which way bulk data flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// Backend to client
    Down,
    /// Client to backend
    Up,
}

/// Handshakes of clients in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Handshakes {
    /// Each in full
    Full,
    /// On with an earlier session, once there is one
    Resumed,
}

/// How the keys of a TLS session come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyExchange {
    /// By elliptic curves
    X25519,
    /// By these, and by ML-KEM-768, which is to hold against quantum computers
    #[value(name = "x25519mlkem768")]
    X25519MlKem768,
}

/// The engine under the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoadEngine {
    /// Readiness
    Epoll,
    /// Completions
    #[value(name = "io_uring")]
    IoUring,
}

impl Options {
    /// The options of a run of `mode`, all others as the command line has them by default.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            target: None,
            backends: Vec::new(),
            connections: 64,
            size: 64,
            direction: Direction::Down,
            warmup: Duration::from_millis(500),
            seconds: Duration::from_secs(5),
            setup_patience: Duration::from_secs(20),
            steps: Vec::new(),
            sources: 0,
            tls: None,
            key_exchange: KeyExchange::X25519,
            server_name: SERVER_NAME.to_owned(),
            hello: false,
            engine: LoadEngine::Epoll,
            spin: 0,
            watch: Vec::new(),
            json: false,
            stdin: false,
        }
    }

    /// Says what cannot be done, before anything is started.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.connections == 0 {
            return Err("--connections must be at least 1".into());
        }
        if self.size == 0 || self.size > MESSAGE_BYTES_MAX {
            return Err(format!("--size must be from 1 to {MESSAGE_BYTES_MAX}"));
        }
        if self.target.is_none() && self.backends.is_empty() && !self.stdin {
            return Err("nothing to connect to: give --target, or --backend to be served and dialled".into());
        }
        if self.tls.is_some() && self.target.is_none() && !self.stdin {
            return Err("--tls needs a --target that ends TLS: the backends do not".into());
        }
        if self.hello && self.mode == Mode::Bulk {
            return Err("--hello is for modes with messages".into());
        }
        if !self.steps.is_empty() && self.mode != Mode::Idle {
            return Err("--steps is for mode `idle`".into());
        }
        if self.steps.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("--steps must rise".into());
        }
        Ok(())
    }

    /// Bytes of one request and of one reply in this mode.
    pub(crate) fn message_bytes(&self) -> usize {
        match self.mode {
            Mode::Idle => IDLE_BYTES,
            Mode::Bulk | Mode::Pingpong | Mode::Connections => self.size,
        }
    }

    /// The numbers of connections at which a run of mode `idle` holds.
    pub(crate) fn holds(&self) -> Vec<usize> {
        if self.steps.is_empty() { vec![self.connections] } else { self.steps.clone() }
    }
}

/// The name that clients in TLS ask for by default.
const SERVER_NAME: &str = "bench.example";

/// The longest message; also the unit in which bulk data is handed to the engine.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// What an idle connection moves each way before it rests.
pub(crate) const IDLE_BYTES: usize = 64 << 10;

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction_and_no_sign() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert!(seconds("-1").is_err());
        assert!(seconds("soon").is_err());
    }

    #[test]
    fn a_run_without_anything_to_connect_to_is_refused() {
        assert!(Options::new(Mode::Bulk).check().is_err());
        let direct = Options { backends: vec![([127, 0, 0, 1], 0).into()], ..Options::new(Mode::Bulk) };
        assert_eq!(direct.check(), Ok(()));
    }

    #[test]
    fn tls_needs_somebody_who_ends_it() {
        let direct = Options {
            backends: vec![([127, 0, 0, 1], 0).into()],
            tls: Some(Handshakes::Full),
            ..Options::new(Mode::Pingpong)
        };
        assert!(direct.check().is_err());
        let target = Some(([127, 0, 0, 1], 443).into());
        assert_eq!(Options { target, ..direct }.check(), Ok(()));
    }

    #[test]
    fn steps_rise_and_belong_to_idle() {
        let target = Some(([127, 0, 0, 1], 80).into());
        let falling = Options { target, steps: vec![10, 5], ..Options::new(Mode::Idle) };
        assert!(falling.check().is_err());
        let elsewhere = Options { target, steps: vec![5, 10], ..Options::new(Mode::Bulk) };
        assert!(elsewhere.check().is_err());
    }
}
