//! Apps for the tests of this crate.

use std::net::SocketAddr;

use crate::model;

/// An app with a backend, known by name only, for each `(weight, backup)`.
pub(crate) fn app_of_hosts(backends: &[(u16, bool)]) -> model::App {
    model::App {
        frontends: vec![model::Frontend {
            name: "127.0.0.1:0".into(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            dual_stack: false,
            backlog: 4096,
            freebind: false,
            mode: None,
        }],
        backends: backends
            .iter()
            .enumerate()
            .map(|(index, (weight, backup))| model::Backend {
                name: format!("b{index}:80"),
                target: model::Target::Host { name: format!("b{index}"), port: 80 },
                weight: *weight,
                backup: *backup,
                max_connections: None,
            })
            .collect(),
        keep_alive: None,
        ..model::App::new("app")
    }
}

/// So many names of endpoints.
pub(crate) fn endpoint_ids(count: usize) -> Vec<super::EndpointId> {
    (0..count as u64).map(super::EndpointId).collect()
}
