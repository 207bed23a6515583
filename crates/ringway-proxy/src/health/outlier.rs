//! Which endpoint is left out because too many of its connections fail, and for how long. Others call this outlier
//! detection.
//!
//! Connections are counted where they are opened and where they fail, and judged only where one fails. Pure but for the
//! state of endpoints: `now` is an argument.

use std::time::Duration;

use ringway::Time;

use crate::endpoint::{EjectionReport, Endpoint, EndpointSet, Health, Outcome, OutlierGate, Tally};
use crate::model::{EjectedUntil, Ejection};

/// After as many are left out as may be, nobody counts them again before so much time has passed: there may be
/// thousands, and failures come many a second.
const REST: Duration = Duration::from_secs(1);
/// Doubling more often than this passes any limit.
const DOUBLINGS_MAX: u32 = 40;

/// What becomes of an endpoint of which a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing.
    Kept,
    /// It is left out.
    Ejected(EjectionReport),
    /// It would be left out if not as many were already as may be. Said at most once a second.
    Spared(Tally),
}

/// Counts a connection of `endpoint` that failed, in one way or the other, and judges it.
pub fn note_failure(
    endpoint: &Endpoint,
    outcome: Outcome,
    set: &EndpointSet,
    gate: &OutlierGate,
    rules: &Ejection,
    now: Time,
) -> Judgement {
    endpoint.count_outcome(outcome, rules.window, now);
    let tally = endpoint.tally(rules.window, now);
    if !is_outlying(tally, rules) || endpoint.health() == Health::Down || endpoint.is_outlier() {
        return Judgement::Kept;
    }
    // Who finds another worker here need not wait for it: the next failure comes.
    let Some(mut rests_until) = gate.try_enter() else { return Judgement::Kept };
    if now < *rests_until {
        return Judgement::Kept;
    }
    let others = set.endpoints().iter().filter(|other| other.id() != endpoint.id());
    if others.filter(|other| other.is_outlier()).count() >= most(rules.max_share, set.endpoints().len()) {
        *rests_until = now + REST;
        return Judgement::Spared(tally);
    }
    let report = sentence(&endpoint.last_ejection(), tally, rules, now);
    match endpoint.eject_outlier(&report, now) {
        true => Judgement::Ejected(report),
        false => Judgement::Kept,
    }
}

/// Whether a good check takes back an endpoint that was left out, or finds it too early.
pub fn is_held(endpoint: &Endpoint, rules: Option<&Ejection>, now: Time) -> bool {
    let waits = rules.is_some_and(|rules| match rules.until {
        EjectedUntil::Time | EjectedUntil::Both => true,
        EjectedUntil::Check => false,
    });
    waits && now < endpoint.last_ejection().until
}

fn is_outlying(tally: Tally, rules: &Ejection) -> bool {
    tally.connections >= rules.min_connections
        && f64::from(tally.failed) >= rules.failure_ratio * f64::from(tally.connections)
}

/// How many of so many endpoints may be left out at once.
fn most(share: f64, endpoints: usize) -> usize {
    // No precision is lost, as endpoints are far fewer than 2^53; the rest is for 0.29 × 100, which is not quite 29.
    (share * endpoints as f64 + 1e-6) as usize
}

/// For how long, after what was before.
fn sentence(last: &EjectionReport, tally: Tally, rules: &Ejection, now: Time) -> EjectionReport {
    // For each stretch as long as the last time that it did well since, one doubling is forgotten.
    let well = now.since(last.until).as_nanos();
    let forgotten = well.checked_div(last.time.as_nanos()).unwrap_or(u128::MAX);
    let before = last.in_a_row.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
    let doubled = rules.time.checked_mul(1u32.checked_shl(before.min(DOUBLINGS_MAX)).unwrap_or(u32::MAX));
    let time = doubled.map_or(rules.max_time, |time| time.min(rules.max_time));
    EjectionReport { tally, until: now + time, time, in_a_row: before.saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::testing::app_of_hosts;
    use crate::endpoint::{AppState, DialFailure, DownReason};

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn rules() -> Ejection {
        Ejection { window: Duration::from_secs(8), min_connections: 4, ..Ejection::default() }
    }

    fn app(endpoints: u16) -> (AppState, Arc<EndpointSet>) {
        let app = AppState::new(0, &app_of_hosts(&[(1, false)]));
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port)).into();
        let set = app.resolve(&[(1..=endpoints).map(address).collect()]).expect("addresses are new");
        (app, set)
    }

    /// So many connections are opened to the endpoint at `index`, and so many not; what became of it.
    fn run(
        (app, set): &(AppState, Arc<EndpointSet>),
        index: usize,
        (opened, failed): (u32, u32),
        rules: &Ejection,
        now: Time,
    ) -> Judgement {
        let endpoint = &set.endpoints()[index];
        (0..opened).for_each(|_| endpoint.count_outcome(Outcome::Opened, rules.window, now));
        let judge = |_| note_failure(endpoint, Outcome::NotOpened, set, app.core().outliers(), rules, now);
        (0..failed).map(judge).find(|judgement| *judgement != Judgement::Kept).unwrap_or(Judgement::Kept)
    }

    fn time_of(judgement: Judgement) -> Option<u64> {
        match judgement {
            Judgement::Ejected(report) => Some(report.time.as_secs()),
            Judgement::Kept | Judgement::Spared(_) => None,
        }
    }

    #[test]
    fn an_endpoint_is_left_out_at_the_ratio_and_not_before() {
        for (opened, failed, is_out) in
            [(4, 4, true), (5, 4, false), (0, 3, false), (0, 4, true), (1, 3, true), (100, 50, false)]
        {
            let app = app(2);
            let judgement = run(&app, 0, (opened, failed), &rules(), at(0));
            assert_eq!(time_of(judgement).is_some(), is_out, "{opened} opened, {failed} failed");
            assert_eq!(app.1.endpoints()[0].is_available(), !is_out);
        }
    }

    #[test]
    fn what_fails_after_it_was_opened_counts_as_one_connection() {
        let app = app(2);
        let endpoint = &app.1.endpoints()[0];
        let rules = rules();
        let fail = || {
            endpoint.count_outcome(Outcome::Opened, rules.window, at(0));
            note_failure(endpoint, Outcome::FailedLater, &app.1, app.0.core().outliers(), &rules, at(0))
        };
        assert!((0..3).all(|_| fail() == Judgement::Kept));
        let Judgement::Ejected(report) = fail() else { panic!("four of four failed") };
        assert_eq!(report.tally, Tally { failed: 4, connections: 4 });
        assert_eq!(endpoint.health_report().2, Some(DownReason::Failures));
        assert_eq!(endpoint.reason().as_deref(), Some("4 of 4 connections failed"));
    }

    #[test]
    fn failures_of_long_ago_are_forgotten() {
        let app = app(2);
        assert_eq!(run(&app, 0, (0, 3), &rules(), at(0)), Judgement::Kept);
        assert_eq!(run(&app, 0, (0, 3), &rules(), at(8_000)), Judgement::Kept);
    }

    #[test]
    fn the_only_endpoint_is_never_left_out_and_of_two_only_one() {
        let only = app(1);
        assert!(matches!(run(&only, 0, (0, 9), &rules(), at(0)), Judgement::Spared(_)));
        let two = app(2);
        assert!(time_of(run(&two, 0, (0, 9), &rules(), at(0))).is_some());
        assert!(matches!(run(&two, 1, (0, 9), &rules(), at(0)), Judgement::Spared(_)));
        assert_eq!(
            run(&two, 1, (0, 9), &rules(), at(999)),
            Judgement::Kept,
            "it is not counted again at once"
        );
        assert!(two.1.endpoints()[0].readmit_outlier(at(1_000)));
        assert!(time_of(run(&two, 1, (0, 9), &rules(), at(1_000))).is_some());
    }

    #[test]
    fn each_time_is_twice_the_one_before_up_to_the_longest_and_good_times_undo_that() {
        let app = app(2);
        let rules = rules();
        let endpoint = &app.1.endpoints()[0];
        let mut now = 0;
        let mut times = Vec::new();
        for _ in 0..6 {
            let time = time_of(run(&app, 0, (0, 9), &rules, at(now))).expect("it fails");
            times.push(time);
            now += time * 1_000;
            assert!(endpoint.readmit_outlier(at(now)));
        }
        assert_eq!(times, [30, 60, 120, 240, 300, 300]);
        // Two stretches of 300 s, and a part of the third: of six in a row four are left.
        assert_eq!(time_of(run(&app, 0, (0, 9), &rules, at(now + 899_000))), Some(300));
        endpoint.readmit_outlier(at(now));
        let end = now + 899_000 + 300_000;
        assert_eq!(time_of(run(&app, 0, (0, 9), &rules, at(end + 3 * 300_000))), Some(120));
        endpoint.readmit_outlier(at(end));
        assert_eq!(time_of(run(&app, 0, (0, 9), &rules, at(end + 50_000_000))), Some(30));
    }

    #[test]
    fn an_endpoint_that_is_down_is_left_to_its_checks_and_one_that_a_dial_ejected_is_not() {
        let down = app(2);
        let endpoint = &down.1.endpoints()[0];
        endpoint.set_health(Health::Down, Some(DialFailure::Refused.into()), at(0));
        assert_eq!(run(&down, 0, (0, 9), &rules(), at(0)), Judgement::Kept);
        assert_eq!(endpoint.last_ejection(), EjectionReport::default());
        let ejected = app(2);
        ejected.1.endpoints()[0].eject(DialFailure::Refused, at(0));
        assert!(time_of(run(&ejected, 0, (0, 9), &rules(), at(0))).is_some());
    }

    #[test]
    fn a_good_check_has_to_wait_as_told() {
        for (until, is_early) in
            [(EjectedUntil::Time, true), (EjectedUntil::Both, true), (EjectedUntil::Check, false)]
        {
            let app = app(2);
            let rules = Ejection { until, ..rules() };
            run(&app, 0, (0, 9), &rules, at(0));
            let endpoint = &app.1.endpoints()[0];
            assert_eq!(is_held(endpoint, Some(&rules), at(29_999)), is_early, "{until:?}");
            assert!(!is_held(endpoint, Some(&rules), at(30_000)));
            assert!(!is_held(endpoint, None, at(0)), "the configuration says no more of it");
        }
    }

    proptest! {
        #[test]
        fn never_more_are_left_out_than_may_be_and_never_for_less_or_longer_than_said(
            endpoints in 1u16..12,
            share in 0.01f64..=1.0,
            events in prop::collection::vec((any::<prop::sample::Index>(), 0u32..6, 0u32..6, 0u64..20_000), 1..80),
        ) {
            let app = app(endpoints);
            let rules = Ejection { max_share: share, ..rules() };
            let mut now = 0;
            for (index, opened, failed, pause) in events {
                now += pause;
                for endpoint in app.1.endpoints() {
                    if at(now) >= endpoint.last_ejection().until {
                        endpoint.readmit_outlier(at(now));
                    }
                }
                let index = index.index(usize::from(endpoints));
                if let Judgement::Ejected(report) = run(&app, index, (opened, failed), &rules, at(now)) {
                    prop_assert!((rules.time..=rules.max_time).contains(&report.time));
                    prop_assert!(report.tally.connections >= rules.min_connections);
                    prop_assert!(2 * report.tally.failed >= report.tally.connections);
                }
                let out = app.1.endpoints().iter().filter(|endpoint| endpoint.is_outlier()).count();
                prop_assert!(out as f64 <= share * f64::from(endpoints) + 1e-6);
            }
        }
    }
}
