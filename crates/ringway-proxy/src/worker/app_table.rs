//! The apps of one worker, by slot.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use super::app::WorkerApp;
use super::endpoint_table::EndpointTable;
use crate::balance::Random;
use crate::endpoint::AppState;
use crate::metrics::AppBlock;

/// The apps of one worker. One that is removed stays until no route leads to it any more.
#[derive(Debug)]
pub(super) struct AppTable {
    slots: Vec<Option<WorkerApp>>,
    congestion: Option<String>,
    random: Random,
}

impl AppTable {
    /// `congestion`: TCP_CONGESTION of all sockets. `random`: where the chance of each app comes from.
    pub(super) fn new(congestion: Option<String>, random: Random) -> Self {
        Self { slots: Vec::new(), congestion, random }
    }

    /// The app in its slot is this one from now on.
    pub(super) fn put(&mut self, state: &Arc<AppState>, endpoints: &mut EndpointTable) {
        let slot = state.slot();
        let counters = self.counters_of(state);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        match &mut self.slots[slot] {
            Some(app) => app.change(Arc::clone(state), endpoints),
            empty => {
                let random = Random::new(self.random.number());
                let congestion = self.congestion.clone();
                *empty = Some(WorkerApp::new(Arc::clone(state), counters, congestion, random, endpoints));
            }
        }
    }

    /// Where this worker counts what belongs to an app. Its pools count with it.
    fn counters_of(&mut self, state: &AppState) -> Arc<AppBlock> {
        let parent = state.core().parent().and_then(|parent| self.get_mut(parent.slot()));
        parent.map_or_else(|| state.counters().block(), |parent| Arc::clone(&parent.counters))
    }

    /// The app with this state, whatever snapshot this worker is at: if it knows none in its slot, it is kept as one that
    /// is gone from the configuration, unless a snapshot says otherwise.
    pub(super) fn ensure(&mut self, state: &Arc<AppState>, endpoints: &mut EndpointTable) {
        if self.get_mut(state.slot()).is_none() {
            self.put(state, endpoints);
            self[state.slot()].is_retired = true;
        }
    }

    /// The app in this slot is gone from the configuration.
    pub(super) fn retire(&mut self, slot: usize, endpoints: &mut EndpointTable) {
        if let Some(app) = self.get_mut(slot) {
            app.is_retired = true;
        }
        self.leave_if_unused(slot, endpoints);
    }

    /// A route that led to this app is gone.
    pub(super) fn let_go(&mut self, slot: usize, endpoints: &mut EndpointTable) {
        self[slot].routes -= 1;
        self.leave_if_unused(slot, endpoints);
    }

    fn leave_if_unused(&mut self, slot: usize, endpoints: &mut EndpointTable) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if let Some(app) = place.take_if(|app| app.is_retired && app.routes == 0) {
            app.leave(endpoints);
        }
    }

    /// The app in this slot, if there is one.
    pub(super) fn get(&self, slot: usize) -> Option<&WorkerApp> {
        self.slots.get(slot)?.as_ref()
    }

    /// The app in this slot, if there is one.
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut WorkerApp> {
        self.slots.get_mut(slot)?.as_mut()
    }
}

impl Index<usize> for AppTable {
    type Output = WorkerApp;

    fn index(&self, slot: usize) -> &WorkerApp {
        self.slots[slot].as_ref().expect("an app stays while a route leads to it")
    }
}

impl IndexMut<usize> for AppTable {
    fn index_mut(&mut self, slot: usize) -> &mut WorkerApp {
        self.slots[slot].as_mut().expect("an app stays while a route leads to it")
    }
}
