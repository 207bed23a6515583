//! The control plane: everything of the process that is not on the path of a byte.

pub mod access_log;
pub mod admin;
pub mod discovery;
mod line_queue;
pub mod process_log;
pub mod status;
mod timestamp;
