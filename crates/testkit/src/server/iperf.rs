//! An iperf3 server, for as long as it is held.

use std::net::SocketAddr;
use std::process::Command;

use super::need;
use crate::{PATIENCE, Process, free_address};

/// Serves one test at a time.
#[derive(Debug)]
pub struct Iperf {
    address: SocketAddr,
    _process: Process,
}

impl Iperf {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// The reason to skip: iperf3 is not installed.
    ///
    /// # Panics
    ///
    /// When iperf3 is there and does not start.
    pub fn start() -> Result<Self, String> {
        let program = need("iperf3")?;
        let address = free_address();
        let mut command = Command::new(program);
        command.args([
            "--server",
            "--forceflush",
            "--bind",
            "127.0.0.1",
            "--port",
            &address.port().to_string(),
        ]);
        let process = Process::spawn(command).map_err(|error| error.to_string())?;
        process.wait_for_line("`listening`", PATIENCE, |line| line.contains("Server listening"));
        Ok(Self { address, _process: process })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
