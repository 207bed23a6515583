//! Which endpoint gets the next connection. A method is a file here and an arm of `Balancer::choose_of`.
//!
//! To choose is to reserve: the endpoint's count of connections is raised by the choice itself, so that no other
//! worker decides on a count that is about to change. Whoever chose gives the place back, once.
//!
//! What a method looks things up in (`table`) is made with the set of endpoints and shared by all workers. Each worker
//! keeps a list of those that may be chosen (`pool`), made anew when the health of any changed. No method looks at
//! all of thousands of endpoints for a choice.

mod by_source;
mod least_connections;
mod maglev;
mod pool;
mod random;
pub mod rebalance;
mod round_robin;
mod source_hash;
pub(crate) mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod two_choices;

use std::net::IpAddr;
use std::sync::Arc;

use ringway::Time;

use crate::endpoint::{Endpoint, EndpointId, EndpointSet, Tier};
use crate::model::Balance;
use pool::Pool;
pub use table::Random;
use table::bounds::key;
use table::hash_of_source;

/// Chooses among the endpoints of one set. Each worker has its own; what must be common to all is in the set.
#[derive(Debug)]
pub struct Balancer {
    balance: Balance,
    set: Arc<EndpointSet>,
    primaries: Pool,
    backups: Pool,
    random: Random,
}

/// For whom an endpoint is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The client's address; `None`: it has none, as it came to a Unix socket.
    pub source: Option<IpAddr>,
    /// Endpoints that failed for it already.
    pub tried: &'a [EndpointId],
    /// The time.
    pub now: Time,
}

impl Balancer {
    /// Chooses among `set` by `balance`. `random`: where chance comes from, a different one for each worker.
    pub fn new(balance: Balance, set: Arc<EndpointSet>, random: Random) -> Self {
        Self { balance, set, primaries: Pool::new(), backups: Pool::new(), random }
    }

    /// The endpoints it chooses among.
    pub fn set(&self) -> &Arc<EndpointSet> {
        &self.set
    }

    /// Chooses among `set` by `balance` from now on.
    pub fn adopt(&mut self, balance: Balance, set: Arc<EndpointSet>) {
        self.balance = balance;
        self.set = set;
        self.primaries = Pool::new();
        self.backups = Pool::new();
    }

    /// Whether health is not asked for, as too few are healthy; as it was at the last choice.
    pub fn is_panicking(&self) -> bool {
        self.primaries.is_panicking()
    }

    /// The place in the set of an available endpoint that was not tried, with a connection reserved at it: a
    /// backup only if no primary is available. `None` if there is none.
    ///
    /// The caller owes the endpoint one `release`.
    #[must_use]
    pub fn choose(&mut self, request: &Request<'_>) -> Option<usize> {
        let Self { balance, set, primaries, backups, random } = self;
        let source = match balance {
            Balance::SourceHash | Balance::Maglev => hash_of_source(request.source),
            Balance::LeastConnections | Balance::RoundRobin | Balance::Random | Balance::TwoChoices => 0,
        };
        let tiers = [(set.primaries(), primaries), (set.backups(), backups)];
        for (tier, pool) in tiers {
            let mut draw = Draw { set, tier, pool, random, source, tried: request.tried, now: request.now };
            draw.refresh();
            let chosen = match balance {
                Balance::LeastConnections => least_connections::choose(&mut draw),
                Balance::RoundRobin => round_robin::choose(&mut draw),
                Balance::Random => random::choose(&mut draw),
                Balance::TwoChoices => two_choices::choose(&mut draw),
                Balance::SourceHash => source_hash::choose(&mut draw),
                Balance::Maglev => maglev::choose(&mut draw),
            };
            // A backup stands in for what is down, not for what is busy.
            if chosen.is_some() || draw.only_lacks_room() {
                return chosen;
            }
        }
        None
    }

    /// Whether a client that has tried none would get an endpoint now. Looks at all.
    pub fn has_room(&mut self, now: Time) -> bool {
        // A backup stands in for what is down, not for what is busy.
        self.open_tier(now, |draw| draw.pool.places().iter().any(|place| draw.may(*place)))
    }

    /// Whether there is an endpoint that gets connections, with room or without.
    pub fn is_open(&mut self, now: Time) -> bool {
        self.open_tier(now, |_| true)
    }

    /// After a choice that gave none: whether an endpoint could have been chosen, had it not as many connections as it
    /// may.
    pub fn only_lacks_room(&self, tried: &[EndpointId]) -> bool {
        let is_untried = |place: &u32| !tried.contains(&self.set.endpoints()[*place as usize].id());
        let open = |pool: &Pool| {
            let mut places = pool.places().iter().filter(|place| pool.weight_of(**place) > 0);
            places.any(is_untried)
        };
        open(&self.primaries) || open(&self.backups)
    }

    /// What holds of the first tier that has an endpoint that gets connections; `false` if none has.
    fn open_tier(&mut self, now: Time, holds: impl Fn(&Draw<'_>) -> bool) -> bool {
        let Self { set, primaries, backups, random, .. } = self;
        for (tier, pool) in [(set.primaries(), primaries), (set.backups(), backups)] {
            let mut draw = Draw { set, tier, pool, random, source: 0, tried: &[], now };
            draw.refresh();
            if draw.pool.weight() > 0 {
                return holds(&draw);
            }
        }
        false
    }
}

/// One choice among the endpoints of a tier: what the methods ask.
struct Draw<'a> {
    set: &'a EndpointSet,
    tier: &'a Tier,
    pool: &'a mut Pool,
    random: &'a mut Random,
    /// The hash of the client's address.
    source: u64,
    tried: &'a [EndpointId],
    now: Time,
}

impl Draw<'_> {
    /// Brings the pool up to date.
    fn refresh(&mut self) {
        if self.pool.refresh(self.set, self.tier, self.now)
            && let Some(bounds) = self.tier.bounds()
        {
            // They were of those that could be chosen before.
            bounds.reset();
        }
    }

    fn endpoint(&self, place: u32) -> &Endpoint {
        &self.set.endpoints()[place as usize]
    }

    /// Whether an endpoint gets connections at all.
    fn is_open(&self, place: u32) -> bool {
        self.pool.weight_of(place) > 0
    }

    fn was_tried(&self, place: u32) -> bool {
        !self.tried.is_empty() && self.tried.contains(&self.endpoint(place).id())
    }

    /// Whether it may get this connection.
    fn may(&self, place: u32) -> bool {
        self.is_open(place) && !self.was_tried(place) && !self.endpoint(place).is_full()
    }

    /// Whether one of them would do, had it not as many connections as it may. Looks at all.
    fn only_lacks_room(&self) -> bool {
        let lacks_room =
            |place: u32| self.endpoint(place).is_full() && self.is_open(place) && !self.was_tried(place);
        self.tier.places().iter().any(|place| lacks_room(*place))
    }

    /// How full it is for its weight.
    fn fullness(&self, place: u32) -> u64 {
        self.fullness_of(place, self.endpoint(place).active().get())
    }

    fn fullness_of(&self, place: u32, active: u32) -> u64 {
        key(active, self.pool.weight_of(place))
    }

    /// An index of the pool at random by effective weight.
    fn draw(&mut self) -> Option<usize> {
        let weight = self.pool.weight();
        (weight > 0).then(|| self.pool.at(self.random.below(weight)))
    }

    /// Reserves a connection at `place`, if it may get one.
    fn take(&self, place: u32) -> Option<usize> {
        let endpoint = self.endpoint(place);
        (self.may(place) && endpoint.active().try_acquire(endpoint.connections_max()))
            .then_some(place as usize)
    }

    /// Reserves a connection at `place`, if its count is still `active`.
    fn take_if(&self, place: u32, active: u32) -> Option<usize> {
        let endpoint = self.endpoint(place);
        (active < endpoint.connections_max() && endpoint.active().acquire_if(active))
            .then_some(place as usize)
    }

    /// Reserves a connection at the first of the pool, from `index` on, that may get one.
    fn take_around(&self, index: usize) -> Option<usize> {
        self.pool.around(index).find_map(|place| self.take(place))
    }
}
