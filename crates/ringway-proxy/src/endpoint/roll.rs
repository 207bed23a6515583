//! The endpoints of an app that live: those of its set, and those that left it while they had connections.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Changes, Endpoint};

/// All endpoints of an app that anybody holds. One that comes back is found here, with its count and health.
#[derive(Debug, Default)]
pub(super) struct Roll {
    all: Mutex<Vec<Weak<Endpoint>>>,
    changes: Arc<Changes>,
}

impl Roll {
    /// What they share.
    pub(super) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// All that live.
    pub(super) fn living(&self) -> Vec<Arc<Endpoint>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// Those that live and are not among `present`.
    pub(super) fn absent(&self, present: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
        let present: HashSet<_> = present.iter().map(|endpoint| endpoint.id()).collect();
        let living = self.living().into_iter();
        living.filter(|endpoint| !present.contains(&endpoint.id())).collect()
    }

    /// One more lives, outside of any set.
    pub(super) fn add(&self, endpoint: &Arc<Endpoint>) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(endpoint));
    }

    /// Takes the endpoints of a new set in, and forgets those that are gone.
    pub(super) fn call(&self, present: &[Arc<Endpoint>]) {
        let absent = self.absent(present);
        let all = present.iter().chain(&absent).map(Arc::downgrade).collect();
        *self.all.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }
}
