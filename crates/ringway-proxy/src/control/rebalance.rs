//! `[app.rebalance]`: looks whether a backend joined, and closes connections of those that have too many, a few at a time.
//!
//! What is closed when is decided by [`Rebalancer`]; it is done by the way of `ringway kill`, in pieces that no byte waits for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringway::{Clock, Time};

use super::operator::Operator;
use crate::balance::Random;
use crate::balance::rebalance::{Member, Outcome, Rebalancer};
use crate::endpoint::{AppCore, AppState, Endpoint, EndpointSet};
use crate::inspection::Selection;
use crate::model::Rebalance;
use crate::session::Ending;

/// Between looks while no app wants it: a reload may bring one.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Looking costs a few cache misses an endpoint, of which there may be thousands.
const LOOK_MIN: Duration = Duration::from_millis(50);

/// Looks after all apps; never ends.
pub(super) async fn run(operator: Operator, seed: u64) {
    let mut random = Random::new(seed);
    let mut watched: BTreeMap<usize, Watched> = BTreeMap::new();
    loop {
        let mut pause = LOOK_MAX;
        let snapshot = operator.process.lineage.current();
        let apps: Vec<_> = snapshot.apps().flat_map(|app| app.with_pools()).cloned().collect();
        watched.retain(|slot, watched| {
            apps.iter().any(|app| app.slot() == *slot && Arc::ptr_eq(app.core(), &watched.core))
        });
        for app in apps {
            let Some(rules) = app.model().rebalance else {
                watched.remove(&app.slot());
                continue;
            };
            pause = pause.min(rules.interval / 4);
            let watched = watched.entry(app.slot()).or_insert_with(|| Watched {
                core: Arc::clone(app.core()),
                rebalancer: Rebalancer::new(Random::new(random.number())),
                closed: 0,
            });
            watched.look(&operator, &app, &rules).await;
        }
        tokio::time::sleep(pause.max(LOOK_MIN)).await;
    }
}

struct Watched {
    core: Arc<AppCore>,
    rebalancer: Rebalancer,
    /// Since it began.
    closed: u64,
}

impl Watched {
    async fn look(&mut self, operator: &Operator, app: &AppState, rules: &Rebalance) {
        let set = app.endpoints();
        let now = Clock::process().now();
        let turn = self.rebalancer.look(rules, &members(&set, now), now);
        let name = app.name();
        let route = app.route().map(|route| &**route);
        if turn.has_begun {
            self.closed = 0;
            tracing::info!(app = %name, route, "a backend joined: connections of others are closed, a few at a time");
        }
        for (place, count) in turn.close {
            let endpoint = &set.endpoints()[place];
            let selection = Selection {
                backend: Some(endpoint.address().to_string()),
                older_than: Some(rules.min_age),
                ..Selection::of_pool(app.core())
            };
            let closed = operator.close_some(selection, Ending::Rebalanced, count.into()).await;
            self.closed += closed;
            let (backend, address) = (endpoint.name(), endpoint.address());
            tracing::debug!(app = %name, route, %backend, %address, closed, wanted = count, "connections closed to rebalance");
        }
        if let Some(outcome) = turn.ended {
            let closed = self.closed;
            match outcome {
                Outcome::Balanced => tracing::info!(app = %name, route, closed, "backends are balanced"),
                Outcome::TimeIsOver => {
                    tracing::info!(app = %name, route, closed, "the time to rebalance is over");
                }
            }
        }
    }
}

/// The endpoints of the set in their order, with the weight by which connections come to them now.
fn members(set: &EndpointSet, now: Time) -> Vec<Member> {
    let endpoints = set.endpoints();
    let is_open = |backup: bool| {
        move |endpoint: &Arc<Endpoint>| endpoint.is_available() && endpoint.is_backup() == backup
    };
    // Backups count while they stand in.
    let uses_backups = !endpoints.iter().any(is_open(false));
    let member = |(place, endpoint): (usize, &Arc<Endpoint>)| Member {
        id: endpoint.id(),
        weight: match is_open(uses_backups)(endpoint) {
            true => set.effective_weight(place as u32, now),
            false => 0,
        },
        active: endpoint.active().get(),
    };
    endpoints.iter().enumerate().map(member).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::endpoint::testing::app_of_hosts;
    use crate::endpoint::{DialFailure, Health};

    #[test]
    fn backups_take_part_while_they_stand_in_and_not_else() {
        let app = AppState::new(0, &app_of_hosts(&[(1, false), (2, true)]));
        let address = |port| vec![SocketAddr::from(([127, 0, 0, 1], port)).into()];
        let set = app.resolve(&[address(1), address(2)]).expect("new");
        let weights = || members(&set, Time::ZERO).iter().map(|member| member.weight).collect::<Vec<_>>();
        assert_eq!(weights(), [256, 0]);
        let refused = Some(DialFailure::Refused.into());
        set.endpoints()[0].set_health(Health::Down, refused, Time::ZERO);
        assert_eq!(weights(), [0, 512]);
        set.endpoints()[0].set_health(Health::Up, None, Time::ZERO);
        assert_eq!(weights(), [256, 0]);
    }
}
