//! A Redis server of its own, for as long as it is held.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::need;
use crate::{PATIENCE, Process, free_address};

/// A server that keeps everything in memory.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// The reason to skip: Redis is not installed.
    ///
    /// # Panics
    ///
    /// When Redis is there and does not start.
    pub fn start() -> Result<Self, String> {
        let address = free_address();
        Self::start_with(address, &["--port", &address.port().to_string()])
    }

    /// Starts a server that speaks TLS with this certificate, and asks clients for none.
    ///
    /// # Errors
    ///
    /// The reason to skip: Redis is not installed.
    ///
    /// # Panics
    ///
    /// When Redis is there and does not start.
    pub fn start_tls(chain: &Path, key: &Path) -> Result<Self, String> {
        let address = free_address();
        let (port, chain, key) = (address.port().to_string(), chain.to_string_lossy(), key.to_string_lossy());
        let files = ["--tls-cert-file", &chain, "--tls-key-file", &key, "--tls-ca-cert-file", &chain];
        let ports = ["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"];
        Self::start_with(address, &[&ports[..], &files].concat())
    }

    fn start_with(address: SocketAddr, arguments: &[&str]) -> Result<Self, String> {
        let program = need("redis-server")?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1"]).args(arguments);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory.path());
        let process = Process::spawn(command).map_err(|error| error.to_string())?;
        process
            .wait_for_line("`Ready to accept`", PATIENCE, |line| line.contains("eady to accept connections"));
        Ok(Self { address, _process: process, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
