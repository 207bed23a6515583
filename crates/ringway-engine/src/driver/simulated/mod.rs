//! The simulated driver: a seeded, single-threaded network in the place of the kernel.
//!
//! [`SimulatedNetwork`] is the world and its owner's handle. Each [`Engine::simulated`](crate::Engine::simulated)
//! is one machine in it, with its own connections and listeners, behind the same contract as the real drivers.
//! What goes wrong, and how often, is said by [`SimulatedFaults`]; all of it follows from the seed.

mod connection;
mod datagram;
mod driver;
mod faults;
mod listen;
mod network;
mod operations;
mod random;
mod relay;
mod stream;
mod world;

use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use driver::SimulatedDriver;
pub use faults::SimulatedFaults;
pub use network::SimulatedNetwork;
pub use random::Random;

/// Sockets whose last handle was dropped; the world closes them when it is next entered. A handle can be
/// dropped at any point, even inside an operation, where the world itself is locked.
type Graveyard = Arc<Mutex<Vec<Dropped>>>;

#[derive(Clone, Copy, Debug)]
enum Dropped {
    Listener(u64),
    Socket(u64),
}

/// A listening socket of the simulated network. The last handle to be dropped closes it.
#[derive(Clone, Debug)]
pub struct SimulatedListener {
    inner: Arc<Handle>,
}

/// A socket on its way between two simulated engines. Dropping it closes the socket.
#[derive(Debug)]
pub struct ExportedSocket {
    inner: Option<Handle>,
}

#[derive(Debug)]
struct Handle {
    /// What to close; nothing once it has a new owner.
    dropped: Option<Dropped>,
    graveyard: Graveyard,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped {
            self.graveyard.lock().unwrap_or_else(PoisonError::into_inner).push(dropped);
        }
    }
}
