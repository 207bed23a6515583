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

/// What happened to handles; the world takes note of it when it is next entered. A handle can be dropped at any point,
/// even inside an operation, where the world itself is locked.
type Notices = Arc<Mutex<Vec<Notice>>>;

#[derive(Clone, Copy, Debug)]
enum Notice {
    /// The last handle to a listener, or one to a socket.
    Dropped(Dropped),
    /// There is one more handle to a socket.
    Copied(u64),
}

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

/// A socket on its way between two simulated engines. Dropping it closes the socket, unless somebody else has it, too.
#[derive(Debug)]
pub struct ExportedSocket {
    inner: Option<Handle>,
}

#[derive(Debug)]
struct Handle {
    /// What to let go of; nothing once it has a new owner.
    dropped: Option<Dropped>,
    notices: Notices,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(dropped) = self.dropped {
            self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(Notice::Dropped(dropped));
        }
    }
}
