//! Live upgrade: another process, of another binary say, takes over while every client stays connected.
//!
//! `old` is the part of the process that serves: it starts the other one, gives it all it needs, and steps back once it
//! is decided. `new` is that of the process that takes over. They talk by the framework's `Line` in the messages of `wire`;
//! `docs/internals/upgrade.md` has the steps, and what happens when either of them dies between two.

mod binary;
mod elders;
mod fault;
mod journal;
mod left;
mod new;
mod old;
mod state;
mod tickets;
mod wire;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use ringway::handover::{Interest, ProcessHandle, wait};
use serde::{Deserialize, Serialize};

pub(super) use binary::Invocation;
pub(super) use elders::{Elder, Elders};
pub(super) use journal::Journal;
pub use journal::{JournalLine, ReportPage, StepPage};
pub(super) use left::Left;
pub(super) use new::{Estate, HouseParts};
pub(crate) use new::{Heir, Meeting, Parted};
pub(super) use old::{Farewell, House};
pub use state::{AllowanceRecord, Counters, State, allowances_of, outliers_of, restore_allowances};
pub use tickets::Tickets;
pub use wire::BinaryRecord;

/// Names the socket by which a new process finds the one that started it.
pub(crate) const VARIABLE: &str = "RINGWAY_UPGRADE";

/// How long a new process may take until it is ready, if nobody says how long.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Whether a process has ended that has fallen silent, or does so within this time.
fn ends_within(process: &ProcessHandle, time: Duration) -> bool {
    let _ = wait([(process.as_fd(), Interest::Read)], Some(time));
    process.has_ended()
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The program; `None`: `server.binary`, or what this process was started by.
    pub binary: Option<PathBuf>,
    /// How long the new process may take until it is ready.
    pub timeout: Option<Duration>,
}

/// The query of `POST /upgrade`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeQuery {
    /// An absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<PathBuf>,
    /// A duration as `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}
