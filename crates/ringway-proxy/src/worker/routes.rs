//! Which app a connection belongs to: the frontends that a worker knows, by place, the app of each, and the pool that
//! its connections go to.
//!
//! A frontend belongs to one app. Its connections begin at a place that leads to the backends of that app; one that is
//! routed elsewhere moves on to the place of the same frontend that leads there. A place stays while the worker listens at
//! its frontend or a session names it, so that connections of a frontend that is gone still know where they are from.

use std::collections::HashMap;
use std::sync::Arc;

use crate::endpoint::FrontendState;
use crate::session::Slab;

/// The routes of one worker.
#[derive(Debug, Default)]
pub(super) struct Routes {
    known: Slab<Route>,
    /// Those that lead to a pool, by the place that they branch off from and the slot of the pool.
    branches: HashMap<(u32, usize), u32>,
    /// The newest route of each frontend, by where its state is in memory.
    places: HashMap<usize, u32>,
}

#[derive(Debug)]
struct Route {
    /// Slot of the app.
    app: usize,
    /// Slot of the pool; that of the app for its own backends.
    pool: usize,
    frontend: Arc<FrontendState>,
    /// The place that it branches off from, which it holds.
    trunk: Option<u32>,
    /// The listener, the branches, and the sessions that name it.
    holders: u32,
}

impl Routes {
    /// A new route, held by its listener.
    pub(super) fn open(&mut self, app: usize, frontend: Arc<FrontendState>) -> u32 {
        let name = name_of(&frontend);
        let place = self.known.insert(Route { app, pool: app, frontend, trunk: None, holders: 1 });
        self.places.insert(name, place);
        place
    }

    /// The newest route of a frontend to its own app, if there is one.
    pub(super) fn find(&self, frontend: &Arc<FrontendState>) -> Option<u32> {
        self.places.get(&name_of(frontend)).copied()
    }

    /// The route of the same frontend to a pool, held by one session more. Says whether it is new.
    ///
    /// # Panics
    /// If there is no such route.
    pub(super) fn branch(&mut self, place: u32, pool: usize) -> (u32, bool) {
        if let Some(branch) = self.branches.get(&(place, pool)).copied() {
            self.hold(branch);
            return (branch, false);
        }
        self.hold(place);
        let Route { app, frontend, .. } = self.get(place);
        let (app, frontend) = (*app, Arc::clone(frontend));
        let branch = self.known.insert(Route { app, pool, frontend, trunk: Some(place), holders: 1 });
        self.branches.insert((place, pool), branch);
        (branch, true)
    }

    fn get(&self, place: u32) -> &Route {
        self.known.get(place).expect("a route that is held is there")
    }

    /// Slot of the app that the connections of this frontend belong to.
    ///
    /// # Panics
    /// If there is no such route.
    pub(super) fn app_of(&self, place: u32) -> usize {
        self.get(place).app
    }

    /// Slot of the app or pool whose backends they go to.
    ///
    /// # Panics
    /// If there is no such route.
    pub(super) fn pool_of(&self, place: u32) -> usize {
        self.get(place).pool
    }

    /// The state of a frontend.
    ///
    /// # Panics
    /// If there is no such route.
    pub(super) fn frontend(&self, place: u32) -> &Arc<FrontendState> {
        &self.get(place).frontend
    }

    /// One more session names it.
    pub(super) fn hold(&mut self, place: u32) {
        self.known.get_mut(place).expect("a route that is held is there").holders += 1;
    }

    /// One fewer holds it. The last one's route is gone: `gone` hears the slot that it led to, and that of a frontend that
    /// goes with its last branch.
    pub(super) fn let_go(&mut self, place: u32, gone: &mut impl FnMut(usize)) {
        let Some(route) = self.known.get_mut(place) else { return };
        route.holders -= 1;
        if route.holders > 0 {
            return;
        }
        let Some(route) = self.known.remove(place) else { return };
        gone(route.pool);
        if let Some(trunk) = route.trunk {
            self.branches.remove(&(trunk, route.pool));
            self.let_go(trunk, gone);
        }
        let name = name_of(&route.frontend);
        if self.places.get(&name) == Some(&place) {
            self.places.remove(&name);
        }
    }
}

/// Tells frontends apart as long as somebody holds them.
fn name_of(frontend: &Arc<FrontendState>) -> usize {
    Arc::as_ptr(frontend) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::testing::app_of_hosts;

    fn frontend() -> Arc<FrontendState> {
        Arc::new(FrontendState::new(app_of_hosts(&[]).frontends[0].clone()))
    }

    fn let_go(routes: &mut Routes, place: u32) -> Vec<usize> {
        let mut gone = Vec::new();
        routes.let_go(place, &mut |slot| gone.push(slot));
        gone
    }

    #[test]
    fn route_stays_while_a_session_names_it() {
        let mut routes = Routes::default();
        let state = frontend();
        let (first, second) = (routes.open(3, Arc::clone(&state)), routes.open(5, frontend()));
        routes.hold(first);
        assert_eq!(routes.find(&state), Some(first));
        assert!(let_go(&mut routes, first).is_empty());
        // It is listened at again while a session of before goes on.
        let again = routes.open(3, Arc::clone(&state));
        assert_eq!(routes.find(&state), Some(again));
        assert_eq!((routes.app_of(first), routes.app_of(second)), (3, 5));
        assert_eq!(let_go(&mut routes, first), [3]);
        assert_eq!(routes.find(&state), Some(again));
        assert_eq!((let_go(&mut routes, again), routes.find(&state)), (vec![3], None));
        assert_eq!(routes.open(7, frontend()), again, "the place is free again");
    }

    #[test]
    fn branch_belongs_to_the_app_leads_to_the_pool_and_keeps_its_frontend() {
        let mut routes = Routes::default();
        let trunk = routes.open(3, frontend());
        let (branch, is_new) = routes.branch(trunk, 8);
        assert!(is_new);
        assert_eq!(routes.branch(trunk, 8), (branch, false));
        assert_eq!((routes.app_of(branch), routes.pool_of(branch), routes.pool_of(trunk)), (3, 8, 3));
        assert!(let_go(&mut routes, trunk).is_empty(), "its listener closed, and a branch is there");
        assert!(let_go(&mut routes, branch).is_empty());
        assert_eq!(let_go(&mut routes, branch), [8, 3]);
        let other = routes.open(4, frontend());
        assert_eq!(other, trunk, "the place is used again");
        assert!(routes.branch(other, 8).1, "and the branch of before is forgotten");
    }
}
