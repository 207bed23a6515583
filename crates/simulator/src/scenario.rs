//! What a seed decides: the proxy's configuration, the traffic, what goes wrong, and how it all ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ringway::simulated::{Random, SimulatedFaults};
use ringway::{SocketAddress, Time};
use ringway_proxy::model;

use crate::Workload;
use crate::configuration;
use crate::opening::{Crowd, Opening, Openings};
use crate::preamble::Preambles;
use crate::routes;
use crate::script::Script;
use crate::tls;
use crate::upgrade::Plan;

/// Everything that a seed decides before the first packet leaves.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) workers: usize,
    pub(crate) connections_max: u32,
    pub(crate) probe_seed: u64,
    pub(crate) apps: Vec<model::App>,
    /// How [`Incident::Upgrade`]s go.
    pub(crate) upgrades: Vec<Plan>,
    /// What [`Incident::Reload`] brings.
    pub(crate) configurations: Vec<Vec<model::App>>,
    pub(crate) backends: Vec<SocketAddress>,
    /// So many of them are what names mean; the others have routes of their own.
    pub(crate) resolved: usize,
    pub(crate) preambles: Preambles,
    pub(crate) openings: Openings,
    /// The clients of the lowest numbers may not come: see [`is_denied`].
    pub(crate) denies: bool,
    pub(crate) faults: SimulatedFaults,
    pub(crate) scripts: Vec<Script>,
    /// In order of time.
    pub(crate) incidents: Vec<(Time, Incident)>,
    pub(crate) ending: Ending,
}

/// Something that happens to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incident {
    /// The backend's process dies.
    Crash(usize),
    /// It is started again.
    Start(usize),
    /// Nothing reaches the backend, nothing leaves it.
    Block(usize),
    /// A firewall refuses new connections to the backend.
    Refuse(usize),
    /// Ends `Block` and `Refuse`.
    Allow(usize),
    /// The configuration is this one from now on.
    Reload(usize),
    /// Names mean other addresses.
    Resolve,
    /// A worker gives connections to another, whatever they do.
    Move,
    /// Another process follows.
    Upgrade(usize),
    /// From now on streams are ragged still, but nothing breaks.
    Calm,
}

/// How the proxy ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is drained once all traffic is over.
    AfterTraffic,
    /// It is drained while clients come and go, and told to close at once after a while.
    DuringTraffic { drain: Time, close_now: Time },
}

impl Workload {
    /// When all trouble is over.
    fn calm_at(self) -> Duration {
        match self {
            Self::Usual | Self::Tls => Duration::from_secs(12),
            Self::Day => Duration::from_secs(60),
        }
    }
}

impl Scenario {
    pub(crate) fn draw(workload: Workload, seed: u64) -> Self {
        let is_day = workload == Workload::Day;
        let calm_at = workload.calm_at();
        let mut random = Random::new(seed);
        let random = &mut random;
        let backend_count = random.between(1, 4) as usize;
        let mut backends: Vec<_> = (0..backend_count)
            .map(|index| address(Ipv4Addr::new(172, 16, 0, index as u8 + 1), 8000))
            .collect();
        let app_count = if is_day { random.between(2, 4) } else { random.between(1, 2) };
        let preambles = Preambles::draw(random);
        let denies = random.chance(0.3);
        let mut apps: Vec<_> = (0..app_count).map(|index| app(index as u16, &backends, random)).collect();
        for app in &mut apps {
            app.proxy_protocol = preambles.model();
            app.limits = limits(denies, random);
            if app.backends.iter().any(|backend| backend.max_connections.is_some()) && random.chance(0.7) {
                app.limits.queue = Some(random.between(1, 30) as u32);
                app.limits.queue_timeout = Duration::from_millis(random.between(200, 8_000));
            }
            app.timeouts.handshake = Duration::from_millis(random.between(200, 3_000));
        }
        // Chance of its own: a seed without routes is what it was.
        let mut of_routes = Random::new(seed ^ 0x726f_7574);
        let ends_tls = workload == Workload::Tls;
        let has_routes = of_routes.chance(if ends_tls { 1.0 } else { 0.4 });
        if has_routes {
            add_routes(&mut apps, &mut backends, &mut of_routes);
        }
        if ends_tls {
            apps.iter_mut().for_each(|app| tls::terminate(app, &mut of_routes));
        }
        let of_any_kind = if is_day { random.between(100, 300) } else { random.between(5, 60) } as u32;
        // Where many say what gets them nowhere, more come that do no harm besides.
        let harmless = if has_routes { of_routes.between(20, 80) as u32 } else { 0 };
        let script_count = of_any_kind + harmless;
        let calm = calm_at.as_millis() as u64;
        let spread = if is_day { calm } else { random.between(100, calm) };
        let reload_times: Vec<u64> = match is_day {
            true => (1..calm / 1_000).map(|second| second * 1_000).collect(),
            false if random.chance(0.5) => (0..random.between(1, 6)).map(|_| random.below(calm)).collect(),
            false => Vec::new(),
        };
        let configurations = configuration::variations(&apps, reload_times.len(), random);
        let mut all = incidents(0..backend_count, calm, random);
        all.extend(incidents(backend_count..backends.len(), calm, &mut of_routes));
        let mut incidents = all;
        let at = |milliseconds| Time::ZERO + Duration::from_millis(milliseconds);
        incidents.extend(
            reload_times.iter().enumerate().map(|(index, time)| (at(*time), Incident::Reload(index))),
        );
        incidents.push((at(0), Incident::Resolve));
        let mut next = random.between(500, 6_000);
        while next < calm {
            incidents.push((at(next), Incident::Resolve));
            next += random.between(500, 6_000);
        }
        incidents.push((at(calm), Incident::Calm));
        incidents.extend(moves(seed, calm).map(|time| (at(time), Incident::Move)));
        let scripts: Vec<Script> = (0..script_count)
            .map(|number| {
                let dial_at = Time::ZERO + Duration::from_millis(200 + random.below(spread));
                let script = Script::draw(number, dial_at, random);
                if number < of_any_kind { script } else { script.without_harm() }
            })
            .collect();
        let crowd = match apps.iter().any(|app| app.tls.is_some()) {
            _ if ends_tls => Crowd::Secured,
            true => Crowd::MostlyTls,
            false => Crowd::Mixed,
        };
        let openings = (0..script_count).map(|number| match has_routes {
            true => Opening::draw(number, apps[0].timeouts.sniff, crowd, &mut of_routes),
            false => Opening::default(),
        });
        let openings = openings.collect();
        let (times, upgrades): (Vec<Time>, Vec<Plan>) = upgrades(seed, calm, &scripts).into_iter().unzip();
        incidents.extend(times.iter().enumerate().map(|(index, time)| (*time, Incident::Upgrade(index))));
        incidents.sort_by_key(|(at, _)| *at);
        let connections_max = match random.index(3) {
            0 => random.between(1, 10) as u32,
            _ => 10_000,
        };
        let ending = match random.index(3) {
            0 => {
                let drain = random.between(200, spread + 1000);
                // Not before what routes do has been seen.
                let drain = if has_routes { drain.max(spread * 2 / 3) } else { drain };
                let drain = Time::ZERO + Duration::from_millis(drain);
                // Sometimes all have time to finish.
                let patience = if random.chance(0.5) { 500 } else { 20_000 };
                let close_now = drain + Duration::from_millis(random.below(patience));
                Ending::DuringTraffic { drain, close_now }
            }
            _ => Ending::AfterTraffic,
        };
        Self {
            workers: random.between(1, 3) as usize,
            connections_max,
            probe_seed: random.next_u64(),
            apps,
            upgrades,
            configurations,
            incidents,
            backends,
            resolved: backend_count,
            preambles,
            openings,
            denies,
            faults: faults(random),
            scripts,
            ending,
        }
    }

    /// Where clients dial.
    pub(crate) fn frontends(&self) -> Vec<SocketAddress> {
        let frontends = self.apps.iter().flat_map(|app| &app.frontends);
        frontends.map(|frontend| frontend.address.clone()).collect()
    }
}

fn address(ip: Ipv4Addr, port: u16) -> SocketAddress {
    SocketAddr::new(ip.into(), port).into()
}

fn app(index: u16, backends: &[SocketAddress], random: &mut Random) -> model::App {
    let between = |random: &mut Random, low, high| Duration::from_millis(random.between(low, high));
    let balance = match random.below(8) {
        0 => model::Balance::Random,
        1 => model::Balance::TwoChoices,
        2 => model::Balance::SourceHash,
        3 => model::Balance::Maglev,
        4 | 5 => model::Balance::RoundRobin,
        _ => model::Balance::LeastConnections,
    };
    model::App {
        name: format!("app{index}"),
        frontends: vec![model::Frontend {
            name: format!(":{}", 15_000 + index),
            address: address(Ipv4Addr::new(192, 168, 0, 1), 15_000 + index),
            dual_stack: false,
            backlog: if random.chance(0.2) { 2 } else { 4096 },
            freebind: false,
            mode: None,
        }],
        balance,
        backends: backends
            .iter()
            .enumerate()
            .map(|(place, address)| model::Backend {
                name: format!("backend{place}"),
                target: match random.chance(0.25) {
                    // Means some of the backends, at each moment others.
                    true => model::Target::Host { name: format!("pool{place}.test"), port: 8000 },
                    false => model::Target::Address(address.clone()),
                },
                weight: random.between(1, 4) as u16,
                backup: place > 0 && random.chance(0.2),
                max_connections: random.chance(0.2).then(|| random.between(1, 6) as u32),
            })
            .collect(),
        timeouts: model::Timeouts {
            connect: between(random, 300, 3_000),
            // Some connections end by nothing else.
            idle: Some(between(random, 1_500, 15_000)),
            half_close: random.chance(0.7).then(|| between(random, 1_000, 6_000)),
            lifetime: random.chance(0.3).then(|| between(random, 3_000, 20_000)),
            ..model::Timeouts::default()
        },
        health: model::Health {
            check: model::Check::Tcp,
            interval: between(random, 200, 2_000),
            timeout: between(random, 200, 1_000),
            rise: random.between(1, 3) as u32,
            fall: random.between(1, 3) as u32,
            jitter: 0.2,
            on_down: model::OnDown::Keep,
            panic_threshold: if random.chance(0.2) { 0.6 } else { 0.0 },
            ejection: random.chance(0.3).then(|| ejection(random)),
        },
        keep_alive: None,
        connect_attempts: random.between(1, 4) as u32,
        slow_start: random.chance(0.3).then(|| between(random, 500, 5_000)),
        ..model::App::new("")
    }
}

/// Gives most apps routes, and these machines of their own.
fn add_routes(apps: &mut [model::App], backends: &mut Vec<SocketAddress>, random: &mut Random) {
    for (index, app) in apps.iter_mut().enumerate() {
        if index > 0 && random.chance(0.3) {
            continue;
        }
        routes::add(app, random, || {
            let address = address(Ipv4Addr::new(172, 16, 0, backends.len() as u8 + 1), 8000);
            backends.push(address.clone());
            address
        });
    }
}

fn ejection(random: &mut Random) -> model::Ejection {
    let time = Duration::from_millis(random.between(200, 3_000));
    let untils = [model::EjectedUntil::Time, model::EjectedUntil::Check, model::EjectedUntil::Both];
    model::Ejection {
        failure_ratio: 0.3,
        window: Duration::from_millis(random.between(500, 8_000)),
        min_connections: random.between(1, 5) as u32,
        early_close: random.chance(0.5),
        time,
        max_time: time * random.between(1, 4) as u32,
        max_share: 0.5,
        until: untils[random.index(untils.len())],
    }
}

/// When connections are moved between workers: often, in two of three simulations.
fn moves(seed: u64, calm: u64) -> impl Iterator<Item = u64> {
    // Chance of its own: a seed is otherwise what it was.
    let mut random = Random::new(seed ^ 0x6d6f_7665);
    let pause = if random.chance(0.66) { random.between(5, 400) } else { calm };
    let mut next = random.below(pause);
    std::iter::from_fn(move || {
        next += random.between(1, 2 * pause);
        (next < calm).then_some(next)
    })
}

/// When other processes follow, and how that goes: in half of the simulations, some time after a client has dialled.
fn upgrades(seed: u64, calm: u64, scripts: &[Script]) -> Vec<(Time, Plan)> {
    // Chance of its own: a seed is otherwise what it was.
    let mut random = Random::new(seed ^ 0x7570_6772);
    if random.chance(0.5) {
        return Vec::new();
    }
    let count = random.between(1, calm / 1_500);
    let upgrade = |_| {
        let first = scripts[random.index(scripts.len())].dial_at;
        (first + Duration::from_millis(random.below(800)), Plan::draw(&mut random))
    };
    (0..count).map(upgrade).collect()
}

/// Whether a client with this number is one of those that may not come, where anybody is.
pub(crate) fn is_denied(number: u32) -> bool {
    number < 4
}

fn limits(denies: bool, random: &mut Random) -> model::Limits {
    let bandwidth = random.chance(0.2).then(|| random.between(64 << 10, 2 << 20));
    let bandwidth_per_connection = random.chance(0.2).then(|| random.between(16 << 10, 512 << 10));
    let mut some = |probability, most| random.chance(probability).then(|| random.between(1, most) as u32);
    // Under their own address, and under the one that their PROXY header carries.
    let denied = [10, 11].map(|first| model::Network::new(Ipv4Addr::new(first, 0, 0, 0).into(), 30));
    model::Limits {
        connections: some(0.2, 12),
        connections_per_source: some(0.2, 3),
        connections_per_second: some(0.1, 30),
        connections_per_second_per_source: some(0.2, 3),
        bandwidth,
        bandwidth_per_connection,
        deny: if denies { denied.to_vec() } else { Vec::new() },
        ..model::Limits::default()
    }
}

/// Outages of backends, each over before all is calm, which is so many milliseconds after the start.
fn incidents(backends: std::ops::Range<usize>, calm: u64, random: &mut Random) -> Vec<(Time, Incident)> {
    let mut incidents = Vec::new();
    for backend in backends {
        let mut at = random.below(4_000);
        while random.chance(0.7) {
            let end = at + random.between(50, 5_000);
            if end >= calm {
                break;
            }
            let (begin, over) = match random.index(3) {
                0 => (Incident::Crash(backend), Incident::Start(backend)),
                1 => (Incident::Block(backend), Incident::Allow(backend)),
                _ => (Incident::Refuse(backend), Incident::Allow(backend)),
            };
            incidents.push((Time::ZERO + Duration::from_millis(at), begin));
            incidents.push((Time::ZERO + Duration::from_millis(end), over));
            at = end + random.between(10, 4_000);
        }
    }
    incidents
}

fn faults(random: &mut Random) -> SimulatedFaults {
    if random.chance(0.2) {
        return SimulatedFaults::ragged();
    }
    let rough = SimulatedFaults::rough();
    let mut scale = |probability: f64| match random.index(3) {
        0 => 0.0,
        1 => probability,
        _ => (probability * 5.0).min(0.9),
    };
    SimulatedFaults {
        short_read: scale(rough.short_read),
        short_write: scale(rough.short_write),
        reset: scale(rough.reset),
        refuse: scale(rough.refuse),
        lose_syn: scale(rough.lose_syn),
        connect_exhausted: scale(rough.connect_exhausted),
        accept_exhausted: scale(rough.accept_exhausted),
        ..rough
    }
}
