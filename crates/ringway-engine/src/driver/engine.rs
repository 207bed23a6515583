//! The engine: one driver, chosen at start, and the turn that everything happens in.

use std::io;
use std::time::Duration;

use super::simulated::{SimulatedDriver, SimulatedNetwork};
use super::{EngineConfig, Operations, Sink};
use crate::mailbox::Waker;

/// An event loop with its own sockets, buffers and timers; belongs to one thread.
pub struct Engine {
    driver: Driver,
}

enum Driver {
    Simulated(SimulatedDriver),
}

impl Engine {
    /// An engine on the real kernel, with the driver that `config` names.
    ///
    /// # Errors
    /// When the kernel lacks or forbids the driver (ask [`EngineKind::probe`](super::EngineKind::probe) first).
    pub fn new(_config: &EngineConfig) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// An engine in a simulated network.
    pub fn simulated(network: &SimulatedNetwork, config: &EngineConfig) -> Self {
        Self { driver: Driver::Simulated(SimulatedDriver::new(network, config)) }
    }

    /// Wakes this engine from another thread.
    pub fn waker(&self) -> Waker {
        match &self.driver {
            Driver::Simulated(driver) => driver.waker(),
        }
    }

    /// The operations, for use between turns.
    pub fn operations(&mut self) -> Operations<'_> {
        match &mut self.driver {
            Driver::Simulated(driver) => driver.operations(),
        }
    }

    /// Waits until something happens, at most for `wait` (`None`: for ever), and delivers it. A simulated engine
    /// does not wait: it delivers what is due at its network's present moment.
    ///
    /// # Errors
    /// Only when the kernel interface itself fails; trouble of single connections comes as their events.
    pub fn turn<S: Sink>(&mut self, sink: &mut S, _wait: Option<Duration>) -> io::Result<()> {
        match &mut self.driver {
            Driver::Simulated(driver) => driver.turn(sink),
        }
    }
}
