//! Two hundred seeds hold, and a seed replays.

/// A few tests instead of one, so that they run side by side.
fn hold(seeds: std::ops::Range<u64>) {
    let failed: Vec<_> =
        seeds.map(|seed| simulator::run(seed, false)).filter(|outcome| !outcome.faults.is_empty()).collect();
    for outcome in &failed {
        println!("{outcome}");
    }
    assert!(failed.is_empty(), "{} seeds failed", failed.len());
}

#[test]
fn first_fifty_seeds_hold() {
    hold(0..50);
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
    let days = (0..10).map(|seed| simulator::play(simulator::Workload::Day, seed, false));
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
