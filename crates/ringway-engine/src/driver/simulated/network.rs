//! The network as its owner, the simulation, sees it: time, faults, and addresses that die.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SimulatedFaults;
use super::world::World;
use crate::{SocketAddress, Time};

/// A seeded network that several simulated engines share, on one thread.
///
/// Time stands still until the owner moves it: turn every engine until [`has_work`](Self::has_work) says that
/// nothing more is due, then [`advance`](Self::advance). Everything that happens follows from the seed and from
/// the order of the calls; no clock is read.
///
/// ```
/// use ringway_engine::driver::simulated::{SimulatedFaults, SimulatedNetwork};
/// use ringway_engine::{Engine, EngineConfig, Event, Operations, Token};
///
/// let network = SimulatedNetwork::new(1, SimulatedFaults::none());
/// let mut engine = Engine::simulated(&network, &EngineConfig::default());
/// let hour = network.now() + std::time::Duration::from_secs(3600);
/// engine.operations().set_timer(hour, Token(7));
///
/// struct Fired(bool);
/// impl ringway_engine::Sink for Fired {
///     fn on_event(&mut self, _ops: &mut Operations<'_>, event: Event<'_>) {
///         self.0 |= matches!(event, Event::TimerFired { token: Token(7), .. });
///     }
/// }
/// let mut fired = Fired(false);
/// while !fired.0 {
///     engine.turn(&mut fired, None)?;
///     if !network.has_work() {
///         network.advance();
///     }
/// }
/// assert_eq!(network.now(), hour);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimulatedNetwork {
    world: Arc<Mutex<World>>,
}

impl SimulatedNetwork {
    /// An empty network at moment zero.
    pub fn new(seed: u64, faults: SimulatedFaults) -> Self {
        Self { world: Arc::new(Mutex::new(World::new(seed, faults))) }
    }

    /// The world behind it. Held for moments only, and never while a sink runs.
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present moment.
    pub fn now(&self) -> Time {
        self.world().now
    }

    /// Whether some engine has something to do at the present moment.
    pub fn has_work(&self) -> bool {
        let mut world = self.world();
        world.bury();
        world.has_work()
    }

    /// When the next thing happens, if anything will.
    pub fn next_event(&self) -> Option<Time> {
        self.world().next_event()
    }

    /// Moves to the next moment at which something happens, and lets it happen. False if nothing ever will.
    pub fn advance(&self) -> bool {
        let mut world = self.world();
        world.bury();
        match world.next_event() {
            Some(at) => {
                world.move_to(at);
                true
            }
            None => false,
        }
    }

    /// Moves on by `time`, or to the next event if that is sooner. False if it came to the end of `time`.
    pub fn advance_at_most(&self, time: Duration) -> bool {
        let mut world = self.world();
        world.bury();
        let limit = world.now + time;
        let next = world.next_event().filter(|at| *at <= limit);
        world.move_to(next.unwrap_or(limit));
        next.is_some()
    }

    /// Changes what goes wrong from now on. Latency and windows of living connections stay.
    pub fn set_faults(&self, faults: SimulatedFaults) {
        self.world().faults = faults;
    }

    /// What goes wrong at present.
    pub fn faults(&self) -> SimulatedFaults {
        self.world().faults.clone()
    }

    /// From now on nothing reaches `address` and nothing leaves it: dials wait, streams stand still.
    pub fn block(&self, address: &SocketAddress) {
        self.world().block(address);
    }

    /// From now on dials to `address` are refused, listener or not.
    pub fn refuse(&self, address: &SocketAddress) {
        self.world().refuse(address);
    }

    /// Ends `block` and `refuse`: what was held back by the first is delivered now, in order.
    pub fn allow(&self, address: &SocketAddress) {
        self.world().allow(address);
    }

    /// Resets, for both ends, every connection of which one end is `address`.
    pub fn cut(&self, address: &SocketAddress) {
        self.world().cut(address);
    }

    /// Sockets in the whole network: connection ends (dialling and queued ones too) and listeners.
    /// Zero once every engine, listener and exported connection is gone and what they sent has arrived.
    pub fn socket_count(&self) -> usize {
        let mut world = self.world();
        world.bury();
        world.socket_count()
    }
}
