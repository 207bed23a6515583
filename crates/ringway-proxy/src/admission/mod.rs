//! Who is let in: limits, exact over all workers and checked before a backend is dialled. A file a limit.

mod address_list;
mod app;
pub(crate) mod bandwidth;
#[cfg(test)]
mod bandwidth_tests;
mod count;
mod process;
mod queue;
#[cfg(test)]
mod queue_tests;
mod rate;
mod source_table;

/// The atomics and locks that the counts are built on.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
    pub(super) use std::sync::{Mutex, MutexGuard};
}

pub use address_list::AddressList;
pub use app::{AppCounts, AppRules, HandshakePermit, Refusal};
pub use bandwidth::Pacer;
pub use count::ExactCount;
pub use process::{Admission, WaitingLine};
pub use queue::{Bell, Call, Queue, Seat};
pub use rate::Rate;
pub use source_table::{Source, SourceLimits, SourcePermit, SourceRefusal, SourceTable};
