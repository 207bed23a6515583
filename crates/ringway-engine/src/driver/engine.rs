//! The engine: one driver, chosen at start, and the turn that everything happens in.

use std::io;
use std::time::Duration;

use super::epoll::EpollDriver;
use super::simulated::{SimulatedDriver, SimulatedNetwork};
use super::uring::UringDriver;
use super::{EngineConfig, EngineKind, Operations, Sink};
use crate::mailbox::Waker;

/// An event loop with its own sockets, buffers and timers; belongs to one thread.
///
/// An enum and not a type parameter: falling back from io_uring is normal, and costs one branch a turn.
pub struct Engine {
    driver: Driver,
}

#[expect(clippy::large_enum_variant, reason = "there is one an engine, and it is not moved")]
enum Driver {
    Epoll(Box<EpollDriver>),
    IoUring(Box<UringDriver>),
    Simulated(SimulatedDriver),
}

impl Engine {
    /// An engine on the real kernel, with the driver that `config` names. Cost: a few system calls and 256 KiB.
    ///
    /// # Errors
    /// When the kernel lacks or forbids the driver (ask [`EngineKind::probe`] first), or descriptors ran out.
    pub fn new(config: &EngineConfig) -> io::Result<Self> {
        let driver = match config.kind {
            EngineKind::Epoll => Driver::Epoll(Box::new(EpollDriver::new(config)?)),
            EngineKind::IoUring => Driver::IoUring(Box::new(UringDriver::new(config)?)),
        };
        Ok(Self { driver })
    }

    /// An engine in a simulated network.
    pub fn simulated(network: &SimulatedNetwork, config: &EngineConfig) -> Self {
        Self { driver: Driver::Simulated(SimulatedDriver::new(network, config)) }
    }

    /// Wakes this engine from another thread.
    pub fn waker(&self) -> Waker {
        match &self.driver {
            Driver::Epoll(driver) => driver.waker(),
            Driver::IoUring(driver) => driver.waker(),
            Driver::Simulated(driver) => driver.waker(),
        }
    }

    /// The operations, for use between turns.
    pub fn operations(&mut self) -> Operations<'_> {
        match &mut self.driver {
            Driver::Epoll(driver) => driver.operations(),
            Driver::IoUring(driver) => driver.operations(),
            Driver::Simulated(driver) => driver.operations(),
        }
    }

    /// Waits until something happens, at most for `wait` (`None`: for ever), and delivers it. A simulated engine
    /// does not wait: it delivers what is due at its network's present moment.
    ///
    /// # Errors
    /// Only when the kernel interface itself fails; trouble of single connections comes as their events.
    pub fn turn<S: Sink>(&mut self, sink: &mut S, wait: Option<Duration>) -> io::Result<()> {
        match &mut self.driver {
            Driver::Epoll(driver) => driver.turn(sink, wait),
            Driver::IoUring(driver) => driver.turn(sink, wait),
            Driver::Simulated(driver) => driver.turn(sink),
        }
    }
}
