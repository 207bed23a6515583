//! Backends named by host: their addresses, looked up in the background and kept current.
//!
//! Each name has a look-up of its own for each family of addresses, repeated when the answer's time to live is
//! over. Every address becomes an endpoint. A look-up that fails, or would leave a name without any address, keeps the
//! last good answer and is repeated with back-off. Nothing here can fail the start: a backend whose name has no
//! address is an unavailable backend.

mod system;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringway::SocketAddress;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use crate::endpoint::AppState;
use crate::metrics::{ProcessCounter, ProcessMetrics};
use crate::model::Target;

pub use system::SystemResolver;

/// An answer is trusted for at least this long, so that a time to live of zero does not make a busy loop …
const TTL_MIN: Duration = Duration::from_secs(1);
/// … and at most this long, so that a mistake in a zone does not last for days.
const TTL_MAX: Duration = Duration::from_secs(300);
/// After a first failure. Doubles with each that follows.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
/// Failures are never further apart than this.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// A kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }
}

/// What a name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses of the family that was asked for; none is an answer, too.
    pub addresses: Vec<IpAddr>,
    /// How long that holds.
    pub ttl: Duration,
}

/// Why there is no answer: for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupError(pub String);

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Looks names up.
pub trait Resolver: Send + Sync + 'static {
    /// Asks for the addresses that `name` has in `family`.
    fn lookup(&self, name: &str, family: Family) -> impl Future<Output = Result<Answer, LookupError>> + Send;
}

/// Keeps the endpoints of apps current until it is dropped.
pub struct Discovery<R> {
    shared: Arc<Shared<R>>,
    /// The look-ups of each name. Dropping them ends them.
    tasks: BTreeMap<String, JoinSet<()>>,
}

struct Shared<R> {
    resolver: Arc<R>,
    metrics: Arc<ProcessMetrics>,
    state: Mutex<State>,
    publish: Box<dyn Fn(usize) + Send + Sync>,
}

#[derive(Default)]
struct State {
    /// The apps with backends of a name.
    users: BTreeMap<String, Vec<Arc<AppState>>>,
    known: BTreeMap<String, Known>,
}

impl<R: Resolver> Discovery<R> {
    /// `publish` gets the slot of each app that has new endpoints.
    pub fn new(
        resolver: Arc<R>,
        metrics: Arc<ProcessMetrics>,
        publish: impl Fn(usize) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared { resolver, metrics, state: Mutex::default(), publish: Box::new(publish) };
        Self { shared: Arc::new(shared), tasks: BTreeMap::new() }
    }

    /// Looks up the names of these apps from now on, and no others. What comes back is closed, without a message, once
    /// every name that is new has been asked for.
    pub fn adopt<'a>(&mut self, apps: impl IntoIterator<Item = &'a Arc<AppState>>) -> Receiver<Infallible> {
        let (asked, all_asked) = channel(1);
        let mut state = self.shared.lock();
        let before = std::mem::take(&mut state.users);
        for app in apps {
            let names: BTreeSet<&str> = host_names(app).collect();
            for name in names {
                state.users.entry(name.to_owned()).or_default().push(Arc::clone(app));
            }
        }
        let State { users, known } = &mut *state;
        known.retain(|name, _| users.contains_key(name));
        self.tasks.retain(|name, _| users.contains_key(name));
        for name in users.keys() {
            if self.tasks.contains_key(name) {
                continue;
            }
            let mut tasks = JoinSet::new();
            for family in Family::ALL {
                tasks.spawn(Arc::clone(&self.shared).follow(name.clone(), family, asked.clone()));
            }
            self.tasks.insert(name.clone(), tasks);
        }
        // An app that changed may use a name that is known from another.
        let had = |app: &Arc<AppState>, name: &str| {
            before.get(name).is_some_and(|apps| apps.iter().any(|other| Arc::ptr_eq(other, app)))
        };
        for (name, apps) in users.iter() {
            for app in apps.iter().filter(|app| !had(app, name)) {
                self.shared.publish(app, known);
            }
        }
        all_asked
    }
}

/// The host names of the backends of an app.
fn host_names(app: &AppState) -> impl Iterator<Item = &str> {
    app.model().backends.iter().filter_map(|backend| match &backend.target {
        Target::Host { name, .. } => Some(name.as_str()),
        Target::Address(_) => None,
    })
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Known {
    /// By family, sorted: servers rotate their answers, and order says nothing.
    addresses: [Vec<IpAddr>; 2],
    answered: [bool; 2],
    /// Trouble is told once, and so is its end.
    in_trouble: bool,
}

/// What an answer changed.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// The name has other addresses now.
    New,
    /// Nothing.
    Same,
    /// The answer would have left the name without addresses, so it is not believed.
    Refused,
}

impl Known {
    fn is_empty(&self) -> bool {
        self.addresses.iter().all(Vec::is_empty)
    }

    fn take_in(&mut self, family: Family, mut addresses: Vec<IpAddr>) -> Change {
        addresses.sort_unstable();
        addresses.dedup();
        let (own, other) = (family.index(), 1 - family.index());
        self.answered[own] = true;
        let nothing_else = self.addresses[other].is_empty();
        if addresses.is_empty() && nothing_else {
            // Of a name that has one family only, the other one's answer may come first.
            return if self.answered[other] || !self.is_empty() { Change::Refused } else { Change::Same };
        }
        if self.addresses[own] == addresses {
            return Change::Same;
        }
        self.addresses[own] = addresses;
        Change::New
    }
}

impl<R: Resolver> Shared<R> {
    /// Looks up one family of one name, for ever.
    async fn follow(self: Arc<Self>, name: String, family: Family, asked: Sender<Infallible>) {
        let mut back_off = BACK_OFF_MIN;
        let mut asked = Some(asked);
        loop {
            let result = self.resolver.lookup(&name, family).await;
            let trouble = match result {
                Ok(answer) => match self.take_in(&name, family, answer.addresses) {
                    Change::New | Change::Same => {
                        asked.take();
                        self.metrics.add(ProcessCounter::LookupsAnswered, 1);
                        back_off = BACK_OFF_MIN;
                        tokio::time::sleep(answer.ttl.clamp(TTL_MIN, TTL_MAX)).await;
                        continue;
                    }
                    Change::Refused => "it has no address".to_owned(),
                },
                Err(error) => error.to_string(),
            };
            asked.take();
            self.metrics.add(ProcessCounter::LookupsFailed, 1);
            self.report_trouble(&name, family, &trouble);
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    fn take_in(&self, name: &str, family: Family, addresses: Vec<IpAddr>) -> Change {
        let mut state = self.lock();
        let known = state.known.entry(name.to_owned()).or_default();
        let has_some = !addresses.is_empty();
        let change = known.take_in(family, addresses);
        let is_over = has_some && std::mem::take(&mut known.in_trouble);
        if change == Change::New || is_over {
            tracing::info!(name, addresses = ?known.addresses.concat(), "backend name resolved");
        }
        if change == Change::New {
            let State { users, known } = &*state;
            users.get(name).into_iter().flatten().for_each(|app| self.publish(app, known));
        }
        change
    }

    fn report_trouble(&self, name: &str, family: Family, trouble: &str) {
        let mut state = self.lock();
        let known = state.known.entry(name.to_owned()).or_default();
        known.answered[family.index()] = true;
        // A name with one family only is no trouble, nor is the first of two answers that has not come yet.
        let is_news = !known.in_trouble && known.answered == [true; 2];
        if is_news && known.is_empty() {
            known.in_trouble = true;
            tracing::warn!(name, trouble, "backend name has no address; its backends are unavailable");
        } else if is_news && !known.addresses[family.index()].is_empty() {
            known.in_trouble = true;
            tracing::warn!(name, trouble, "backend name not resolved; its last addresses are kept");
        } else {
            tracing::debug!(name, ?family, trouble, "backend name not resolved");
        }
    }

    /// Gives an app the addresses that its names have.
    fn publish(&self, app: &AppState, known: &BTreeMap<String, Known>) {
        let backends = &app.model().backends;
        let lists: Vec<_> = backends.iter().map(|backend| addresses_of(&backend.target, known)).collect();
        if app.resolve(&lists).is_some() {
            (self.publish)(app.slot());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn addresses_of(target: &Target, known: &BTreeMap<String, Known>) -> Vec<SocketAddress> {
    match target {
        Target::Address(address) => vec![address.clone()],
        Target::Host { name, port } => known
            .get(name)
            .into_iter()
            .flat_map(|known| known.addresses.iter().flatten())
            .map(|address| SocketAddr::new(*address, *port).into())
            .collect(),
    }
}

#[cfg(test)]
mod tests;
