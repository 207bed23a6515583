//! A seeded world around the real proxy: its workers and its prober on simulated engines, clients and backends that
//! do what their scripts say, a network in which everything goes wrong now and then, and checks of what must hold.
//!
//! [`run`] plays one seed. The same seed gives the same [`Outcome`], down to the fingerprint of every event.
//!
//! What is checked: bytes out are bytes in, in order, for each direction that ends cleanly, and a prefix of them where
//! it was cut; a cut stream never looks complete; every connection ends with one close reason and one access-log
//! record; the counts return to zero; limits are never passed; nothing is left behind in an engine or in the network, but
//! for connections of clients that do not take what TLS has to say to them about their failure;
//! connections that are moved between workers, in whatever they do, go on; so they do when another process follows, with at most
//! one of the two using the sockets, whichever of them dies, hangs or refuses, and when;
//! every client's PROXY header names it to its backend; a hello of TLS, a request or whatever else clients say first arrives
//! untouched, at a backend of the route that it asks for, or at none if it cannot be read; where TLS ends at the proxy, no stream
//! looks complete that is not, and both ends tell the same of it; every thread adopts each snapshot of the configuration, and an
//! app that was removed is gone with its last connection.
#![forbid(unsafe_code)]

mod backend;
mod client;
mod configuration;
mod ledger;
mod opening;
mod preamble;
mod proxy;
mod routes;
mod scenario;
mod script;
mod tls;
mod upgrade;
mod world;

use std::fmt;
use std::time::Duration;

/// What happens in a simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workload {
    /// A quarter of a minute in which everything goes wrong: backends die, networks break, descriptors run out, the
    /// configuration is reloaded now and then.
    #[default]
    Usual,
    /// An operator's whole day, in a minute: names change what they mean, backends flap, and the configuration is
    /// reloaded every second.
    Day,
    /// The usual, and the proxy ends the TLS of its clients.
    Tls,
}

impl Workload {
    /// How the command line asks for it.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Day => " --day",
            Self::Tls => " --tls",
        }
    }
}

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What it all followed from.
    pub seed: u64,
    /// What was played.
    pub workload: Workload,
    /// What did not hold; empty if everything did.
    pub faults: Vec<String>,
    /// A fingerprint of everything that happened, in order.
    pub trace: u64,
    /// Everything that happened, a line each, if that was asked for.
    pub lines: Option<String>,
    /// Connections that clients dialled.
    pub connections: usize,
    /// Connections that moved bytes from end to end and ended cleanly in both directions.
    pub clean: usize,
    /// What routes did.
    pub routes: Routes,
    /// What came of TLS that the proxy ended.
    pub handshakes: Handshakes,
    /// How often another process was to follow, and what came of it.
    pub upgrades: Upgrades,
    /// Simulated time that passed.
    pub time: Duration,
}

/// What came of clients of apps that have routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Those that a backend of a route got.
    pub taken: u32,
    /// Of these, those that went there because their first bytes could not be read.
    pub unreadable: u32,
    /// Of these, those that said nothing for so long that the server was to speak.
    pub silent: u32,
    /// Those that were refused by what they said or did not say: hello unreadable, no route, not said in time, too many that
    /// have not said it.
    pub refused: [u32; 4],
}

/// What came of clients whose TLS the proxy ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// The two ends agreed.
    pub agreed: u32,
    /// Of these, those that went on with a session of earlier.
    pub resumed: u32,
    /// Of these, those in TLS 1.2.
    pub old: u32,
    /// The handshake failed.
    pub failed: u32,
    /// It was not over in time, or the client left in it.
    pub broken_off: u32,
    /// Bytes went from end to end, and both said that they were all.
    pub clean: u32,
    /// The client's stream ended without an end of TLS, and was not taken for complete.
    pub cut_short: u32,
    /// The client broke the rules after the handshake.
    pub against_rules: u32,
}

/// What came of upgrades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upgrades {
    /// The other process followed.
    pub followed: u32,
    /// It did so alone, as the first one had died.
    pub inherited: u32,
    /// The first process went on.
    pub called_off: u32,
    /// It did so after the other one had served and died.
    pub taken_back: u32,
    /// Connections that went on in another process.
    pub moved: u32,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, workload, connections, clean, time, trace, .. } = self;
        write!(
            f,
            "seed {seed}: {connections} connections, {clean} clean, {:.1} s simulated, trace {trace:016x}",
            time.as_secs_f64()
        )?;
        for fault in &self.faults {
            write!(f, "\n  FAULT {fault}")?;
        }
        if !self.faults.is_empty() {
            let argument = workload.argument();
            write!(f, "\n  replay with: cargo run -p simulator -- --seed {seed}{argument} --trace")?;
        }
        Ok(())
    }
}

/// Plays the usual workload by `seed`. A panic in it is a fault like any other.
pub fn run(seed: u64, keep_lines: bool) -> Outcome {
    play(Workload::Usual, seed, keep_lines)
}

/// Plays a workload by `seed`. A panic in it is a fault like any other.
pub fn play(workload: Workload, seed: u64, keep_lines: bool) -> Outcome {
    let played = std::panic::catch_unwind(|| world::play(workload, seed, keep_lines));
    played.unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        Outcome {
            seed,
            workload,
            faults: vec![format!("panicked: {message}")],
            trace: 0,
            lines: None,
            connections: 0,
            clean: 0,
            routes: Routes::default(),
            handshakes: Handshakes::default(),
            upgrades: Upgrades::default(),
            time: Duration::ZERO,
        }
    })
}
