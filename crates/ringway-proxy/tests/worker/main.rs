//! Workers and the prober in a simulated network: what takes seconds, hours or exact timing, in no time at all. What needs
//! descriptors of real sockets is in `leaving`.
#![forbid(unsafe_code)]

mod bandwidth;
mod entry_limits;
mod inspection;
mod leaving;
mod limits;
mod moving;
mod outliers;
mod probes;
mod proxy_protocol;
mod queue;
mod reloading;
mod routing;
mod serving;
mod world;
