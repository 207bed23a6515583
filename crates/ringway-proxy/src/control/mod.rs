//! The control plane: everything of the process that is not on the path of a byte.

pub mod access_log;
pub mod discovery;
mod line_queue;
pub mod process_log;
mod timestamp;
