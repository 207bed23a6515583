//! An app as all threads see it: its configuration, its endpoints now, its frontends, its count of connections.

use std::sync::{Arc, Mutex, PoisonError};

use ringway::SocketAddress;

use super::{EndpointSet, ExactCount, FrontendState};
use crate::model;

/// What the control plane and all workers share about an app.
#[derive(Debug)]
pub struct AppState {
    index: usize,
    name: Arc<str>,
    model: model::App,
    frontends: Vec<FrontendState>,
    endpoints: Mutex<Arc<EndpointSet>>,
    active: ExactCount,
}

impl AppState {
    /// The state of the app at place `index` of the configuration, with an endpoint for each backend that has a
    /// fixed address. Host names get theirs by [`Self::resolve`].
    pub fn new(index: usize, model: &model::App) -> Self {
        let resolved: Vec<Vec<SocketAddress>> = model
            .backends
            .iter()
            .map(|backend| match &backend.target {
                model::Target::Address(address) => vec![address.clone()],
                model::Target::Host { .. } => Vec::new(),
            })
            .collect();
        let endpoints = EndpointSet::new(model, &resolved, None).expect("there was none before");
        Self {
            index,
            name: Arc::from(model.name.as_str()),
            frontends: model.frontends.iter().cloned().map(FrontendState::new).collect(),
            endpoints: Mutex::new(Arc::new(endpoints)),
            active: ExactCount::new(),
            model: model.clone(),
        }
    }

    /// Its place in the configuration.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its configuration.
    pub fn model(&self) -> &model::App {
        &self.model
    }

    /// Its frontends, in the order of the configuration.
    pub fn frontends(&self) -> &[FrontendState] {
        &self.frontends
    }

    /// Connections of clients that are open now, over all workers.
    pub fn active(&self) -> &ExactCount {
        &self.active
    }

    /// The endpoints now. Workers hold their own reference and get a new set by mail.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        Arc::clone(&self.endpoints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in new addresses, one list a backend in the order of the configuration, and gives the new set to be
    /// mailed to the workers and the prober; `None` if nothing changed. An address that stays keeps its endpoint,
    /// with its counts and health.
    ///
    /// # Panics
    /// If there is not one list for each backend.
    pub fn resolve(&self, resolved: &[Vec<SocketAddress>]) -> Option<Arc<EndpointSet>> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        *endpoints = Arc::new(EndpointSet::new(&self.model, resolved, Some(&endpoints))?);
        Some(Arc::clone(&endpoints))
    }
}
