//! The contract suite: every law and operation of `ringway_engine::driver`, held against every driver.
//!
//! Each test is one function over a [`rig::Rig`], a handful of engines of one kind; [`contract!`] makes a test of
//! it for each kind. There are no sleeps: a test waits for what it wants to see, with a deadline.

mod accept;
mod datagram;
mod dial;
mod handover;
mod log;
mod peek;
mod property;
mod relay;
mod rig;
mod stream;
mod timer;
mod watch;

/// Makes each named function a test for each kind of driver.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod simulated {
            $(#[test] fn $name() {
                for seed in 0..20 {
                    super::$name(&mut crate::rig::Rig::simulated(seed));
                }
            })*
        }
        mod epoll {
            $(#[test] fn $name() {
                if let Some(mut rig) = crate::rig::Rig::real(ringway_engine::EngineKind::Epoll) {
                    super::$name(&mut rig);
                }
            })*
        }
        mod io_uring {
            $(#[test] fn $name() {
                if let Some(mut rig) = crate::rig::Rig::real(ringway_engine::EngineKind::IoUring) {
                    super::$name(&mut rig);
                }
            })*
        }
    };
}
pub(crate) use contract;
