//! The simulated driver: a seeded, single-threaded network in the place of the kernel.

use std::cell::RefCell;
use std::rc::Rc;

/// A seeded network that several simulated engines share, on one thread.
#[derive(Clone, Debug)]
pub struct SimulatedNetwork {
    #[expect(dead_code, reason = "filled by the driver")]
    world: Rc<RefCell<World>>,
}

#[derive(Debug)]
struct World {}

/// A listening socket of the simulated network.
#[derive(Clone, Debug)]
pub struct SimulatedListener {}

/// A socket on its way between two simulated engines.
#[derive(Debug)]
pub struct ExportedSocket {}
