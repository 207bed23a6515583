//! nginx, for as long as it is held.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use super::need;
use crate::{PATIENCE, Process, eventually, free_address};

/// One HTTP server of nginx.
#[derive(Debug)]
pub struct Nginx {
    address: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl Nginx {
    /// Listens on a free port of 127.0.0.1, with these words after its address, and answers every request with `body`,
    /// in which nginx replaces its variables.
    ///
    /// # Errors
    ///
    /// The reason to skip: nginx is not installed.
    ///
    /// # Panics
    ///
    /// When nginx is there and does not start.
    pub fn start(listen: &str, body: &str) -> Result<Self, String> {
        let program = need("nginx")?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let address = free_address();
        let file = directory.path().join("nginx.conf");
        let place = directory.path().display();
        let text = format!(
            "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;\n\
             events {{}}\n\
             http {{\n access_log off; client_body_temp_path {place}/1; proxy_temp_path {place}/2;\n\
             fastcgi_temp_path {place}/3; uwsgi_temp_path {place}/4; scgi_temp_path {place}/5;\n\
             server {{ listen {address} {listen}; default_type text/plain; location / {{ return 200 \"{body}\"; }} }}\n}}\n"
        );
        fs::write(&file, text).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("-p").arg(directory.path());
        let process = Process::spawn(command).map_err(|error| error.to_string())?;
        eventually("nginx listens", PATIENCE, || std::net::TcpListener::bind(address).err());
        Ok(Self { address, _process: process, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
