//! End-to-end tests: the real program between real clients and servers, on the loopback interface.
//!
//! What depends on the engine runs on both; where the kernel or its policy has no io_uring, that half is skipped
//! and says so. `RINGWAY_BIN` names another binary than the one that was just built.
#![forbid(unsafe_code)]

/// Makes of each function of an engine two tests, one an engine.
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::support::Engine;

            #[test]
            fn on_epoll() {
                super::$name(Engine::Epoll);
            }

            #[test]
            fn on_io_uring() {
                if let Some(reason) = crate::support::why_no_io_uring() {
                    testkit::skip!("{reason}");
                }
                super::$name(Engine::IoUring);
            }
        }
    )+};
}

mod activation;
mod backends;
mod balancing;
mod bandwidth;
mod certificates;
mod command_line;
mod discovery;
mod ending;
mod engines;
mod evening_out;
mod frontends;
mod health;
mod impostors;
mod limits;
mod memory;
mod observation;
mod operations;
mod privileges;
mod profiling;
mod programs;
mod proxy_protocol;
mod rebalancing;
mod relay;
mod reloading;
mod routing;
mod supervision;
mod support;
mod systemd;
mod termination;
mod timeouts;
mod tls_programs;
mod upgrade;
mod watching;
