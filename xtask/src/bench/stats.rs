//! What was measured, and what is said of it: samples of a cell, their median and least.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One measurement of one variant in one row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// What the row's measure says.
    pub(super) value: f64,
    /// Units or gigabytes a second.
    pub(super) rate: f64,
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    /// Share of the window in which the proxy's CPU ran, and in which the load's did.
    pub(super) proxy_share: f64,
    pub(super) load_share: f64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    /// Bytes of kernel memory a connection, of the whole machine: slab, and socket buffers.
    pub(super) kernel: Option<(f64, f64)>,
    /// What the value is the difference of: without, and with.
    #[serde(default)]
    pub(super) over_plain: Option<(f64, f64)>,
    /// Tickets that were sent for each handshake in TLS.
    #[serde(default)]
    pub(super) tickets: Option<f64>,
}

/// All samples: row, then variant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Samples(BTreeMap<String, BTreeMap<String, Vec<Sample>>>);

impl Samples {
    pub(super) fn push(&mut self, row: &str, variant: &str, sample: Sample) {
        self.0.entry(row.into()).or_default().entry(variant.into()).or_default().push(sample);
    }

    /// Forgets a cell that is about to be measured anew.
    pub(super) fn clear(&mut self, row: &str, variant: &str) {
        if let Some(cells) = self.0.get_mut(row) {
            cells.remove(variant);
        }
    }

    pub(super) fn cell(&self, row: &str, variant: &str) -> &[Sample] {
        self.0.get(row).and_then(|cells| cells.get(variant)).map_or(&[], Vec::as_slice)
    }

    /// The median of a cell's values.
    pub(super) fn value(&self, row: &str, variant: &str) -> Option<f64> {
        median(self.cell(row, variant).iter().map(|sample| sample.value))
    }

    /// How many times as much `over` costs as `under`: the median of the quotients of the rounds, since what a slow minute
    /// of the machine did to one it did to the other. If a round failed they cannot be paired, and it is the quotient of
    /// the medians.
    pub(super) fn ratio(&self, row: &str, over: &str, under: &str) -> Option<f64> {
        let [above, below] = [over, under].map(|variant| self.cell(row, variant));
        if above.len() != below.len() {
            return Some(self.value(row, over)? / self.value(row, under)?);
        }
        median(above.iter().zip(below).map(|(above, below)| above.value / below.value))
    }
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// The least value.
pub(super) fn least(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    values.into_iter().min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
        assert_eq!(least([3.0, 1.0, 2.0]), Some(1.0));
    }

    #[test]
    fn a_ratio_is_of_rounds_and_not_of_medians_unless_one_failed() {
        let mut samples = Samples::default();
        // The machine was slow in the second round for one, from the second on for the other.
        for (variant, values) in [("a", [10.0, 30.0, 10.0]), ("b", [5.0, 15.0, 15.0])] {
            for value in values {
                samples.push("row", variant, Sample { value, ..Sample::default() });
            }
        }
        assert_eq!(samples.ratio("row", "a", "b"), Some(2.0));
        samples.push("row", "b", Sample { value: 15.0, ..Sample::default() });
        assert_eq!(samples.ratio("row", "a", "b"), Some(10.0 / 15.0));
        assert_eq!(samples.ratio("row", "a", "c"), None);
    }

    #[test]
    fn a_cleared_cell_is_empty_and_the_others_are_kept() {
        let mut samples = Samples::default();
        for variant in ["a", "b"] {
            samples.push("row", variant, Sample { value: 2.0, ..Sample::default() });
        }
        samples.clear("row", "a");
        assert_eq!(samples.value("row", "a"), None);
        assert_eq!(samples.value("row", "b"), Some(2.0));
    }
}
