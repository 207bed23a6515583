//! Balancers for the tests of the methods.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ringway::Time;

use super::{Balancer, Random, Request};
use crate::endpoint::testing::app_of_hosts;
use crate::endpoint::{AppState, EndpointId, EndpointSet};
use crate::model::{self, Balance};

/// A balancer with its clock.
pub(super) struct TestBalancer {
    inner: Balancer,
    pub(super) now: Time,
}

impl TestBalancer {
    pub(super) fn choose(&mut self, tried: &[EndpointId]) -> Option<usize> {
        self.choose_for(None, tried)
    }

    pub(super) fn choose_for(&mut self, source: Option<IpAddr>, tried: &[EndpointId]) -> Option<usize> {
        self.inner.choose(&Request { source, tried, now: self.now })
    }

    pub(super) fn set(&self) -> Arc<EndpointSet> {
        Arc::clone(self.inner.set())
    }
}

/// A balancer over one endpoint for each `(weight, backup)`.
pub(super) fn balancer(balance: Balance, backends: &[(u16, bool)]) -> TestBalancer {
    workers(balance, backends, 1).remove(0)
}

/// As [`balancer`], of so many workers over the same set.
pub(super) fn workers(balance: Balance, backends: &[(u16, bool)], count: u64) -> Vec<TestBalancer> {
    let app = app(&model::App { balance, ..app_of_hosts(backends) });
    workers_of(balance, &app.endpoints(), count)
}

/// So many workers over a set.
pub(super) fn workers_of(balance: Balance, set: &Arc<EndpointSet>, count: u64) -> Vec<TestBalancer> {
    let worker = |seed| TestBalancer {
        inner: Balancer::new(balance, Arc::clone(set), Random::new(seed)),
        now: Time::ZERO,
    };
    (0..count).map(worker).collect()
}

/// The app with an address for each backend.
pub(super) fn app(model: &model::App) -> AppState {
    let app = AppState::new(0, model);
    app.resolve(&addresses(0..model.backends.len()));
    app
}

/// One address for each of these backends.
pub(super) fn addresses(backends: std::ops::Range<usize>) -> Vec<Vec<ringway::SocketAddress>> {
    backends.map(|n| vec![address(n)]).collect()
}

pub(super) fn address(n: usize) -> ringway::SocketAddress {
    SocketAddr::from(([127, 0, 0, 1], n as u16 + 1)).into()
}

/// The connections of each endpoint.
pub(super) fn counts(balancer: &TestBalancer) -> Vec<u32> {
    balancer.set().endpoints().iter().map(|endpoint| endpoint.active().get()).collect()
}
