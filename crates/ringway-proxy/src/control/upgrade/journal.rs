//! How an upgrade goes, told while it does: to whoever asked for it, and to the log.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

/// A line of the answer to `POST /upgrade`. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalLine {
    /// A step was taken.
    Step(StepPage),
    /// It is done: the last line.
    Report(ReportPage),
    /// It was called off, and nothing has changed: the last line.
    Refused {
        /// Why.
        error: String,
    },
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPage {
    /// In one word.
    pub step: String,
    /// Since the upgrade was asked for.
    pub seconds: f64,
    /// In words.
    pub text: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportPage {
    /// The process that served.
    pub old_pid: u32,
    /// The one that serves.
    pub new_pid: u32,
    /// Its program.
    pub binary: PathBuf,
    /// The version of that.
    pub program: String,
    /// Connections whose sockets the new process had copies of before any stood still.
    #[serde(default)]
    pub copied_ahead: u64,
    /// Connections that go on in the new process, by what they were doing.
    pub moved: BTreeMap<String, u64>,
    /// Connections that finish in the old process, and why.
    pub left: BTreeMap<String, u64>,
    /// Connections that the new process could not take, and why; they finish in the old one.
    pub refused: BTreeMap<String, u64>,
    /// For how long what is left in the old process may take to finish, if anything is: then it is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<f64>,
    /// For how long connections stood still.
    pub pause_seconds: f64,
    /// From the order to the new process serving.
    pub seconds: f64,
}

/// Where steps are told.
#[derive(Debug)]
pub(in crate::control) struct Journal {
    begun: Instant,
    reader: UnboundedSender<JournalLine>,
}

impl Journal {
    pub(in crate::control) fn new(reader: UnboundedSender<JournalLine>) -> Self {
        Self { begun: Instant::now(), reader }
    }

    /// When the upgrade was asked for.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// A step was taken.
    pub(super) fn step(&self, step: &str, text: String) {
        let seconds = self.seconds();
        tracing::info!(step, seconds, "upgrade: {text}");
        self.tell(JournalLine::Step(StepPage { step: step.to_owned(), seconds, text }));
    }

    /// The last word.
    pub(in crate::control) fn tell(&self, line: JournalLine) {
        // Who asked may have left.
        let _ = self.reader.send(line);
    }

    pub(super) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_micros() as f64 / 1e6
    }
}
