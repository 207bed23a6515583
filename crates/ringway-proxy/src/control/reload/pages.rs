//! What the admin interface sends about changes of the configuration. Fields are only ever added.

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::config::render_faults;
use crate::control::timestamp::Timestamp;
use crate::control::upgrade::BinaryRecord;
use crate::plan::Difference;

/// A change that was applied, or what one would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The version that runs now.
    pub version: u64,
    /// Whether it is another one than before: no if the configuration is the same.
    pub is_new: bool,
    /// What changed, app by app.
    pub difference: Difference,
    /// What was not applied, or not at once, and why.
    pub warnings: Vec<String>,
}

/// The versions that the process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionsPage {
    /// From the oldest that is kept to the one that runs.
    pub versions: Vec<VersionPage>,
    /// The processes that served with them, the one that does last.
    #[serde(default)]
    pub binaries: Vec<BinaryPage>,
}

/// A process that served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryPage {
    /// 1 for the first process, one more for each upgrade.
    pub generation: u64,
    /// Its process id.
    pub pid: u32,
    /// Version of its program.
    pub program: String,
    /// Where the program was.
    pub path: String,
    /// Since when it serves, in RFC 3339.
    pub time: String,
}

impl From<&BinaryRecord> for BinaryPage {
    fn from(record: &BinaryRecord) -> Self {
        Self {
            generation: record.generation,
            pid: record.pid,
            program: record.program.clone(),
            path: record.path.display().to_string(),
            time: Timestamp(record.time).to_string(),
        }
    }
}

/// One version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionPage {
    /// Its number.
    pub version: u64,
    /// When it was applied, in RFC 3339.
    pub time: String,
    /// What brought it about: `start`, `reload`, `SIGHUP`, `PUT`, `rollback to 3`.
    pub origin: String,
    /// What it changed, in a few words.
    pub summary: String,
    /// Whether it is the one that runs.
    pub is_running: bool,
}

/// A refusal as the admin interface sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalPage {
    /// In words, for a terminal: every fault with its line, as `ringway check` prints them.
    pub error: String,
    /// The faults; none if the configuration is not the reason.
    pub faults: Vec<FaultPage>,
}

/// A fault as the admin interface sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPage {
    /// The file; `null` for text that came from elsewhere.
    pub file: Option<String>,
    /// Line, from 1; 0 where the fault is about the whole.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The key path.
    pub key: String,
    /// All of it in one line.
    pub message: String,
}

impl From<&Refusal> for RefusalPage {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Impossible(reason) | Refusal::Unknown(reason) => {
                Self { error: reason.clone(), faults: Vec::new() }
            }
            Refusal::Faults(errors) => Self {
                error: render_faults(errors),
                faults: errors
                    .faults()
                    .iter()
                    .map(|fault| FaultPage {
                        file: fault.file.as_ref().map(|file| file.display().to_string()),
                        line: fault.line,
                        column: fault.column,
                        key: fault.key.clone(),
                        message: fault.to_string(),
                    })
                    .collect(),
            },
        }
    }
}
