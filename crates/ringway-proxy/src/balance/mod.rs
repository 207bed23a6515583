//! Which endpoint gets the next connection. A method is a file here and an arm of `Method`.
//!
//! To choose is to reserve: the endpoint's count of connections is raised by the choice itself, so that no other
//! worker decides on a count that is about to change. Whoever chose gives the place back, once.

mod least_connections;
mod round_robin;

use std::sync::Arc;

use crate::endpoint::{Endpoint, EndpointId, EndpointSet};
use crate::model::Balance;
use least_connections::LeastConnections;
use round_robin::RoundRobin;

/// Chooses among the endpoints of one set. Each worker has its own; what must be common to all is in the set.
#[derive(Debug)]
pub struct Balancer {
    set: Arc<EndpointSet>,
    primaries: Method,
    backups: Method,
}

#[derive(Debug)]
enum Method {
    LeastConnections(LeastConnections),
    RoundRobin(RoundRobin),
}

impl Balancer {
    /// Chooses among `set` by `balance`.
    pub fn new(balance: Balance, set: Arc<EndpointSet>) -> Self {
        let places = |backup: bool| {
            let wanted = |endpoint: &Endpoint| endpoint.weight() > 0 && endpoint.is_backup() == backup;
            let all = set.endpoints().iter().enumerate();
            all.filter(|(_, endpoint)| wanted(endpoint)).map(|(place, _)| place).collect()
        };
        Self {
            primaries: Method::new(balance, &set, places(false)),
            backups: Method::new(balance, &set, places(true)),
            set,
        }
    }

    /// The endpoints it chooses among.
    pub fn set(&self) -> &Arc<EndpointSet> {
        &self.set
    }

    /// The place in the set of an available endpoint that is not in `tried`, with a connection reserved at it: a
    /// backup only if no primary is available. `None` if there is none.
    ///
    /// The caller owes the endpoint's count one `release`.
    #[must_use]
    pub fn choose(&self, tried: &[EndpointId]) -> Option<usize> {
        let may = |endpoint: &Endpoint| endpoint.is_available() && !tried.contains(&endpoint.id());
        self.primaries.choose(&self.set, &may).or_else(|| self.backups.choose(&self.set, &may))
    }
}

impl Method {
    fn new(balance: Balance, set: &EndpointSet, places: Vec<usize>) -> Self {
        match balance {
            Balance::LeastConnections => Self::LeastConnections(LeastConnections::new(places)),
            Balance::RoundRobin => Self::RoundRobin(RoundRobin::new(set, &places)),
        }
    }

    fn choose(&self, set: &EndpointSet, may: &dyn Fn(&Endpoint) -> bool) -> Option<usize> {
        match self {
            Self::LeastConnections(method) => method.choose(set, may),
            Self::RoundRobin(method) => method.choose(set, may),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use ringway::Time;

    use super::*;
    use crate::endpoint::testing::app_of_hosts;
    use crate::endpoint::{AppState, DialFailure, Health};

    /// A balancer over one endpoint for each `(weight, backup)`.
    pub(super) fn balancer(balance: Balance, backends: &[(u16, bool)]) -> Balancer {
        let app = AppState::new(0, &app_of_hosts(backends));
        let addresses: Vec<_> = (0..backends.len())
            .map(|n| vec![SocketAddr::from(([127, 0, 0, 1], n as u16 + 1)).into()])
            .collect();
        app.resolve(&addresses);
        Balancer::new(balance, app.endpoints())
    }

    const METHODS: [Balance; 2] = [Balance::LeastConnections, Balance::RoundRobin];

    #[test]
    fn choice_reserves_a_connection() {
        for method in METHODS {
            let balancer = balancer(method, &[(1, false)]);
            assert_eq!(balancer.choose(&[]), Some(0));
            assert_eq!(balancer.set().endpoints()[0].active().get(), 1);
        }
    }

    #[test]
    fn unavailable_endpoints_are_passed_over() {
        for method in METHODS {
            let balancer = balancer(method, &[(1, false), (0, false), (1, false), (1, false)]);
            let endpoints = balancer.set().endpoints();
            endpoints[0].set_health(Health::Down, None, Time::ZERO);
            endpoints[2].eject(DialFailure::Refused, Time::ZERO);
            for _ in 0..8 {
                assert_eq!(balancer.choose(&[]), Some(3), "{method:?}");
            }
            assert_eq!(balancer.choose(&[endpoints[3].id()]), None, "{method:?}");
            assert_eq!(endpoints[3].active().get(), 8, "a choice that fails reserves nothing");
        }
    }

    #[test]
    fn backup_is_chosen_only_while_no_primary_is_available() {
        for method in METHODS {
            let balancer = balancer(method, &[(1, true), (1, false)]);
            let endpoints = balancer.set().endpoints();
            assert_eq!(balancer.choose(&[]), Some(1));
            assert_eq!(balancer.choose(&[]), Some(1));
            assert_eq!(balancer.choose(&[endpoints[1].id()]), Some(0));
            endpoints[1].set_health(Health::Down, None, Time::ZERO);
            assert_eq!(balancer.choose(&[]), Some(0));
            endpoints[1].set_health(Health::Up, None, Time::ZERO);
            assert_eq!(balancer.choose(&[]), Some(1));
        }
    }

    #[test]
    fn empty_set_has_nothing_to_choose() {
        for method in METHODS {
            assert_eq!(balancer(method, &[]).choose(&[]), None);
        }
    }
}
