//! Whether an endpoint gets connections: active checks, and what failed dials of clients tell.

pub mod active;
pub mod conversation;
pub mod outlier;
pub mod passive;
