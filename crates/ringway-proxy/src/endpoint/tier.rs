//! Endpoints of one rank in a set, primaries or backups, with what their balancing method looks things up in.

use std::sync::Arc;

use super::ramp::FULL;
use super::{Endpoint, Seat};
use crate::balance::table::bounds::{Bounds, NOBODY, key};
use crate::balance::table::{MaglevTable, Member, Ring, Walk, turns_by_weight};
use crate::model::Balance;

/// From so many endpoints on least-connections looks at groups and not at each: a look at all would cost a
/// connection a microsecond and more.
const GROUPED_FROM: usize = 256;
/// Endpoints in a group: looking at all bounds and at all of a group cost about the same at 10,000.
const GROUP: usize = 16;

/// Endpoints of one rank that have weight.
#[derive(Debug)]
pub struct Tier {
    places: Vec<u32>,
    table: Table,
}

#[derive(Debug)]
enum Table {
    /// All are looked at, or weights are enough.
    None,
    Groups(Arc<Bounds>),
    Sequence(Vec<u32>),
    Ring(Ring),
    Maglev(MaglevTable),
}

impl Tier {
    pub(super) fn new(balance: Balance, endpoints: &[Arc<Endpoint>], backup: bool) -> Self {
        let wanted = |endpoint: &Endpoint| endpoint.weight() > 0 && endpoint.is_backup() == backup;
        let all = endpoints.iter().enumerate().filter(|(_, endpoint)| wanted(endpoint));
        let member = |(place, endpoint): (usize, &Arc<Endpoint>)| Member {
            place: u32::try_from(place).expect("fewer endpoints than addresses"),
            identity: endpoint.identity(),
            weight: endpoint.weight().into(),
        };
        let members: Vec<Member> = all.map(member).collect();
        let places: Vec<u32> = members.iter().map(|member| member.place).collect();
        let has_maxima = places.iter().any(|place| endpoints[*place as usize].connections_max() < u32::MAX);
        let table = match balance {
            // Bounds know how full an endpoint is, and not how full it may be: with maxima all are looked at.
            Balance::LeastConnections if places.len() >= GROUPED_FROM && !has_maxima => {
                let bounds = Arc::new(Bounds::new(places.len().div_ceil(GROUP)));
                for (index, place) in places.iter().enumerate() {
                    let seat = Seat { bounds: Arc::clone(&bounds), group: index / GROUP };
                    endpoints[*place as usize].sit_down(seat);
                }
                Table::Groups(bounds)
            }
            Balance::LeastConnections | Balance::Random | Balance::TwoChoices => Table::None,
            Balance::RoundRobin => Table::Sequence(turns_by_weight(&members)),
            Balance::SourceHash => Table::Ring(Ring::new(&members)),
            Balance::Maglev => Table::Maglev(MaglevTable::new(&members)),
        };
        Self { places, table }
    }

    /// Places in the set.
    pub fn places(&self) -> &[u32] {
        &self.places
    }

    /// The bounds of its groups, if it is large and chosen from by least connections.
    pub(crate) fn bounds(&self) -> Option<&Bounds> {
        match &self.table {
            Table::Groups(bounds) => Some(bounds),
            Table::None | Table::Sequence(_) | Table::Ring(_) | Table::Maglev(_) => None,
        }
    }

    /// The places of a group.
    pub(crate) fn group(&self, group: usize) -> &[u32] {
        let start = (group * GROUP).min(self.places.len());
        &self.places[start..(start + GROUP).min(self.places.len())]
    }

    /// The order of turns; empty for other methods.
    pub(crate) fn sequence(&self) -> &[u32] {
        match &self.table {
            Table::Sequence(sequence) => sequence,
            Table::None | Table::Groups(_) | Table::Ring(_) | Table::Maglev(_) => &[],
        }
    }

    /// The places to try for a source, in order; `None` for methods that do not go by the source.
    pub(crate) fn walk(&self, source: u64) -> Option<Walk<'_>> {
        match &self.table {
            Table::Ring(ring) => Some(ring.walk(source)),
            Table::Maglev(table) => Some(table.walk(source)),
            Table::None | Table::Groups(_) | Table::Sequence(_) => None,
        }
    }

    /// Takes the seats of its endpoints away.
    pub(super) fn leave(&self, endpoints: &[Arc<Endpoint>]) {
        if let Table::Groups(bounds) = &self.table {
            self.places.iter().for_each(|place| endpoints[*place as usize].stand_up(bounds));
        }
    }
}

/// How full an endpoint with all of its weight is: never more than it counts as during a slow start.
pub(super) fn fullness(endpoint: &Endpoint) -> u64 {
    match endpoint.weight() {
        0 => NOBODY,
        weight => key(endpoint.active().get(), u32::from(weight) * FULL),
    }
}
