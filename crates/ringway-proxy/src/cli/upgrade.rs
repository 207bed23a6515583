//! `ringway upgrade`: another process takes over, and a line for each step tells how.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::arguments::UpgradeArguments;
use super::ask::Asker;
use super::table::Table;
use super::units::{count, time};
use super::{complain, print};
use crate::control::exit::Exit;
use crate::control::upgrade::{JournalLine, ReportPage, UpgradeQuery};

/// Orders it, and tells until it is over.
pub(super) fn main(arguments: &UpgradeArguments) -> Exit {
    let asker = match Asker::new("upgrade", &arguments.admin) {
        Ok(asker) => asker,
        Err(exit) => return exit,
    };
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let query =
        UpgradeQuery { binary: arguments.binary.as_ref().map(absolute), timeout: arguments.timeout.clone() };
    let mut end = None;
    let asked = asker.follow("POST", "/upgrade", &query, |line: JournalLine, text| {
        if arguments.admin.json {
            print(&format!("{text}\n"));
        }
        match line {
            JournalLine::Step(step) if !arguments.admin.json => {
                print(&format!("{:>8.3}s  {:<10}{}\n", step.seconds, step.step, step.text));
            }
            JournalLine::Step(_) => {}
            line => end = Some(line),
        }
    });
    match (asked, end) {
        (Err(exit), _) => exit,
        (Ok(()), Some(JournalLine::Report(report))) => {
            if !arguments.admin.json {
                print(&render(&report));
            }
            Exit::Finished
        }
        (Ok(()), Some(JournalLine::Refused { error })) => {
            complain(&format!("ringway upgrade: called off, the old process serves on: {error}"));
            Exit::Failed
        }
        (Ok(()), _) => {
            complain("ringway upgrade: the process ended before it said what came of it");
            Exit::Failed
        }
    }
}

fn render(report: &ReportPage) -> String {
    let kinds: BTreeSet<&String> =
        report.moved.keys().chain(report.left.keys()).chain(report.refused.keys()).collect();
    let mut text = String::new();
    if !kinds.is_empty() {
        let mut table = Table::new(&["CONNECTIONS", "MOVED", "LEFT", "REFUSED"]);
        for kind in kinds {
            let number =
                |of: &std::collections::BTreeMap<String, u64>| of.get(kind).copied().unwrap_or(0).to_string();
            table.push([kind.clone(), number(&report.moved), number(&report.left), number(&report.refused)]);
        }
        text = table.render();
    }
    let left: u64 = report.left.values().chain(report.refused.values()).sum();
    if let Some(seconds) = report.drain_seconds {
        text.push_str(&format!(
            "{} in process {}, which cuts what is left after {}: `ringway connections --generation old`\n",
            if left == 1 { "1 connection finishes".to_owned() } else { format!("{left} connections finish") },
            report.old_pid,
            time(seconds)
        ));
    }
    let moved = report.moved.values().sum();
    text.push_str(&format!(
        "process {} serves with {} {}, {} moved, paused for {:.1} ms; process {} is done after {:.3} s\n",
        report.new_pid,
        report.binary.display(),
        report.program,
        count(moved, "connection"),
        report.pause_seconds * 1e3,
        report.old_pid,
        report.seconds
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_connection_has_its_line() {
        let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect();
        let report = ReportPage {
            old_pid: 7,
            new_pid: 8,
            binary: "/usr/bin/ringway".into(),
            program: "0.2.0".to_owned(),
            copied_ahead: 7990,
            moved: counts(&[("relaying", 8000), ("waiting", 1)]),
            left: counts(&[("closing", 2)]),
            refused: counts(&[]),
            drain_seconds: Some(30.0),
            pause_seconds: 0.0213,
            seconds: 0.412,
        };
        assert_eq!(
            render(&report),
            "CONNECTIONS  MOVED  LEFT  REFUSED\n\
             closing      0      2     0\n\
             relaying     8000   0     0\n\
             waiting      1      0     0\n\
             2 connections finish in process 7, which cuts what is left after 30s: \
             `ringway connections --generation old`\n\
             process 8 serves with /usr/bin/ringway 0.2.0, 8001 connections moved, paused for 21.3 ms; \
             process 7 is done after 0.412 s\n"
        );
    }
}
