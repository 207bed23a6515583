//! Load for a TCP proxy, and the measure of it: clients and backends in one thread, on the `ringway` crate.
//!
//! `ringway bench` and the `loadgen` binary are [`run`]. Four modes: bulk streams, closed-loop round trips, short
//! connections, and idle connections that are held; the clients in TLS, where they are told so. The measured window follows a warm-up; errors are counted
//! over the whole run and expected to be none.
#![forbid(unsafe_code)]

mod backend;
mod client;
mod control;
mod load;
mod options;
mod output;
mod pacing;
mod report;
mod tls;
mod watch;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use ringway::{Engine, EngineConfig, EngineKind, Worker};

pub use options::{Direction, Handshakes, KeyExchange, LoadEngine, Mode, Options};
pub use report::{Latency, Report, RunEvent, TlsReport};

use load::Load;
use output::Output;

/// Runs the load to its end on this thread.
///
/// # Errors
/// When the options contradict each other, an address cannot be served, the connections cannot be set up, or a
/// watched process ended. Failures of single connections are counted in the report instead.
pub fn run(options: &Options) -> Result<Report, LoadError> {
    options.check().map_err(LoadError::Options)?;
    // Should it stay too low, the connections that find no descriptor are counted as errors.
    let _ = ringway::raise_descriptor_limit();
    let kind = match options.engine {
        LoadEngine::Epoll => EngineKind::Epoll,
        LoadEngine::IoUring => EngineKind::IoUring,
    };
    let config = EngineConfig { kind, spin: Duration::from_micros(options.spin), ..EngineConfig::default() };
    let engine = Engine::new(&config).map_err(LoadError::Engine)?;
    let load = Load::new(options.clone(), Output::new(options.json)).map_err(LoadError::Options)?;
    let worker = Worker::new(engine, load);
    if options.stdin {
        let mailer = worker.mailer();
        // Ends with its input, or with the process: a read of standard input cannot be cancelled.
        thread::spawn(move || control::follow(io::stdin().lock(), &mailer));
    }
    worker.run().map_err(LoadError::Engine)?.into_outcome()
}

/// Why a run gave no report.
#[derive(Debug)]
pub enum LoadError {
    /// The options make no sense together; says which.
    Options(String),
    /// The engine does not run here, or broke.
    Engine(io::Error),
    /// A backend's address cannot be served.
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// For a long while no further connection could be set up.
    Setup {
        /// How many stood.
        established: usize,
        /// How many were wanted.
        wanted: usize,
        /// The first failure, in words.
        first_error: Option<String>,
    },
    /// A watched process is gone, or its CPU time cannot be read.
    Watch(io::Error),
    /// Standard input ended before the run did.
    Interrupted,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(problem) => f.write_str(problem),
            Self::Engine(error) => write!(f, "the engine failed: {error}"),
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::Setup { established, wanted, first_error } => {
                write!(f, "only {established} of {wanted} connections could be set up")?;
                match first_error {
                    Some(error) => write!(f, "; first failure: {error}"),
                    None => Ok(()),
                }
            }
            Self::Watch(error) => write!(f, "cannot read the CPU time of a watched process: {error}"),
            Self::Interrupted => f.write_str("standard input ended before the run did"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Engine(error) | Self::Listen { error, .. } | Self::Watch(error) => Some(error),
            Self::Options(_) | Self::Setup { .. } | Self::Interrupted => None,
        }
    }
}
