//! A Ringway under soak: started with one of two configurations, and given the other one again and again.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::super::process::Proxy;
use super::super::variants::Launch;
use super::configuration::Relay;

/// A running Ringway, its configuration file, and which of the two it has.
pub(super) struct Ringway {
    program: PathBuf,
    file: PathBuf,
    relay: Relay,
    is_second: bool,
    proxy: Proxy,
}

impl Ringway {
    /// Starts it with the first configuration.
    pub(super) fn start(
        program: &Path,
        directory: &Path,
        cpus: &str,
        relay: Relay,
        log: &Path,
    ) -> Result<Self, String> {
        let file = directory.join("soak.toml");
        write(&file, &relay.text(false))?;
        let proxy = Proxy::start(&launch(program, &file), cpus, relay.listen, log)?;
        Ok(Self { program: program.to_owned(), file, relay, is_second: false, proxy })
    }

    /// Gives it the other configuration; how long `ringway reload` took.
    pub(super) fn reload(&mut self) -> Result<Duration, String> {
        self.is_second = !self.is_second;
        write(&self.file, &self.relay.text(self.is_second))?;
        reload(&self.program, self.relay.admin)
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.relay.listen
    }

    pub(super) fn proxy(&mut self) -> &mut Proxy {
        &mut self.proxy
    }
}

/// `ringway run` with this file.
pub(super) fn launch(program: &Path, file: &Path) -> Launch {
    let arguments = vec!["run".into(), "--config".into(), file.display().to_string()];
    Launch { program: program.to_owned(), arguments, processes: 1 }
}

/// Runs `ringway reload` and says how long that took. A reload that changes nothing is an error.
pub(super) fn reload(program: &Path, admin: SocketAddr) -> Result<Duration, String> {
    let mut command = Command::new(program);
    command.args(["reload", "--admin", &admin.to_string()]);
    let began = Instant::now();
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    let took = began.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("ringway reload: {}: {}{}", output.status, text.trim(), complaint.trim()));
    }
    if !text.contains("changed") || text.contains("nothing has changed") {
        return Err(format!("ringway reload changed nothing: {}", text.trim()));
    }
    Ok(took)
}

pub(super) fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
