//! By the client's address: what `source_hash` and `maglev` have in common once their tables are there.

use super::Draw;
use super::table::mix;

/// Steps along the table before those that are available are asked instead: so many in vain mean that nearly all are
/// not, and walking on would look at thousands.
const STEPS: usize = 256;

/// The first available one on the walk of the source. It depends on nothing but the source, the table and who is
/// available: every worker and every load balancer with the same configuration comes to the same.
pub(super) fn choose(draw: &mut Draw<'_>) -> Option<usize> {
    let walk = draw.tier.walk(draw.source)?;
    for place in walk.take(STEPS) {
        if let Some(place) = draw.take(place) {
            return Some(place);
        }
    }
    // The highest random weight (Thaler, Ravishankar 1998) of the few that are left.
    let mut best: Option<(u64, u32)> = None;
    for &place in draw.pool.places() {
        let rank = mix(draw.set.endpoints()[place as usize].identity(), draw.source);
        if draw.may(place) && best.is_none_or(|(best, _)| rank > best) {
            best = Some((rank, place));
        }
    }
    draw.take(best?.1)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use ringway::Time;

    use super::super::testing::{TestBalancer, balancer};
    use crate::endpoint::Health;
    use crate::model::Balance;

    const CLIENTS: u32 = 4_000;

    fn client(n: u32) -> Option<IpAddr> {
        Some(Ipv4Addr::from(0x0a00_0000 + n).into())
    }

    fn choices(balancer: &mut TestBalancer) -> Vec<usize> {
        (0..CLIENTS).map(|n| balancer.choose_for(client(n), &[]).expect("some are available")).collect()
    }

    #[test]
    fn a_client_always_gets_the_same_backend_and_another_balancer_agrees() {
        for method in [Balance::SourceHash, Balance::Maglev] {
            let (mut one, mut two) =
                (balancer(method, &[(1, false); 10]), balancer(method, &[(1, false); 10]));
            let first = choices(&mut one);
            assert_eq!(first, choices(&mut one));
            assert_eq!(first, choices(&mut two));
        }
    }

    #[test]
    fn while_a_backend_is_down_only_its_clients_are_elsewhere_and_they_spread() {
        for method in [Balance::SourceHash, Balance::Maglev] {
            let mut balancer = balancer(method, &[(1, false); 10]);
            let before = choices(&mut balancer);
            balancer.set().endpoints()[3].set_health(Health::Down, None, Time::ZERO);
            let during = choices(&mut balancer);
            let mut refuges = [0; 10];
            for (before, during) in before.iter().zip(&during) {
                assert!(before == during || *before == 3);
                refuges[*during] += usize::from(*before == 3);
            }
            assert_eq!(refuges.iter().filter(|count| **count > 0).count(), 9, "{method:?}: {refuges:?}");
            balancer.set().endpoints()[3].set_health(Health::Up, None, Time::ZERO);
            assert_eq!(choices(&mut balancer), before);
        }
    }

    #[test]
    fn a_client_whose_backend_failed_goes_to_the_one_it_would_have_if_that_was_down() {
        for method in [Balance::SourceHash, Balance::Maglev] {
            let mut balancer = balancer(method, &[(1, false); 10]);
            for n in 0..50 {
                let first = balancer.choose_for(client(n), &[]).expect("all are available");
                let id = balancer.set().endpoints()[first].id();
                let second = balancer.choose_for(client(n), &[id]).expect("all are available");
                balancer.set().endpoints()[first].set_health(Health::Down, None, Time::ZERO);
                assert_eq!(balancer.choose_for(client(n), &[]), Some(second));
                balancer.set().endpoints()[first].set_health(Health::Up, None, Time::ZERO);
            }
        }
    }

    #[test]
    fn with_nearly_all_down_clients_still_agree_on_one_of_those_that_are_left() {
        for method in [Balance::SourceHash, Balance::Maglev] {
            let mut balancer = balancer(method, &[(1, false); 2_000]);
            for (place, endpoint) in balancer.set().endpoints().iter().enumerate() {
                if place % 1_000 != 0 {
                    endpoint.set_health(Health::Down, None, Time::ZERO);
                }
            }
            let first: Vec<_> = (0..200).map(|n| balancer.choose_for(client(n), &[])).collect();
            let again: Vec<_> = (0..200).map(|n| balancer.choose_for(client(n), &[])).collect();
            assert_eq!(first, again);
            assert!(first.contains(&Some(0)) && first.contains(&Some(1_000)));
        }
    }
}
