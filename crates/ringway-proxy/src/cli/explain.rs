//! `ringway explain`: where a client would go. A running ringway is asked; if there is none, the configuration says it
//! alone.

use std::path::{Path, PathBuf};

use ringway::Time;

use super::arguments::ExplainArguments;
use super::ask::Asker;
use super::table::Table;
use super::{complain, print, status};
use crate::config::{self, render_faults};
use crate::control::admin_client::AskError;
use crate::control::exit::Exit;
use crate::control::explain::{ExplainQuery, Explanation, explain};
use crate::snapshot::Lineage;

/// Asks and prints.
pub(super) fn main(arguments: &ExplainArguments) -> Exit {
    let query = query_of(arguments);
    match answer(arguments, &query) {
        Ok((explanation, is_live)) => {
            if arguments.admin.json {
                // Plain data can always be written.
                print(&format!("{}\n", serde_json::to_string(&explanation).unwrap_or_default()));
            } else {
                print(&render(&query.app, &explanation, is_live));
            }
            Exit::Finished
        }
        Err((exit, problem)) => {
            complain(&problem);
            exit
        }
    }
}

fn query_of(arguments: &ExplainArguments) -> ExplainQuery {
    let ExplainArguments { app, sni, alpn, client_name, host, path, protocol, source, destination, admin: _ } =
        arguments;
    ExplainQuery {
        app: app.clone(),
        protocol: protocol.clone(),
        sni: sni.clone(),
        host: host.clone(),
        alpn: alpn.clone(),
        client_name: client_name.clone(),
        path: path.clone(),
        source: source.clone(),
        destination: destination.clone(),
    }
}

/// The answer, and whether a running process gave it.
fn answer(arguments: &ExplainArguments, query: &ExplainQuery) -> Result<(Explanation, bool), (Exit, String)> {
    let named = arguments.admin.admin.is_some();
    let file: Option<PathBuf> = arguments.admin.config.clone().or_else(|| config::find(Path::new("")));
    let has_admin = match (&file, named) {
        (_, true) => true,
        (Some(file), false) => {
            let loaded = config::load(file).map_err(|faults| (Exit::Misused, render_faults(&faults)))?;
            loaded.config.admin.is_some()
        }
        (None, false) => true,
    };
    if has_admin {
        let asker = Asker::new("explain", &arguments.admin).map_err(|exit| (exit, String::new()))?;
        match asker.look("/explain", query) {
            Ok(explanation) => return Ok((explanation, true)),
            // Nobody runs: the configuration knows all but what is up.
            Err(AskError::Unreachable(_)) if !named && file.is_some() => {}
            Err(problem) => return Err((Exit::Failed, format!("ringway explain: {problem}"))),
        }
    }
    let file = file.unwrap_or_default();
    let loaded = config::load(&file).map_err(|faults| (Exit::Misused, render_faults(&faults)))?;
    let snapshot = Lineage::new(loaded.config).current();
    let app = snapshot.apps().find(|app| **app.name() == *query.app);
    let app = app.ok_or_else(|| {
        (Exit::Failed, format!("ringway explain: no app is called \"{}\" in {}", query.app, file.display()))
    })?;
    let explanation = explain(app, query, Time::ZERO)
        .map_err(|refusal| (Exit::Misused, format!("ringway explain: {refusal}")))?;
    Ok((explanation, false))
}

fn is_one_up(explanation: &Explanation) -> bool {
    let mut backends = explanation.backends.iter().filter(|backend| backend.duty == "ready");
    backends.any(|backend| backend.endpoints.iter().any(|endpoint| endpoint.health == "up"))
}

fn render(app: &str, explanation: &Explanation, is_live: bool) -> String {
    let mut text = String::new();
    if !explanation.routes.is_empty() {
        let mut table = Table::new(&["", "ROUTE", "WHY NOT"]);
        for route in &explanation.routes {
            let is_taken = explanation.route.as_deref() == Some(route.name.as_str());
            let why = match (&route.mismatch, is_taken) {
                (Some(mismatch), _) => mismatch.clone(),
                (None, true) => String::new(),
                (None, false) => "an earlier one fits".to_owned(),
            };
            let mark = if is_taken { ">" } else { "" };
            table.push([mark.to_owned(), route.name.clone(), why]);
        }
        text.push_str(&table.render());
        text.push('\n');
    }
    let spoken = explanation.protocol.as_deref().map(|word| format!(" as {word}")).unwrap_or_default();
    match (&explanation.route, &explanation.reason) {
        (Some(route), _) => text.push_str(&format!("goes{spoken} by the route {route}")),
        (None, None) => text.push_str(&format!("goes{spoken} to the backends of {app} itself")),
        (None, Some(reason)) => text.push_str(&format!("is refused{spoken}: {reason}")),
    }
    if explanation.reason.is_none() {
        let balance = explanation.balance.as_deref().unwrap_or_default();
        match &explanation.choice {
            Some(address) if is_live => text.push_str(&format!(", to {address} ({balance})")),
            None if is_live && !is_one_up(explanation) => {
                text.push_str(&format!(", where no backend is available ({balance})"));
            }
            _ => text.push_str(&format!(", to one of these ({balance})")),
        }
    }
    text.push('\n');
    if !explanation.backends.is_empty() && is_live {
        let mut table = status::backend_table();
        let name =
            explanation.route.as_ref().map_or_else(|| app.to_owned(), |route| format!("{app}/{route}"));
        for backend in &explanation.backends {
            status::push_backend(&mut table, &name, backend, false);
        }
        text.push_str(&format!("\n{}", table.render()));
    } else if !explanation.backends.is_empty() {
        text.push_str("\nnobody runs, so that it is not known which of them are up:\n");
        for backend in &explanation.backends {
            text.push_str(&format!("  {} (weight {})\n", backend.name, backend.weight));
        }
    }
    text
}
