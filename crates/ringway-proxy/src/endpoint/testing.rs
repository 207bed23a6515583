//! Apps for the tests of this crate.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model;

/// An app with a backend, known by name only, for each `(weight, backup)`.
pub(crate) fn app_of_hosts(backends: &[(u16, bool)]) -> model::App {
    model::App {
        name: "app".into(),
        frontends: vec![model::Frontend {
            name: "127.0.0.1:0".into(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            dual_stack: false,
            backlog: 4096,
            freebind: false,
            mode: None,
        }],
        balance: model::Balance::LeastConnections,
        backends: backends
            .iter()
            .enumerate()
            .map(|(index, (weight, backup))| model::Backend {
                name: format!("b{index}:80"),
                target: model::Target::Host { name: format!("b{index}"), port: 80 },
                weight: *weight,
                backup: *backup,
            })
            .collect(),
        source: Vec::new(),
        timeouts: model::Timeouts {
            connect: Duration::from_secs(5),
            idle: Some(Duration::from_secs(3600)),
            half_close: Some(Duration::from_secs(60)),
            lifetime: None,
        },
        health: model::Health {
            check: model::Check::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            jitter: 0.1,
        },
        keep_alive: None,
        user_timeout: None,
        connect_attempts: 3,
    }
}
