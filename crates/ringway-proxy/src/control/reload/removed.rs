//! What becomes of the connections of backends and apps that a change of the configuration removed.
//!
//! They are ended by the way of `ringway kill`: a few at a time, so that no byte waits for the end of many.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

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
    pending: BTreeMap<Target, AbortHandle>,
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
        self.pending.retain(|_, task| !task.is_finished());
    }

    fn spare(&mut self, target: Target) {
        if let Some(task) = self.pending.remove(&target) {
            task.abort();
        }
    }

    fn end(&mut self, target: Target, policy: RemovedBackends) {
        let wait = match policy {
            RemovedBackends::Keep => return,
            RemovedBackends::Close => std::time::Duration::ZERO,
            RemovedBackends::CloseAfter(time) => time,
        };
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
        self.pending.insert(target, task.abort_handle());
    }
}

fn target(pool: &AppState, backend: Option<&str>) -> Target {
    (pool.name().to_string(), pool.route().map(|route| route.to_string()), backend.map(str::to_owned))
}
