//! Runs the real `ringway` program on a configuration of the test's own.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::http::{self, Response};
use crate::{PATIENCE, Process, free_address, spawn_without_io_uring};

/// A running load balancer with an admin interface on TCP. Killed when dropped.
#[derive(Debug)]
pub struct Ringway {
    process: Process,
    admin: SocketAddr,
    /// Holds the configuration file.
    directory: TempDir,
}

/// What a [`Ringway`] is to be started with.
#[derive(Debug)]
pub struct RingwayBuilder {
    program: PathBuf,
    file_name: String,
    config: String,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    without_io_uring: bool,
    passed: Vec<(&'static str, OwnedFd)>,
    admin: SocketAddr,
}

impl Ringway {
    /// Prepares a run of `program`, which the caller knows as `env!("CARGO_BIN_EXE_ringway")`.
    ///
    /// `RINGWAY_BIN` in the environment takes its place: that is how the release binary is tested.
    pub fn of(program: impl AsRef<Path>) -> RingwayBuilder {
        let program =
            env::var_os("RINGWAY_BIN").map_or_else(|| program.as_ref().to_path_buf(), PathBuf::from);
        RingwayBuilder {
            program,
            file_name: "ringway.toml".into(),
            config: String::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            without_io_uring: false,
            passed: Vec::new(),
            admin: free_address(),
        }
    }

    /// The process, its output and its memory.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// GET from the admin interface.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn admin(&self, path: &str) -> Response {
        http::get(self.admin, path).unwrap_or_else(|error| panic!("admin {path}: {error}"))
    }

    /// PUT to the admin interface.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn admin_put(&self, path: &str, content_type: &str, text: &str) -> Response {
        http::put(self.admin, path, content_type, text)
            .unwrap_or_else(|error| panic!("admin {path}: {error}"))
    }

    /// Where the admin interface listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The sum of the samples of a metric whose labels contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.admin("/metrics").body;
        page.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| line.contains(labels))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit)
    }

    /// The directory of the configuration file.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl RingwayBuilder {
    /// The configuration as TOML; `[admin]` is added unless it is there.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = if toml.contains("[admin]") {
            toml.to_owned()
        } else {
            format!("[admin]\nlisten = \"{}\"\n\n{toml}", self.admin)
        };
        self
    }

    /// The configuration as it stands, under a name whose extension tells its kind.
    #[must_use]
    pub fn config_file(mut self, name: &str, text: &str) -> Self {
        self.file_name = name.into();
        self.config = text.into();
        self
    }

    /// One more argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// One more variable of the environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Forbids io_uring to the process.
    #[must_use]
    pub fn without_io_uring(mut self) -> Self {
        self.without_io_uring = true;
        self
    }

    /// One more socket that it is started with, as by a service manager, and the name of it.
    #[must_use]
    pub fn passed(mut self, name: &'static str, socket: impl Into<OwnedFd>) -> Self {
        self.passed.push((name, socket.into()));
        self
    }

    /// Starts it and waits until it says that it is ready.
    ///
    /// # Panics
    ///
    /// When it does not get there; its output is in the message.
    pub fn start(self) -> Ringway {
        let ringway = self.launch();
        ringway.process.wait_for_line("`ready`", PATIENCE, is_ready_line);
        ringway
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    ///
    /// When the system cannot start it.
    pub fn launch(self) -> Ringway {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join(&self.file_name);
        fs::write(&file, &self.config).expect("the temporary directory can be written to");
        let mut command = self.command();
        command.arg("run").arg("--config").arg(&file).args(&self.arguments).current_dir(directory.path());
        let spawned = if self.without_io_uring {
            Process::spawn_with(command, spawn_without_io_uring)
        } else if !self.passed.is_empty() {
            Process::spawn_with_descriptors(command, &self.passed)
        } else {
            Process::spawn(command)
        };
        let process = spawned.unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        Ringway { process, admin: self.admin, directory }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("NO_COLOR", "1").env_remove("RUST_LOG");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The line of the process log, in either format, that follows the first attempt to listen everywhere.
fn is_ready_line(line: &str) -> bool {
    line.contains(" ready ") || line.contains("\"ready\"")
}
