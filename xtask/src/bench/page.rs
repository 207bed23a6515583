//! The results: as tables in the terminal, and as the generated part of a Markdown page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::edge::Edge;
use super::procfs;
use super::rows::{FLAT, Measure, ROWS, Row};
use super::stats::{Samples, least, median};
use super::variants::{VARIANTS, Variant};

/// What stands between these lines of a page is replaced.
const MARKS: Marks = Marks {
    begin: "<!-- results: written by `cargo xtask bench --write`, do not edit -->",
    end: "<!-- end of results -->",
};
const TLS_MARKS: Marks = Marks {
    begin: "<!-- results of TLS: written by `cargo xtask bench --write`, do not edit -->",
    end: "<!-- end of results of TLS -->",
};

/// Rows that stand together on a page, each family in a place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Bytes as they are.
    Relay,
    /// TLS, ended or looked into.
    Tls,
}

impl Family {
    fn rows(self) -> impl Iterator<Item = &'static Row> {
        ROWS.iter().filter(move |row| (row.edge == Edge::Plain) == (self == Self::Relay))
    }
}

/// Lines of a page that hold a generated part between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) begin: &'static str,
    pub(super) end: &'static str,
}

impl Marks {
    /// Puts `results` into the page at `path`: between the marks, or at its end.
    pub(super) fn write(self, path: &Path, results: &str) -> Result<(), String> {
        let fail = |error: std::io::Error| format!("{}: {error}", path.display());
        let old = if path.exists() { fs::read_to_string(path).map_err(fail)? } else { String::new() };
        fs::write(path, replaced(&old, self, results)).map_err(fail)
    }
}

/// Everything that is told of a run.
pub(super) struct Page<'a> {
    pub(super) family: Family,
    pub(super) samples: &'a Samples,
    pub(super) versions: &'a [(Variant, String)],
    pub(super) skipped: &'a [String],
    /// Rows that a variant cannot do.
    pub(super) unable: &'a [String],
}

/// A head and lines, all of the same number of cells.
pub(super) type Table = Vec<Vec<String>>;

impl Page<'_> {
    pub(super) fn terminal(&self) -> String {
        let mut text = String::new();
        for table in [self.medians(), self.ratios()] {
            text += &aligned(&table);
            text.push('\n');
        }
        text
    }

    /// Puts the results into the page at `path`: between its marks, or at its end.
    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        let marks = match self.family {
            Family::Relay => MARKS,
            Family::Tls => TLS_MARKS,
        };
        marks.write(path, &self.markdown())
    }

    /// Nothing of these rows was measured.
    pub(super) fn is_empty(&self) -> bool {
        self.columns().is_empty()
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "Measured {} on {}.\n", today(), procfs::machine());
        let columns = self.columns();
        for (variant, version) in self.versions.iter().filter(|(variant, _)| columns.contains(variant)) {
            let _ = writeln!(text, "- `{}`: {version}", variant.name());
        }
        let unable = if self.family == Family::Tls { self.unable } else { &[] };
        for reason in self.skipped.iter().chain(unable) {
            let _ = writeln!(text, "- not run: {reason}");
        }
        // Headings of a page are its anchors: no two may be the same.
        let of = if self.family == Family::Tls { ", TLS" } else { "" };
        let _ = writeln!(
            text,
            "\n### Medians of {} rounds{of}\n\nLess is better.\n\n{}",
            self.rounds(),
            piped(&self.medians())
        );
        let _ = writeln!(
            text,
            "### Against the targets{of}\n\nMedians of the ratios within a round.\n\n{}",
            piped(&self.ratios())
        );
        let _ = writeln!(text, "### Least values, rates and latencies{of}\n\n{}", piped(&self.details()));
        let tables =
            [("Kernel memory of an idle relayed connection", self.kernel()), ("Tickets", self.tickets())];
        for (title, table) in tables {
            if table.len() > 1 {
                let _ = writeln!(text, "### {title}{of}\n\n{}", piped(&table));
            }
        }
        text
    }

    /// The most samples that any cell has.
    fn rounds(&self) -> usize {
        let cells = self.family.rows().flat_map(|row| {
            VARIANTS.into_iter().map(|variant| self.samples.cell(row.name, variant.name()).len())
        });
        cells.max().unwrap_or(0)
    }

    /// Tickets that a handshake brings: who sends fewer has less to do.
    fn tickets(&self) -> Table {
        let mut table: Table = vec![["workload", "variant", "a handshake"].map(str::to_owned).to_vec()];
        for row in self.family.rows() {
            for variant in self.columns() {
                let cell = self.samples.cell(row.name, variant.name());
                if let Some(tickets) = median(cell.iter().filter_map(|sample| sample.tickets)) {
                    table.push(vec![row.name.into(), variant.name().into(), format!("{tickets:.2}")]);
                }
            }
        }
        table
    }

    /// Variants that have any sample.
    fn columns(&self) -> Vec<Variant> {
        let has_any = |variant: &Variant| self.family.rows().any(|row| self.value(row, *variant).is_some());
        VARIANTS.into_iter().filter(has_any).collect()
    }

    fn value(&self, row: &Row, variant: Variant) -> Option<f64> {
        self.samples.value(row.name, variant.name())
    }

    /// How many times as much the one costs as the other.
    fn quotient(&self, row: &Row, over: Variant, under: Variant) -> Option<f64> {
        if row.measure == Measure::CpuOverPlain {
            // Of differences near zero, which may be below it.
            return None;
        }
        self.samples.ratio(row.name, over.name(), under.name())
    }

    /// What limits, lists and health checks cost: at most 3 % of a message, 5 % of a connection.
    fn guarded(&self, row: &Row) -> String {
        let quotient = self.quotient(row, Variant::Guarded, Variant::Epoll);
        let Some(quotient) = quotient.filter(|_| is_cpu(row)) else { return "–".into() };
        let most = if row.name.starts_with("connections") { 1.05 } else { 1.03 };
        format!("{quotient:.2}{}", mark(quotient <= most))
    }

    /// What the ratios would be of a proxy that cost nothing but its system calls.
    fn floor(&self, row: &Row) -> String {
        let Some((_, best)) = self.best(row, Variant::Bare).filter(|_| is_cpu(row)) else {
            return "–".into();
        };
        format!(
            "{}, {}",
            ratio(self.quotient(row, Variant::Haproxy, Variant::Bare), None),
            ratio(Some(best), None)
        )
    }

    /// The peer that comes closest to this variant, or is furthest ahead of it.
    fn best(&self, row: &Row, ours: Variant) -> Option<(Variant, f64)> {
        let peers = VARIANTS.into_iter().filter(|variant| variant.is_peer());
        peers
            .filter_map(|peer| Some((peer, self.quotient(row, peer, ours)?)))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    fn medians(&self) -> Table {
        let columns = self.columns();
        let names = columns.iter().map(|variant| variant.name().to_owned());
        let mut table: Table =
            vec![["workload".to_owned(), "unit".to_owned()].into_iter().chain(names).collect()];
        for row in self.family.rows() {
            let cells: Vec<String> = columns.iter().map(|variant| self.cell(row, *variant)).collect();
            if cells.iter().any(|cell| cell != "–") {
                let head = [row.title.to_owned(), row.measure.unit().to_owned()];
                table.push(head.into_iter().chain(cells).collect());
            }
        }
        table
    }

    fn cell(&self, row: &Row, variant: Variant) -> String {
        let Some(value) = self.value(row, variant) else { return "–".into() };
        let errors: u64 =
            self.samples.cell(row.name, variant.name()).iter().map(|sample| sample.errors).sum();
        let mark = if errors > 0 { format!(" ({errors} errors)") } else { String::new() };
        row.measure.format(value) + &mark
    }

    /// Peer ÷ Ringway, with the target and whether it is met.
    fn ratios(&self) -> Table {
        let head = [
            "workload",
            "÷ haproxy",
            "÷ best",
            "tuned ÷ tuned haproxy",
            "at most",
            "io_uring ÷ epoll",
            "guarded ÷ plain",
            "bare: ÷ haproxy, ÷ best",
        ];
        let mut table: Table = vec![head.map(str::to_owned).to_vec()];
        for row in self.family.rows() {
            let ours = if row.target.by_tuned { Variant::Tuned } else { Variant::IoUring };
            let cells = [
                ratio(self.quotient(row, Variant::Haproxy, ours), row.target.haproxy),
                match self.best(row, ours) {
                    Some((peer, quotient)) => {
                        format!("{} {}", ratio(Some(quotient), row.target.best), peer.name())
                    }
                    None => "–".into(),
                },
                match row.target.tuned {
                    Some(_) => {
                        let quotient = self.quotient(row, Variant::HaproxyTuned, Variant::Tuned);
                        ratio(quotient, row.target.tuned)
                    }
                    None => "–".into(),
                },
                self.at_most(row),
                match self.quotient(row, Variant::IoUring, Variant::Epoll) {
                    Some(quotient) if is_cpu(row) => format!("{quotient:.2}{}", mark(quotient <= 1.1)),
                    _ => "–".into(),
                },
                self.guarded(row),
                self.floor(row),
            ];
            if cells.iter().any(|cell| cell != "–") {
                table.push(std::iter::once(row.title.to_owned()).chain(cells).collect());
            }
        }
        if self.family == Family::Relay {
            table.extend(self.flatness());
        }
        table
    }

    fn at_most(&self, row: &Row) -> String {
        let Some((epoll, uring)) = row.target.at_most else { return "–".into() };
        let cells =
            [(Variant::Epoll, epoll), (Variant::IoUring, uring)].into_iter().filter_map(|(variant, most)| {
                let value = self.value(row, variant)?;
                Some(format!("{} (≤ {most}){}", row.measure.format(value), mark(value <= most)))
            });
        let text = cells.collect::<Vec<_>>().join(", ");
        if text.is_empty() { "–".into() } else { text }
    }

    /// Whether the cost of a message stays flat as connections grow.
    fn flatness(&self) -> Option<Vec<String>> {
        let (few, many, most) = FLAT;
        // These rows are measured one after the other, so that their rounds are no pairs.
        let growth = |variant: Variant| {
            Some(self.samples.value(many, variant.name())? / self.samples.value(few, variant.name())?)
        };
        let cells = [Variant::Epoll, Variant::IoUring].into_iter().filter_map(|variant| {
            growth(variant).map(|by| format!("{by:.2} (≤ {most}){}", mark(by <= most)))
        });
        let text = cells.collect::<Vec<_>>().join(", ");
        let others = |variant| growth(variant).map_or("–".to_owned(), |by| format!("(its own: {by:.2})"));
        (!text.is_empty()).then(|| {
            let title = "cost per 64 B round trip, 9,000 ÷ 64 connections";
            let none = || "–".to_owned();
            let (haproxy, bare) = (others(Variant::Haproxy), others(Variant::Bare));
            vec![title.into(), haproxy, none(), none(), text, none(), none(), bare]
        })
    }

    fn details(&self) -> Table {
        let head =
            ["workload", "variant", "median", "least", "rounds", "rate /s", "p50 µs", "p99 µs", "load busy"];
        let mut table: Table = vec![head.map(str::to_owned).to_vec()];
        for row in self.family.rows() {
            for variant in self.columns() {
                let cell = self.samples.cell(row.name, variant.name());
                let Some(lowest) = least(cell.iter().map(|sample| sample.value)) else { continue };
                let middle = |of: fn(&super::Sample) -> Option<f64>| median(cell.iter().filter_map(of));
                let shown = |value: Option<f64>| match value {
                    Some(value) if value > 0.0 => format!("{value:.3}"),
                    _ => "–".into(),
                };
                let load = middle(|sample| (sample.load_share > 0.0).then_some(100.0 * sample.load_share));
                table.push(vec![
                    row.name.into(),
                    variant.name().into(),
                    self.cell(row, variant),
                    row.measure.format(lowest),
                    cell.len().to_string(),
                    shown(middle(|sample| Some(sample.rate))),
                    shown(middle(|sample| sample.p50_us)),
                    shown(middle(|sample| sample.p99_us)),
                    load.map_or("–".into(), |share| format!("{share:.0} %")),
                ]);
            }
        }
        table
    }

    /// Growth of the kernel's memory over the idle row: both ends of all four sockets are on this machine.
    fn kernel(&self) -> Table {
        let head = ["variant", "user B/conn", "kernel slab B/conn", "socket buffers B/conn"];
        let mut table: Table = vec![head.map(str::to_owned).to_vec()];
        let Some(idle) = self.family.rows().find(|row| row.measure == Measure::IdleSlope) else {
            return table;
        };
        for variant in self.columns() {
            let cell = self.samples.cell(idle.name, variant.name());
            let slab = median(cell.iter().filter_map(|sample| Some(sample.kernel?.0)));
            let buffers = median(cell.iter().filter_map(|sample| Some(sample.kernel?.1)));
            if let (Some(slab), Some(buffers)) = (slab, buffers) {
                table.push(vec![
                    variant.name().into(),
                    self.cell(idle, variant),
                    format!("{slab:.0}"),
                    format!("{buffers:.0}"),
                ]);
            }
        }
        table
    }
}

fn is_cpu(row: &Row) -> bool {
    matches!(row.measure, Measure::CpuPerGigabyte | Measure::CpuPerUnit)
}

fn mark(is_met: bool) -> &'static str {
    if is_met { " ✓" } else { " ✗" }
}

fn ratio(ratio: Option<f64>, target: Option<f64>) -> String {
    let Some(ratio) = ratio else { return "–".into() };
    match target {
        Some(target) => format!("{ratio:.2} (≥ {target}){}", mark(ratio >= target)),
        None => format!("{ratio:.2}"),
    }
}

pub(super) fn aligned(table: &Table) -> String {
    let count = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in table {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

pub(super) fn piped(table: &Table) -> String {
    let mut text = String::new();
    for (place, line) in table.iter().enumerate() {
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if place == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(line.len()));
        }
    }
    text
}

/// The page with its results exchanged.
fn replaced(page: &str, marks: Marks, results: &str) -> String {
    let Marks { begin, end } = marks;
    let block = format!("{begin}\n\n{}\n\n{end}", results.trim());
    let places = page.find(begin).zip(page.find(end));
    match places {
        Some((from, to)) if from < to => {
            format!("{}{block}{}", &page[..from], &page[to + end.len()..])
        }
        _ if page.is_empty() => format!("# Benchmarks\n\n{block}\n"),
        _ => format!("{}\n\n{block}\n", page.trim_end()),
    }
}

pub(super) fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    output.map_or_else(
        |_| "on an unknown day".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().into(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::stats::Sample;
    use super::*;

    fn samples() -> Samples {
        let mut samples = Samples::default();
        for (variant, value) in [("ringway", 0.2), ("haproxy", 0.5), ("nginx", 0.3), ("bare", 0.1)] {
            samples.push("bulk-1", variant, Sample { value, ..Sample::default() });
        }
        samples
    }

    fn page(samples: &Samples) -> Page<'_> {
        Page { family: Family::Relay, samples, versions: &[], skipped: &[], unable: &[] }
    }

    #[test]
    fn families_stand_apart() {
        let mut samples = samples();
        assert!(Page { family: Family::Tls, ..page(&samples) }.is_empty());
        let sample = |tickets| Sample { value: 1.0, tickets, ..Sample::default() };
        samples.push("tls-full", "nginx", sample(Some(2.0)));
        samples.push("passthrough-64", "ringway", sample(None));
        let tls = Page { family: Family::Tls, ..page(&samples) };
        assert_eq!((page(&samples).medians().len(), tls.medians().len()), (2, 3));
        assert_eq!(tls.tickets()[1..], [["tls-full", "nginx", "2.00"].map(str::to_owned).to_vec()]);
        let line = tls.ratios().pop().expect("the passthrough");
        assert_eq!((&*line[1], &*line[2], &*line[4]), ("–", "–", "1.00 (≤ 5) ✓"));
    }

    #[test]
    fn ratios_are_peer_by_ringway_and_name_the_best() {
        let samples = samples();
        let page = page(&samples);
        let line = &page.ratios()[1];
        assert_eq!(line[1], "2.50 (≥ 1.9) ✓");
        assert_eq!(line[2], "1.50 (≥ 1.1) ✓ nginx");
        assert_eq!(line[3], "–");
    }

    #[test]
    fn bare_is_no_peer_and_tells_what_is_to_be_had() {
        let samples = samples();
        let page = page(&samples);
        assert_eq!(page.ratios()[1].last().map(String::as_str), Some("5.00, 3.00"));
    }

    #[test]
    fn a_row_without_samples_is_left_out() {
        let samples = samples();
        let page = page(&samples);
        assert_eq!(page.medians().len(), 2);
    }

    #[test]
    fn results_are_exchanged_between_the_marks_and_nothing_else_is() {
        let first = replaced("# Title\n\nwords\n", MARKS, "one");
        let second = replaced(&(first.clone() + "\nafter\n"), MARKS, "two");
        assert!(second.starts_with("# Title\n\nwords\n"), "{second}");
        assert!(second.contains("two") && !second.contains("one"), "{second}");
        assert!(second.ends_with("\nafter\n"), "{second}");
    }

    #[test]
    fn columns_are_aligned_by_characters_and_not_bytes() {
        let table = vec![vec!["µs".to_owned(), "a".to_owned()], vec!["s".to_owned(), "b".to_owned()]];
        assert_eq!(aligned(&table), "µs  a\ns   b\n");
    }
}
