//! `ringway connections` and `ringway kill`: the connections of a running ringway.

use super::arguments::{ConnectionsArguments, FilterArguments, KillArguments};
use super::ask::Asker;
use super::table::Table;
use super::units::{bytes, count, time};
use crate::control::exit::Exit;
use crate::control::operator::{ConnectionList, ConnectionStatus, ConnectionsQuery, Killed, OldProcess};

/// Lists.
pub(super) fn list(arguments: &ConnectionsArguments) -> Exit {
    let query =
        ConnectionsQuery { limit: usize::try_from(arguments.limit).ok(), ..query_of(&arguments.filter) };
    let render = if query.generation.is_some() { render_old } else { render };
    match Asker::new("connections", &arguments.admin) {
        Ok(asker) => asker.print("GET", "/connections", &query, render),
        Err(exit) => exit,
    }
}

/// Ends.
pub(super) fn kill(arguments: &KillArguments) -> Exit {
    let query = ConnectionsQuery { all: arguments.all.then_some(true), ..query_of(&arguments.filter) };
    if (ConnectionsQuery { generation: None, ..query.clone() }) == ConnectionsQuery::default() {
        super::complain("ringway kill: say which connections, or --all");
        return Exit::Misused;
    }
    match Asker::new("kill", &arguments.admin) {
        Ok(asker) => asker.print("DELETE", "/connections", &query, |Killed { killed }| {
            format!("{} killed\n", count(*killed, "connection"))
        }),
        Err(exit) => exit,
    }
}

fn query_of(filter: &FilterArguments) -> ConnectionsQuery {
    let FilterArguments { app, route, backend, source, older_than, id, generation } = filter;
    ConnectionsQuery {
        app: app.clone(),
        route: route.clone(),
        backend: backend.clone(),
        source: source.clone(),
        older_than: older_than.clone(),
        id: *id,
        limit: None,
        all: None,
        generation: generation.clone(),
    }
}

fn render(list: &ConnectionList) -> String {
    let heads = [
        "ID",
        "APP",
        "ROUTE",
        "FRONTEND",
        "CLIENT",
        "ASKED FOR",
        "BACKEND",
        "PHASE",
        "AGE",
        "IDLE",
        "SENT",
        "RECEIVED",
    ];
    let mut table = Table::new(&heads);
    for connection in &list.connections {
        table.push([
            connection.id.to_string(),
            connection.app.clone(),
            connection.route.clone().unwrap_or_else(|| "-".to_owned()),
            connection.frontend.clone(),
            connection.client.clone(),
            asked_for(connection),
            backend(connection.backend.as_deref(), connection.endpoint.as_deref()),
            connection.phase.clone(),
            time(connection.age_seconds),
            connection.idle_seconds.map_or_else(|| "-".to_owned(), time),
            bytes(connection.bytes_sent),
            bytes(connection.bytes_received),
        ]);
    }
    let listed = list.connections.len() as u64;
    if listed == 0 {
        return format!("{}\n", count(list.matched, "connection"));
    }
    let mut text = table.render();
    if listed < list.matched {
        text.push_str(&format!("{listed} of {} connections; --limit lists more\n", list.matched));
    }
    text
}

/// Of old processes: what is still alive in them, why, and for how long.
fn render_old(list: &ConnectionList) -> String {
    if list.processes.is_empty() {
        return "no old process is left\n".to_owned();
    }
    let heads =
        ["GENERATION", "ID", "APP", "CLIENT", "BACKEND", "PHASE", "AGE", "IDLE", "SENT", "RECEIVED", "WHY"];
    let mut table = Table::new(&heads);
    for connection in &list.connections {
        table.push([
            connection.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
            connection.id.to_string(),
            connection.app.clone(),
            connection.client.clone(),
            backend(connection.backend.as_deref(), connection.endpoint.as_deref()),
            connection.phase.clone(),
            time(connection.age_seconds),
            connection.idle_seconds.map_or_else(|| "-".to_owned(), time),
            bytes(connection.bytes_sent),
            bytes(connection.bytes_received),
            connection.why.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    let listed = list.connections.len() as u64;
    let mut text = if listed > 0 { table.render() } else { String::new() };
    if listed < list.matched {
        text.push_str(&format!("{listed} of {} connections; --limit lists more\n", list.matched));
    }
    for OldProcess { generation, pid, seconds_left, error } in &list.processes {
        let rest = match (seconds_left, error) {
            (_, Some(error)) => format!("cannot be asked: {error}"),
            (Some(seconds), None) => format!("cuts what is left in {}", time(*seconds)),
            (None, None) => "ends".to_owned(),
        };
        text.push_str(&format!("process {pid} of generation {generation} {rest}\n"));
    }
    text
}

/// The host that a client named, or what else is known of its first bytes.
fn asked_for(connection: &ConnectionStatus) -> String {
    let known = [&connection.sni, &connection.host, &connection.protocol];
    known.into_iter().flatten().next().cloned().unwrap_or_else(|| "-".to_owned())
}

/// A backend that is named by host, with the address that was dialled.
fn backend(name: Option<&str>, endpoint: Option<&str>) -> String {
    match (name, endpoint) {
        (Some(name), Some(endpoint)) if name != endpoint => format!("{name} ({endpoint})"),
        (Some(name), _) => name.to_owned(),
        (None, _) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_connection_and_says_what_it_leaves_out() {
        let one = ConnectionStatus {
            id: 7,
            worker: 1,
            app: "app".to_owned(),
            route: Some("api".to_owned()),
            protocol: Some("tls".to_owned()),
            sni: Some("a.example".to_owned()),
            host: None,
            alpn: None,
            frontend: ":80".to_owned(),
            client: "192.0.2.1:5000".to_owned(),
            backend: Some("db:5432".to_owned()),
            endpoint: Some("10.0.0.1:5432".to_owned()),
            phase: "relaying".to_owned(),
            age_seconds: 61.0,
            idle_seconds: Some(2.5),
            bytes_sent: 10,
            bytes_received: 2048,
            generation: None,
            why: None,
        };
        let new = ConnectionStatus {
            id: 8,
            route: None,
            protocol: None,
            sni: None,
            backend: None,
            endpoint: None,
            phase: "waiting".to_owned(),
            idle_seconds: None,
            bytes_received: 0,
            ..one.clone()
        };
        let list = ConnectionList { matched: 5, connections: vec![one, new], processes: Vec::new() };
        assert_eq!(
            render(&list),
            "ID  APP  ROUTE  FRONTEND  CLIENT          ASKED FOR  BACKEND                  PHASE     AGE   IDLE  SENT  \
             RECEIVED\n\
             7   app  api    :80       192.0.2.1:5000  a.example  db:5432 (10.0.0.1:5432)  relaying  1m1s  2s    10 B  \
             2.0 KiB\n\
             8   app  -      :80       192.0.2.1:5000  -          -                        waiting   1m1s  -     10 B  \
             0 B\n\
             2 of 5 connections; --limit lists more\n"
        );
        assert_eq!(render(&ConnectionList::default()), "0 connections\n");

        let [mut old, _] = <[ConnectionStatus; 2]>::try_from(list.connections).expect("two");
        (old.generation, old.why) = (Some(2), Some("no app of its name".to_owned()));
        let alive = OldProcess { generation: 2, pid: 77, seconds_left: Some(28.4), error: None };
        let hung = OldProcess {
            generation: 1,
            pid: 70,
            seconds_left: None,
            error: Some("no ringway answers: timed out".to_owned()),
        };
        let list = ConnectionList { matched: 1, connections: vec![old], processes: vec![alive, hung] };
        assert_eq!(
            render_old(&list),
            "GENERATION  ID  APP  CLIENT          BACKEND                  PHASE     AGE   IDLE  SENT  RECEIVED  WHY\n\
             2           7   app  192.0.2.1:5000  db:5432 (10.0.0.1:5432)  relaying  1m1s  2s    10 B  2.0 KiB   \
             no app of its name\n\
             process 77 of generation 2 cuts what is left in 28s\n\
             process 70 of generation 1 cannot be asked: no ringway answers: timed out\n"
        );
        assert_eq!(render_old(&ConnectionList::default()), "no old process is left\n");
    }
}
