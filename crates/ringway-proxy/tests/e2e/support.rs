//! What the end-to-end tests share: configurations, the choice of engine, and looks at a running process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;
use testkit::{PATIENCE, Ringway, RingwayBuilder, eventually, free_address};

/// The engines that a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Epoll,
    IoUring,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        }
    }
}

/// The path of the program that was built with these tests.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ringway");

/// Ringway with two workers on the engine.
pub(crate) fn ringway(engine: Engine) -> RingwayBuilder {
    Ringway::of(PROGRAM).argument("--engine").argument(engine.name()).argument("--workers").argument("2")
}

/// Starts Ringway with one app.
pub(crate) fn start(engine: Engine, app: &str) -> Ringway {
    ringway(engine).config(app).start()
}

/// An app called `app` with one frontend; `more` are further lines of it.
pub(crate) fn app(frontend: SocketAddr, backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    app_of(&format!("\"{frontend}\""), &backends.join(", "), more)
}

/// As [`app`], with the lists of frontends and backends as they stand in the file.
pub(crate) fn app_of(frontends: &str, backends: &str, more: &str) -> String {
    format!("[[app]]\nname = \"app\"\nlisten = [{frontends}]\nbackends = [{backends}]\n{more}\n")
}

/// Health checks as fast as they go, for tests that wait for their result.
pub(crate) const QUICK_CHECKS: &str =
    "[app.health]\ncheck = \"tcp\"\ninterval = \"100ms\"\ntimeout = \"100ms\"\nrise = 2\nfall = 2\n";

/// No active checks: what is tested is what happens without them.
pub(crate) const NO_CHECKS: &str = "[app.health]\ncheck = \"none\"\n";

/// Why io_uring cannot be used here, if so; asked once.
pub(crate) fn why_no_io_uring() -> Option<&'static str> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON
        .get_or_init(|| {
            let ringway = start(Engine::IoUring, &app(free_address(), &[free_address()], NO_CHECKS));
            let status = status(&ringway);
            (status["engine"] != "io_uring").then(|| format!("no io_uring: {}", status["engine_reason"]))
        })
        .as_deref()
}

/// Runs a command of the program in the directory of the configuration.
pub(crate) fn command(ringway: &Ringway, arguments: &[&str]) -> Output {
    let program = std::env::var_os("RINGWAY_BIN").unwrap_or_else(|| PROGRAM.into());
    let mut command = Command::new(Path::new(&program));
    command.args(arguments).current_dir(ringway.directory());
    command.output().expect("the program can be started")
}

/// The status page.
pub(crate) fn status(ringway: &Ringway) -> Value {
    let page = ringway.admin("/status");
    assert_eq!(page.status, 200, "{}", page.body);
    serde_json::from_str(&page.body).unwrap_or_else(|error| panic!("/status: {error}: {}", page.body))
}

/// The health of the endpoint at `address`, in a word.
pub(crate) fn health(ringway: &Ringway, address: SocketAddr) -> String {
    let status = status(ringway);
    let address = address.to_string();
    status["apps"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|app| app["backends"].as_array().into_iter().flatten())
        .flat_map(|backend| backend["endpoints"].as_array().into_iter().flatten())
        .find(|endpoint| endpoint["address"] == address.as_str())
        .and_then(|endpoint| endpoint["health"].as_str())
        .unwrap_or("unknown")
        .to_owned()
}

/// Waits until the endpoint at `address` is in that health.
pub(crate) fn wait_health(ringway: &Ringway, address: SocketAddr, wanted: &str) {
    eventually(&format!("{address} is {wanted}"), PATIENCE, || {
        (health(ringway, address) == wanted).then_some(())
    });
}

/// Waits until Ringway holds so many connections of clients.
pub(crate) fn wait_connections(ringway: &Ringway, count: usize) {
    eventually(&format!("{count} connections"), PATIENCE, || {
        (ringway.metric("ringway_connections", "") as usize == count).then_some(())
    });
}

/// Waits for the access-log line of a client and returns it.
pub(crate) fn access_line(ringway: &Ringway, client: SocketAddr) -> String {
    let wanted = format!(" client={client} ");
    ringway.process().wait_for_line(&format!("`{wanted}`"), PATIENCE, |line| {
        line.contains(&wanted) && line.contains(" why=")
    })
}

/// The value of `key=value` in an access-log line.
pub(crate) fn field<'a>(line: &'a str, key: &str) -> &'a str {
    line.split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {key} in {line}"))
}

/// Held by tests that take thousands of descriptors or measure memory: one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
