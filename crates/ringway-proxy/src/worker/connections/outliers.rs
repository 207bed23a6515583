//! Leaving endpoints out whose connections fail, and taking them back when their time is over.

use std::sync::Arc;

use ringway::{Operations, Time, TimerId};

use super::super::token::Owner;
use super::Connections;
use crate::endpoint::{Endpoint, Outcome};
use crate::health::outlier::{self, Judgement};
use crate::metrics::AppCounter;
use crate::model::EjectedUntil;
use crate::session::CloseReason;

/// What this worker left out, and the timer for the first of them. One entry an endpoint, so that there are never more
/// than endpoints.
#[derive(Debug)]
pub(super) struct Ejections {
    waiting: Vec<Waiting>,
    timer: TimerId,
}

#[derive(Debug)]
struct Waiting {
    until: Time,
    app: usize,
    endpoint: Arc<Endpoint>,
}

impl Default for Ejections {
    fn default() -> Self {
        Self { waiting: Vec::new(), timer: TimerId::NONE }
    }
}

impl Ejections {
    fn push(&mut self, ops: &mut Operations<'_>, waiting: Waiting) {
        // A good check may have ended an earlier one before its time.
        self.waiting.retain(|other| other.endpoint.id() != waiting.endpoint.id());
        self.waiting.push(waiting);
        self.wait(ops);
    }

    fn wait(&mut self, ops: &mut Operations<'_>) {
        if !self.timer.is_none() {
            ops.cancel_timer(std::mem::replace(&mut self.timer, TimerId::NONE));
        }
        if let Some(first) = self.waiting.iter().map(|waiting| waiting.until).min() {
            self.timer = ops.set_timer(first, Owner::Ejections.token());
        }
    }

    /// Those whose time is over.
    fn take_due(&mut self, now: Time) -> Vec<Waiting> {
        self.waiting.extract_if(.., |waiting| waiting.until <= now).collect()
    }
}

impl Connections {
    /// Whether a connection that ended so counts as a failure of its backend.
    pub(super) fn is_early_close(&self, app: usize, reason: CloseReason, bytes: [u64; 2]) -> bool {
        let [_, bytes_from_backend] = bytes;
        bytes_from_backend == 0
            && matches!(
                reason,
                CloseReason::BackendFinished | CloseReason::BackendReset | CloseReason::BackendFailed
            )
            && self.apps[app].ejection.is_some_and(|rules| rules.early_close)
    }

    /// A connection to the endpoint at this place of the table failed: counts it, and leaves the endpoint out if
    /// too many did.
    pub(super) fn judge(&mut self, ops: &mut Operations<'_>, app: usize, place: u32, outcome: Outcome) {
        let slot = app;
        let app = &self.apps[slot];
        let (Some(rules), Some(endpoint)) = (&app.ejection, self.endpoints.get(place)) else { return };
        let gate = app.state.core().outliers();
        let judgement = outlier::note_failure(endpoint, outcome, app.endpoints(), gate, rules, ops.now());
        let (name, backend, address) = (app.state.name(), endpoint.name(), endpoint.address());
        match judgement {
            Judgement::Kept => {}
            Judgement::Spared(tally) => {
                app.counters.add(AppCounter::OutliersSpared, 1);
                let (failed, connections) = (tally.failed, tally.connections);
                tracing::debug!(
                    app = %name, %backend, %address, failed, connections,
                    "backend not left out, as many of its app are already"
                );
            }
            Judgement::Ejected(report) => {
                app.counters.add(AppCounter::OutlierEjections, 1);
                let (failed, connections, time) =
                    (report.tally.failed, report.tally.connections, report.time);
                tracing::warn!(
                    app = %name, %backend, %address, failed, connections, ?time,
                    "backend left out: too many of its connections failed"
                );
                let endpoint = Arc::clone(endpoint);
                self.ejections.push(ops, Waiting { until: report.until, app: slot, endpoint });
            }
        }
    }

    /// Takes these back when their time is over, which another process left out.
    pub(in crate::worker) fn watch_outliers(
        &mut self,
        ops: &mut Operations<'_>,
        outliers: Vec<(usize, Arc<Endpoint>)>,
    ) {
        let waiting = outliers.into_iter().map(|(app, endpoint)| {
            let until = endpoint.last_ejection().until;
            Waiting { until, app, endpoint }
        });
        self.ejections.waiting.extend(waiting);
        self.ejections.wait(ops);
    }

    /// Takes back those whose time is over, unless a check has to be good first.
    pub(in crate::worker) fn end_ejections(&mut self, ops: &mut Operations<'_>, timer: TimerId) {
        if self.ejections.timer != timer {
            return;
        }
        self.ejections.timer = TimerId::NONE;
        for Waiting { app, endpoint, .. } in self.ejections.take_due(ops.now()) {
            let state = self.apps.get(app).map(|app| &app.state);
            let health = state.map(|state| &state.model().health);
            let waits_for_check = health.is_some_and(|health| {
                let until = health.ejection.map(|rules| rules.until);
                health.check.is_active() && until == Some(EjectedUntil::Both)
            });
            if !waits_for_check && endpoint.readmit_outlier(ops.now()) {
                let app = state.map_or("", |state| state.name());
                let (backend, address) = (endpoint.name(), endpoint.address());
                tracing::info!(app, %backend, %address, "backend is taken back: its time is over");
            }
        }
        self.ejections.wait(ops);
    }
}
