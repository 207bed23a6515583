//! By the client's address, in Maglev's table ([`MaglevTable`](super::table::MaglevTable)): shares are as the weights
//! to a percent, a choice is one look; when a backend leaves or joins, a percent or two of the others' clients move too.

use super::{Draw, by_source};

pub(super) fn choose(draw: &mut Draw<'_>) -> Option<usize> {
    by_source::choose(draw)
}
