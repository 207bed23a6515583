//! After an endpoint has joined: which ones have too many connections for it, and how many of them to close at a time.
//!
//! A client whose connection is closed connects anew, and the balancing method gives it to an endpoint that has few. So
//! long-lived connections spread to a newcomer, a few at a time, and nobody has to meet a herd. Pure: counts, `now` and
//! chance in, numbers out.

use std::collections::BTreeSet;

use ringway::Time;

use super::table::Random;
use crate::endpoint::EndpointId;
use crate::model::Rebalance;

/// An endpoint as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which one it is.
    pub id: EndpointId,
    /// Its share compared with the others; zero: it gets no connections now.
    pub weight: u32,
    /// Connections open to it.
    pub active: u32,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// An endpoint joined.
    pub has_begun: bool,
    /// Places of members, and how many connections of each to close.
    pub close: Vec<(usize, u32)>,
    /// It is over: nobody has too much any more, or else its time is.
    pub ended: Option<Outcome>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody has too much.
    Balanced,
    /// Its time is over.
    TimeIsOver,
}

/// Watches the endpoints of one app.
#[derive(Debug)]
pub struct Rebalancer {
    /// Those that got connections at the last look; none before the first.
    open: Option<BTreeSet<EndpointId>>,
    under_way: Option<UnderWay>,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    ends: Time,
    next: Time,
}

impl Rebalancer {
    /// Nothing is known yet.
    pub fn new(random: Random) -> Self {
        Self { open: None, under_way: None, random }
    }

    /// Looks at the endpoints as they are now.
    pub fn look(&mut self, rules: &Rebalance, members: &[Member], now: Time) -> Turn {
        let open: BTreeSet<EndpointId> =
            members.iter().filter(|member| member.weight > 0).map(|member| member.id).collect();
        let has_joined = self.open.as_ref().is_some_and(|before| open.iter().any(|id| !before.contains(id)));
        self.open = Some(open);
        let mut turn = Turn::default();
        if has_joined {
            let next = self.under_way.map_or_else(|| now + self.pause(rules), |under_way| under_way.next);
            turn.has_begun = self.under_way.is_none();
            self.under_way = Some(UnderWay { ends: now + rules.within, next });
        }
        let Some(under_way) = self.under_way else { return turn };
        if now >= under_way.ends {
            self.under_way = None;
            turn.ended = Some(Outcome::TimeIsOver);
            return turn;
        }
        if now < under_way.next {
            return turn;
        }
        turn.close = too_much(rules, members);
        if turn.close.is_empty() {
            self.under_way = None;
            turn.ended = Some(Outcome::Balanced);
        } else {
            self.under_way = Some(UnderWay { next: now + self.pause(rules), ..under_way });
        }
        turn
    }

    fn pause(&mut self, rules: &Rebalance) -> std::time::Duration {
        rules.interval.mul_f64(1.0 + rules.jitter * (2.0 * self.random.share() - 1.0))
    }
}

/// What is closed in one turn: of each that is above the tolerance a share of what it has above what is fair, those with
/// the most first, until the maximum is reached.
fn too_much(rules: &Rebalance, members: &[Member]) -> Vec<(usize, u32)> {
    let all: u64 =
        members.iter().filter(|member| member.weight > 0).map(|member| u64::from(member.active)).sum();
    let weights: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let above = |(place, member): (usize, &Member)| {
        // Counts of connections are exact as f64.
        let fair = all as f64 * f64::from(member.weight) / weights as f64;
        let above = (f64::from(member.active) - fair.ceil()).max(0.0);
        let is_over = member.weight > 0 && f64::from(member.active) > fair * (1.0 + rules.tolerance);
        (is_over && above >= 1.0).then_some((place, above as u32))
    };
    let mut over: Vec<(usize, u32)> = members.iter().enumerate().filter_map(above).collect();
    over.sort_by_key(|(place, above)| (std::cmp::Reverse(*above), *place));
    let mut left = rules.max_closed;
    let mut close = Vec::new();
    for (place, above) in over {
        let count = ((f64::from(above) * rules.share).ceil() as u32).clamp(1, above).min(left);
        if count > 0 {
            close.push((place, count));
            left -= count;
        }
    }
    close
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::testing::endpoint_ids;

    fn rules() -> Rebalance {
        Rebalance { jitter: 0.0, ..Rebalance::default() }
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn members(counts: &[(u32, u32)]) -> Vec<Member> {
        let ids = endpoint_ids(counts.len());
        let member = |(id, (weight, active)): (EndpointId, &(u32, u32))| Member {
            id,
            weight: *weight,
            active: *active,
        };
        ids.into_iter().zip(counts).map(member).collect()
    }

    fn rebalancer() -> Rebalancer {
        Rebalancer::new(Random::new(3))
    }

    #[test]
    fn a_newcomer_begins_it_and_the_first_look_does_not() {
        let mut rebalancer = rebalancer();
        let mut all = members(&[(1, 100), (1, 100), (0, 0)]);
        assert_eq!(rebalancer.look(&rules(), &all, at(0)), Turn::default());
        assert_eq!(rebalancer.look(&rules(), &all, at(100)), Turn::default(), "nobody joined");
        all[2].weight = 1;
        assert!(rebalancer.look(&rules(), &all, at(101)).has_begun);
        assert_eq!(rebalancer.look(&rules(), &all, at(110)), Turn::default(), "an interval first");
        // 67 would be fair: a tenth of 33, rounded up, of each.
        assert_eq!(rebalancer.look(&rules(), &all, at(111)).close, [(0, 4), (1, 4)]);
        assert_eq!(rebalancer.look(&rules(), &all, at(112)), Turn::default());
        for (member, active) in all.iter_mut().zip([70, 66, 64]) {
            member.active = active;
        }
        assert_eq!(rebalancer.look(&rules(), &all, at(121)).ended, Some(Outcome::Balanced));
        assert_eq!(rebalancer.look(&rules(), &all, at(131)), Turn::default());
    }

    #[test]
    fn it_ends_with_its_time_and_another_newcomer_gives_it_more() {
        let mut rebalancer = rebalancer();
        let mut all = members(&[(1, 100), (0, 0), (0, 0)]);
        rebalancer.look(&rules(), &all, at(0));
        all[1].weight = 1;
        assert!(rebalancer.look(&rules(), &all, at(1)).has_begun);
        all[2].weight = 1;
        assert!(!rebalancer.look(&rules(), &all, at(500)).has_begun, "it is under way");
        assert_eq!(rebalancer.look(&rules(), &all, at(1_099)).ended, None);
        assert_eq!(rebalancer.look(&rules(), &all, at(1_100)).ended, Some(Outcome::TimeIsOver));
    }

    #[test]
    fn one_that_leaves_and_what_gets_no_connections_is_left_alone() {
        let mut rebalancer = rebalancer();
        let mut all = members(&[(1, 50), (1, 50), (1, 50)]);
        rebalancer.look(&rules(), &all, at(0));
        all[0].weight = 0;
        assert_eq!(rebalancer.look(&rules(), &all, at(50)), Turn::default());
        all[0].weight = 1;
        all[1] = Member { weight: 0, active: 500, ..all[1] };
        assert!(rebalancer.look(&rules(), &all, at(60)).has_begun);
        assert_eq!(rebalancer.look(&rules(), &all, at(70)).ended, Some(Outcome::Balanced));
    }

    proptest! {
        #[test]
        fn never_more_are_closed_than_may_be_and_never_so_many_that_a_backend_has_too_few(
            counts in prop::collection::vec((0u32..300, 0u32..5_000), 1..20),
            share in 0.01f64..=1.0, max_closed in 1u32..500, tolerance in 0.0f64..=1.0,
        ) {
            let all = members(&counts);
            let rules = Rebalance { share, max_closed, tolerance, ..rules() };
            let closed = too_much(&rules, &all);
            prop_assert!(closed.iter().map(|(_, count)| count).sum::<u32>() <= max_closed);
            let weights: f64 = counts.iter().map(|(weight, _)| f64::from(*weight)).sum();
            let active: f64 = counts.iter().filter(|(weight, _)| *weight > 0).map(|(_, active)| f64::from(*active)).sum();
            for (place, count) in closed {
                let (weight, had) = counts[place];
                let fair = active * f64::from(weight) / weights;
                prop_assert!(count > 0 && f64::from(had - count) >= fair, "{had} - {count} is below {fair}");
                prop_assert!(f64::from(had) > fair * (1.0 + tolerance));
            }
        }

        #[test]
        fn clients_that_come_back_to_whoever_has_least_are_spread_with_no_more_closed_than_needed(
            counts in prop::collection::vec((1u32..10, 20u32..400), 1..8), seed: u64,
        ) {
            let mut counts = counts;
            counts.push((5, 0));
            let mut all = members(&counts);
            let joins = all.pop().expect("it was pushed");
            let rules = Rebalance { within: Duration::from_secs(36_000), jitter: 0.5, ..rules() };
            let mut rebalancer = Rebalancer::new(Random::new(seed));
            rebalancer.look(&rules, &all, at(0));
            all.push(joins);
            let weights: f64 = all.iter().map(|member| f64::from(member.weight)).sum();
            let active: u32 = all.iter().map(|member| member.active).sum();
            let fair = |member: &Member| f64::from(active) * f64::from(member.weight) / weights;
            let needed: f64 = all.iter().map(|member| (f64::from(member.active) - fair(member)).max(0.0)).sum();
            let (mut closed, mut ended) = (0, None);
            for second in 1..36_000 {
                let turn = rebalancer.look(&rules, &all, at(second));
                for (place, count) in turn.close {
                    all[place].active -= count;
                    closed += count;
                    for _ in 0..count {
                        let least = all.iter_mut().min_by(|one, other| {
                            let fullness = |member: &Member| f64::from(member.active + 1) / f64::from(member.weight);
                            fullness(one).total_cmp(&fullness(other))
                        });
                        least.expect("there is one").active += 1;
                    }
                }
                if turn.ended.is_some() {
                    ended = turn.ended;
                    break;
                }
            }
            prop_assert_eq!(ended, Some(Outcome::Balanced));
            prop_assert!(f64::from(closed) <= needed + all.len() as f64, "{} of {}", closed, needed);
            for member in &all {
                prop_assert!(f64::from(member.active) <= (fair(member) * (1.0 + rules.tolerance)).max(fair(member).ceil() + 1.0));
            }
        }
    }
}
