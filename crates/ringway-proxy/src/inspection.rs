//! What an operator may ask of the connections of a worker: which ones, what to do with them, and what comes back.
//!
//! A worker is asked in pieces, and whoever asks keeps the place: one piece looks at so few connections that no byte
//! waits for it, and a reader that went away costs nothing, because nobody asks for the next piece.

use std::sync::Arc;
use std::time::Duration;

use ringway::SocketAddress;
use tokio::sync::mpsc::UnboundedSender;

use crate::control::access_log::Asked;
use crate::endpoint::{AppCore, Endpoint};
use crate::model::Network;
use crate::session::Ending;
use crate::session::tcp::Stage;

/// Which connections are meant: those that fit everything that is given; all if nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Of the app with this name.
    pub app: Option<String>,
    /// Of the route with this name; empty: those that go to the backends of the app itself.
    pub route: Option<String>,
    /// Of the backend with this name, or the endpoint with this address.
    pub backend: Option<String>,
    /// From a client in this network. Clients on Unix sockets are in none.
    pub source: Option<Network>,
    /// Accepted at least so long ago.
    pub older_than: Option<Duration>,
    /// With this number.
    pub connection: Option<u64>,
}

impl Selection {
    /// Whether it names nothing, and so means all.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// What it means is within this app, and within this pool of its.
    pub fn of_pool(pool: &AppCore) -> Self {
        let route = pool.route().map(|route| route.to_string()).unwrap_or_default();
        Self { app: Some(pool.name().to_string()), route: Some(route), ..Self::default() }
    }

    /// Whether it means connections of an app or of a pool of it.
    pub fn has_pool(&self, pool: &AppCore) -> bool {
        let route = pool.route().map_or("", |route| route);
        self.app.as_deref().is_none_or(|wanted| wanted == &**pool.name())
            && self.route.as_deref().is_none_or(|wanted| wanted == route)
    }

    /// Whether it means connections to an endpoint; `None`: to none yet.
    pub fn has_endpoint(&self, endpoint: Option<&Endpoint>) -> bool {
        let Some(wanted) = &self.backend else { return true };
        endpoint.is_some_and(|endpoint| {
            **endpoint.name() == **wanted || endpoint.address().to_string() == *wanted
        })
    }

    /// Whether it means connections from a client.
    pub fn has_source(&self, client: &SocketAddress) -> bool {
        let Some(network) = &self.source else { return true };
        client.inet().is_some_and(|client| network.contains(client.ip().to_canonical()))
    }

    /// Whether it means a connection of this age with this number.
    pub fn has_age_and_number(&self, age: Duration, number: u64) -> bool {
        self.older_than.is_none_or(|least| age >= least)
            && self.connection.is_none_or(|wanted| wanted == number)
    }
}

/// What is done with the connections that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Look at them, and tell of at most so many.
    List {
        /// More are only counted.
        rows_max: usize,
    },
    /// End them.
    Close(Ending),
    /// End so many of them, over all pieces: whoever asks says less each time.
    CloseSome {
        /// Why.
        ending: Ending,
        /// How many at most.
        most: u64,
    },
}

/// Asks a worker for one piece.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// Which connections.
    pub selection: Arc<Selection>,
    /// What to do with them.
    pub verb: Verb,
    /// The place to begin at: 0, then what the last piece said.
    pub from: u32,
    /// Where the piece goes. One piece for each inquiry.
    pub reply: UnboundedSender<Piece>,
}

/// What a worker found in one piece.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Connections that were meant: ended, if that was asked for.
    pub matched: u64,
    /// Those that were asked for, at most as many as were.
    pub rows: Vec<Sighting>,
    /// Where the next piece begins; none if this was the last.
    pub next: Option<u32>,
}

/// One connection as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// Its number, as in the access log.
    pub connection: u64,
    /// The worker that serves it.
    pub worker: u32,
    /// Name of its app.
    pub app: Arc<str>,
    /// Name of its route, if it took one.
    pub route: Option<Arc<str>>,
    /// What the client asked for, where its first bytes were looked at.
    pub asked: Option<Arc<Asked>>,
    /// Name of its frontend.
    pub frontend: Arc<str>,
    /// The client's address.
    pub client: SocketAddress,
    /// Name of its backend, if one was chosen.
    pub backend: Option<Arc<str>>,
    /// The backend's address.
    pub endpoint: Option<SocketAddress>,
    /// What it does.
    pub stage: Stage,
    /// Since it was accepted.
    pub age: Duration,
    /// Since the last byte; none before bytes can flow.
    pub idle: Option<Duration>,
    /// Bytes handed on: `[client to backend, backend to client]`.
    pub bytes: [u64; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> SocketAddress {
        SocketAddress::Inet(text.parse().expect("an address"))
    }

    #[test]
    fn nothing_named_means_everything() {
        let all = Selection::default();
        assert!(all.is_everything());
        assert!(
            all.has_pool(&AppCore::new(0, "any"))
                && all.has_endpoint(None)
                && all.has_source(&SocketAddress::Unix(None))
        );
        assert!(all.has_age_and_number(Duration::ZERO, 7));
    }

    #[test]
    fn a_route_is_one_of_its_app_and_no_route_is_the_app_itself() {
        let app = Arc::new(AppCore::new(0, "edge"));
        let pool = AppCore::of_route(1, "api", &app);
        let of_pool = Selection::of_pool(&pool);
        assert!(of_pool.has_pool(&pool) && !of_pool.has_pool(&app));
        let of_app = Selection::of_pool(&app);
        assert!(of_app.has_pool(&app) && !of_app.has_pool(&pool));
        let all_of_app = Selection { app: Some("edge".into()), ..Selection::default() };
        assert!(all_of_app.has_pool(&app) && all_of_app.has_pool(&pool));
    }

    #[test]
    fn a_network_means_the_clients_in_it_and_no_others() {
        let in_network = |network: &str, address: &str| {
            let source = Some(Network::parse(network).expect("a network"));
            Selection { source, ..Selection::default() }.has_source(&client(address))
        };
        assert!(in_network("10.0.0.0/8", "10.255.0.1:80"));
        assert!(in_network("10.0.0.0/8", "[::ffff:10.0.0.1]:80"), "a client of a dual-stack frontend");
        assert!(!in_network("10.0.0.0/8", "11.0.0.1:80"));
        assert!(in_network("2001:db8::/32", "[2001:db8::5]:80"));
        assert!(!in_network("::/0", "10.0.0.1:80"));
        let any = Selection {
            source: Some(Network::parse("0.0.0.0/0").expect("a network")),
            ..Selection::default()
        };
        assert!(!any.has_source(&SocketAddress::Unix(None)));
    }

    #[test]
    fn age_and_number_must_both_fit() {
        let old = Selection { older_than: Some(Duration::from_secs(5)), ..Selection::default() };
        assert!(old.has_age_and_number(Duration::from_secs(5), 1));
        assert!(!old.has_age_and_number(Duration::from_secs(4), 1));
        let one = Selection { connection: Some(3), ..Selection::default() };
        assert!(one.has_age_and_number(Duration::ZERO, 3) && !one.has_age_and_number(Duration::ZERO, 4));
        assert!(!one.is_everything());
    }
}
