//! What is left in a process that another one follows: which connections, why, and for how long; and where it tells of them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Elder;
use crate::control::operator::{ConnectionList, OldProcess};
use crate::control::private_directory::PrivateDirectory;
use crate::worker::Staying;

/// Connections that finish in an old process.
#[derive(Debug)]
pub(in crate::control) struct Left {
    generation: u64,
    /// By the number of the connection.
    why: HashMap<u64, Arc<str>>,
    /// What is left is cut then.
    until: Instant,
    /// Removed with the socket in it when this is dropped.
    directory: PrivateDirectory,
    listener: UnixListener,
}

impl Left {
    /// Makes the socket.
    ///
    /// # Errors
    /// When there can be none.
    pub(super) fn new(
        generation: u64,
        why: HashMap<u64, Arc<str>>,
        drain_timeout: Duration,
    ) -> io::Result<Self> {
        let directory = PrivateDirectory::new("old")?;
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { generation, why, until: Instant::now() + drain_timeout, directory, listener })
    }

    /// How the new process finds it.
    pub(super) fn elder(&self) -> Elder {
        let socket = self.directory.path().join("socket");
        Elder { generation: self.generation, pid: std::process::id(), socket, has_line: false }
    }

    /// A handle of its socket.
    ///
    /// # Errors
    /// Without descriptors.
    pub(in crate::control) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Says of each connection why it is still here, and of the process for how long it may be.
    pub(in crate::control) fn explain(&self, list: &mut ConnectionList) {
        for connection in &mut list.connections {
            let why = self.why.get(&connection.id).map_or(Staying::Ending.as_str(), |why| why);
            connection.why = Some(why.to_owned());
            connection.generation = Some(self.generation);
        }
        let left = self.until.saturating_duration_since(Instant::now());
        list.processes = vec![OldProcess {
            generation: self.generation,
            pid: std::process::id(),
            seconds_left: Some(left.as_millis() as f64 / 1e3),
            error: None,
        }];
    }
}
