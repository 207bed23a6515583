//! How a configuration changes while the proxy runs.

use std::net::SocketAddr;
use std::time::Duration;

use ringway::SocketAddress;
use ringway::simulated::Random;
use ringway_proxy::model;

use crate::{routes, tls};

/// So many other configurations. The last one is `base` again, so that everything can be found well in the end.
pub(crate) fn variations(base: &[model::App], count: usize, random: &mut Random) -> Vec<Vec<model::App>> {
    let mut all: Vec<Vec<model::App>> = Vec::with_capacity(count);
    while all.len() < count {
        let is_last = all.len() + 1 == count;
        let next = match all.last() {
            _ if is_last => base.to_vec(),
            // Someone presses the button once more than needed.
            Some(last) if random.chance(0.1) => last.clone(),
            _ => vary(base, random),
        };
        all.push(next);
    }
    all
}

fn vary(base: &[model::App], random: &mut Random) -> Vec<model::App> {
    let mut apps = base.to_vec();
    if apps.len() > 1 && random.chance(0.3) {
        apps.remove(random.index(apps.len()));
    }
    if apps.len() > 1 && random.chance(0.2) {
        // An address goes from one app to another, in both directions.
        let (first, rest) = apps.split_first_mut().expect("there are several");
        std::mem::swap(&mut first.frontends, &mut rest[0].frontends);
    }
    if random.chance(0.2) {
        apps.reverse();
    }
    for app in &mut apps {
        if random.chance(0.5) {
            vary_app(app, random);
        }
    }
    apps
}

fn vary_app(app: &mut model::App, random: &mut Random) {
    for backend in &mut app.backends {
        if random.chance(0.3) {
            backend.weight = random.between(0, 4) as u16;
        }
    }
    if app.backends.len() > 1 && random.chance(0.3) {
        app.backends.remove(random.index(app.backends.len()));
    }
    if random.chance(0.2) {
        app.backends.reverse();
    }
    if random.chance(0.3) {
        app.balance = match random.index(3) {
            0 => model::Balance::RoundRobin,
            1 => model::Balance::Maglev,
            _ => model::Balance::LeastConnections,
        };
    }
    if random.chance(0.3) {
        app.timeouts.connect = Duration::from_millis(random.between(300, 3_000));
        app.timeouts.idle = Some(Duration::from_millis(random.between(1_500, 15_000)));
    }
    if random.chance(0.3) {
        app.limits.queue_timeout = Duration::from_millis(random.between(200, 8_000));
    }
    if random.chance(0.3) {
        app.limits.bandwidth_per_connection = random.chance(0.5).then(|| random.between(16 << 10, 512 << 10));
    }
    if random.chance(0.3) {
        app.health.interval = Duration::from_millis(random.between(200, 2_000));
    }
    if !app.routes.is_empty() && random.chance(0.4) {
        routes::vary(&mut app.routes, random);
    }
    if app.tls.as_ref().is_some_and(|tls| tls.termination.is_some()) && random.chance(0.5) {
        tls::vary(app, random);
    }
    if random.chance(0.3) {
        app.frontends.push(beside(&app.frontends[0]));
    }
}

/// One more frontend, a thousand ports higher.
fn beside(frontend: &model::Frontend) -> model::Frontend {
    let address = frontend.address.inet().expect("the frontends of simulations are TCP ports");
    let address = SocketAddr::new(address.ip(), address.port() + 1_000);
    model::Frontend {
        name: format!(":{}", address.port()),
        address: SocketAddress::from(address),
        ..frontend.clone()
    }
}
