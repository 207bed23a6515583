//! The endpoints of an app at one moment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringway::{SocketAddress, Time};

use super::ramp::{Ramp, step};
use super::resolved::{Resolved, ranks};
use super::roll::Roll;
use super::{Changes, Endpoint, Tier};
use crate::model;

/// The endpoints of an app at one moment, and the means to choose among them. Never changes; a new one takes its
/// place when the addresses of a backend do.
#[derive(Debug)]
pub struct EndpointSet {
    endpoints: Vec<Arc<Endpoint>>,
    primaries: Tier,
    backups: Tier,
    cursor: Cursor,
    slow_start: Option<Duration>,
    panic_threshold: f64,
    changes: Arc<Changes>,
}

/// Counts turns over all workers, on a cache line of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Cursor(AtomicU64);

impl EndpointSet {
    /// The set of `resolved` addresses, one list a backend. Endpoints of `before` whose backend has the same name and
    /// whose address is the same are kept.
    pub(super) fn new(
        model: &model::App,
        resolved: &[Vec<Resolved>],
        before: Option<&Self>,
        roll: &Roll,
    ) -> Self {
        Self::of(model, gather(model, resolved, before, roll).0, Arc::clone(roll.changes()))
    }

    /// The set of other addresses of the same app; `None` if they are not others.
    pub(super) fn with_addresses(
        &self,
        model: &model::App,
        resolved: &[Vec<Resolved>],
        roll: &Roll,
    ) -> Option<Self> {
        let (endpoints, is_reweighed) = gather(model, resolved, Some(self), roll);
        if is_reweighed {
            self.changes.note();
        }
        let is_same = !is_reweighed && same_endpoints(&self.endpoints, &endpoints);
        (!is_same).then(|| Self::of(model, endpoints, Arc::clone(&self.changes)))
    }

    /// Whether both would get the same set for the same addresses.
    pub(super) fn is_alike(one: &model::App, other: &model::App) -> bool {
        let means = |app: &model::App| (app.balance, app.slow_start, app.health.panic_threshold);
        means(one) == means(other) && one.backends == other.backends
    }

    /// The same endpoints with the weights of `model`.
    pub(super) fn reweighed(&self, model: &model::App) -> Self {
        // Those of a backend stand together.
        for own in self.endpoints.chunk_by(|one, other| one.backend() == other.backend()) {
            let index = own[0].backend();
            let records: Vec<_> = own.iter().map(|endpoint| endpoint.record.get()).collect();
            for (endpoint, rank) in own.iter().zip(ranks(&model.backends[index], &records)) {
                endpoint.set_backend(index, rank, endpoint.record.get());
            }
        }
        self.changes.note();
        Self::of(model, self.endpoints.clone(), Arc::clone(&self.changes))
    }

    fn of(model: &model::App, endpoints: Vec<Arc<Endpoint>>, changes: Arc<Changes>) -> Self {
        Self {
            primaries: Tier::new(model.balance, &endpoints, false),
            backups: Tier::new(model.balance, &endpoints, true),
            endpoints,
            cursor: Cursor::default(),
            slow_start: model.slow_start,
            panic_threshold: model.health.panic_threshold,
            changes,
        }
    }

    /// The endpoints that get connections, those with weight.
    pub fn primaries(&self) -> &Tier {
        &self.primaries
    }

    /// The endpoints that get connections while no primary is available, those with weight.
    pub fn backups(&self) -> &Tier {
        &self.backups
    }

    /// How often anything changed that decides which endpoints may be chosen.
    pub(crate) fn change_count(&self) -> u64 {
        self.changes.count()
    }

    /// The weight of the endpoint at `place` in 256ths, less during its slow start.
    pub(crate) fn effective_weight(&self, place: u32, now: Time) -> u32 {
        self.endpoints[place as usize].effective_weight(self.slow_start, now)
    }

    /// How long effective weights stay as they are while an endpoint is in its slow start; `None` without one.
    pub(crate) fn slow_start_step(&self) -> Option<Duration> {
        self.slow_start.map(step)
    }

    /// Whether so few endpoints are healthy that health is not asked for: those that are would be overrun. Looks at
    /// every endpoint.
    pub fn is_panicking(&self) -> bool {
        let available = |tier: &Tier| {
            let places = tier.places().iter();
            places.filter(|place| self.endpoints[**place as usize].is_available()).count()
        };
        // No precision is lost: endpoints are far fewer than 2^53.
        self.panic_threshold > 0.0
            && (available(&self.primaries) as f64)
                < self.panic_threshold * self.primaries.places().len() as f64
            && available(&self.backups) == 0
    }

    /// The endpoints, in the order of the configuration.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The number of this turn, over all workers; the next call gets the next.
    pub(crate) fn next_turn(&self) -> u64 {
        self.cursor.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The endpoints of `resolved` addresses: those of `before` or of an earlier time, as far as they are among them, and
/// new ones. Says, too, whether one that was there has another weight or rank.
fn gather(
    model: &model::App,
    resolved: &[Vec<Resolved>],
    before: Option<&EndpointSet>,
    roll: &Roll,
) -> (Vec<Arc<Endpoint>>, bool) {
    assert_eq!(resolved.len(), model.backends.len(), "one list of addresses for each backend");
    // Those that an app starts with have nobody beside them to be spared by.
    let is_first = before.is_none_or(|set| set.endpoints.is_empty());
    let mut known: HashMap<(&str, &SocketAddress), Vec<&Arc<Endpoint>>> = HashMap::new();
    let present = before.map_or(&[][..], |set| &set.endpoints);
    let absent = roll.absent(present);
    // From the last to the first, as the lists are taken from their ends.
    for endpoint in absent.iter().chain(present.iter().rev()) {
        known.entry((endpoint.name(), endpoint.address())).or_default().push(endpoint);
    }
    let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
    let mut is_reweighed = false;
    for (index, (backend, addresses)) in model.backends.iter().zip(resolved).enumerate() {
        let name: Arc<str> = Arc::from(backend.name.as_str());
        let mut named = HashSet::new();
        // A resolver may name an address twice.
        let own: Vec<&Resolved> = addresses.iter().filter(|found| named.insert(&found.address)).collect();
        let records: Vec<_> = own.iter().map(|found| found.record).collect();
        for (Resolved { address, record }, rank) in own.into_iter().zip(ranks(backend, &records)) {
            if let Some(kept) = known.get_mut(&(backend.name.as_str(), address)).and_then(Vec::pop) {
                is_reweighed |= kept.set_backend(index, rank, *record);
                kept.limit(backend.max_connections);
                endpoints.push(Arc::clone(kept));
                continue;
            }
            let ramp = if is_first { Ramp::full() } else { Ramp::joined() };
            let (name, changes) = (Arc::clone(&name), Arc::clone(roll.changes()));
            let endpoint = Endpoint::new(index, name, address.clone(), rank, ramp, changes);
            endpoint.record.set(*record);
            endpoint.limit(backend.max_connections);
            endpoints.push(Arc::new(endpoint));
        }
    }
    roll.call(&endpoints);
    (endpoints, is_reweighed)
}

fn same_endpoints(some: &[Arc<Endpoint>], others: &[Arc<Endpoint>]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(one, other)| Arc::ptr_eq(one, other))
}

impl Drop for EndpointSet {
    fn drop(&mut self) {
        self.primaries.leave(&self.endpoints);
        self.backups.leave(&self.endpoints);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::endpoint::AppState;
    use crate::endpoint::testing::app_of_hosts;

    fn address(port: u16) -> SocketAddress {
        SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    #[test]
    fn unchanged_address_keeps_its_endpoint_with_its_counts() {
        let app = AppState::new(0, &app_of_hosts(&[(1, false), (1, true)]));
        assert!(app.endpoints().endpoints().is_empty());
        let first =
            app.resolve(&[vec![address(1), address(2)], vec![address(1)]]).expect("addresses are new");
        assert_eq!(first.endpoints().len(), 3);
        first.endpoints()[1].active().acquire();

        let second = app.resolve(&[vec![address(2), address(3)], vec![]]).expect("addresses changed");
        assert!(Arc::ptr_eq(&first.endpoints()[1], &second.endpoints()[0]));
        assert_eq!(second.endpoints()[0].active().get(), 1);
        assert_eq!(second.endpoints()[1].address(), &address(3));
    }

    #[test]
    fn address_that_comes_back_while_it_has_connections_is_the_same_endpoint() {
        let app = AppState::new(0, &app_of_hosts(&[(1, false)]));
        let first = app.resolve(&[vec![address(1)]]).expect("new");
        let held = Arc::clone(&first.endpoints()[0]);
        drop(first);
        app.resolve(&[vec![address(2)]]).expect("changed");
        let back = app.resolve(&[vec![address(2), address(1)]]).expect("changed");
        assert!(Arc::ptr_eq(&back.endpoints()[1], &held));
        let second = Arc::downgrade(&back.endpoints()[0]);
        drop(back);
        app.resolve(&[vec![address(1)]]).expect("changed");
        assert!(second.upgrade().is_none(), "nobody held it");
    }

    #[test]
    fn another_record_of_the_same_address_is_a_new_set_of_the_same_endpoints() {
        use crate::endpoint::{Duty, Record, Steering};
        let app = AppState::new(0, &app_of_hosts(&[(1, false)]));
        let found = |port, weight, backup| {
            let record = Some(Record::new(weight, 1, backup));
            Resolved { address: address(port), record }
        };
        let ranks = |set: &EndpointSet| {
            let rank = |endpoint: &Arc<Endpoint>| (endpoint.weight(), endpoint.is_backup());
            set.endpoints().iter().map(rank).collect::<Vec<_>>()
        };
        let first = app.resolve_records(&[vec![found(1, 10, false), found(2, 20, true)]]).expect("new");
        assert_eq!(ranks(&first), [(10, false), (20, true)]);
        assert!(app.resolve_records(&[vec![found(1, 10, false), found(2, 20, true)]]).is_none());
        let second =
            app.resolve_records(&[vec![found(1, 10, true), found(2, 30, false)]]).expect("other records");
        assert_eq!(ranks(&second), [(10, true), (30, false)]);
        assert!(same_endpoints(first.endpoints(), second.endpoints()));
        let out = Steering { duty: Duty::Maintenance, ..Steering::default() };
        assert_eq!(ranks(&app.steer("b0:80", out).expect("news")), [(0, true), (0, false)]);
        assert_eq!(ranks(&app.steer("b0:80", Steering::default()).expect("news")), [(10, true), (30, false)]);
    }

    #[test]
    fn same_addresses_make_no_new_set_and_doubles_count_once() {
        let app = AppState::new(0, &app_of_hosts(&[(1, false)]));
        let set = app.resolve(&[vec![address(1), address(1)]]).expect("addresses are new");
        assert_eq!(set.endpoints().len(), 1);
        assert!(app.resolve(&[vec![address(1)]]).is_none());
    }
}
