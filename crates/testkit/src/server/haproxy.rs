//! HAProxy, for as long as it is held.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use super::need;
use crate::{PATIENCE, Process, eventually, free_address};

/// One listener of HAProxy in TCP mode, which connects on to a server.
#[derive(Debug)]
pub struct HaProxy {
    address: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl HaProxy {
    /// Listens on a free port and connects to `server`, with these words after its address.
    ///
    /// # Errors
    ///
    /// The reason to skip: HAProxy is not installed.
    ///
    /// # Panics
    ///
    /// When HAProxy is there and does not start.
    pub fn start(server: SocketAddr, options: &str) -> Result<Self, String> {
        let program = need("haproxy")?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let address = free_address();
        let file = directory.path().join("haproxy.cfg");
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n\
             listen it\n bind {address}\n server one {server} {options}\n"
        );
        fs::write(&file, text).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["-db", "-f"]).arg(&file);
        let process = Process::spawn(command).map_err(|error| error.to_string())?;
        eventually("HAProxy listens", PATIENCE, || std::net::TcpListener::bind(address).err());
        Ok(Self { address, _process: process, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
