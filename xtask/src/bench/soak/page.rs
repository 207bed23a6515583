//! The results of a soak as text: for the terminal, and between marks of a Markdown page.

use std::fmt::Write as _;

use super::super::page::{Marks, Table, piped, today};
use super::super::procfs;
use super::super::stats::median;
use super::apps::{CHECK_MAX, ManyApps, RELOAD_MAX};
use super::footprint::Footprint;
use super::many::ManyReloads;
use super::peers::{CHANGES, Change, Changed};
use super::traffic::{Failures, Shape};
use super::upgrades::{Upgrades, p99};
use super::windows::Windows;

pub(super) const RELOAD_MARKS: Marks = Marks {
    begin: "<!-- reloads: written by `cargo xtask soak reload --write`, do not edit -->",
    end: "<!-- end of reloads -->",
};
pub(super) const APPS_MARKS: Marks = Marks {
    begin: "<!-- many apps: written by `cargo xtask soak apps --write`, do not edit -->",
    end: "<!-- end of many apps -->",
};

pub(super) const UPGRADE_MARKS: Marks = Marks {
    begin: "<!-- upgrades: written by `cargo xtask soak upgrade --write`, do not edit -->",
    end: "<!-- end of upgrades -->",
};
pub(super) const UPGRADED_PEERS_MARKS: Marks = Marks {
    begin: "<!-- upgraded peers: written by `cargo xtask soak upgrade --write`, do not edit -->",
    end: "<!-- end of upgraded peers -->",
};

/// All that `soak reload` found.
pub(super) struct ReloadPage<'a> {
    pub(super) shape: &'a Shape,
    pub(super) engine: &'a str,
    pub(super) workers: usize,
    pub(super) seconds: f64,
    pub(super) patience: f64,
    pub(super) windows: &'a Windows,
    pub(super) many: &'a ManyReloads,
    pub(super) rows: &'a [Changed],
    pub(super) skipped: &'a [String],
}

impl ReloadPage<'_> {
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "Measured {} on {}: {} connections with a round trip of 64 B each {} ms{}; {} workers on {}.\n\n",
            today(),
            procfs::machine(),
            self.shape.connections,
            self.shape.pace.as_millis(),
            match self.shape.churn {
                0 => String::new(),
                churn => format!(", one in {churn} of them new for each round trip"),
            },
            self.workers,
            self.engine,
        );
        let _ = writeln!(text, "{}", piped(&self.windows_table()));
        let _ = writeln!(text, "{}", piped(&self.many_table()));
        let _ = writeln!(
            text,
            "{CHANGES} reloads of each within {CHANGES} seconds, seen until {:.0} s after the last one:\n\n{}",
            self.patience,
            piped(&peers_table(self.rows, Change::Reload, self.patience))
        );
        add_skipped(&mut text, self.skipped);
        text
    }

    fn windows_table(&self) -> Table {
        let windows = self.windows;
        let (without, with) = windows.p99s();
        let (longest_without, longest_with) = windows.longest_ms();
        let share = if without > 0.0 { 100.0 * (with - without) / without } else { 0.0 };
        let title = format!("windows of {} s", self.seconds);
        vec![
            line([&title, "without a reload", "with a reload", "difference"]),
            line([
                "how many",
                &windows.without.len().to_string(),
                &windows.with.len().to_string(),
                &format!("{} round trips in all", windows.round_trips()),
            ]),
            line([
                "median of the p99s",
                &format!("{without:.2} ms"),
                &format!("{with:.2} ms"),
                &format!(
                    "{share:+.0} %, {:+.2} ms (≤ 20 % or 5 ms){}",
                    with - without,
                    mark(windows.is_within_target())
                ),
            ]),
            line([
                "longest wait of any connection",
                &format!("{longest_without:.1} ms"),
                &format!("{longest_with:.1} ms"),
                "–",
            ]),
            line([
                "failed, cut, wrong bytes",
                &failures(windows.without.iter().map(|window| &window.failures)),
                &failures(windows.with.iter().map(|window| &window.failures)),
                &format!("none is allowed{}", mark(windows.failures().total() == 0)),
            ]),
            line(["`ringway reload` takes", "–", &times(&windows.reloads_ms), "–"]),
        ]
    }

    fn many_table(&self) -> Table {
        let ManyReloads { before, after, .. } = self.many;
        let title = format!("{} reloads in {:.1} minutes", self.many.count, self.many.minutes);
        let grown = |before: u64, after: u64| format!("{:+}", after as i128 - before as i128);
        let kib = |bytes: u64| bytes / 1024;
        vec![
            line([&title, "before", "after", "difference"]),
            line([
                "anonymous memory, KiB",
                &kib(before.anonymous_bytes).to_string(),
                &kib(after.anonymous_bytes).to_string(),
                &format!(
                    "{}, flat{}",
                    grown(kib(before.anonymous_bytes), kib(after.anonymous_bytes)),
                    mark(after.is_flat_since(before))
                ),
            ]),
            line([
                "descriptors",
                &before.descriptors.to_string(),
                &after.descriptors.to_string(),
                &grown(before.descriptors, after.descriptors),
            ]),
            line([
                "threads",
                &before.threads.to_string(),
                &after.threads.to_string(),
                &grown(before.threads, after.threads),
            ]),
            line([
                "failed, cut, wrong bytes",
                "–",
                &failures([&self.many.window.failures]),
                mark(self.many.window.failures.total() == 0).trim(),
            ]),
            line([
                "longest wait of any connection",
                "–",
                &format!("{:.1} ms", self.many.window.longest_ms),
                "–",
            ]),
            line(["`ringway reload` takes", "–", &times(&self.many.took_ms), "–"]),
        ]
    }
}

/// What became of Ringway and its peers, a line each.
fn peers_table(rows: &[Changed], change: Change, patience: f64) -> Table {
    // Only exchanges of the binary differ in how many there can be, and have idle connections beside them.
    let only_upgrades = |cells: [&str; 2]| match change {
        Change::Reload => Vec::new(),
        Change::Upgrade => cells.map(str::to_owned).to_vec(),
    };
    let mut head = line([""]);
    head.extend(only_upgrades(["upgrades", "idle connections lost"]));
    head.extend(line([
        "failed, cut, wrong bytes",
        "p50, p99",
        "longest wait",
        "processes before → after",
        "anonymous memory before → after",
        "old processes",
        "connections on them",
    ]));
    let mut table = vec![head];
    for row in rows {
        let old = match (row.old.processes, row.old.gone_after) {
            (0, Some(seconds)) => format!("gone after {seconds:.1} s"),
            (0, None) => "none".to_owned(),
            (count, _) => format!("{count} after {patience:.0} s"),
        };
        let mut cells = line([&row.name]);
        cells.extend(only_upgrades([&row.changes.to_string(), &row.idle_lost.to_string()]));
        cells.extend(line([
            &failures([&row.window.failures]),
            &format!("{:.1}, {:.1} ms", row.window.p50_ms, row.window.p99_ms),
            &format!("{:.1} ms", row.window.longest_ms),
            &format!("{} → {}", row.before.processes, row.after.processes),
            &format!("{} → {}", mib(&row.before), mib(&row.after)),
            &old,
            &row.old.connections.to_string(),
        ]));
        table.push(cells);
    }
    table
}

fn add_skipped(text: &mut String, skipped: &[String]) {
    for reason in skipped {
        let _ = writeln!(text, "- not run: {reason}");
    }
}

/// What `soak upgrade` found of Ringway and its peers.
pub(super) fn upgraded_peers_markdown(
    rows: &[Changed],
    shape: &Shape,
    (idle, patience): (usize, f64),
    skipped: &[String],
) -> String {
    let mut text = format!(
        "Measured {} on {}: {} connections with a round trip of 64 B each {} ms and {idle} idle ones; as many upgrades as the table says, \
         one a second, seen until {patience:.0} s after the last one:\n\n{}\n",
        today(),
        procfs::machine(),
        shape.connections,
        shape.pace.as_millis(),
        piped(&peers_table(rows, Change::Upgrade, patience))
    );
    add_skipped(&mut text, skipped);
    text
}

/// All that `soak upgrade` found.
pub(super) fn upgrades_markdown(found: &Upgrades, shape: &Shape, engine: &str, workers: usize) -> String {
    let mut text = format!(
        "Measured {} on {}: {} connections with a round trip of 64 B each {} ms, {} idle ones, one new each 2 ms; {workers} \
         workers on {engine}; {} upgrades. Pauses are as the reports say them, from the first connection taken out \
         to the new process serving; waits are what the load saw.\n\n",
        today(),
        procfs::machine(),
        shape.connections,
        shape.pace.as_millis(),
        found.idle,
        found.took_ms.len(),
    );
    let failures = found.failures();
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let middle = |values: &[f64]| median(values.iter().copied()).unwrap_or(0.0);
    let (quiet, quiet_most) = Upgrades::longest_ms(&found.without);
    let (longest, longest_most) = Upgrades::longest_ms(&found.with);
    let connects = [0, 1].map(|index| p99(&found.connects_ms[index]));
    let mut rows = vec![
        (
            "failed, cut, wrong bytes",
            format!("{}, {}, {}", failures.failed, failures.cut, failures.wrong_bytes),
            "0, 0, 0",
        ),
        ("idle connections lost", found.idle_lost.to_string(), "0"),
        ("new connections refused", found.refused.to_string(), "0"),
        ("connections that moved with each upgrade, at the least", found.moved.to_string(), ""),
        (
            "pause of an upgrade: median, p99",
            format!("{:.1}, {:.1} ms", middle(&found.pauses_ms), p99(&found.pauses_ms)),
            "p99 at most 50 ms",
        ),
        (
            "longest wait of any busy connection in a window with an upgrade: median, most",
            format!("{longest:.1}, {longest_most:.1} ms"),
            "",
        ),
        ("the same without", format!("{quiet:.1}, {quiet_most:.1} ms"), ""),
        (
            "p99 to connect: with an upgrade, without",
            format!("{:.2}, {:.2} ms", connects[1], connects[0]),
            "at most 20 ms or twice that without",
        ),
        (
            "an upgrade, from the order to serving: median, most",
            format!("{:.0}, {:.0} ms", middle(&found.took_ms), most(&found.took_ms)),
            "",
        ),
        (
            "old process gone after it served: median, most",
            format!("{:.0}, {:.0} ms", middle(&found.gone_ms), most(&found.gone_ms)),
            "at most 5 s",
        ),
    ];
    let left;
    if let Some(many) = &found.many {
        left = format!(
            "{:.1} → {:.1} MiB, {} → {} descriptors, {} → {} threads; {} processes, {} files",
            many.before.anonymous_bytes as f64 / f64::from(1 << 20),
            many.after.anonymous_bytes as f64 / f64::from(1 << 20),
            many.before.descriptors,
            many.after.descriptors,
            many.before.threads,
            many.after.threads,
            many.processes,
            many.files,
        );
        rows.push(("what many in a row leave, from the fifth to the last", left, "nothing grows"));
    }
    let mut table = String::from("| | | target |\n|---|---|---|\n");
    for (what, value, target) in rows {
        let _ = writeln!(table, "| {what} | {value} | {target} |");
    }
    text.push_str(&table);
    text
}

/// What `soak apps` found.
pub(super) fn apps_markdown(apps: &ManyApps, engine: &str) -> String {
    let met = |millis: f64, most: std::time::Duration| mark(millis < most.as_secs_f64() * 1e3);
    let table = vec![
        line([
            &format!("{} apps, a file of {} KiB", apps.count, apps.file_bytes / 1024),
            "median",
            "all",
            "target",
        ]),
        line([
            "`ringway check`",
            &format!("{:.0} ms", apps.check_ms()),
            &times(&apps.checks_ms),
            &format!("< {} ms{}", CHECK_MAX.as_millis(), met(apps.check_ms(), CHECK_MAX)),
        ]),
        line([
            "`ringway reload` with one changed app",
            &format!("{:.0} ms", apps.reload_ms()),
            &times(&apps.reloads_ms),
            &format!("< {} ms{}", RELOAD_MAX.as_millis(), met(apps.reload_ms(), RELOAD_MAX)),
        ]),
        line([
            "from start until the last app takes a connection",
            &format!("{:.0} ms", apps.start_ms),
            "–",
            "–",
        ]),
        line(["anonymous memory after that", &mib(&apps.footprint), "–", "–"]),
    ];
    format!("Measured {} on {}; one worker on {engine}.\n\n{}", today(), procfs::machine(), piped(&table))
}

fn line<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn mark(is_met: bool) -> &'static str {
    if is_met { " ✓" } else { " ✗" }
}

fn failures<'a>(all: impl IntoIterator<Item = &'a Failures>) -> String {
    let mut sum = Failures::default();
    all.into_iter().for_each(|failures| sum.add(failures));
    format!("{}, {}, {}", sum.failed, sum.cut, sum.wrong_bytes)
}

fn mib(footprint: &Footprint) -> String {
    format!("{:.1} MiB", footprint.anonymous_bytes as f64 / f64::from(1 << 20))
}

/// Least, median and most of some times.
fn times(millis: &[f64]) -> String {
    let least = millis.iter().copied().fold(f64::INFINITY, f64::min);
    let most = millis.iter().copied().fold(0.0, f64::max);
    match median(millis.iter().copied()) {
        Some(middle) => format!("{least:.1} to {most:.1} ms, median {middle:.1}"),
        None => "–".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::peers::Old;
    use super::super::traffic::Window;
    use super::*;

    fn markdown(windows: &Windows, rows: &[Changed]) -> String {
        let shape = Shape {
            loadgen: PathBuf::new(),
            cpu: 0,
            connections: 9000,
            pace: Duration::from_secs(1),
            churn: 10,
        };
        let many = ManyReloads {
            count: 136,
            minutes: 0.5,
            before: Footprint::default(),
            after: Footprint::default(),
            took_ms: vec![3.0],
            window: Window::default(),
        };
        let skipped = ["nginx: not found".to_owned()];
        ReloadPage {
            shape: &shape,
            engine: "epoll",
            workers: 2,
            seconds: 2.0,
            patience: 10.0,
            windows,
            many: &many,
            rows,
            skipped: &skipped,
        }
        .markdown()
    }

    #[test]
    fn a_cut_connection_is_seen_and_missed_targets_are_marked() {
        let failures = Failures { cut: 2, ..Failures::default() };
        let with = Window { p99_ms: 12.0, failures, ..Window::default() };
        let without = Window { p99_ms: 2.0, ..Window::default() };
        let windows = Windows { with: vec![with], without: vec![without], reloads_ms: vec![4.0] };
        let text = markdown(&windows, &[]);
        assert!(text.contains("| 0, 0, 0 | 0, 2, 0 | none is allowed ✗ |"), "{text}");
        assert!(text.contains("+500 %, +10.00 ms (≤ 20 % or 5 ms) ✗"), "{text}");
        assert!(text.contains("- not run: nginx: not found"), "{text}");
    }

    #[test]
    fn old_processes_are_gone_or_still_there() {
        let row = |old| Changed {
            name: "peer".into(),
            changes: 3,
            window: Window::default(),
            idle_lost: 5,
            before: Footprint::default(),
            after: Footprint::default(),
            old,
        };
        let gone = row(Old { gone_after: Some(1.25), ..Old::default() });
        let there = row(Old { processes: 3, connections: 8100, gone_after: None });
        let rows = [gone, there];
        let text = markdown(&Windows::default(), &rows);
        assert!(text.contains("| gone after 1.2 s | 0 |"), "{text}");
        assert!(text.contains("| 3 after 10 s | 8100 |"), "{text}");
        assert!(!text.contains("idle"), "{text}");
        let upgraded = piped(&peers_table(&rows, Change::Upgrade, 7.0));
        assert!(upgraded.contains("| peer | 3 | 5 | 0, 0, 0 |"), "{upgraded}");
        assert!(upgraded.contains("| 3 after 7 s | 8100 |"), "{upgraded}");
    }

    #[test]
    fn times_are_a_range_and_a_median() {
        assert_eq!(times(&[3.0, 1.0, 2.0]), "1.0 to 3.0 ms, median 2.0");
        assert_eq!(times(&[]), "–");
    }
}
