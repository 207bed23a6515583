//! The Ringway load balancer.
#![forbid(unsafe_code)]

pub mod admission;
pub mod balance;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod endpoint;
pub mod evening_out;
pub mod health;
pub mod inspection;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod prober;
pub mod routing;
pub mod session;
pub mod snapshot;
pub mod worker;
