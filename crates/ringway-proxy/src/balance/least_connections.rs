//! The fewest open connections for their weight, exactly.
//!
//! The choice counts only if the count it was made on still holds when it is taken (compare-and-swap); else all are
//! looked at again. Counts that only grow are then never further apart, by weight, than one connection, however many
//! workers open at once: whoever takes a place has seen every other at least as full.
//!
//! Hundreds of endpoints are all looked at. Above that they are in groups, each with a bound below which none of the
//! group is ([`Bounds`]): the group with the lowest is looked at, and if its least full endpoint is no fuller than all
//! other bounds say, it is the least full of all. A bound that proves too low is raised, and the next one is tried.

use super::Draw;
use super::table::bounds::{Bounds, NOBODY, Seen};

/// Looks at all that may change before a choice is taken as it is. Each lost one means that another worker took the
/// same endpoint, or anything was released, in between: as many in a row never happen with real numbers of workers,
/// so the bound costs no exactness and only rules out an endless loop.
const LOOKS_MAX: usize = 256;

pub(super) fn choose(draw: &mut Draw<'_>) -> Option<usize> {
    if draw.pool.places().is_empty() {
        return None;
    }
    match draw.tier.bounds() {
        Some(bounds) => choose_of_groups(draw, bounds),
        None => choose_of_all(draw),
    }
}

/// An endpoint, how full it is, and the count of connections that says so.
#[derive(Clone, Copy, Debug)]
struct Found {
    place: u32,
    key: u64,
    active: u32,
    /// How full the least full of the others is.
    others: u64,
}

fn choose_of_all(draw: &Draw<'_>) -> Option<usize> {
    let turn = draw.set.next_turn();
    // Endpoints that are equally full take turns: an idle app spreads its short connections.
    let start = (turn % draw.pool.places().len() as u64) as usize;
    let mut found = None;
    for _ in 0..LOOKS_MAX {
        found = Some(least(draw, draw.pool.around(start), 0, true)?);
        if let Some(place) = found.and_then(|found| draw.take_if(found.place, found.active)) {
            return Some(place);
        }
    }
    draw.take(found?.place)
}

/// The least full of `places` that may be chosen, the first of several; with `but_tried` none that was tried. Nobody
/// is less full than `floor`.
fn least(draw: &Draw<'_>, places: impl Iterator<Item = u32>, floor: u64, but_tried: bool) -> Option<Found> {
    let mut best: Option<Found> = None;
    for place in places {
        if !draw.is_open(place) || but_tried && draw.was_tried(place) {
            continue;
        }
        let endpoint = &draw.set.endpoints()[place as usize];
        let active = endpoint.active().get();
        if active >= endpoint.connections_max() {
            continue;
        }
        let key = draw.fullness_of(place, active);
        best = Some(match best {
            Some(best) if best.key <= key => Found { others: best.others.min(key), ..best },
            before => Found { place, key, active, others: before.map_or(NOBODY, |before| before.key) },
        });
        // Neither it nor the next after it can be less full.
        if best.is_some_and(|best| best.others <= floor) {
            break;
        }
    }
    best
}

fn choose_of_groups(draw: &mut Draw<'_>, bounds: &Bounds) -> Option<usize> {
    let turn = draw.set.next_turn();
    let groups = bounds.len();
    // Equally full ones take turns: first by group, then within it.
    let start = (turn % groups as u64) as usize;
    let offset = (turn / groups as u64) as usize;
    // Groups whose least full was tried already: what is least in them for this connection.
    let mut of_tried: Vec<(usize, u64)> = Vec::new();
    // A group may be looked at once for each time its bound is raised: at most once for all in a calm moment.
    for _ in 0..groups + LOOKS_MAX {
        let Lowest { group, seen, key: lowest_key, others } = lowest(bounds, start, &of_tried);
        if draw.pool.is_stale(draw.set) {
            // What is known of who may be chosen, and so would go into bounds, is old.
            draw.refresh();
            if draw.pool.places().is_empty() {
                return None;
            }
            continue;
        }
        if lowest_key == NOBODY {
            return None;
        }
        let members = draw.tier.group(group);
        let (before, after) = members.split_at(offset % members.len());
        let around = || after.iter().chain(before).copied();
        let all = least(draw, around(), seen.key(), false);
        let key = all.map_or(NOBODY, |found| found.key);
        let is_tried = all.is_some_and(|found| draw.was_tried(found.place));
        let found = if is_tried { least(draw, around(), seen.key(), true) } else { all };
        let mut now_seen = seen;
        if key > seen.key() {
            now_seen = bounds.raise(group, seen, key);
        }
        match found {
            Some(found) if found.key <= others => {
                if let Some(place) = draw.take_if(found.place, found.active) {
                    if !is_tried {
                        // So that the next one does not look here in vain.
                        let key = draw.fullness_of(found.place, found.active + 1).min(found.others);
                        bounds.raise(group, now_seen, key);
                    }
                    return Some(place);
                }
            }
            found => {
                let key_here = found.map_or(NOBODY, |found| found.key);
                if key_here > key {
                    of_tried.retain(|(of, _)| *of != group);
                    of_tried.push((group, key_here));
                }
            }
        }
    }
    let least = least(draw, draw.pool.around(0), 0, true)?;
    draw.take(least.place)
}

/// The group with the lowest bound.
struct Lowest {
    group: usize,
    seen: Seen,
    /// Its bound for this connection.
    key: u64,
    /// The lowest bound of all other groups.
    others: u64,
}

/// The group with the lowest bound, the first from `start` on of several.
fn lowest(bounds: &Bounds, start: usize, of_tried: &[(usize, u64)]) -> Lowest {
    let look_at = |group: usize| {
        let seen = bounds.get(group);
        let local = of_tried.iter().find(|(of, _)| *of == group).map_or(0, |(_, key)| *key);
        Lowest { group, seen, key: seen.key().max(local), others: u64::MAX }
    };
    let mut best = look_at(start);
    for group in (start + 1..bounds.len()).chain(0..start) {
        // None is lower, and nobody else has to be waited for.
        if best.key == 0 {
            return Lowest { others: 0, ..best };
        }
        let next = look_at(group);
        if next.key < best.key {
            best = Lowest { others: best.key, ..next };
        } else {
            best.others = best.others.min(next.key);
        }
    }
    best
}
