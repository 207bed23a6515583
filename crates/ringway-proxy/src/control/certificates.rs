//! The certificates of apps that end TLS, looked at while they are served: whether all can be, and which hold no longer.
//!
//! What few certificates there are is loaded and looked at before a configuration is taken. Of many only the names are read
//! then; this is where the rest is looked at, by a thread of its own, once for each version of their files, and left loaded as far
//! as there is room: what is loaded no worker has to read when the first client asks for it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringway::tls::{CertificateFault, CertificateStore};

use crate::snapshot::{Lineage, Snapshot};

/// Keys and chains that are left loaded when they have been looked at, of all apps together: those of 10,000 certificates with
/// an intermediate one each. Of more than that each is loaded when the first client asks for it.
const LOADED_BYTES_MAX: usize = 64 << 20;
/// Between two looks at what expires.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// So many of an app are told of at once, and of the others how many there are; `ringway check` tells of each.
const TOLD_AT_ONCE_MAX: usize = 20;

/// Tells the log of certificates that cannot be served, or should not be any more.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateWatch {
    turn: Arc<Mutex<Turn>>,
}

/// Who is to be looked at next, and whether somebody is at it.
#[derive(Debug, Default)]
struct Turn {
    next: Option<Arc<Snapshot>>,
    is_running: bool,
    /// Of the looks until now; taken while somebody is at it.
    state: State,
}

#[derive(Debug, Default)]
struct State {
    /// Those that have been looked at.
    seen: Vec<Weak<CertificateStore>>,
    /// Of the app of this name, what has been said of the certificate in this file.
    told: HashSet<(Arc<str>, PathBuf, String)>,
}

impl CertificateWatch {
    /// Looks at the certificates of a configuration, beside everything else. Of those that come meanwhile the last one is
    /// looked at next.
    pub(super) fn follow(&self, snapshot: &Arc<Snapshot>) {
        let mut turn = self.turn();
        turn.next = Some(Arc::clone(snapshot));
        if turn.is_running {
            return;
        }
        let watch = self.clone();
        // A thread that nobody waits for at the end: many certificates take a while.
        let thread = thread::Builder::new().name("certificates".to_owned());
        match thread.spawn(move || watch.look_while_there_is_one()) {
            Ok(_) => turn.is_running = true,
            Err(error) => tracing::warn!(%error, "certificates are not looked at"),
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_while_there_is_one(&self) {
        loop {
            let (snapshot, mut state) = {
                let mut turn = self.turn();
                let Some(snapshot) = turn.next.take() else {
                    turn.is_running = false;
                    return;
                };
                (snapshot, std::mem::take(&mut turn.state))
            };
            state.look(&snapshot, LOADED_BYTES_MAX);
            self.turn().state = state;
        }
    }

    /// Looks again and again, as time passes. Never ends by itself.
    pub(super) async fn run(self, lineage: Arc<Lineage>) {
        loop {
            self.follow(&lineage.current());
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

impl State {
    /// `room`: so much memory may be taken by what is left loaded, of all apps together.
    fn look(&mut self, snapshot: &Snapshot, mut room: usize) {
        let now = seconds_now();
        let mut seen = Vec::new();
        let mut told = HashSet::new();
        for app in snapshot.apps() {
            let Some(store) = app.certificates() else { continue };
            let is_new = !self.seen.iter().any(|seen| seen.as_ptr() == Arc::as_ptr(store));
            let mut faults = store.oddities(now);
            if is_new {
                faults.extend(store.verify(1, room).err().into_iter().flatten());
            }
            room = room.saturating_sub(store.loaded_bytes());
            seen.push(Arc::downgrade(store));
            let mut new = 0;
            for fault in faults {
                let CertificateFault { path, problem, .. } = fault;
                let key = (Arc::clone(app.name()), path, problem.to_string());
                if !self.told.contains(&key) {
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
        *self = Self { seen, told };
    }
}

/// The second that it is, counted from the beginning of 1970.
pub(crate) fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use ringway::tls::{TlsVersion, certificates_in};
    use testkit::certificates::Authority;

    use super::*;
    use crate::endpoint::testing::app_of_hosts;
    use crate::model::{App, RulesOfTls, Termination, Unreadable};

    fn app(name: &str, certificates: &Arc<CertificateStore>) -> App {
        let termination = Termination {
            certificates: Arc::clone(certificates),
            alpn: Vec::new(),
            min_version: TlsVersion::Tls12,
            clients: None,
            ticket_keys: None,
            ticket_lifetime: None,
        };
        let tls = RulesOfTls { unreadable: Unreadable::Refuse, termination: Some(termination.into()) };
        App { name: name.to_owned(), tls: Some(tls), ..app_of_hosts(&[(1, false)]) }
    }

    #[test]
    fn what_is_looked_at_is_left_loaded_as_far_as_there_is_room_for_all_apps() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::new("ours");
        for number in 0..4 {
            let issued = authority.issue(&[&format!("h{number}.com")]);
            let path = directory.path().join(format!("{number}.pem"));
            std::fs::write(path, issued.chain + &issued.key).expect("it is written");
        }
        let store = || {
            let files = certificates_in(directory.path()).expect("it is read");
            Arc::new(CertificateStore::read(files, None).expect("they are good"))
        };
        let stores = [store(), store()];
        assert_eq!(stores[0].loaded_bytes(), 0);
        let lineage = Lineage::of_apps(vec![app("a", &stores[0]), app("b", &stores[1])]);
        let mut state = State::default();
        state.look(&lineage.current(), usize::MAX);
        let of_one = stores[0].loaded_bytes() / 4;
        assert!(of_one > 0 && stores[1].loaded_bytes() > 0);

        let stores = [store(), store()];
        let lineage = Lineage::of_apps(vec![app("a", &stores[0]), app("b", &stores[1])]);
        let mut state = State::default();
        state.look(&lineage.current(), 5 * of_one + of_one / 2);
        let counts = stores.map(|store| (store.loaded_bytes() + of_one / 2) / of_one);
        assert_eq!(counts, [4, 2], "all of the first app, and of the other until the bound is passed");
    }
}
