//! What every method keeps to, and exactness of least-connections in small and large sets.

use ringway::Time;

use super::testing::balancer;
use crate::endpoint::{DialFailure, Health};
use crate::model::Balance;

const METHODS: [Balance; 6] = [
    Balance::LeastConnections,
    Balance::RoundRobin,
    Balance::Random,
    Balance::TwoChoices,
    Balance::SourceHash,
    Balance::Maglev,
];

#[test]
fn choice_reserves_a_connection() {
    for method in METHODS {
        let mut balancer = balancer(method, &[(1, false)]);
        assert_eq!(balancer.choose(&[]), Some(0));
        assert_eq!(balancer.set().endpoints()[0].active().get(), 1);
    }
}

#[test]
fn unavailable_endpoints_are_passed_over() {
    // Large sets are chosen from in another way.
    for (method, more) in METHODS.into_iter().flat_map(|method| [(method, 0), (method, 600)]) {
        let mut backends = vec![(1, false), (0, false), (1, false), (1, false)];
        backends.resize(4 + more, (1, false));
        let mut balancer = balancer(method, &backends);
        let set = balancer.set();
        let endpoints = set.endpoints();
        endpoints[0].set_health(Health::Down, None, Time::ZERO);
        endpoints[2].eject(DialFailure::Refused, Time::ZERO);
        endpoints[4..].iter().for_each(|endpoint| {
            endpoint.set_health(Health::Down, None, Time::ZERO);
        });
        for _ in 0..8 {
            assert_eq!(balancer.choose(&[]), Some(3), "{method:?}");
        }
        assert_eq!(balancer.choose(&[endpoints[3].id()]), None, "{method:?}");
        assert_eq!(endpoints[3].active().get(), 8, "a choice that fails reserves nothing");
        endpoints[3].set_health(Health::Down, None, Time::ZERO);
        assert_eq!(balancer.choose(&[]), None, "{method:?}");
        endpoints[0].set_health(Health::Up, None, Time::ZERO);
        assert_eq!(balancer.choose(&[]), Some(0), "{method:?}");
    }
}

#[test]
fn endpoints_that_were_tried_are_passed_over() {
    for (method, count) in METHODS.into_iter().flat_map(|method| [(method, 5), (method, 400)]) {
        let mut balancer = balancer(method, &vec![(1, false); count]);
        let mut tried = Vec::new();
        for _ in 0..count {
            let place = balancer.choose(&tried).expect("one is left");
            let id = balancer.set().endpoints()[place].id();
            assert!(!tried.contains(&id), "{method:?}");
            tried.push(id);
        }
        assert_eq!(balancer.choose(&tried), None, "{method:?}");
    }
}

#[test]
fn backup_is_chosen_only_while_no_primary_is_available() {
    for method in METHODS {
        let mut balancer = balancer(method, &[(1, true), (1, false)]);
        let set = balancer.set();
        let endpoints = set.endpoints();
        assert_eq!(balancer.choose(&[]), Some(1));
        assert_eq!(balancer.choose(&[]), Some(1));
        assert_eq!(balancer.choose(&[endpoints[1].id()]), Some(0));
        endpoints[1].set_health(Health::Down, None, Time::ZERO);
        assert_eq!(balancer.choose(&[]), Some(0));
        endpoints[1].set_health(Health::Up, None, Time::ZERO);
        assert_eq!(balancer.choose(&[]), Some(1));
    }
}

#[test]
fn empty_set_has_nothing_to_choose() {
    for method in METHODS {
        assert_eq!(balancer(method, &[]).choose(&[]), None);
    }
}

mod least_connections {
    use proptest::prelude::*;

    use super::super::testing::{balancer, counts, workers};
    use super::*;

    /// Few, and enough for groups.
    const SIZES: [usize; 2] = [5, 300];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn one_after_another_lands_on_the_true_minimum(
            large: bool,
            weights in prop::collection::vec(1u16..=256, 1..8),
            steps in prop::collection::vec((0u8..10, any::<u16>()), 1..600),
        ) {
            let count = if large { SIZES[1] } else { weights.len() };
            let weights: Vec<u16> = weights.iter().copied().cycle().take(count).collect();
            let backends: Vec<_> = weights.iter().map(|weight| (*weight, false)).collect();
            let mut balancer = balancer(Balance::LeastConnections, &backends);
            let set = balancer.set();
            let endpoints = set.endpoints();
            let mut open: Vec<usize> = Vec::new();
            for (step, which) in steps {
                let which = usize::from(which);
                match step {
                    0..=2 if !open.is_empty() => {
                        let place = open.swap_remove(which % open.len());
                        endpoints[place].release();
                        continue;
                    }
                    3 => {
                        let health = if which % 2 == 0 { Health::Down } else { Health::Up };
                        endpoints[which % count].set_health(health, None, Time::ZERO);
                        continue;
                    }
                    _ => {}
                }
                let tried = match step {
                    4 => vec![endpoints[which % count].id(), endpoints[which / 7 % count].id()],
                    _ => Vec::new(),
                };
                let before = counts(&balancer);
                let Some(place) = balancer.choose(&tried) else {
                    let may = |e: &crate::endpoint::Endpoint| e.is_available() && !tried.contains(&e.id());
                    prop_assert!(!endpoints.iter().any(|endpoint| may(endpoint)));
                    continue;
                };
                for (other, count) in before.iter().enumerate() {
                    if endpoints[other].is_available() && !tried.contains(&endpoints[other].id()) {
                        prop_assert!(
                            u64::from(before[place]) * u64::from(weights[other])
                                <= u64::from(*count) * u64::from(weights[place])
                        );
                    }
                }
                open.push(place);
            }
            prop_assert_eq!(counts(&balancer).iter().sum::<u32>() as usize, open.len());
        }
    }

    #[test]
    fn opened_at_once_by_several_workers_counts_stay_together() {
        const WORKERS: u32 = 4;
        for size in SIZES {
            let mut workers = workers(Balance::LeastConnections, &vec![(1, false); size], WORKERS.into());
            std::thread::scope(|scope| {
                for balancer in &mut workers {
                    scope.spawn(|| {
                        for _ in 0..2_000 {
                            balancer.choose(&[]).expect("all are available");
                        }
                    });
                }
            });
            let counts = counts(&workers[0]);
            let (min, max) = (counts.iter().min().expect("some"), counts.iter().max().expect("some"));
            assert_eq!(counts.iter().sum::<u32>(), WORKERS * 2_000);
            assert!(max - min <= WORKERS, "{counts:?}");
        }
    }

    #[test]
    fn after_workers_opened_and_closed_at_once_the_next_lands_on_the_true_minimum() {
        let mut workers = workers(Balance::LeastConnections, &[(1, false); 300], 4);
        std::thread::scope(|scope| {
            for (seed, balancer) in workers.iter_mut().enumerate() {
                scope.spawn(move || {
                    let mut random = super::super::Random::new(seed as u64);
                    let mut open = Vec::new();
                    for _ in 0..3_000 {
                        if random.below(2) == 0 && !open.is_empty() {
                            let place: usize = open.swap_remove(random.below(open.len() as u64) as usize);
                            balancer.set().endpoints()[place].release();
                        } else {
                            open.push(balancer.choose(&[]).expect("all are available"));
                        }
                    }
                });
            }
        });
        for index in 0..200 {
            let before = counts(&workers[0]);
            let place = workers[index % 4].choose(&[]).expect("all are available");
            assert_eq!(before[place], *before.iter().min().expect("some"));
        }
    }

    #[test]
    fn short_connections_one_at_a_time_go_to_all_in_turn() {
        for size in [3, 320] {
            let mut balancer = balancer(Balance::LeastConnections, &vec![(1, false); size]);
            let mut hits = vec![0; size];
            for _ in 0..10 * size {
                let place = balancer.choose(&[]).expect("all are available");
                hits[place] += 1;
                balancer.set().endpoints()[place].release();
            }
            assert_eq!(hits, vec![10; size]);
        }
    }
}

mod changes {
    use std::time::Duration;

    use super::super::testing::{address, addresses, app, counts, workers_of};
    use super::*;
    use crate::endpoint::testing::app_of_hosts;
    use crate::model::{self, App};

    #[test]
    fn a_connection_that_ends_counts_in_the_old_set_and_in_the_new_one() {
        let model = App { balance: Balance::LeastConnections, ..app_of_hosts(&[(1, false); 300]) };
        let state = app(&model);
        let mut old = workers_of(model.balance, &state.endpoints(), 1).remove(0);
        for _ in 0..600 {
            old.choose(&[]).expect("all are available");
        }
        let mut resolved = addresses(0..300);
        resolved[299] = vec![address(400)];
        let set = state.resolve(&resolved).expect("an address changed");
        let mut new = workers_of(model.balance, &set, 1).remove(0);
        for _ in 0..2 {
            assert_eq!(new.choose(&[]), Some(299), "the one that joined is empty");
        }
        assert!(new.choose(&[]).is_some());
        // Both have looked at all by now.
        set.endpoints()[77].release();
        set.endpoints()[77].release();
        assert_eq!((old.choose(&[]), new.choose(&[])), (Some(77), Some(77)));
    }

    #[test]
    fn an_endpoint_that_came_up_begins_with_a_part_of_its_share() {
        const PERIOD: Duration = Duration::from_secs(30);
        for balance in [Balance::RoundRobin, Balance::Random, Balance::TwoChoices, Balance::LeastConnections]
        {
            for size in [2, 300] {
                let backends = vec![(1, false); size];
                let model = App { balance, slow_start: Some(PERIOD), ..app_of_hosts(&backends) };
                let state = app(&model);
                let mut balancer = workers_of(balance, &state.endpoints(), 1).remove(0);
                let set = balancer.set();
                let came_up = Time::from_nanos(1_000_000_000);
                set.endpoints()[0].set_health(Health::Down, None, Time::ZERO);
                set.endpoints()[0].set_health(Health::Up, None, came_up);
                let mut share = |at: Duration| {
                    balancer.now = came_up + at;
                    let rounds = 400 * size as u32;
                    let open: Vec<_> =
                        (0..rounds).map(|_| balancer.choose(&[]).expect("all are available")).collect();
                    let first = counts(&balancer)[0];
                    open.iter().for_each(|place| set.endpoints()[*place].release());
                    f64::from(first) / 400.0
                };
                let start = share(Duration::ZERO);
                let half = share(PERIOD / 2);
                let end = share(PERIOD);
                assert!((0.05..0.25).contains(&start), "{balance:?} of {size}: {start}");
                assert!((0.4..0.8).contains(&half), "{balance:?} of {size}: {half}");
                assert!((0.9..1.1).contains(&end), "{balance:?} of {size}: {end}");
            }
        }
    }

    #[test]
    fn below_the_panic_threshold_health_is_not_asked_for() {
        for balance in METHODS {
            for size in [4, 400] {
                let mut model = App { balance, ..app_of_hosts(&vec![(1, false); size]) };
                model.health = model::Health { panic_threshold: 0.5, ..model.health };
                let mut balancer = workers_of(balance, &app(&model).endpoints(), 1).remove(0);
                let set = balancer.set();
                let source = |n: usize| Some(std::net::IpAddr::from([10, 0, (n / 256) as u8, n as u8]));
                let used = |balancer: &mut super::super::testing::TestBalancer| {
                    let open: Vec<_> = (0..20 * size)
                        .map(|n| balancer.choose_for(source(n), &[]).expect("some may be used"))
                        .collect();
                    let used = counts(balancer).iter().filter(|count| **count > 0).count();
                    open.iter().for_each(|place| set.endpoints()[*place].release());
                    used
                };
                let down = |count: usize| {
                    set.endpoints()[..count].iter().for_each(|endpoint| {
                        endpoint.set_health(Health::Down, None, Time::ZERO);
                    });
                };
                down(size / 2);
                assert_eq!(used(&mut balancer), size / 2, "{balance:?}");
                down(size / 2 + 1);
                let all = used(&mut balancer);
                assert!(all > size * 9 / 10, "{balance:?}: {all} of {size}");
                set.endpoints()[0].set_health(Health::Up, None, Time::ZERO);
                assert_eq!(used(&mut balancer), size / 2, "{balance:?}");
            }
        }
    }
}
