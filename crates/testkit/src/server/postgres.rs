//! A PostgreSQL server of its own, for as long as it is held.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use super::{need, run};
use crate::{PATIENCE, Process, free_address};

/// A fresh cluster with the superuser `postgres`, who needs no password.
#[derive(Debug)]
pub struct Postgres {
    address: SocketAddr,
    process: Process,
    _directory: TempDir,
}

impl Postgres {
    /// Makes a cluster and starts its server.
    ///
    /// # Errors
    ///
    /// The reason to skip: a program or an unprivileged user is missing.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is there and does not start.
    pub fn start() -> Result<Self, String> {
        Self::start_with(None)
    }

    /// The same, with TLS by this certificate and key, in PEM.
    ///
    /// # Errors
    ///
    /// As of [`Self::start`].
    ///
    /// # Panics
    ///
    /// Likewise.
    pub fn start_with_tls(chain: &str, key: &str) -> Result<Self, String> {
        Self::start_with(Some((chain, key)))
    }

    fn start_with(tls: Option<(&str, &str)>) -> Result<Self, String> {
        let (initdb, postgres) = (need("initdb")?, need("postgres")?);
        let owner = unprivileged_user()?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        if let Some((user, group)) = owner {
            chown(directory.path(), Some(user), Some(group)).map_err(|error| error.to_string())?;
        }
        let as_owner = |program| {
            let mut command = Command::new(program);
            command.current_dir(directory.path()).env("LC_ALL", "C");
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command
        };
        let data = directory.path().join("data");
        run(as_owner(&initdb)
            .args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8"])
            .arg("--pgdata")
            .arg(&data));
        // Where the server looks for them; a key that others may read it does not take.
        for (name, text) in tls.iter().flat_map(|(chain, key)| [("server.crt", *chain), ("server.key", *key)])
        {
            let path = data.join(name);
            fs::write(&path, text).map_err(|error| error.to_string())?;
            fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(|error| error.to_string())?;
            if let Some((user, group)) = owner {
                chown(&path, Some(user), Some(group)).map_err(|error| error.to_string())?;
            }
        }
        let address = free_address();
        let mut command = as_owner(&postgres);
        command.arg("-D").arg(&data).arg("-k").arg(directory.path());
        command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]);
        command.args(["-c", "fsync=off", "-c", "max_connections=50"]);
        if tls.is_some() {
            command.args(["-c", "ssl=on"]);
        }
        let process = Process::spawn(command).map_err(|error| error.to_string())?;
        process.wait_for_line("`ready to accept`", PATIENCE, |line| {
            line.contains("ready to accept connections")
        });
        Ok(Self { address, process, _directory: directory })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A fast shutdown, so that no shared memory is left behind; the kill that follows finds nobody.
        if !self.process.has_ended() {
            self.process.signal(Signal::INT);
            self.process.wait(PATIENCE);
        }
    }
}

/// PostgreSQL refuses to run as root: then as user and group of `postgres` or `nobody`.
fn unprivileged_user() -> Result<Option<(u32, u32)>, String> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| ids_of(&users, name))
        .map(Some)
        .ok_or_else(|| "there is no user to run PostgreSQL as".to_owned())
}

fn ids_of(users: &str, name: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> =
        users.lines().map(|line| line.split(':').collect()).find(|f: &Vec<&str>| f[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_the_list_of_users() {
        let users = "root:x:0:0::/:/bin/sh\npostgres:x:104:111:,,,:/var/lib:/bin/bash\n";
        assert_eq!(ids_of(users, "postgres"), Some((104, 111)));
        assert_eq!(ids_of(users, "nobody"), None);
    }
}
