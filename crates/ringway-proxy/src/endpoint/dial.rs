//! How the endpoints of an app are dialled: from which local addresses, with which options.

use std::net::IpAddr;

use ringway::{SocketAddress, SocketOptions};

use super::Endpoint;
use crate::model;

/// What the sockets of an app get on both sides.
pub(crate) fn socket_options(model: &model::App, congestion: Option<String>) -> SocketOptions {
    SocketOptions {
        nodelay: true,
        keep_alive: model.keep_alive,
        user_timeout: model.user_timeout,
        congestion,
    }
}

/// Local addresses to dial from, by family.
#[derive(Debug)]
pub(crate) struct Sources {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Sources {
    pub(crate) fn new(sources: &[IpAddr]) -> Self {
        let (v4, v6) = sources.iter().copied().partition(IpAddr::is_ipv4);
        Self { v4, v6 }
    }

    /// The local address for the next dial to `endpoint`: they take turns for each endpoint, over all workers.
    /// `None`: the system chooses.
    pub(crate) fn next(&self, endpoint: &Endpoint) -> Option<IpAddr> {
        let fitting = self.fitting(endpoint.address());
        let count = fitting.len() as u64;
        let turn = endpoint.next_source().checked_rem(count)?;
        fitting.get(turn as usize).copied()
    }

    /// From how many local addresses `target` can be dialled, the system's choice counted as one.
    pub(crate) fn count(&self, target: &SocketAddress) -> usize {
        self.fitting(target).len().max(1)
    }

    fn fitting(&self, target: &SocketAddress) -> &[IpAddr] {
        match target {
            SocketAddress::Inet(target) if target.is_ipv4() => &self.v4,
            SocketAddress::Inet(_) => &self.v6,
            SocketAddress::Unix(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::endpoint::AppState;
    use crate::endpoint::testing::app_of_hosts;

    #[test]
    fn local_addresses_of_the_right_family_take_turns_for_each_endpoint() {
        let app = AppState::new(0, &app_of_hosts(&[(1, false)]));
        let v4: SocketAddr = "192.0.2.1:80".parse().expect("address");
        let v6: SocketAddr = "[2001:db8::1]:80".parse().expect("address");
        let set = app.resolve(&[vec![v4.into(), v6.into()]]).expect("new");
        let addresses: Vec<IpAddr> =
            ["127.0.0.1", "127.0.0.2", "::1"].iter().map(|text| text.parse().expect("address")).collect();
        let sources = Sources::new(&addresses);
        let (to_v4, to_v6) = (&set.endpoints()[0], &set.endpoints()[1]);
        assert_eq!(sources.next(to_v4), Some(addresses[0]));
        assert_eq!(sources.next(to_v6), Some(addresses[2]));
        assert_eq!(sources.next(to_v4), Some(addresses[1]));
        assert_eq!(sources.next(to_v4), Some(addresses[0]));
        assert_eq!(Sources::new(&[]).next(to_v4), None);
    }
}
