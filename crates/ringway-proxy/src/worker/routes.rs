//! Which app a connection belongs to: the frontends that a worker knows, by place, and the app of each.
//!
//! A frontend belongs to one app; what a client says of itself is not looked at. A route stays while the worker listens
//! at its frontend or a session names it, so that connections of a frontend that is gone still know where they are from.

use std::sync::Arc;

use crate::endpoint::FrontendState;
use crate::session::Slab;

/// The routes of one worker.
#[derive(Debug, Default)]
pub(super) struct Routes {
    known: Slab<Route>,
}

#[derive(Debug)]
struct Route {
    /// Slot of the app.
    app: usize,
    frontend: Arc<FrontendState>,
    /// The listener and the sessions that name it.
    holders: u32,
}

impl Routes {
    /// A new route, held by its listener.
    pub(super) fn open(&mut self, app: usize, frontend: Arc<FrontendState>) -> u32 {
        self.known.insert(Route { app, frontend, holders: 1 })
    }

    /// Slot of the app that the connections of this frontend belong to.
    ///
    /// # Panics
    /// If there is no such route.
    pub(super) fn app_of(&self, place: u32) -> usize {
        self.known.get(place).expect("a route that is held is there").app
    }

    /// The state of a frontend.
    ///
    /// # Panics
    /// If there is no such route.
    pub(super) fn frontend(&self, place: u32) -> &FrontendState {
        &self.known.get(place).expect("a route that is held is there").frontend
    }

    /// One more session names it.
    pub(super) fn hold(&mut self, place: u32) {
        self.known.get_mut(place).expect("a route that is held is there").holders += 1;
    }

    /// One fewer holds it. The last one's route is gone; the slot of its app comes back.
    pub(super) fn let_go(&mut self, place: u32) -> Option<usize> {
        let route = self.known.get_mut(place)?;
        route.holders -= 1;
        (route.holders == 0).then(|| self.known.remove(place).map(|route| route.app)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::testing::app_of_hosts;

    #[test]
    fn route_stays_while_a_session_names_it() {
        let mut routes = Routes::default();
        let frontend = || Arc::new(FrontendState::new(app_of_hosts(&[]).frontends[0].clone()));
        let (first, second) = (routes.open(3, frontend()), routes.open(5, frontend()));
        routes.hold(first);
        assert_eq!(routes.let_go(first), None);
        assert_eq!((routes.app_of(first), routes.app_of(second)), (3, 5));
        assert_eq!(routes.let_go(first), Some(3));
        assert_eq!(routes.open(7, frontend()), first, "the place is free again");
    }
}
