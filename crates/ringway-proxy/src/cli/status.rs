//! `ringway status`: what a running ringway does, as tables.

use super::arguments::StatusArguments;
use super::ask::Asker;
use super::table::Table;
use super::units::time;
use crate::control::exit::Exit;
use crate::control::status::{
    AppStatus, BackendStatus, CertificateStatus, EndpointStatus, FrontendStatus, Status,
};

/// Asks and prints.
pub(super) fn main(arguments: &StatusArguments) -> Exit {
    let asker = match Asker::new("status", &arguments.admin) {
        Ok(asker) => asker,
        Err(exit) => return exit,
    };
    asker.print("GET", "/status", &(), render)
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
    if let [_, _, ..] = status.worker_connections[..] {
        let counts: Vec<String> = status.worker_connections.iter().map(u64::to_string).collect();
        text.push_str(&format!("connections by worker: {}\n", counts.join(", ")));
    }
    let mut frontends = Table::new(&["APP", "FRONTEND", "ADDRESS", "STATE", "CONNECTIONS"]);
    let mut backends = backend_table();
    let mut certificates = Table::new(&["APP", "CERTIFICATE", "NAMES", "EXPIRES", "STATE"]);
    for app in &status.apps {
        for frontend in &app.frontends {
            frontends.push([
                app.name.clone(),
                frontend.name.clone(),
                frontend.address.clone().unwrap_or_else(|| "-".to_owned()),
                frontend_state(frontend),
                connections(app),
            ]);
        }
        push_certificates(&mut certificates, app);
        for backend in &app.backends {
            push_backend(&mut backends, &app.name, backend, app.panic);
        }
        for route in &app.routes {
            let name = format!("{}/{}", app.name, route.name);
            for backend in &route.backends {
                push_backend(&mut backends, &name, backend, route.panic);
            }
        }
    }
    let certificates = Some(certificates).filter(|table| !table.is_empty());
    for table in [Some(frontends), certificates, Some(backends)].into_iter().flatten() {
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

/// Adds a line for each certificate that is shown, and one for the others.
fn push_certificates(table: &mut Table, app: &AppStatus) {
    for certificate in &app.certificates {
        let name = certificate.name.as_deref().unwrap_or("-");
        let names = match certificate.names {
            0 | 1 => name.to_owned(),
            names => format!("{name} and {} more", names - 1),
        };
        table.push([
            app.name.clone(),
            certificate.file.clone(),
            names,
            certificate.expires.split('T').next().unwrap_or_default().to_owned(),
            certificate_state(certificate),
        ]);
    }
    let others = app.certificates_total.saturating_sub(app.certificates.len());
    if others > 0 {
        let (text, dash) = (format!("{others} more that expire later"), "-".to_owned());
        table.push([app.name.clone(), text, dash.clone(), dash.clone(), dash]);
    }
}

fn certificate_state(certificate: &CertificateStatus) -> String {
    match (&certificate.problem, certificate.days_left) {
        (Some(problem), _) => format!("not served: {problem}"),
        (None, ..0) => "expired".to_owned(),
        (None, 0) => "expires within a day".to_owned(),
        (None, 1) => "1 day left".to_owned(),
        (None, days) => format!("{days} days left"),
    }
}

/// Those of an app, and how many of them wait.
fn connections(app: &AppStatus) -> String {
    match app.queued {
        0 => app.connections.to_string(),
        queued => format!("{} ({queued} queued)", app.connections),
    }
}

/// An empty table of backends.
pub(super) fn backend_table() -> Table {
    Table::new(&["APP", "BACKEND", "ENDPOINT", "HEALTH", "WEIGHT", "CONNECTIONS", "TOTAL", "FAILED"])
}

/// Adds the lines of a backend, one for each of its endpoints.
pub(super) fn push_backend(table: &mut Table, app: &str, backend: &BackendStatus, is_panicking: bool) {
    for endpoint in &backend.endpoints {
        table.push([
            app.to_owned(),
            backend.name.clone(),
            endpoint.address.clone(),
            health(endpoint, is_panicking),
            weight_of(backend, endpoint),
            endpoint.connections.to_string(),
            endpoint.connections_total.to_string(),
            endpoint.connect_failures.to_string(),
        ]);
    }
    if backend.endpoints.is_empty() {
        let (address, health) = ("-".to_owned(), "unresolved".to_owned());
        table.push([app.to_owned(), backend.name.clone(), address, health, weight(backend)]);
    }
}

/// The weight of an endpoint: for a service that of its record, else that of its backend.
fn weight_of(backend: &BackendStatus, endpoint: &EndpointStatus) -> String {
    let own = (endpoint.weight, endpoint.backup);
    if backend.duty != "ready" || own == (backend.weight_override.unwrap_or(backend.weight), backend.backup) {
        return weight(backend);
    }
    format!("{}{}", endpoint.weight, if endpoint.backup { " backup" } else { "" })
}

/// The weight, or why it has none, and what is configured if that is something else.
fn weight(backend: &BackendStatus) -> String {
    let configured = backend.weight;
    let now = match (backend.duty.as_str(), backend.weight_override) {
        ("ready", None) => configured.to_string(),
        ("ready", Some(weight)) => format!("{weight} (configured: {configured})"),
        (duty, _) => duty.to_owned(),
    };
    format!("{now}{}", if backend.backup { " backup" } else { "" })
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

fn health(endpoint: &EndpointStatus, is_panicking: bool) -> String {
    let since = time(endpoint.since_seconds);
    let used = if is_panicking { ", used all the same" } else { "" };
    let left = match endpoint.ejected_seconds_left {
        Some(0.0) => ", until its next good check".to_owned(),
        Some(left) => format!(", {} left", time(left)),
        None => String::new(),
    };
    match &endpoint.reason {
        Some(reason) => format!("{} {since} ({reason}{left}){used}", endpoint.health),
        None => format!("{} {since}", endpoint.health),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::testing;

    #[test]
    fn what_an_operator_said_stands_in_the_place_of_the_weight() {
        let mut backend = testing::process().status().apps[0].backends[1].clone();
        backend.weight_override = Some(9);
        assert_eq!(weight(&backend), "9 (configured: 2) backup");
        backend.duty = "maintenance".to_owned();
        assert_eq!(weight(&backend), "maintenance backup");
    }

    #[test]
    fn connections_that_wait_are_told_apart() {
        let mut app = testing::process().status().apps.remove(0);
        app.connections = 12;
        assert_eq!(connections(&app), "12");
        app.queued = 2;
        assert_eq!(connections(&app), "12 (2 queued)");
    }

    #[test]
    fn an_endpoint_that_is_out_for_its_failures_says_for_how_long() {
        let mut endpoint = testing::process().status().apps[0].backends[0].endpoints[0].clone();
        endpoint.since_seconds = 3.0;
        endpoint.reason = Some("12 of 20 connections failed".to_owned());
        endpoint.ejected_seconds_left = Some(27.0);
        assert_eq!(health(&endpoint, false), "ejected 3s (12 of 20 connections failed, 27s left)");
        endpoint.ejected_seconds_left = Some(0.0);
        assert!(health(&endpoint, false).ends_with("failed, until its next good check)"));
    }

    #[test]
    fn the_weight_by_a_record_stands_in_the_place_of_that_of_its_backend() {
        let backend = testing::process().status().apps[0].backends[0].clone();
        let mut endpoint = backend.endpoints[0].clone();
        assert_eq!(weight_of(&backend, &endpoint), "1");
        (endpoint.weight, endpoint.backup) = (60, true);
        assert_eq!(weight_of(&backend, &endpoint), "60 backup");
    }

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
}
