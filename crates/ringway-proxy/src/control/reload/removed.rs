//! What becomes of the connections of backends and apps that a change of the configuration removed.
//!
//! They are ended by the way of `ringway kill`: a few at a time, so that no byte waits for the end of many.

use std::collections::{BTreeMap, HashSet};

use tokio::task::AbortHandle;

use crate::control::operator::Operator;
use crate::inspection::Selection;
use crate::model::RemovedBackends;
use crate::plan::Kind;
use crate::session::Ending;
use crate::snapshot::Snapshot;

/// Ends connections, now and later.
pub(in crate::control) struct Removals {
    operator: Operator,
    /// By app and backend; without a backend, of the app as a whole.
    pending: BTreeMap<(String, Option<String>), AbortHandle>,
}

impl Removals {
    pub(in crate::control) fn new(operator: Operator) -> Self {
        Self { operator, pending: BTreeMap::new() }
    }

    /// From `before` to `next`. What came back is spared.
    pub(super) fn follow(&mut self, before: &Snapshot, next: &Snapshot) {
        for change in next.changes_since(Some(before)) {
            let kind = match (change.before, change.after) {
                (Some(old), Some(new)) if old.name() == new.name() => Kind::Changed,
                (None, Some(_)) => Kind::Added,
                _ => Kind::Removed,
            };
            if let Some(new) = change.after {
                let name = new.name().to_string();
                self.spare(&name, None);
                for backend in &new.model().backends {
                    self.spare(&name, Some(&backend.name));
                }
            }
            let Some(old) = change.before else { continue };
            let app = old.name().to_string();
            match (kind, change.after) {
                (Kind::Changed, Some(new)) => {
                    let kept: HashSet<&str> =
                        new.model().backends.iter().map(|backend| backend.name.as_str()).collect();
                    let backends = &old.model().backends;
                    for backend in backends.iter().filter(|backend| !kept.contains(backend.name.as_str())) {
                        self.end(&app, Some(&backend.name), new.model().removed_backends);
                    }
                }
                _ => self.end(&app, None, old.model().removed_backends),
            }
        }
        self.pending.retain(|_, task| !task.is_finished());
    }

    fn spare(&mut self, app: &str, backend: Option<&str>) {
        if let Some(task) = self.pending.remove(&(app.to_owned(), backend.map(str::to_owned))) {
            task.abort();
        }
    }

    fn end(&mut self, app: &str, backend: Option<&str>, policy: RemovedBackends) {
        let wait = match policy {
            RemovedBackends::Keep => return,
            RemovedBackends::Close => std::time::Duration::ZERO,
            RemovedBackends::CloseAfter(time) => time,
        };
        let operator = self.operator.clone();
        let (app, backend) = (app.to_owned(), backend.map(str::to_owned));
        let selection =
            Selection { app: Some(app.clone()), backend: backend.clone(), ..Selection::default() };
        let key = (app, backend);
        let task = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let (app, backend) = (selection.app.clone(), selection.backend.clone());
            let closed = operator.close(selection, Ending::Removed).await;
            if closed > 0 {
                tracing::info!(app, backend, closed, "connections closed: their backend was removed");
            }
        });
        self.pending.insert(key, task.abort_handle());
    }
}
