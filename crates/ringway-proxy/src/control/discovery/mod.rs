//! Backends named by host or service: their addresses, looked up in the background and kept current.
//!
//! Each host has a look-up of its own for each family of addresses, repeated when the answer's time to live is
//! over; a service (`service`) has one for its records, and those of a host for each of its targets.
//! Every address becomes an endpoint. A look-up that fails, or would leave a name without any address, keeps the
//! last good answer and is repeated with back-off. Nothing here can fail the start: a backend whose name has no
//! address is an unavailable backend.

mod service;
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

use crate::endpoint::{AppState, Resolved};
use crate::metrics::{ProcessCounter, ProcessMetrics};
use crate::model::Target;

use service::Service;
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

/// What a service has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAnswer {
    /// Its records; none is an answer, too.
    pub records: Vec<ServiceRecord>,
    /// How long that holds.
    pub ttl: Duration,
}

/// An SRV record. The order is that of RFC 2782: the lowest priority first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRecord {
    /// Those with the lowest come first.
    pub priority: u16,
    /// Share compared with the others of its priority.
    pub weight: u16,
    /// Name of the host, without a trailing dot.
    pub target: String,
    /// The port there.
    pub port: u16,
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

    /// Asks for the records that the service `name` has.
    fn lookup_service(&self, name: &str) -> impl Future<Output = Result<ServiceAnswer, LookupError>> + Send;
}

/// Keeps the endpoints of apps current until it is dropped.
pub struct Discovery<R> {
    shared: Arc<Shared<R>>,
    /// The look-ups of each name. Dropping them ends them.
    tasks: BTreeMap<Subject, JoinSet<()>>,
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
    users: BTreeMap<Subject, Vec<Arc<AppState>>>,
    hosts: BTreeMap<Followed, Known>,
    services: BTreeMap<String, Service>,
}

/// A name that backends have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Host(String),
    Service(String),
}

/// A host that is looked up, for its own sake or as a target of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Followed {
    subject: Subject,
    host: String,
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
            let subjects: BTreeSet<Subject> = subjects(app).collect();
            for subject in subjects {
                state.users.entry(subject).or_default().push(Arc::clone(app));
            }
        }
        let State { users, hosts, services } = &mut *state;
        hosts.retain(|followed, _| users.contains_key(&followed.subject));
        services.retain(|name, _| users.contains_key(&Subject::Service(name.clone())));
        self.tasks.retain(|subject, _| users.contains_key(subject));
        for subject in users.keys() {
            if self.tasks.contains_key(subject) {
                continue;
            }
            let tasks = match subject {
                Subject::Host(host) => self.shared.start_following(subject, host, &asked),
                Subject::Service(name) => {
                    let mut tasks = JoinSet::new();
                    tasks.spawn(Arc::clone(&self.shared).follow_service(name.clone(), asked.clone()));
                    tasks
                }
            };
            self.tasks.insert(subject.clone(), tasks);
        }
        // An app that changed may use a name that is known from another.
        let had = |app: &Arc<AppState>, subject: &Subject| {
            before.get(subject).is_some_and(|apps| apps.iter().any(|other| Arc::ptr_eq(other, app)))
        };
        for (subject, apps) in &state.users {
            for app in apps.iter().filter(|app| !had(app, subject)) {
                self.shared.publish(app, &state);
            }
        }
        all_asked
    }
}

/// The names that the backends of an app have.
fn subjects(app: &AppState) -> impl Iterator<Item = Subject> {
    app.model().backends.iter().filter_map(|backend| match &backend.target {
        Target::Host { name, .. } => Some(Subject::Host(name.clone())),
        Target::Service { name } => Some(Subject::Service(name.clone())),
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

    fn all(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().flatten().copied()
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
    /// Keeps the addresses of a host current until what comes back is dropped.
    fn start_following(
        self: &Arc<Self>,
        subject: &Subject,
        host: &str,
        asked: &Sender<Infallible>,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for family in Family::ALL {
            let followed = Followed { subject: subject.clone(), host: host.to_owned() };
            tasks.spawn(Arc::clone(self).follow(followed, family, asked.clone()));
        }
        tasks
    }

    /// Looks up one family of one host, for ever.
    async fn follow(self: Arc<Self>, followed: Followed, family: Family, asked: Sender<Infallible>) {
        let mut back_off = BACK_OFF_MIN;
        let mut asked = Some(asked);
        loop {
            let result = self.resolver.lookup(&followed.host, family).await;
            let trouble = match result {
                Ok(answer) => match self.take_in(&followed, family, answer.addresses) {
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
            self.report_trouble(&followed, family, &trouble);
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    fn take_in(&self, followed: &Followed, family: Family, addresses: Vec<IpAddr>) -> Change {
        let mut state = self.lock();
        let name = &followed.host;
        let known = state.hosts.entry(followed.clone()).or_default();
        let has_some = !addresses.is_empty();
        let change = known.take_in(family, addresses);
        let is_over = has_some && std::mem::take(&mut known.in_trouble);
        if change == Change::New || is_over {
            tracing::info!(name, addresses = ?known.addresses.concat(), "backend name resolved");
        }
        // The last target of a service that was waited for may have nothing of this family.
        if state.settle(&followed.subject) || change == Change::New {
            self.publish_all(&followed.subject, &state);
        }
        change
    }

    fn report_trouble(&self, followed: &Followed, family: Family, trouble: &str) {
        let mut state = self.lock();
        let name = &followed.host;
        let known = state.hosts.entry(followed.clone()).or_default();
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
        // Or be one without an address.
        if state.settle(&followed.subject) {
            self.publish_all(&followed.subject, &state);
        }
    }

    /// Gives the apps with this name the addresses that it has.
    fn publish_all(&self, subject: &Subject, state: &State) {
        state.users.get(subject).into_iter().flatten().for_each(|app| self.publish(app, state));
    }

    /// Gives an app the addresses that its names have.
    fn publish(&self, app: &AppState, state: &State) {
        let backends = &app.model().backends;
        let lists: Vec<_> = backends.iter().map(|backend| state.addresses_of(&backend.target)).collect();
        if app.resolve_records(&lists).is_some() {
            (self.publish)(app.slot());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn addresses_of(&self, target: &Target) -> Vec<Resolved> {
        match target {
            Target::Address(address) => vec![address.clone().into()],
            Target::Host { name, port } => {
                let followed = Followed { subject: Subject::Host(name.clone()), host: name.clone() };
                let addresses = self.hosts.get(&followed).into_iter().flat_map(Known::all);
                addresses.map(|ip| SocketAddress::from(SocketAddr::new(ip, *port)).into()).collect()
            }
            Target::Service { name } => self.addresses_of_service(name),
        }
    }
}

#[cfg(test)]
mod tests;
