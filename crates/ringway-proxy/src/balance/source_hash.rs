//! By the client's address, on a ring ([`Ring`](super::table::Ring)): when a backend leaves its clients move and no
//! others; when one joins, those that move move to it.

use super::{Draw, by_source};

pub(super) fn choose(draw: &mut Draw<'_>) -> Option<usize> {
    by_source::choose(draw)
}
