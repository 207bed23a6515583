//! The endpoints of an app at one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringway::SocketAddress;

use super::Endpoint;
use crate::model;

/// The endpoints of an app at one moment, and the means to choose among them. Never changes; a new one takes its
/// place when the addresses of a backend do.
#[derive(Debug)]
pub struct EndpointSet {
    endpoints: Vec<Arc<Endpoint>>,
    cursor: Cursor,
}

/// Counts turns over all workers, on a cache line of its own.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Cursor(AtomicU64);

impl EndpointSet {
    /// The set of `resolved` addresses, one list a backend. Endpoints of `before` with the same backend and address
    /// are kept.
    pub(super) fn new(model: &model::App, resolved: &[Vec<SocketAddress>], before: Option<&Self>) -> Self {
        assert_eq!(resolved.len(), model.backends.len(), "one list of addresses for each backend");
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for (index, (backend, addresses)) in model.backends.iter().zip(resolved).enumerate() {
            let name: Arc<str> = Arc::from(backend.name.as_str());
            let first = endpoints.len();
            for address in addresses {
                // A resolver may name an address twice.
                if endpoints[first..].iter().any(|endpoint| endpoint.address() == address) {
                    continue;
                }
                let kept = before.and_then(|set| {
                    let same = |endpoint: &&Arc<Endpoint>| {
                        endpoint.backend() == index && endpoint.address() == address
                    };
                    set.endpoints.iter().find(same).cloned()
                });
                endpoints.push(kept.unwrap_or_else(|| {
                    let name = Arc::clone(&name);
                    Arc::new(Endpoint::new(index, name, address.clone(), backend.weight, backend.backup))
                }));
            }
        }
        Self { endpoints, cursor: Cursor::default() }
    }

    /// The endpoints, in the order of the configuration.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Whose turn it is of `count`, over all workers; the next call gets the next.
    ///
    /// # Panics
    /// If `count` is zero.
    pub fn next_turn(&self, count: usize) -> usize {
        let turn = self.cursor.0.fetch_add(1, Ordering::Relaxed);
        (turn % count as u64) as usize
    }

    pub(super) fn same_endpoints(&self, other: &Self) -> bool {
        self.endpoints.len() == other.endpoints.len()
            && self.endpoints.iter().zip(&other.endpoints).all(|(one, two)| Arc::ptr_eq(one, two))
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
    fn same_addresses_make_no_new_set_and_doubles_count_once() {
        let app = AppState::new(0, &app_of_hosts(&[(1, false)]));
        let set = app.resolve(&[vec![address(1), address(1)]]).expect("addresses are new");
        assert_eq!(set.endpoints().len(), 1);
        assert!(app.resolve(&[vec![address(1)]]).is_none());
    }
}
