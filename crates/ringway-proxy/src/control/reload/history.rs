//! The versions of the configuration that the process can go back to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::pages::{VersionPage, VersionsPage};
use super::{Document, Refusal};
use crate::control::timestamp::Timestamp;
use crate::model;
use crate::snapshot::{Origin, Settings, Snapshot};

/// Versions that are kept, the running one included. Apps that are the same in several are kept once.
const VERSIONS_MAX: usize = 20;
/// Text that is kept of all versions together, so that another process can read them: 20 versions of 10,000 apps. The
/// running version is kept whatever it takes.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// The last versions.
pub(in crate::control) struct History {
    entries: VecDeque<Entry>,
}

/// One version.
pub(super) struct Entry {
    version: u64,
    origin: Origin,
    time: SystemTime,
    summary: String,
    /// None for a version of before an upgrade: another program read it.
    read: Option<Read>,
    document: Arc<Document>,
}

/// A configuration, with its apps shared between versions.
struct Read {
    settings: Settings,
    apps: Vec<Arc<model::App>>,
}

/// A version on its way to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct VersionRecord {
    pub(in crate::control) version: u64,
    pub(in crate::control) origin: Origin,
    pub(in crate::control) time: SystemTime,
    pub(in crate::control) summary: String,
    pub(in crate::control) document: Document,
}

impl Entry {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What it was read from.
    pub(super) fn document(&self) -> &Arc<Document> {
        &self.document
    }

    /// What it says; none if this process has not read it.
    pub(super) fn config(&self) -> Option<model::Config> {
        let Read { settings, apps } = self.read.as_ref()?;
        let Settings { server, admin } = settings.clone();
        let apps = apps.iter().map(|app| (**app).clone()).collect();
        Some(model::Config { server, admin, apps, demo: false })
    }
}

impl History {
    /// Begins with the first version.
    pub(in crate::control) fn new(first: &Snapshot, document: Arc<Document>) -> Self {
        let mut history = Self { entries: VecDeque::new() };
        let count = first.apps().count();
        history.push(first, format!("{count} app{}", if count == 1 { "" } else { "s" }), document);
        history
    }

    /// Goes on with the versions of another process, of which this is the one that runs.
    pub(in crate::control) fn resumed(records: Vec<VersionRecord>, running: &Snapshot) -> Self {
        let mut history = Self { entries: VecDeque::new() };
        for record in records {
            let VersionRecord { version, origin, time, summary, document } = record;
            let is_running = version == running.version();
            let read =
                is_running.then(|| Read { settings: running.settings().clone(), apps: running.models() });
            let document = Arc::new(document);
            history.add(Entry { version, origin, time, summary, read, document });
        }
        history
    }

    /// All versions, for another process.
    pub(in crate::control) fn records(&self) -> Vec<VersionRecord> {
        let record = |entry: &Entry| VersionRecord {
            version: entry.version,
            origin: entry.origin,
            time: entry.time,
            summary: entry.summary.clone(),
            document: (*entry.document).clone(),
        };
        self.entries.iter().map(record).collect()
    }

    /// Adds a version. The oldest go if there are too many, or if what they were read from is too much to keep.
    pub(super) fn push(&mut self, snapshot: &Snapshot, summary: String, document: Arc<Document>) {
        self.add(Entry {
            version: snapshot.version(),
            origin: snapshot.origin(),
            time: snapshot.time(),
            summary,
            read: Some(Read { settings: snapshot.settings().clone(), apps: snapshot.models() }),
            document,
        });
    }

    fn add(&mut self, entry: Entry) {
        let kept = self.entries.iter().map(|entry| entry.document.bytes()).sum::<usize>();
        let mut bytes = kept + entry.document.bytes();
        while self.entries.len() == VERSIONS_MAX || bytes > DOCUMENT_BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else { break };
            bytes -= oldest.document.bytes();
        }
        self.entries.push_back(entry);
    }

    /// The entry of a version; `None`: of the one before the running one.
    pub(super) fn find(&self, version: Option<u64>, running: u64) -> Result<&Entry, Refusal> {
        let found = match version {
            Some(version) => self.entries.iter().find(|entry| entry.version == version),
            None => self.entries.iter().rev().find(|entry| entry.version < running),
        };
        found.ok_or_else(|| match version {
            Some(version) => {
                let oldest = self.entries.front().map_or(running, |entry| entry.version);
                Refusal::Unknown(format!(
                    "version {version} is not kept; those from {oldest} to {running} are"
                ))
            }
            None => Refusal::Unknown("there is no version before the running one".to_owned()),
        })
    }

    pub(super) fn page(&self, running: u64) -> VersionsPage {
        let page = |entry: &Entry| VersionPage {
            version: entry.version,
            time: Timestamp(entry.time).to_string(),
            origin: entry.origin.to_string(),
            summary: entry.summary.clone(),
            is_running: entry.version == running,
        };
        VersionsPage { versions: self.entries.iter().map(page).collect(), ..VersionsPage::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::testing::app_of_hosts;
    use crate::snapshot::Lineage;

    fn document(bytes: usize) -> Arc<Document> {
        Arc::new(Document { text: "#".repeat(bytes), ..Document::demo() })
    }

    #[test]
    fn versions_that_take_too_much_text_go_and_the_running_one_stays() {
        let lineage = Lineage::of_apps(vec![app_of_hosts(&[(1, false)])]);
        let mut history = History::new(&lineage.current(), document(1));
        for _ in 0..3 {
            let next = lineage.advance(lineage.current().config(), Origin::Admin);
            history.push(&next, String::new(), document(DOCUMENT_BYTES_MAX / 2));
        }
        let kept = |history: &History| {
            history.page(0).versions.iter().map(|version| version.version).collect::<Vec<_>>()
        };
        assert_eq!(kept(&history), [3, 4]);
        let next = lineage.advance(lineage.current().config(), Origin::Admin);
        history.push(&next, String::new(), document(DOCUMENT_BYTES_MAX + 1));
        assert_eq!(kept(&history), [5]);
    }

    #[test]
    fn last_versions_are_kept_and_the_one_before_is_meant_if_none_is_named() {
        let lineage = Lineage::of_apps(vec![app_of_hosts(&[(1, false)])]);
        let mut history = History::new(&lineage.current(), document(1));
        assert!(history.find(None, 1).is_err());
        for attempts in 0..30 {
            let mut config = lineage.current().config();
            config.apps[0].connect_attempts = 100 + attempts;
            history.push(&lineage.advance(config, Origin::Admin), "1 app changed".to_owned(), document(1));
        }
        assert_eq!(history.page(31).versions.len(), VERSIONS_MAX);
        let before = history
            .find(None, 31)
            .map(|entry| (entry.version(), entry.config().expect("read here").apps[0].connect_attempts));
        assert_eq!(before, Ok((30, 128)));
        assert_eq!(history.find(Some(12), 31).map(Entry::version), Ok(12));
        assert!(
            matches!(history.find(Some(11), 31), Err(Refusal::Unknown(why)) if why.contains("from 12 to 31"))
        );
    }
}
