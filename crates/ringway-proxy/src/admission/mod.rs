//! Who is let in: limits, exact over all workers and checked before a backend is dialled. A file a limit.

mod address_list;
mod count;
mod process;

/// The atomics that the counts are built on.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU32, Ordering};
}

pub use address_list::AddressList;
pub use count::ExactCount;
pub use process::{Admission, WaitingLine};
