//! Networks in CIDR notation, where a key takes them.

use super::fields::{Checker, Item};
use crate::model::{Network, NetworkError};

/// The network that `item` says.
pub(super) fn read(item: &Item<'_>, expected: &str, checker: &mut Checker<'_>) -> Option<Network> {
    let text = checker.text(item, expected)?;
    match Network::parse(&text) {
        Ok(network) => Some(network),
        Err(NetworkError::Malformed) => {
            let has_port = text.parse::<std::net::SocketAddr>().is_ok();
            checker.wrong_with(item, expected, has_port.then(|| "leave out the port".to_owned()));
            None
        }
        Err(NetworkError::HostBits(meant)) => {
            checker.wrong_with(item, expected, Some(format!("the network of that address is \"{meant}\"")));
            None
        }
    }
}
