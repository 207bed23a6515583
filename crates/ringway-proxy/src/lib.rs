//! The Ringway load balancer.
#![forbid(unsafe_code)]

pub mod control;
pub mod metrics;
pub mod model;
