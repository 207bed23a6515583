//! `ringway status`: what a running ringway does, as tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway::SocketAddress;

use super::admin_client;
use super::arguments::StatusArguments;
use super::table::Table;
use super::{complain, print};
use crate::config::{self, render_faults};
use crate::control::exit::Exit;
use crate::control::status::{BackendStatus, EndpointStatus, FrontendStatus, Status};

/// Asks and prints.
pub(super) fn main(arguments: &StatusArguments) -> Exit {
    let admin = match admin_address(arguments) {
        Ok(admin) => admin,
        Err(problem) => {
            complain(&problem);
            return Exit::Misused;
        }
    };
    match page(&admin, arguments.json) {
        Ok(text) => {
            print(&text);
            Exit::Finished
        }
        Err(problem) => {
            complain(&format!("ringway status: {admin}: {problem}"));
            Exit::Failed
        }
    }
}

fn page(admin: &SocketAddress, json: bool) -> Result<String, String> {
    let body = admin_client::get(admin, "/status").map_err(|error| error.to_string())?;
    let status: Status = serde_json::from_slice(&body)
        .map_err(|error| format!("the status page is not understood: {error}"))?;
    if json {
        // Reading it as a `Status` first has shown that it is text.
        return Ok(format!("{}\n", String::from_utf8_lossy(&body)));
    }
    Ok(render(&status))
}

/// Where to ask: as named, or as the configuration says, or where the demo listens.
fn admin_address(arguments: &StatusArguments) -> Result<SocketAddress, String> {
    if let Some(admin) = &arguments.admin {
        return Ok(admin.clone());
    }
    let path: Option<PathBuf> = arguments.config.clone().or_else(|| config::find(Path::new("")));
    let (config, name) = match &path {
        Some(path) => {
            let loaded = config::load(path).map_err(|errors| render_faults(&errors))?;
            (loaded.config, path.display().to_string())
        }
        None => (config::demo(), "the demo".to_owned()),
    };
    let admin = config.admin.ok_or_else(|| {
        format!("ringway status: {name} has no [admin] section with `listen`, so there is nobody to ask")
    })?;
    Ok(admin.listen)
}

fn render(status: &Status) -> String {
    let mut text = format!(
        "ringway {}, pid {}, up {}, {} workers on {}, {} of {} connections\n",
        status.version,
        status.pid,
        time(status.uptime_seconds),
        status.workers,
        status.engine,
        status.connections,
        status.connection_limit
    );
    let mut frontends = Table::new(&["APP", "FRONTEND", "ADDRESS", "STATE", "CONNECTIONS"]);
    let mut backends =
        Table::new(&["APP", "BACKEND", "ENDPOINT", "HEALTH", "WEIGHT", "CONNECTIONS", "TOTAL", "FAILED"]);
    for app in &status.apps {
        for frontend in &app.frontends {
            frontends.push([
                app.name.clone(),
                frontend.name.clone(),
                frontend.address.clone().unwrap_or_else(|| "-".to_owned()),
                frontend_state(frontend),
                app.connections.to_string(),
            ]);
        }
        for backend in &app.backends {
            let weight = format!("{}{}", backend.weight, if backend.backup { " backup" } else { "" });
            for endpoint in &backend.endpoints {
                backends.push([
                    app.name.clone(),
                    backend.name.clone(),
                    endpoint.address.clone(),
                    health(endpoint),
                    weight.clone(),
                    endpoint.connections.to_string(),
                    endpoint.connections_total.to_string(),
                    endpoint.connect_failures.to_string(),
                ]);
            }
            if backend.endpoints.is_empty() {
                backends.push(without_endpoint(&app.name, backend, weight));
            }
        }
    }
    for table in [frontends, backends] {
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

fn without_endpoint(app: &str, backend: &BackendStatus, weight: String) -> [String; 5] {
    [app.to_owned(), backend.name.clone(), "-".to_owned(), "unresolved".to_owned(), weight]
}

fn frontend_state(frontend: &FrontendStatus) -> String {
    match (&frontend.error, frontend.workers) {
        (Some(error), 0) => format!("waiting: {error}"),
        (Some(error), workers) => format!("{workers} workers, others wait: {error}"),
        (None, 0) => "closed".to_owned(),
        (None, 1) => "1 worker".to_owned(),
        (None, workers) => format!("{workers} workers"),
    }
}

fn health(endpoint: &EndpointStatus) -> String {
    let since = time(endpoint.since_seconds);
    match &endpoint.reason {
        Some(reason) => format!("{} {since} ({reason})", endpoint.health),
        None => format!("{} {since}", endpoint.health),
    }
}

/// The two largest units of a time.
fn time(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::testing;

    #[test]
    fn the_tables_hold_every_frontend_and_backend() {
        let mut status = testing::process().status();
        status.pid = 42;
        status.version = "1.2.3".to_owned();
        status.apps[0].backends[0].endpoints[0].since_seconds = 3700.0;
        assert_eq!(
            render(&status),
            "ringway 1.2.3, pid 42, up 0s, 2 workers on epoll, 0 of 100 connections\n\
             \n\
             APP  FRONTEND     ADDRESS  STATE   CONNECTIONS\n\
             app  127.0.0.1:0  -        closed  0\n\
             \n\
             APP  BACKEND  ENDPOINT        HEALTH                  WEIGHT    CONNECTIONS  TOTAL  FAILED\n\
             app  b0:80    127.0.0.1:3000  ejected 1h1m (refused)  1         0            0      1\n\
             app  b1:80    -               unresolved              2 backup\n"
        );
    }

    #[test]
    fn times_show_their_two_largest_units() {
        for (seconds, wanted) in
            [(0.0, "0s"), (59.9, "59s"), (61.0, "1m1s"), (7260.0, "2h1m"), (90_000.0, "1d1h")]
        {
            assert_eq!(time(seconds), wanted);
        }
        assert_eq!(time(f64::NAN), "0s");
    }
}
