//! The configuration that a process runs with, as one value that never changes: a [`Snapshot`] of all apps by slot.
//!
//! A change of the configuration makes the next snapshot, in which an app that did not change is the same
//! [`AppState`], not a copy. Workers compare slot by slot, by pointer, and touch nothing else. [`Lineage`] keeps the
//! slots: an app keeps its own for its life, which ends with its last connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use ringway::SocketAddress;
use serde::{Deserialize, Serialize};

use crate::endpoint::{AppCore, AppState, Assignment, FrontendState, PassedSockets};
use crate::model;

/// What brought a configuration about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The start of the process.
    Start,
    /// SIGHUP.
    Signal,
    /// A file changed, and `server.watch` says that this is enough.
    Watch,
    /// The admin interface: `ringway reload`.
    Admin,
    /// A configuration that was sent to the admin interface.
    Put,
    /// The configuration of an earlier version: this one.
    Rollback(u64),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Signal => f.write_str("SIGHUP"),
            Self::Watch => f.write_str("watch"),
            Self::Admin => f.write_str("reload"),
            Self::Put => f.write_str("PUT"),
            Self::Rollback(version) => write!(f, "rollback to {version}"),
        }
    }
}

/// A configuration without its apps.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The process.
    pub server: model::Server,
    /// The admin interface, if there is one.
    pub admin: Option<model::Admin>,
}

/// All apps of a process with one version of its configuration.
#[derive(Debug)]
pub struct Snapshot {
    version: u64,
    origin: Origin,
    time: SystemTime,
    settings: Settings,
    slots: Vec<Option<Arc<AppState>>>,
    /// Slots in the order of the configuration.
    order: Vec<usize>,
}

impl Snapshot {
    /// Its number: the start is 1, each change counts one, also over upgrades.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What brought it about.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// When it was made.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// What it was made from, but for the apps.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The configurations of its apps, in their order.
    pub fn models(&self) -> Vec<Arc<model::App>> {
        self.apps().map(|app| Arc::clone(app.model())).collect()
    }

    /// What it was made from.
    pub fn config(&self) -> model::Config {
        let Settings { server, admin } = self.settings.clone();
        let apps = self.apps().map(|app| (**app.model()).clone()).collect();
        model::Config { server, admin, apps, demo: false }
    }

    /// Whether `config` would make the same.
    pub fn is_made_from(&self, config: &model::Config) -> bool {
        (&self.settings.server, &self.settings.admin) == (&config.server, &config.admin)
            && self.order.len() == config.apps.len()
            && self.apps().zip(&config.apps).all(|(app, model)| **app.model() == *model)
    }

    /// The apps, in the order of the configuration.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<AppState>> {
        self.order.iter().filter_map(|slot| self.app(*slot))
    }

    /// The apps, each followed by the pools of its routes: all that have endpoints.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<AppState>> {
        self.apps().flat_map(AppState::with_pools)
    }

    /// The app or pool in a slot.
    pub fn app(&self, slot: usize) -> Option<&Arc<AppState>> {
        self.slots.get(slot)?.as_ref()
    }

    /// The slots whose app is another one than in `before`, or here or there only.
    pub fn changes_since<'a>(&'a self, before: Option<&'a Self>) -> impl Iterator<Item = Change<'a>> {
        let slots = self.slots.len().max(before.map_or(0, |before| before.slots.len()));
        (0..slots).filter_map(move |slot| {
            let (before, after) = (before.and_then(|before| before.app(slot)), self.app(slot));
            let is_same = match (before, after) {
                (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                (None, None) => true,
                _ => false,
            };
            (!is_same).then_some(Change { slot, before, after })
        })
    }
}

/// A slot whose app changed.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The slot.
    pub slot: usize,
    /// The app until now; none if it is new.
    pub before: Option<&'a Arc<AppState>>,
    /// The app from now on; none if it is removed.
    pub after: Option<&'a Arc<AppState>>,
}

/// The snapshots of a process, one after the other, and the slots that their apps live in.
#[derive(Debug)]
pub struct Lineage {
    current: Mutex<Arc<Snapshot>>,
    /// By slot. One whose app is gone from every thread is free.
    cores: Mutex<Vec<Weak<AppCore>>>,
    passed: PassedSockets,
}

impl Lineage {
    /// The first snapshot of a process.
    pub fn new(config: model::Config) -> Self {
        Self::with_sockets(config, PassedSockets::default())
    }

    /// The first snapshot of a process to which these sockets were passed.
    pub fn with_sockets(config: model::Config, passed: PassedSockets) -> Self {
        let nothing = Snapshot {
            version: 0,
            origin: Origin::Start,
            time: SystemTime::now(),
            settings: Settings { server: config.server.clone(), admin: config.admin.clone() },
            slots: Vec::new(),
            order: Vec::new(),
        };
        let lineage = Self { current: Mutex::new(Arc::new(nothing)), cores: Mutex::default(), passed };
        lineage.advance(config, Origin::Start);
        lineage
    }

    /// The snapshot of a process that goes on where another one left: with that one's version of this configuration.
    pub fn resumed(
        config: model::Config,
        passed: PassedSockets,
        (version, origin, time): (u64, Origin, SystemTime),
    ) -> Self {
        let lineage = Self::with_sockets(config, passed);
        let mut current = lock(&lineage.current);
        // Nobody else has seen it yet.
        if let Some(first) = Arc::get_mut(&mut current) {
            (first.version, first.origin, first.time) = (version, origin, time);
        }
        drop(current);
        lineage
    }

    /// The first snapshot of a process with nothing but these apps: for simulations and tests.
    pub fn of_apps(apps: Vec<model::App>) -> Self {
        Self::new(model::Config { server: model::Server::default(), admin: None, apps, demo: false })
    }

    /// The snapshot that is valid now.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.current))
    }

    /// The sockets that were passed to the process.
    pub fn passed(&self) -> &PassedSockets {
        &self.passed
    }

    /// All apps that live: those of the current snapshot, and removed ones whose last connection has not ended.
    pub fn living(&self) -> Vec<Arc<AppCore>> {
        self.living_pools().into_iter().filter(|core| core.parent().is_none()).collect()
    }

    /// The same, and the pools of routes.
    pub fn living_pools(&self) -> Vec<Arc<AppCore>> {
        lock(&self.cores).iter().filter_map(Weak::upgrade).collect()
    }

    /// Makes the snapshot of `config` the valid one. All threads have to be told; endpoints that stay have their
    /// new weights already.
    pub fn advance(&self, config: model::Config, origin: Origin) -> Arc<Snapshot> {
        let mut current = lock(&self.current);
        let next = Arc::new(self.successor(&current, config, origin));
        *current = Arc::clone(&next);
        next
    }

    fn successor(&self, before: &Snapshot, config: model::Config, origin: Origin) -> Snapshot {
        let by_name: HashMap<&str, &Arc<AppState>> =
            before.apps().map(|app| (app.model().name.as_str(), app)).collect();
        let same = |model: &model::App| {
            by_name.get(model.name.as_str()).copied().filter(|app| **app.model() == *model)
        };
        let passed = self.passed.assign(&config);
        let mut sockets = Sockets::of_changed(before, &config, &same, passed);
        let mut cores = lock(&self.cores);
        let mut seats = Seats::new(&mut cores);
        let mut slots: Vec<Option<Arc<AppState>>> = Vec::new();
        let mut order = Vec::with_capacity(config.apps.len());
        for model in &config.apps {
            let old = by_name.get(model.name.as_str()).copied();
            let state = match same(model) {
                Some(state) => Arc::clone(state),
                None => {
                    let frontends = sockets.take(model);
                    let core = old.map_or_else(|| seats.seat(&model.name), |old| Arc::clone(old.core()));
                    let pools = seats.pools(&core, model, old);
                    let before = old.map(|old| &**old);
                    Arc::new(AppState::with(core, Arc::new(model.clone()), frontends, pools, before))
                }
            };
            order.push(state.slot());
            for state in state.with_pools() {
                let slot = state.slot();
                if slots.len() <= slot {
                    slots.resize(slot + 1, None);
                }
                slots[slot] = Some(Arc::clone(state));
            }
        }
        let (version, time) = (before.version + 1, SystemTime::now());
        let settings = Settings { server: config.server, admin: config.admin };
        Snapshot { version, origin, time, settings, slots, order }
    }
}

/// Name of an app, and of the route whose pool is meant.
type PoolName = (Arc<str>, Option<Arc<str>>);

/// The slots, while apps are put into them.
struct Seats<'a> {
    cores: &'a mut Vec<Weak<AppCore>>,
    /// By app, and by route if it is a pool.
    by_name: HashMap<PoolName, Arc<AppCore>>,
    /// From the last to the first.
    free: Vec<usize>,
}

impl<'a> Seats<'a> {
    fn new(cores: &'a mut Vec<Weak<AppCore>>) -> Self {
        let mut by_name = HashMap::new();
        let mut free = Vec::new();
        for (slot, core) in cores.iter().enumerate().rev() {
            match core.upgrade() {
                Some(core) => {
                    by_name.insert((Arc::clone(core.name()), core.route().cloned()), core);
                }
                None => free.push(slot),
            }
        }
        Self { cores, by_name, free }
    }

    /// The core of the app of this name: its own if connections of an earlier time have not ended, or one in a free
    /// slot.
    fn seat(&mut self, name: &str) -> Arc<AppCore> {
        self.take((Arc::from(name), None), |slot| AppCore::new(slot, name))
    }

    /// The pools of an app. One that is the same as in `before` is not touched.
    fn pools(
        &mut self,
        core: &Arc<AppCore>,
        model: &model::App,
        before: Option<&Arc<AppState>>,
    ) -> Vec<Arc<AppState>> {
        let old: HashMap<&str, &Arc<AppState>> = before
            .iter()
            .flat_map(|before| before.pools())
            .filter_map(|pool| Some((&**pool.route()?, pool)))
            .collect();
        let state = |(route, model): (&str, &Arc<model::App>)| match old.get(route) {
            Some(old) if old.model() == model => Arc::clone(old),
            old => {
                let core = match old {
                    Some(old) => Arc::clone(old.core()),
                    None => self.take((Arc::clone(core.name()), Some(Arc::from(route))), |slot| {
                        AppCore::of_route(slot, route, core)
                    }),
                };
                let before = old.map(|old| &***old);
                Arc::new(AppState::with(core, Arc::clone(model), Vec::new(), Vec::new(), before))
            }
        };
        model.pools().map(state).collect()
    }

    fn take(&mut self, name: PoolName, new: impl FnOnce(usize) -> AppCore) -> Arc<AppCore> {
        if let Some(core) = self.by_name.get(&name) {
            return Arc::clone(core);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.cores.push(Weak::new());
            self.cores.len() - 1
        });
        let core = Arc::new(new(slot));
        self.cores[slot] = Arc::downgrade(&core);
        core
    }
}

/// The frontends of apps that change, to be kept or to be inherited.
struct Sockets<'a> {
    /// Of the app of this name.
    own: HashMap<(&'a str, &'a str), Vec<&'a Arc<FrontendState>>>,
    by_address: HashMap<(&'a SocketAddress, bool), &'a Arc<FrontendState>>,
    passed: Assignment<'a>,
}

impl<'a> Sockets<'a> {
    fn of_changed(
        before: &'a Snapshot,
        config: &'a model::Config,
        same: &impl Fn(&model::App) -> Option<&'a Arc<AppState>>,
        passed: Assignment<'a>,
    ) -> Self {
        let kept: std::collections::HashSet<usize> =
            config.apps.iter().filter_map(|model| same(model).map(|app| app.slot())).collect();
        let mut sockets = Self { own: HashMap::new(), by_address: HashMap::new(), passed };
        for app in before.apps().filter(|app| !kept.contains(&app.slot())) {
            // From the last to the first, as the lists are taken from their ends.
            for frontend in app.frontends().iter().rev() {
                let key = (app.model().name.as_str(), frontend.model().name.as_str());
                sockets.own.entry(key).or_default().push(frontend);
                let model = frontend.model();
                if model.address.inet().is_none_or(|address| address.port() != 0) {
                    sockets.by_address.insert((&model.address, model.dual_stack), frontend);
                }
            }
        }
        sockets
    }

    /// The frontends for an app: its own that did not change, heirs of those at the same addresses, and new ones, with
    /// the sockets that were passed for them.
    fn take(&mut self, app: &'a model::App) -> Vec<Arc<FrontendState>> {
        let take = |(index, model): (usize, &'a model::Frontend)| {
            let own = self.own.get_mut(&(app.name.as_str(), model.name.as_str())).and_then(Vec::pop);
            let heir_of = match own {
                Some(own) if own.model() == model => return Arc::clone(own),
                Some(own) if own.model().address == model.address => Some(own),
                _ => self.by_address.get(&(&model.address, model.dual_stack)).copied(),
            };
            Arc::new(match heir_of {
                Some(old) if old.model().dual_stack == model.dual_stack => old.heir(model.clone()),
                _ => match self.passed.of_frontend(&app.name, index) {
                    Some(passed) => FrontendState::with_socket(model.clone(), passed),
                    None => FrontendState::new(model.clone()),
                },
            })
        };
        app.frontends.iter().enumerate().map(take).collect()
    }
}

/// A snapshot on its way to a thread, and the way to say that it arrived.
#[derive(Clone)]
pub struct Adoption {
    snapshot: Arc<Snapshot>,
    done: Arc<dyn Fn() + Send + Sync>,
}

impl Adoption {
    /// `done` is called once by each thread that works by the snapshot.
    pub fn new(snapshot: Arc<Snapshot>, done: impl Fn() + Send + Sync + 'static) -> Self {
        Self { snapshot, done: Arc::new(done) }
    }

    /// What is to be adopted.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The calling thread works by it.
    pub fn acknowledge(&self) {
        (self.done)();
    }
}

impl fmt::Debug for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adoption").field("version", &self.snapshot.version).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
