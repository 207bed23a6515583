//! The control plane: everything of the process that is not on the path of a byte.

pub mod access_log;
pub mod admin;
pub(crate) mod admin_client;
mod boot;
pub(crate) mod certificates;
pub mod discovery;
pub mod drain;
mod engine_choice;
mod evening_out;
pub mod exit;
pub mod explain;
mod fleet;
mod lifecycle;
mod limits;
mod line_queue;
mod live;
mod notify;
pub mod operator;
mod panic;
mod pprof;
mod private_directory;
mod privileges;
pub mod process_log;
mod rebalance;
pub mod reload;
mod signals;
pub mod status;
pub(crate) mod supervisor;
mod threads;
mod timestamp;
pub mod upgrade;
mod watch;

pub use boot::Source;
pub(crate) use boot::{Beginning, run};
