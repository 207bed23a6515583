//! The Prometheus text page, version 0.0.4 of the exposition format.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::table::{CONNECTIONS_CLOSED, all_rows};
use super::{AppCounter, AppCounters, Metrics, ProcessCounter, Reading, Row, WorkerCounter};

/// The content type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A value that was read for this page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What was read.
    pub reading: Reading,
    /// Values of the labels of its row, in the row's order.
    pub labels: Vec<String>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// A value with the labels that its row asks for.
    ///
    /// # Panics
    /// If there are fewer or more labels than the row names.
    pub fn new<L: Into<String>>(
        reading: Reading,
        labels: impl IntoIterator<Item = L>,
        value: impl Into<f64>,
    ) -> Self {
        let labels: Vec<String> = labels.into_iter().map(Into::into).collect();
        assert_eq!(labels.len(), reading.row().labels.len(), "labels of {}", reading.row().name);
        Self { reading, labels, value: value.into() }
    }
}

/// The page: all counters as they stand, those of `apps` by their names, and the samples that were read for it.
pub fn write_page<'a>(
    metrics: &Metrics,
    apps: impl IntoIterator<Item = (&'a str, &'a AppCounters)>,
    samples: &[Sample],
) -> String {
    let mut page = Page::default();
    for row in all_rows() {
        page.declare(row);
    }
    for (app, counters) in apps {
        for counter in AppCounter::ALL {
            page.add(counter.row(), &[app], counters.total(*counter));
        }
        for (reason, labels) in metrics.close_labels().iter().enumerate() {
            let count = counters.closed_total(reason);
            // What never happened is left out: reasons times apps would be most of the page.
            if count > 0 {
                let values = [app, labels.initiator, labels.phase, labels.reason];
                page.add(&CONNECTIONS_CLOSED, &values, count);
            }
        }
    }
    for counter in WorkerCounter::ALL {
        page.add(counter.row(), &[], metrics.worker_total(*counter));
    }
    let process = metrics.process();
    for counter in ProcessCounter::ALL {
        page.add(counter.row(), &[], process.get(*counter));
    }
    for sample in samples {
        let labels: Vec<&str> = sample.labels.iter().map(String::as_str).collect();
        page.add(sample.reading.row(), &labels, sample.value);
    }
    page.finish()
}

/// Samples gathered by metric, because the format wants those of one metric together.
#[derive(Default)]
struct Page {
    /// In the order of the table.
    names: Vec<&'static str>,
    metrics: BTreeMap<&'static str, String>,
}

impl Page {
    fn declare(&mut self, row: &'static Row) {
        if !self.metrics.contains_key(row.name) {
            self.names.push(row.name);
            let head = format!("# HELP {0} {1}\n# TYPE {0} {2}\n", row.name, row.help, row.kind.word());
            self.metrics.insert(row.name, head);
        }
    }

    fn add(&mut self, row: &'static Row, labels: &[&str], value: impl fmt::Display) {
        let Some(text) = self.metrics.get_mut(row.name) else { return };
        text.push_str(row.name);
        let fixed = row.fixed.iter().copied();
        let mut before = '{';
        let all = row.labels.iter().copied().zip(labels.iter().copied()).chain(fixed);
        // To Prometheus an empty label is one that is not there.
        for (key, value) in all.filter(|(_, value)| !value.is_empty()) {
            text.push(before);
            before = ',';
            text.push_str(key);
            text.push_str("=\"");
            push_escaped(text, value);
            text.push('"');
        }
        if before == ',' {
            text.push('}');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, " {value}");
    }

    fn finish(mut self) -> String {
        self.names.iter().filter_map(|name| self.metrics.remove(name)).collect()
    }
}

/// Label values may hold anything; backslash, quote and line feed are escaped.
fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CloseLabels;

    const LABELS: &[CloseLabels] = &[CloseLabels { initiator: "client", phase: "relay", reason: "finished" }];

    fn page() -> String {
        let metrics = Metrics::new(1, LABELS);
        let (web, db) = (AppCounters::default(), AppCounters::default());
        db.block().add(AppCounter::BytesFromClients, 12);
        db.block().add_closed(0, 1);
        metrics.process().add(ProcessCounter::LookupsFailed, 3);
        write_page(
            &metrics,
            [("we\"b", &web), ("db", &db)],
            &[Sample::new(Reading::Connections, ["db"], 7u32)],
        )
    }

    #[test]
    fn every_counter_stands_on_the_page_with_its_labels() {
        let page = page();
        for line in [
            "ringway_connections_accepted_total{app=\"we\\\"b\"} 0",
            "ringway_relayed_bytes_total{app=\"db\",direction=\"client_to_backend\"} 12",
            "ringway_connections_closed_total{app=\"db\",initiator=\"client\",phase=\"relay\",reason=\"finished\"} 1",
            "ringway_accept_pauses_total 0",
            "ringway_name_lookups_total{result=\"failed\"} 3",
            "ringway_connections{app=\"db\"} 7",
        ] {
            assert!(page.lines().any(|found| found == line), "no line {line} in\n{page}");
        }
    }

    #[test]
    fn each_metric_is_declared_once_and_its_samples_follow() {
        let page = page();
        let mut current = "";
        let mut seen = Vec::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                current = rest.split(' ').next().unwrap_or_default();
                assert!(!seen.contains(&current), "{current} twice");
                seen.push(current);
            } else if !line.starts_with('#') {
                assert!(line.starts_with(current), "{line} under {current}");
            }
        }
    }
}
