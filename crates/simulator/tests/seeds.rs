//! Two hundred seeds hold, and a seed replays.

use simulator::{Handshakes, Routes, Upgrades, Workload};

/// A few tests instead of one, so that they run side by side.
fn hold(seeds: std::ops::Range<u64>) -> Upgrades {
    let outcomes: Vec<_> = seeds.map(|seed| simulator::run(seed, false)).collect();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.faults.is_empty()).collect();
    for outcome in &failed {
        println!("{outcome}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
    let count = |of: fn(&Upgrades) -> u32| outcomes.iter().map(|outcome| of(&outcome.upgrades)).sum();
    Upgrades {
        followed: count(|upgrades| upgrades.followed),
        inherited: count(|upgrades| upgrades.inherited),
        called_off: count(|upgrades| upgrades.called_off),
        taken_back: count(|upgrades| upgrades.taken_back),
        moved: count(|upgrades| upgrades.moved),
    }
}

#[test]
fn first_fifty_seeds_hold_and_processes_follow_each_other_in_every_way() {
    let upgrades = hold(0..50);
    println!("{upgrades:?}");
    // A checker that nothing ever reaches would be content with everything.
    let Upgrades { followed, inherited, called_off, taken_back, moved } = upgrades;
    assert!(followed > 20 && moved > 100 && inherited.min(called_off).min(taken_back) > 0);
}

#[test]
fn second_fifty_seeds_hold() {
    hold(50..100);
}

#[test]
fn third_fifty_seeds_hold() {
    hold(100..150);
}

#[test]
fn fourth_fifty_seeds_hold() {
    hold(150..200);
}

#[test]
fn ten_days_of_an_operator_hold() {
    let days = (0..10).map(|seed| simulator::play(Workload::Day, seed, false));
    let failed: Vec<_> = days.filter(|outcome| !outcome.faults.is_empty()).collect();
    for outcome in &failed {
        println!("{outcome}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in [1, 17, 42] {
        let (one, two) = (simulator::run(seed, true), simulator::run(seed, true));
        assert_eq!(one.trace, two.trace);
        assert_eq!(one, two);
    }
    assert_ne!(simulator::run(1, false).trace, simulator::run(2, false).trace);
}

#[test]
fn traffic_gets_through() {
    // A checker that nothing ever reaches would be content with everything.
    let outcomes: Vec<_> = (0..20).map(|seed| simulator::run(seed, false)).collect();
    let (all, clean) = outcomes
        .iter()
        .fold((0, 0), |(all, clean), outcome| (all + outcome.connections, clean + outcome.clean));
    assert!(clean * 4 > all, "{clean} of {all} connections ended cleanly");
}

#[test]
fn clients_go_by_what_they_say_first_in_every_way() {
    // A checker that nothing ever reaches would be content with everything.
    let outcomes: Vec<_> = (0..50).map(|seed| simulator::run(seed, false)).collect();
    let count = |of: fn(&Routes) -> u32| -> u32 { outcomes.iter().map(|outcome| of(&outcome.routes)).sum() };
    let taken = count(|routes| routes.taken);
    let others = [
        count(|routes| routes.unreadable),
        count(|routes| routes.silent),
        count(|routes| routes.refused[0]),
        count(|routes| routes.refused[1]),
        count(|routes| routes.refused[2]),
        count(|routes| routes.refused[3]),
    ];
    println!("{taken} took routes; {others:?}");
    assert!(taken > 50 && others.iter().all(|count| *count > 0));
}

#[test]
fn sixty_seeds_of_clients_in_tls_hold_and_end_in_every_way() {
    let outcomes: Vec<_> = (0..60).map(|seed| simulator::play(Workload::Tls, seed, false)).collect();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.faults.is_empty()).collect();
    for outcome in &failed {
        println!("{outcome}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
    // A checker that nothing ever reaches would be content with everything.
    let count =
        |of: fn(&Handshakes) -> u32| -> u32 { outcomes.iter().map(|outcome| of(&outcome.handshakes)).sum() };
    let agreed = count(|handshakes| handshakes.agreed);
    let rarer = [
        count(|handshakes| handshakes.resumed),
        count(|handshakes| handshakes.old),
        count(|handshakes| handshakes.failed),
        count(|handshakes| handshakes.broken_off),
        count(|handshakes| handshakes.cut_short),
        count(|handshakes| handshakes.against_rules),
    ];
    let clean = count(|handshakes| handshakes.clean);
    let followed: u32 = outcomes.iter().map(|outcome| outcome.upgrades.followed).sum();
    println!("{agreed} handshakes, {clean} clean; {rarer:?}; {followed} upgrades");
    assert!(clean * 4 > agreed && rarer.iter().all(|count| *count > 5) && followed > 10);
}

#[test]
fn same_seed_gives_the_same_trace_in_tls() {
    for seed in [3, 11] {
        let play = || simulator::play(Workload::Tls, seed, true);
        assert_eq!(play(), play());
    }
}

#[test]
fn seeds_of_clients_in_tls_that_failed_hold() {
    let seeds = [
        ("a response that comes with the end of a handshake", 751),
        ("an old process that hangs while workers come to rest", 1_299),
        ("an app that went and came again after an upgrade", 869),
        ("one that did so while an old process ended connections of it", 314),
        ("the same after several upgrades", 453),
        ("routes that changed in the midst of a handshake", 448),
        ("a backend that gets the first byte of a hello", 1_685),
        ("an app that has its bandwidth in three processes", 2_379),
    ];
    for (what, seed) in seeds {
        let outcome = simulator::play(Workload::Tls, seed, false);
        assert!(outcome.faults.is_empty(), "{what}: {outcome}");
    }
}
