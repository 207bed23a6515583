//! What becomes of the connections of backends and apps that a change of the configuration removed.
//!
//! They are ended by the way of `ringway kill`: a few at a time, so that no byte waits for the end of many.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ringway::{Clock, Time};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use crate::control::operator::Operator;
use crate::endpoint::AppState;
use crate::inspection::Selection;
use crate::model::RemovedBackends;
use crate::session::Ending;
use crate::snapshot::Snapshot;

/// Name of an app, of the route whose pool is meant, and of a backend.
type Target = (String, Option<String>, Option<String>);

/// Ends connections, now and later.
pub(in crate::control) struct Removals {
    operator: Operator,
    /// By app, route and backend; without a backend, of the app or pool as a whole.
    pending: BTreeMap<Target, Pending>,
}

struct Pending {
    /// When they are ended, by the process clock.
    moment: Time,
    task: AbortHandle,
}

/// Connections that are to be ended, as another process goes on with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::control) struct RemovalRecord {
    app: String,
    route: Option<String>,
    backend: Option<String>,
    /// In nanoseconds of the process clock.
    until: u64,
}

impl Removals {
    pub(in crate::control) fn new(operator: Operator) -> Self {
        Self { operator, pending: BTreeMap::new() }
    }

    /// From `before` to `next`. What came back is spared.
    pub(super) fn follow(&mut self, before: &Snapshot, next: &Snapshot) {
        for change in next.changes_since(Some(before)) {
            let is_same = |old: &AppState, new: &AppState| Arc::ptr_eq(old.core(), new.core());
            if let Some(new) = change.after {
                self.spare(target(new, None));
                for backend in &new.model().backends {
                    self.spare(target(new, Some(&backend.name)));
                }
            }
            let Some(old) = change.before else { continue };
            match change.after {
                Some(new) if is_same(old, new) => {
                    let kept: HashSet<&str> =
                        new.model().backends.iter().map(|backend| backend.name.as_str()).collect();
                    let backends = &old.model().backends;
                    for backend in backends.iter().filter(|backend| !kept.contains(backend.name.as_str())) {
                        self.end(target(old, Some(&backend.name)), new.model().removed_backends);
                    }
                }
                _ => self.end(target(old, None), old.model().removed_backends),
            }
        }
        self.pending.retain(|_, pending| !pending.task.is_finished());
    }

    /// What is still to be ended.
    pub(super) fn records(&self) -> Vec<RemovalRecord> {
        let pending = self.pending.iter().filter(|(_, pending)| !pending.task.is_finished());
        let record = |((app, route, backend), pending): (&Target, &Pending)| RemovalRecord {
            app: app.clone(),
            route: route.clone(),
            backend: backend.clone(),
            until: pending.moment.as_nanos(),
        };
        pending.map(record).collect()
    }

    /// Ends what the process before would have ended, when it would have. What stays in that one it ends itself.
    pub(in crate::control) fn go_on_with(&mut self, records: Vec<RemovalRecord>) {
        for RemovalRecord { app, route, backend, until } in records {
            self.end_at((app, route, backend), Time::from_nanos(until));
        }
    }

    fn spare(&mut self, target: Target) {
        if let Some(pending) = self.pending.remove(&target) {
            pending.task.abort();
        }
    }

    fn end(&mut self, target: Target, policy: RemovedBackends) {
        let wait = match policy {
            RemovedBackends::Keep => return,
            RemovedBackends::Close => Duration::ZERO,
            RemovedBackends::CloseAfter(time) => time,
        };
        self.end_at(target, Clock::process().now() + wait);
    }

    fn end_at(&mut self, target: Target, moment: Time) {
        let wait = moment.since(Clock::process().now());
        let operator = self.operator.clone();
        let (app, route, backend) = target.clone();
        // Of an app that is gone, whatever route its connections took.
        let is_of_all = route.is_none() && backend.is_none();
        let within = (!is_of_all).then(|| route.clone().unwrap_or_default());
        let selection = Selection {
            app: Some(app.clone()),
            route: within,
            backend: backend.clone(),
            ..Selection::default()
        };
        let task = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let closed = operator.close(selection, Ending::Removed).await;
            if closed > 0 {
                tracing::info!(app, route, backend, closed, "connections closed: their backend was removed");
            }
        });
        self.pending.insert(target, Pending { moment, task: task.abort_handle() });
    }
}

fn target(pool: &AppState, backend: Option<&str>) -> Target {
    (pool.name().to_string(), pool.route().map(|route| route.to_string()), backend.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::control::status::testing;

    #[tokio::test(start_paused = true)]
    async fn another_process_ends_what_is_left_to_be_ended_when_it_is_time() {
        let start = || {
            let process = Arc::new(testing::process());
            Removals::new(Operator::new(process, Vec::new(), unbounded_channel().0))
        };
        let (mut old, mut new) = (start(), start());
        let target = |backend: &str| ("app".to_owned(), Some("eu".to_owned()), Some(backend.to_owned()));
        old.end(target("kept"), RemovedBackends::Keep);
        old.end(target("now"), RemovedBackends::Close);
        old.end(target("later"), RemovedBackends::CloseAfter(Duration::from_secs(3_600)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let records = old.records();
        assert_eq!(
            records.iter().map(|record| record.backend.as_deref()).collect::<Vec<_>>(),
            [Some("later")]
        );

        let told = serde_json::to_string(&records).expect("JSON");
        let far = RemovalRecord { until: u64::MAX, ..RemovalRecord::default() };
        new.go_on_with(serde_json::from_str(&told).expect("what was told"));
        assert_eq!(new.records(), records);
        new.go_on_with(vec![far.clone()]);
        tokio::time::sleep(Duration::from_secs(3_601)).await;
        assert_eq!(new.records(), [far], "its time is over, and the other's is not");
        new.spare(Target::default());
        tokio::task::yield_now().await;
        assert_eq!(new.records(), []);
    }
}
