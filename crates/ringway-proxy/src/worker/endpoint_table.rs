//! The endpoints that a worker knows, by place: four bytes in a session instead of a counted reference.
//!
//! An endpoint stays while it is in the set of an app or a session names it. The table counts both, on this thread
//! only; so a connection to an address that DNS has forgotten keeps its endpoint until it ends.

use std::collections::HashMap;
use std::sync::Arc;

use crate::endpoint::{Endpoint, EndpointId, EndpointSet};
use crate::session::Slab;

/// Names no endpoint.
pub(super) const NO_ENDPOINT: u32 = u32::MAX;

/// The endpoints of one worker.
#[derive(Debug, Default)]
pub(super) struct EndpointTable {
    known: Slab<Known>,
    places: HashMap<EndpointId, u32>,
}

#[derive(Debug)]
struct Known {
    endpoint: Arc<Endpoint>,
    /// Sets and sessions that name it.
    holders: u32,
}

impl EndpointTable {
    /// Takes in a set; gives the places of its endpoints, in its order. `before`: the places of the set that it
    /// takes the place of.
    pub(super) fn adopt(&mut self, set: &EndpointSet, before: &[u32]) -> Vec<u32> {
        let places = set.endpoints().iter().map(|endpoint| self.hold_endpoint(endpoint)).collect();
        before.iter().for_each(|place| self.let_go(*place));
        places
    }

    /// One more names this endpoint; gives its place.
    pub(super) fn hold_endpoint(&mut self, endpoint: &Arc<Endpoint>) -> u32 {
        let place = match self.places.get(&endpoint.id()) {
            Some(place) => *place,
            None => {
                let place = self.known.insert(Known { endpoint: Arc::clone(endpoint), holders: 0 });
                self.places.insert(endpoint.id(), place);
                place
            }
        };
        self.hold(place);
        place
    }

    pub(super) fn get(&self, place: u32) -> Option<&Arc<Endpoint>> {
        self.known.get(place).map(|known| &known.endpoint)
    }

    /// One more names the endpoint at `place`.
    pub(super) fn hold(&mut self, place: u32) {
        self.known.get_mut(place).expect("only known places are held").holders += 1;
    }

    /// One fewer names the endpoint at `place`. Nothing happens for [`NO_ENDPOINT`].
    pub(super) fn let_go(&mut self, place: u32) {
        let Some(known) = self.known.get_mut(place) else { return };
        known.holders -= 1;
        if known.holders == 0 {
            self.places.remove(&known.endpoint.id());
            self.known.remove(place);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.known.len(), self.places.len());
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::endpoint::AppState;
    use crate::endpoint::testing::app_of_hosts;

    #[test]
    fn endpoint_that_left_its_set_stays_while_a_session_names_it() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port)).into();
        let app = AppState::new(0, &app_of_hosts(&[(1, false)]));
        let mut table = EndpointTable::default();
        let first = app.resolve(&[vec![address(1), address(2)]]).expect("new");
        let places = table.adopt(&first, &[]);
        table.hold(places[0]);

        let second = app.resolve(&[vec![address(2), address(3)]]).expect("changed");
        let next = table.adopt(&second, &places);
        assert_eq!(next[0], places[1], "the same endpoint has the same place");
        assert_eq!(table.get(places[0]).map(|known| known.address().clone()), Some(address(1)));
        assert_eq!(table.len(), 3);

        table.let_go(places[0]);
        assert!(table.get(places[0]).is_none());
        table.let_go(NO_ENDPOINT);
        assert_eq!(table.len(), 2);
    }
}
