//! The messages of an upgrade, by their kinds. `docs/internals/upgrade.md` says in which order they go.
//!
//! Those about the process are JSON, in which fields are only ever added and unknown ones are ignored. Those about
//! connections are records: see `worker::moving`.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::state::AllowanceRecord;
use crate::control::reload::VersionRecord;

/// The order of the messages and what they mean. Another one is refused.
pub(super) const PROTOCOL: u32 = 1;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// New to old: which program it is, and what it can read.
    Hello = 1,
    /// Old to new: the configuration that runs, with the commit word.
    Configure = 2,
    /// New to old: it has checked the configuration and started its workers.
    Ready = 3,
    /// New to old: it cannot go on, and why.
    Refuse = 4,
    /// Old to new: copies of the listening sockets.
    Listeners = 5,
    /// Old to new: health, and what operators said.
    State = 6,
    /// New to old: it has taken in everything that could be sent ahead.
    Armed = 7,
    /// Old to new: connections, with their descriptors.
    Sessions = 8,
    /// Old to new: those were all.
    End = 9,
    /// New to old: all of it is in memory.
    Prepared = 10,
    /// Old to new: decide.
    Go = 11,
    /// New to old: it is decided, and the new process serves.
    Serving = 12,
    /// Old to new: what it had counted.
    Counters = 13,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Hello,
        Self::Configure,
        Self::Ready,
        Self::Refuse,
        Self::Listeners,
        Self::State,
        Self::Armed,
        Self::Sessions,
        Self::End,
        Self::Prepared,
        Self::Go,
        Self::Serving,
        Self::Counters,
    ];

    /// The kind with this number.
    pub(super) fn of(number: u16) -> io::Result<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("a message of the unknown kind {number}"))
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    /// The version of the program, for people.
    pub(super) program: String,
    /// The versions of records of connections that it reads.
    pub(super) sessions: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Configure {
    /// Time zero of the process clock, in nanoseconds of CLOCK_MONOTONIC.
    pub(super) clock_origin: u64,
    /// How many descriptors are open, most of which will come.
    #[serde(default)]
    pub(super) descriptors: u32,
    /// The file that is read at a reload.
    pub(super) file: PathBuf,
    /// The version that runs.
    pub(super) running: u64,
    /// All versions that are kept, the running one among them.
    pub(super) versions: Vec<VersionRecord>,
    /// The processes until now, the one that sends this last.
    pub(super) binaries: Vec<BinaryRecord>,
    /// Names of the sockets that a service manager passed; their descriptors follow that of the commit word.
    #[serde(default)]
    pub(super) passed: Vec<String>,
}

/// A process that served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryRecord {
    /// 1 for the first process, one more for each that followed by an upgrade.
    pub generation: u64,
    /// Its process id.
    pub pid: u32,
    /// Version of its program.
    pub program: String,
    /// Where the program was.
    pub path: PathBuf,
    /// Since when it serves.
    pub time: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) workers: usize,
    pub(super) engine: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refuse {
    pub(super) reason: String,
}

/// Whose descriptors come with the message, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listeners {
    pub(super) frontends: Vec<FrontendKey>,
    /// The last descriptor is that of the admin interface.
    pub(super) admin: bool,
}

/// Names a frontend in both processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct FrontendKey {
    pub(super) app: String,
    /// Its place among those of its app.
    pub(super) index: usize,
    /// A service manager keeps this very socket open.
    #[serde(default)]
    pub(super) is_passed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Connections that were sent.
    pub(super) sessions: u64,
    /// The smallest number that no connection has had.
    pub(super) next_number: u64,
    /// What apps have used of their rates and bandwidths; of those that may take all, nothing.
    #[serde(default)]
    pub(super) allowances: Vec<AllowanceRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared {
    pub(super) taken: u64,
    /// Connections that it cannot carry on: the place of each among those that were sent, and why.
    #[serde(default)]
    pub(super) refused: Vec<(u64, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Serving {
    /// Until all workers had gone on, from the decision.
    pub(super) micros: u64,
}

/// Writes the body of a message.
pub(super) fn write(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("plain data without maps that have odd keys")
}

/// Reads the body of a message.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_number_of_its_own() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index + 1);
            assert_eq!(Kind::of(kind as u16).ok(), Some(kind));
        }
        assert!(Kind::of(0).is_err() && Kind::of(999).is_err());
    }
}
