//! A DNS server of its own, for as long as it is held, whose records can change.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, getuid};
use tempfile::TempDir;

use super::need;
use crate::{PATIENCE, Process, free_address};

/// dnsmasq, which answers for the names it is given and asks nobody else. Its answers hold for a second.
#[derive(Debug)]
pub struct Dns {
    program: PathBuf,
    address: SocketAddr,
    hosts: PathBuf,
    process: Process,
    _directory: TempDir,
}

impl Dns {
    /// Starts a server with these records.
    ///
    /// # Errors
    ///
    /// The reason to skip: dnsmasq is not installed.
    ///
    /// # Panics
    ///
    /// When it is there and does not start.
    pub fn start(records: &[(&str, IpAddr)]) -> Result<Self, String> {
        Self::start_with_services(records, &[])
    }

    /// As [`Self::start`], with records of services, too: `name,target,port,priority,weight`.
    ///
    /// # Errors
    ///
    /// The reason to skip: dnsmasq is not installed.
    ///
    /// # Panics
    ///
    /// When it is there and does not start.
    pub fn start_with_services(records: &[(&str, IpAddr)], services: &[&str]) -> Result<Self, String> {
        let program = need("dnsmasq")?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let address = free_address();
        let hosts = directory.path().join("hosts");
        write(&hosts, records);
        let process = spawn(&program, address, &hosts, services)?;
        Ok(Self { program, address, hosts, process, _directory: directory })
    }

    /// Starts anew at the same address with these records: those of services are read at the start only. Nobody is
    /// answered meanwhile.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self, records: &[(&str, IpAddr)], services: &[&str]) {
        write(&self.hosts, records);
        self.process.signal(Signal::KILL);
        self.process.wait(PATIENCE);
        self.process = spawn(&self.program, self.address, &self.hosts, services).expect("it started before");
    }

    /// Where it listens, by UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers with these records, and no others, from now on.
    pub fn set_records(&self, records: &[(&str, IpAddr)]) {
        write(&self.hosts, records);
        let seen = self.process.lines().len();
        self.process.signal(Signal::HUP);
        self.process.wait_for_line_after(seen, "the records, read again", PATIENCE, |line| {
            line.contains("read ") && line.contains("hosts")
        });
    }
}

fn spawn(program: &Path, address: SocketAddr, hosts: &Path, services: &[&str]) -> Result<Process, String> {
    let mut command = Command::new(program);
    command.args(["--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file"]);
    command.args(["--no-resolv", "--no-hosts", "--local-ttl=1", "--bind-interfaces"]);
    command.arg(format!("--listen-address={}", address.ip())).arg(format!("--port={}", address.port()));
    command.arg(format!("--addn-hosts={}", hosts.display()));
    if getuid().is_root() {
        // It would become a user who may not read the directory.
        command.arg("--user=root");
    }
    command.args(services.iter().map(|service| format!("--srv-host={service}")));
    let process = Process::spawn(command).map_err(|error| error.to_string())?;
    process.wait_for_line("`started`", PATIENCE, |line| line.contains("started, version"));
    process.wait_for_line("the records", PATIENCE, |line| line.contains("read ") && line.contains("hosts"));
    Ok(process)
}

fn write(hosts: &Path, records: &[(&str, IpAddr)]) {
    let text: String = records.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    fs::write(hosts, text).expect("the temporary directory can be written to");
}
