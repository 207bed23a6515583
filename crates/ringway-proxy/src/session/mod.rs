//! One proxied connection, from accept to its one line in the access log.

mod close_reason;

pub use close_reason::{CloseReason, Initiator, Phase};
