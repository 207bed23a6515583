//! `[app.rebalance]`: how connections spread to a backend that joins.

use std::time::Duration;

use super::app::{TIMEOUT_MAX, TIMEOUT_MIN};
use super::fields::{Checker, Item};
use crate::model::{Balance, Rebalance};

const CLOSED_MAX: u32 = 1_000_000;
/// Endpoints are looked at several times in an interval.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);
const WITHIN_MIN: Duration = Duration::from_secs(1);
const WITHIN_MAX: Duration = Duration::from_secs(86_400);

pub(super) fn read(item: &Item<'_>, balance: Balance, checker: &mut Checker<'_>) -> Option<Rebalance> {
    let mut rebalance = Rebalance::default();
    let mut fields = checker.table(item, "a table, [app.rebalance] in TOML")?;
    if let Some(item) = fields.take("share") {
        rebalance.share = checker.share(&item).unwrap_or(rebalance.share);
        if rebalance.share == 0.0 {
            checker.conflict(&item, "nothing would ever be closed", Some("leave the table out"));
        }
    }
    if let Some(item) = fields.take("interval") {
        let interval = checker.duration(&item, INTERVAL_MIN..=INTERVAL_MAX, None);
        rebalance.interval = interval.unwrap_or(rebalance.interval);
    }
    if let Some(item) = fields.take("jitter") {
        rebalance.jitter = checker.share(&item).unwrap_or(rebalance.jitter);
    }
    if let Some(item) = fields.take("min_age") {
        let age = checker.duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX, None);
        rebalance.min_age = age.unwrap_or(rebalance.min_age);
    }
    if let Some(item) = fields.take("max_closed") {
        let closed = checker.number(&item, 1..=CLOSED_MAX, "");
        rebalance.max_closed = closed.unwrap_or(rebalance.max_closed);
    }
    if let Some(item) = fields.take("tolerance") {
        rebalance.tolerance = checker.share(&item).unwrap_or(rebalance.tolerance);
    }
    if let Some(item) = fields.take("within") {
        rebalance.within = checker.duration(&item, WITHIN_MIN..=WITHIN_MAX, None).unwrap_or(rebalance.within);
    }
    fields.finish(checker);
    match balance {
        Balance::LeastConnections | Balance::RoundRobin | Balance::Random | Balance::TwoChoices => {
            Some(rebalance)
        }
        Balance::SourceHash | Balance::Maglev => {
            let message = "a client that is sent by its address comes back to the same backend";
            checker.conflict(item, message, Some("leave the table out, or choose another balance"));
            None
        }
    }
}
