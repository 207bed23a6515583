//! The Ringway load balancer.
#![forbid(unsafe_code)]

pub mod model;
