//! From one snapshot to the next: what changed is changed, and nothing else is touched. And from open to drained.

use std::collections::HashMap;
use std::sync::Arc;

use ringway::Operations;

use super::ProxyHandler;
use crate::endpoint::FrontendState;
use crate::snapshot::Snapshot;

impl ProxyHandler {
    /// Goes on by this snapshot. A worker that drains has no use for it.
    pub(super) fn adopt(&mut self, ops: &mut Operations<'_>, next: &Arc<Snapshot>) {
        if self.is_draining {
            return;
        }
        let before = self.snapshot.replace(Arc::clone(next));
        let mut gone: Vec<Option<u32>> = Vec::new();
        let mut sockets: HashMap<usize, usize> = HashMap::new();
        let mut new: Vec<(usize, &Arc<FrontendState>)> = Vec::new();
        for change in next.changes_since(before.as_deref()) {
            match change.after {
                Some(app) => self.connections.put_app(ops, app),
                // The routes that lead to it hold it.
                None => self.connections.retire_app(change.slot),
            }
            let old = change.before.map_or(&[][..], |app| app.frontends());
            let now = change.after.map_or(&[][..], |app| app.frontends());
            for frontend in old.iter().filter(|old| !now.iter().any(|now| Arc::ptr_eq(old, now))) {
                sockets.insert(frontend.socket_id(), gone.len());
                gone.push(self.frontends.place_of(frontend));
            }
            for frontend in change.after.map_or(&[][..], |app| app.open_frontends()) {
                match self.frontends.place_of(frontend) {
                    Some(place) => {
                        let options = self.connections.socket_options(change.slot).clone();
                        self.frontends.change_options(ops, place, options);
                    }
                    None => new.push((change.slot, frontend)),
                }
            }
        }
        // Handed on before anything is closed, and closed last: an address is never left without a socket.
        for (app, frontend) in new {
            let heir_of = sockets.get(&frontend.socket_id()).and_then(|index| gone[*index].take());
            let place = self.connections.open_route(app, frontend);
            let options = self.connections.socket_options(app).clone();
            self.frontends.open(ops, place, frontend, options, heir_of);
            if let Some(old) = heir_of {
                self.connections.let_go_of_route(old);
            }
        }
        for place in gone.into_iter().flatten() {
            if self.frontends.close(ops, place) {
                self.connections.let_go_of_route(place);
            }
        }
    }

    /// Opens or closes the frontends of an app, as its state says.
    pub(super) fn serve(&mut self, ops: &mut Operations<'_>, app: usize) {
        let snapshot = self.snapshot.clone().filter(|_| !self.is_draining);
        let Some(state) = snapshot.as_ref().and_then(|snapshot| snapshot.app(app)) else { return };
        for frontend in state.frontends() {
            match self.frontends.place_of(frontend) {
                Some(place) if state.core().is_drained() => {
                    if self.frontends.close(ops, place) {
                        self.connections.let_go_of_route(place);
                    }
                }
                None if !state.core().is_drained() => {
                    let place = self.connections.open_route(app, frontend);
                    let options = self.connections.socket_options(app).clone();
                    self.frontends.open(ops, place, frontend, options, None);
                }
                Some(_) | None => {}
            }
        }
    }
}
