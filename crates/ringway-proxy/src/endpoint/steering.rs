//! What an operator said of backends at run time: another weight, or no new connections.
//!
//! It is applied to the model of the app before anything is made of it, so that nothing else knows of two weights. An
//! order belongs to the entry of a backend in the configuration, and is forgotten when that entry changes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model;

/// Whether a backend gets new connections, as far as an operator is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Duty {
    /// It does.
    #[default]
    Ready,
    /// It does not, until it is ready again; those that are open stay.
    Maintenance,
    /// It does not; those that are open may finish, and are ended after a while.
    Draining,
}

impl Duty {
    /// The word for status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Maintenance => "maintenance",
            Self::Draining => "draining",
        }
    }
}

/// What an operator said of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// In the place of the configured weight.
    pub weight: Option<u16>,
    /// Whether it gets new connections.
    pub duty: Duty,
}

impl Steering {
    /// The weight that it has.
    pub fn weight(&self, configured: u16) -> u16 {
        match self.duty {
            Duty::Ready => self.weight.unwrap_or(configured),
            Duty::Maintenance | Duty::Draining => 0,
        }
    }
}

/// What operators said of the backends of an app.
#[derive(Debug, Default)]
pub(super) struct SteeringTable {
    /// By name, with the entry that it was said of.
    orders: Mutex<BTreeMap<String, (model::Backend, Steering)>>,
}

impl SteeringTable {
    /// What was said of this entry.
    pub(super) fn of(&self, backend: &model::Backend) -> Steering {
        let orders = self.lock();
        let order = orders.get(&backend.name).filter(|(entry, _)| entry == backend);
        order.map(|(_, steering)| *steering).unwrap_or_default()
    }

    /// Takes an order in; says whether it changes anything.
    pub(super) fn set(&self, backend: &model::Backend, steering: Steering) -> bool {
        let changes = self.of(backend) != steering;
        let mut orders = self.lock();
        if steering == Steering::default() {
            orders.remove(&backend.name);
        } else {
            orders.insert(backend.name.clone(), (backend.clone(), steering));
        }
        changes
    }

    /// The model with what was said in the place of what is written. Orders of entries that it does not have are
    /// forgotten.
    pub(super) fn apply<'m>(&self, model: &'m model::App) -> Cow<'m, model::App> {
        {
            let mut orders = self.lock();
            orders.retain(|_, (entry, _)| model.backends.contains(entry));
            if orders.is_empty() {
                return Cow::Borrowed(model);
            }
        }
        let mut steered = model.clone();
        for (backend, written) in steered.backends.iter_mut().zip(&model.backends) {
            backend.weight = self.of(written).weight(written.weight);
        }
        Cow::Owned(steered)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (model::Backend, Steering)>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::endpoint::AppState;
    use crate::endpoint::testing::app_of_hosts;
    use ringway::SocketAddress;

    fn address(port: u16) -> SocketAddress {
        SocketAddr::from(([127, 0, 0, 1], port)).into()
    }

    fn weights(app: &AppState) -> Vec<u16> {
        app.endpoints().endpoints().iter().map(|endpoint| endpoint.weight()).collect()
    }

    const OUT: Steering = Steering { weight: Some(7), duty: Duty::Maintenance };

    #[test]
    fn an_order_holds_for_the_addresses_of_a_backend_those_that_join_included() {
        let app = AppState::new(0, &app_of_hosts(&[(3, false), (1, false)]));
        app.resolve(&[vec![address(1)], vec![address(2)]]).expect("new");
        let before = app.endpoints();
        let set = app.steer("b0:80", OUT).expect("it changes something");
        assert_eq!(weights(&app), [0, 1]);
        assert!(
            std::sync::Arc::ptr_eq(&set.endpoints()[0], &before.endpoints()[0]),
            "counts and health stay"
        );
        assert_eq!(set.primaries().places(), [1]);
        app.resolve(&[vec![address(1), address(3)], vec![address(2)]]).expect("new");
        assert_eq!(weights(&app), [0, 0, 1]);

        app.steer("b0:80", Steering { duty: Duty::Ready, ..OUT }).expect("it changes something");
        assert_eq!(weights(&app), [7, 7, 1]);
        assert!(app.steer("b0:80", Steering { duty: Duty::Ready, ..OUT }).is_none(), "said already");
        app.steer("b0:80", Steering::default()).expect("it changes something");
        assert_eq!(weights(&app), [3, 3, 1]);
        assert!(app.steer("other", OUT).is_none());
    }

    #[test]
    fn an_order_survives_a_reload_that_does_not_touch_its_backend() {
        let app = AppState::new(0, &app_of_hosts(&[(3, false)]));
        app.resolve(&[vec![address(1)]]).expect("new");
        app.steer("b0:80", OUT).expect("it changes something");
        let reloaded = |backends: &[(u16, bool)], before: &AppState| {
            AppState::with(
                before.core().clone(),
                app_of_hosts(backends).into(),
                Vec::new(),
                Vec::new(),
                Some(before),
            )
        };
        let more = reloaded(&[(3, false), (5, false)], &app);
        more.resolve(&[vec![address(1)], vec![address(2)]]).expect("new");
        assert_eq!(weights(&more), [0, 5]);
        assert_eq!(weights(&reloaded(&[(4, false), (5, false)], &more)), [4, 5], "its entry changed");
    }

    #[test]
    fn an_order_is_forgotten_when_its_entry_changes() {
        let model = app_of_hosts(&[(3, false)]);
        let table = SteeringTable::default();
        assert!(table.set(&model.backends[0], OUT));
        assert_eq!(table.apply(&model).backends[0].weight, 0);
        let changed = app_of_hosts(&[(4, false)]);
        assert_eq!(table.apply(&changed).backends[0].weight, 4);
        assert_eq!(table.of(&model.backends[0]), Steering::default(), "even if it changes back");
    }
}
