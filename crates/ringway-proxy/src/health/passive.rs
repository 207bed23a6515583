//! What the failed dial of a client's connection tells about its endpoint.

use ringway::Time;

use crate::endpoint::{DialFailure, Endpoint};
use crate::model::Check;

/// Leaves `endpoint` out until its next good check, if the failure is its own and there is a check that can take it
/// back. Says whether it was taken out now.
pub fn note_dial_failure(endpoint: &Endpoint, check: &Check, failure: DialFailure, now: Time) -> bool {
    // Without checks nobody would ever take it back.
    check.is_active() && failure.is_the_endpoints() && endpoint.eject(failure, now)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::endpoint::testing::app_of_hosts;
    use crate::endpoint::{AppState, Health};

    fn endpoint() -> Arc<Endpoint> {
        let app = AppState::new(0, &app_of_hosts(&[(1, false)]));
        let set = app.resolve(&[vec![SocketAddr::from(([127, 0, 0, 1], 1)).into()]]).expect("address is new");
        Arc::clone(&set.endpoints()[0])
    }

    #[test]
    fn refused_dial_ejects_once() {
        let endpoint = endpoint();
        assert!(note_dial_failure(&endpoint, &Check::Tcp, DialFailure::Refused, Time::ZERO));
        assert!(!note_dial_failure(&endpoint, &Check::Tcp, DialFailure::Refused, Time::ZERO));
        assert_eq!(endpoint.health(), Health::Ejected);
    }

    #[test]
    fn without_checks_nothing_is_ever_ejected() {
        let endpoint = endpoint();
        assert!(!note_dial_failure(&endpoint, &Check::None, DialFailure::Refused, Time::ZERO));
        assert_eq!(endpoint.health(), Health::Up);
    }

    #[test]
    fn want_of_our_own_resources_is_not_held_against_the_endpoint() {
        let endpoint = endpoint();
        for failure in [DialFailure::Exhausted, DialFailure::SourceUnavailable] {
            assert!(!note_dial_failure(&endpoint, &Check::Tcp, failure, Time::ZERO));
        }
    }
}
