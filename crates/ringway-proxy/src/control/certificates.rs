//! The certificates of apps that end TLS, looked at while they are served: whether all can be, and which hold no longer.
//!
//! What few certificates there are is loaded and looked at before a configuration is taken. Of many only the names are read
//! then; this is where the rest is looked at, by a thread of its own, once for each version of their files.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway::tls::{CertificateFault, CertificateStore};

use crate::snapshot::{Lineage, Snapshot};

/// Between two looks at what expires.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// So many of an app are told of at once: the status has all.
const TOLD_AT_ONCE_MAX: usize = 20;

/// Tells the log of certificates that cannot be served, or should not be any more.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateWatch {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Those that have been looked at.
    seen: Vec<Weak<CertificateStore>>,
    /// Of the app of this name, what has been said of the certificate in this file.
    told: HashSet<(Arc<str>, PathBuf, String)>,
}

impl CertificateWatch {
    /// Looks at the certificates of a configuration, beside everything else.
    pub(super) fn follow(&self, snapshot: &Arc<Snapshot>) {
        if snapshot.apps().all(|app| app.certificates().is_none()) {
            return;
        }
        let (watch, snapshot) = (self.clone(), Arc::clone(snapshot));
        // A thread that nobody waits for at the end: many certificates take a while.
        let thread = thread::Builder::new().name("certificates".to_owned());
        if let Err(error) = thread.spawn(move || watch.look(&snapshot)) {
            tracing::warn!(%error, "certificates are not looked at");
        }
    }

    /// Looks again and again, as time passes. Never ends by itself.
    pub(super) async fn run(self, lineage: Arc<Lineage>) {
        loop {
            self.follow(&lineage.current());
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn look(&self, snapshot: &Snapshot) {
        let now = seconds_now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Vec::new();
        let mut told = HashSet::new();
        for app in snapshot.apps() {
            let Some(store) = app.certificates() else { continue };
            let is_new = !state.seen.iter().any(|seen| seen.as_ptr() == Arc::as_ptr(store));
            let mut faults = store.oddities(now);
            if is_new {
                faults.extend(store.verify(1).err().into_iter().flatten());
            }
            seen.push(Arc::downgrade(store));
            let mut new = 0;
            for fault in faults {
                let CertificateFault { path, problem, .. } = fault;
                let key = (Arc::clone(app.name()), path, problem.to_string());
                if !state.told.contains(&key) {
                    new += 1;
                    if new <= TOLD_AT_ONCE_MAX {
                        let (app, file) = (&*key.0, key.1.display());
                        tracing::warn!(app, %file, problem = key.2, "certificate");
                    }
                }
                told.insert(key);
            }
            if new > TOLD_AT_ONCE_MAX {
                tracing::warn!(
                    app = &**app.name(),
                    more = new - TOLD_AT_ONCE_MAX,
                    "more certificates like that"
                );
            }
        }
        *state = State { seen, told };
    }
}

/// The second that it is, counted from the beginning of 1970.
pub(crate) fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
