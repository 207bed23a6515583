//! `ringway plan`, `reload`, `versions` and `rollback`: other configurations for a running ringway.

use super::arguments::{
    AdminArguments, PlanArguments, ReloadArguments, RollbackArguments, VersionsArguments,
};
use super::ask::Asker;
use super::complain;
use super::table::Table;
use crate::config::{self, Format, Loaded};
use crate::control::admin::configuration::{FILES, FilesPage, PlanQuery, RollbackQuery};
use crate::control::admin_client::Body;
use crate::control::exit::Exit;
use crate::control::reload::{Outcome, VersionsPage};
use crate::plan::{AppChange, Difference, Kind};

/// Has the file read again, and prints what changed or every fault.
pub(super) fn reload(arguments: &ReloadArguments) -> Exit {
    match Asker::new("reload", &arguments.admin) {
        Ok(asker) => asker.print("POST", "/reload", &(), render_outcome),
        Err(exit) => exit,
    }
}

/// Prints what a reload would change.
pub(super) fn plan(arguments: &PlanArguments) -> Exit {
    let PlanArguments { config, admin, json } = arguments;
    // Whoever is named to be asked, the configuration is read here too: its faults are told without a process.
    let loaded = match config.as_deref().map(config::load).transpose() {
        Ok(loaded) => loaded,
        Err(errors) => {
            complain(&config::render_faults(&errors));
            return Exit::Misused;
        }
    };
    let whom = match admin {
        Some(_) => AdminArguments { config: None, admin: admin.clone(), json: *json },
        None => AdminArguments { config: config.clone(), admin: None, json: *json },
    };
    let asker = match Asker::new("plan", &whom) {
        Ok(asker) => asker,
        Err(exit) => return exit,
    };
    let Some(Loaded { path, format, text, fragments, .. }) = loaded else {
        return asker.print("POST", "/plan", &PlanQuery::default(), render_plan);
    };
    let query = PlanQuery { name: Some(path.display().to_string()) };
    let (content_type, text) = match (fragments, format) {
        (Some(fragments), _) => match serde_json::to_string(&FilesPage { format, text, fragments }) {
            Ok(page) => (FILES, page),
            // The path of a fragment is no text.
            Err(error) => {
                complain(&format!("ringway plan: {}: {error}", path.display()));
                return Exit::Failed;
            }
        },
        (None, Format::Toml) => ("application/toml", text),
        (None, Format::Yaml) => ("application/yaml", text),
        (None, Format::Json) => ("application/json", text),
    };
    let body = Body { content_type, bytes: text.as_bytes() };
    asker.print_answer_to("POST", "/plan", &query, Some(body), render_plan)
}

/// Prints the versions.
pub(super) fn versions(arguments: &VersionsArguments) -> Exit {
    match Asker::new("versions", &arguments.admin) {
        Ok(asker) => asker.print("GET", "/versions", &(), render_versions),
        Err(exit) => exit,
    }
}

/// Goes back to an earlier version, and prints what changed by that.
pub(super) fn rollback(arguments: &RollbackArguments) -> Exit {
    match Asker::new("rollback", &arguments.admin) {
        Ok(asker) => {
            asker.print("POST", "/rollback", &RollbackQuery { version: arguments.version }, render_outcome)
        }
        Err(exit) => exit,
    }
}

fn render_outcome(outcome: &Outcome) -> String {
    if outcome.is_new {
        let changes = render_difference(&outcome.difference);
        format!("version {} runs\n{changes}{}", outcome.version, render_warnings(outcome))
    } else {
        format!("version {} runs: nothing has changed\n{}", outcome.version, render_warnings(outcome))
    }
}

fn render_plan(outcome: &Outcome) -> String {
    let version = outcome.version;
    if !outcome.is_new {
        return format!("version {version} runs: nothing would change\n{}", render_warnings(outcome));
    }
    let Difference { unchanged, .. } = outcome.difference;
    format!(
        "version {version} runs; a reload would change:\n{}{unchanged} unchanged\n{}",
        render_difference(&outcome.difference),
        render_warnings(outcome)
    )
}

/// A line for each app, and below it one for each difference.
fn render_difference(difference: &Difference) -> String {
    let mut text = String::new();
    for change in &difference.apps {
        text.push_str(&render_app(change));
        for detail in &change.details {
            text.push_str(&format!("  {}", detail.what));
            if !detail.effect.is_empty() {
                text.push_str(&format!(" ({}: {})", connections(detail.connections), detail.effect));
            }
            text.push('\n');
        }
    }
    text
}

fn render_app(change: &AppChange) -> String {
    let AppChange { app, kind, connections: open, touched, .. } = change;
    match kind {
        Kind::Added => format!("added {app}\n"),
        Kind::Changed | Kind::Removed => {
            format!("{} {app}: {touched} of {} touched\n", kind.as_str(), connections(*open))
        }
    }
}

fn connections(count: u32) -> String {
    format!("{count} connection{}", if count == 1 { "" } else { "s" })
}

fn render_warnings(outcome: &Outcome) -> String {
    outcome.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect()
}

fn render_versions(page: &VersionsPage) -> String {
    let mut table = Table::new(&["VERSION", "TIME", "ORIGIN", "DIFFERENCE"]);
    for version in &page.versions {
        let running = if version.is_running { "*" } else { "" };
        table.push([
            format!("{}{running}", version.version),
            version.time.clone(),
            version.origin.clone(),
            version.summary.clone(),
        ]);
    }
    let mut text = table.render();
    if page.binaries.len() > 1 {
        let mut table = Table::new(&["GENERATION", "TIME", "PID", "PROGRAM", "BINARY"]);
        for (place, binary) in page.binaries.iter().enumerate() {
            let running = if place + 1 == page.binaries.len() { "*" } else { "" };
            table.push([
                format!("{}{running}", binary.generation),
                binary.time.clone(),
                binary.pid.to_string(),
                binary.program.clone(),
                binary.path.clone(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reload::{BinaryPage, VersionPage};
    use crate::plan::Detail;

    fn outcome() -> Outcome {
        let detail = |what: &str, connections, effect: &str| Detail {
            what: what.to_owned(),
            connections,
            effect: effect.to_owned(),
        };
        let change = |app: &str, kind, connections, touched, details| AppChange {
            app: app.to_owned(),
            kind,
            connections,
            touched,
            details,
        };
        Outcome {
            version: 4,
            is_new: true,
            difference: Difference {
                apps: vec![
                    change(
                        "web",
                        Kind::Changed,
                        9,
                        2,
                        vec![
                            detail("- backend 10.0.0.1:80", 2, "kept until they end"),
                            detail("+ backend 10.0.0.2:80", 0, ""),
                        ],
                    ),
                    change("new", Kind::Added, 0, 0, vec![detail("+ listen :81", 0, "")]),
                    change("old", Kind::Removed, 1, 1, vec![]),
                ],
                unchanged: 3,
            },
            warnings: vec!["server.workers changes with a restart only".to_owned()],
        }
    }

    const CHANGES: &str = "changed web: 2 of 9 connections touched\n  \
                           - backend 10.0.0.1:80 (2 connections: kept until they end)\n  \
                           + backend 10.0.0.2:80\n\
                           added new\n  + listen :81\n\
                           removed old: 1 of 1 connection touched\n";

    #[test]
    fn every_app_that_changed_has_its_lines() {
        let warning = "warning: server.workers changes with a restart only\n";
        assert_eq!(render_outcome(&outcome()), format!("version 4 runs\n{CHANGES}{warning}"));
        assert_eq!(
            render_plan(&outcome()),
            format!("version 4 runs; a reload would change:\n{CHANGES}3 unchanged\n{warning}")
        );
        let same = Outcome { version: 4, ..Outcome::default() };
        assert_eq!(render_outcome(&same), "version 4 runs: nothing has changed\n");
        assert_eq!(render_plan(&same), "version 4 runs: nothing would change\n");
    }

    #[test]
    fn running_version_is_marked() {
        let version = |version, is_running| VersionPage {
            version,
            time: "2026-11-21T09:00:00Z".to_owned(),
            origin: "reload".to_owned(),
            summary: "1 app changed".to_owned(),
            is_running,
        };
        let mut page =
            VersionsPage { versions: vec![version(1, false), version(2, true)], binaries: Vec::new() };
        assert_eq!(
            render_versions(&page),
            "VERSION  TIME                  ORIGIN  DIFFERENCE\n\
             1        2026-11-21T09:00:00Z  reload  1 app changed\n\
             2*       2026-11-21T09:00:00Z  reload  1 app changed\n"
        );
        let binary = |generation, pid, program: &str| BinaryPage {
            generation,
            pid,
            program: program.to_owned(),
            path: format!("/opt/ringway-{program}"),
            time: "2026-11-21T09:00:00Z".to_owned(),
        };
        page.binaries = vec![binary(1, 7, "0.1.0"), binary(2, 12_345, "0.2.0")];
        let text = render_versions(&page);
        assert!(
            text.ends_with(
                "\n\
                 GENERATION  TIME                  PID    PROGRAM  BINARY\n\
                 1           2026-11-21T09:00:00Z  7      0.1.0    /opt/ringway-0.1.0\n\
                 2*          2026-11-21T09:00:00Z  12345  0.2.0    /opt/ringway-0.2.0\n"
            ),
            "{text}"
        );
    }
}
