//! Plays a scenario: turns whoever has work, moves the time, lets incidents happen, and checks.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ringway::simulated::{Random, SimulatedFaults, SimulatedNetwork};
use ringway::{Engine, EngineConfig, Time, Worker};
use ringway_proxy::control::upgrade::Counters;
use ringway_proxy::worker::WorkerMail;

use crate::backend::Backend;
use crate::client::Clients;
use crate::ledger::{Ledger, SharedLedger};
use crate::proxy::{Proxy, SharedRecords, Surroundings};
use crate::scenario::{Ending, Incident, Scenario};
use crate::upgrade::{End, Upgrade};
use crate::{Outcome, Upgrades, Workload};

/// Rounds of turns at one moment; more mean that somebody keeps itself busy without end.
const ROUNDS_MAX: u32 = 100_000;
/// By when everything must be over. Idle timeouts are 15 s at most.
const TIME_MAX: Duration = Duration::from_secs(600);

struct World {
    network: SimulatedNetwork,
    ledger: SharedLedger,
    random: Random,
    scenario: Scenario,
    proxy: Proxy,
    /// Under way.
    upgrade: Option<Upgrade>,
    /// Processes that another one followed, with what they counted until then.
    leaving: Vec<(Proxy, Counters)>,
    /// Clients whose connections were open when the process died that another one was about to follow.
    open_at_death: Vec<u32>,
    /// What happened to the configuration and to names while an upgrade was under way.
    postponed: Vec<Incident>,
    upgrades: Upgrades,
    clients: Worker<Clients>,
    /// None while it is dead.
    backends: Vec<Option<Worker<Backend>>>,
    incidents_done: usize,
}

/// Plays the scenario of `seed` from the first packet to the last.
pub(crate) fn play(workload: Workload, seed: u64, keep_lines: bool) -> Outcome {
    let scenario = Scenario::draw(workload, seed);
    let mut random = Random::new(!seed);
    let network = SimulatedNetwork::new(random.next_u64(), scenario.faults.clone());
    let ledger: SharedLedger = Rc::new(RefCell::new(Ledger::default()));
    if keep_lines {
        ledger.borrow_mut().keep_lines();
    }
    ledger.borrow_mut().configure(Time::ZERO, &scenario.apps);
    let clients = Clients::new(
        &scenario.scripts,
        scenario.frontends(),
        scenario.preambles,
        Rc::clone(&scenario.openings),
        Rc::clone(&ledger),
        Random::new(random.next_u64()),
    );
    let mut world = World {
        proxy: Proxy::new(
            &scenario,
            Surroundings {
                network: network.clone(),
                connections_max: scenario.connections_max,
                records: SharedRecords::default(),
            },
        ),
        upgrade: None,
        leaving: Vec::new(),
        open_at_death: Vec::new(),
        postponed: Vec::new(),
        upgrades: Upgrades::default(),
        clients: Worker::new(Engine::simulated(&network, &EngineConfig::default()), clients),
        backends: scenario.backends.iter().map(|_| None).collect(),
        network,
        ledger,
        random,
        scenario,
        incidents_done: 0,
    };
    for backend in 0..world.backends.len() {
        world.start_backend(backend);
    }
    if let Err(fault) = world.run() {
        world.ledger.borrow_mut().fault(fault);
    }
    world.finish(workload, seed)
}

impl World {
    fn start_backend(&mut self, index: usize) {
        let random = Random::new(self.random.next_u64());
        let address = self.scenario.backends[index].clone();
        let openings = Rc::clone(&self.scenario.openings);
        let ledger = Rc::clone(&self.ledger);
        let backend = Backend::new(index, address, self.scenario.preambles, openings, ledger, random);
        let engine = Engine::simulated(&self.network, &EngineConfig::default());
        self.backends[index] = Some(Worker::new(engine, backend));
    }

    /// Until the proxy has ended and all clients are done.
    fn run(&mut self) -> Result<(), String> {
        match self.scenario.ending {
            Ending::AfterTraffic => {
                self.run_while("traffic", |world| {
                    !world.clients.handler().all_done() || !world.incidents_are_over()
                })?;
                self.end_upgrade()?;
                // Every backend is well again; so many checks find that out.
                let recovery = self.recovery_time();
                self.run_for(recovery)?;
                if let Some(fault) = self.proxy.check_health().or_else(|| self.proxy.check_adopted()) {
                    return Err(fault);
                }
                self.tell(&WorkerMail::Drain);
            }
            Ending::DuringTraffic { drain, close_now } => {
                self.run_for(drain.since(self.network.now()))?;
                self.end_upgrade()?;
                self.tell(&WorkerMail::Drain);
                self.run_for(close_now.since(self.network.now()))?;
                self.tell(&WorkerMail::CloseNow);
            }
        }
        self.run_while("the end", |world| {
            let is_finished = world.proxy.is_finished() && world.leaving.is_empty();
            !is_finished || !world.clients.handler().all_done() || !world.incidents_are_over()
        })?;
        self.proxy.stop_probing();
        self.run_while("the end of probing", |world| world.proxy.is_probing())
    }

    fn recovery_time(&self) -> Duration {
        let apps = self.scenario.apps.iter().chain(self.scenario.configurations.iter().flatten());
        let times = apps.map(|app| {
            let health = &app.health;
            let ejection = health.ejection.map_or(Duration::ZERO, |ejection| ejection.max_time);
            ejection + (health.interval.mul_f64(1.0 + health.jitter) + health.timeout) * (health.rise + 1)
        });
        times.max().unwrap_or_default() + Duration::from_secs(1)
    }

    fn tell(&mut self, mail: &WorkerMail) {
        let what = if matches!(mail, WorkerMail::Drain) { "drain" } else { "close now" };
        self.ledger.borrow_mut().note(self.network.now(), what, 0, 0);
        self.proxy.tell(mail);
        if matches!(mail, WorkerMail::CloseNow) {
            self.leaving.iter_mut().for_each(|(old, _)| old.tell(mail));
        }
    }

    /// A process that is to end is not followed.
    fn end_upgrade(&mut self) -> Result<(), String> {
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.cancel();
        }
        self.run_while("the end of an upgrade", |world| world.upgrade.is_some())
    }

    fn run_for(&mut self, time: Duration) -> Result<(), String> {
        let end = self.network.now() + time;
        self.settle()?;
        while self.network.now() < end {
            self.advance(end)?;
        }
        Ok(())
    }

    fn run_while(&mut self, what: &str, mut goes_on: impl FnMut(&Self) -> bool) -> Result<(), String> {
        self.settle()?;
        while goes_on(self) {
            if self.network.now() > Time::ZERO + TIME_MAX {
                let (waiting, proxy) = (self.clients.handler().not_done(), self.proxy.picture());
                let leaving: Vec<String> = self.leaving.iter().map(|(old, _)| old.picture()).collect();
                return Err(format!(
                    "{what} takes longer than {TIME_MAX:?}: clients {waiting:?} wait, {proxy}; old: {leaving:?}"
                ));
            }
            let far = self.network.now() + TIME_MAX;
            self.advance(far)?;
        }
        Ok(())
    }

    /// Moves to the next moment at which something happens, `limit` at most, and lets everything happen there.
    fn advance(&mut self, limit: Time) -> Result<(), String> {
        let next = self.scenario.incidents.get(self.incidents_done).map_or(limit, |(at, _)| limit.min(*at));
        let next = self
            .upgrade
            .as_ref()
            .and_then(|upgrade| upgrade.next_at(self.network.now()))
            .map_or(next, |at| next.min(at));
        self.network.advance_at_most(next.since(self.network.now()));
        while let Some((at, incident)) = self.scenario.incidents.get(self.incidents_done).copied() {
            if at > self.network.now() {
                break;
            }
            self.incidents_done += 1;
            self.happen(incident);
        }
        self.settle()
    }

    /// Turns everybody until nothing more is due at this moment.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            self.turn().map_err(|error| format!("an engine failed: {error}"))?;
            let is_upgraded = self.turn_upgrade()?;
            let processes = std::iter::once(&self.proxy).chain(self.leaving.iter().map(|(old, _)| old));
            if let Some(fault) = processes.filter_map(Proxy::check_now).next() {
                return Err(fault);
            }
            if !is_upgraded && !self.network.has_work() {
                // While workers rest, nobody calls those who wait.
                if self.upgrade.is_none()
                    && let Some(fault) = self.proxy.check_queues(self.network.now())
                {
                    return Err(fault);
                }
                return Ok(());
            }
        }
        Err("somebody keeps itself busy without end".to_owned())
    }

    fn turn(&mut self) -> std::io::Result<()> {
        // Who comes first is chance, as on a real machine.
        if self.random.chance(0.5) {
            self.proxy.turn()?;
            self.clients.turn(None)?;
        } else {
            self.clients.turn(None)?;
            self.proxy.turn()?;
        }
        if let Some(heir) = self.upgrade.as_mut().and_then(Upgrade::heir) {
            heir.turn()?;
        }
        for (old, _) in &mut self.leaving {
            old.turn()?;
        }
        for backend in self.backends.iter_mut().flatten() {
            backend.turn(None)?;
        }
        Ok(())
    }

    /// Takes an upgrade a move further, and what comes of it in. Says whether anything happened.
    fn turn_upgrade(&mut self) -> Result<bool, String> {
        let now = self.network.now();
        self.end_old_processes();
        let Some(upgrade) = &mut self.upgrade else { return Ok(false) };
        let lived = !self.proxy.is_dead();
        let has_moved = upgrade.turn(&mut self.proxy, now);
        for line in std::mem::take(&mut upgrade.log) {
            self.ledger.borrow_mut().note(now, &line, 0, 0);
        }
        if let Some(fault) = upgrade.check() {
            return Err(fault);
        }
        let end = upgrade.end().transpose()?;
        if lived && self.proxy.is_dead() {
            self.open_at_death = self.open_clients();
        }
        match end {
            None => return Ok(has_moved),
            Some(End::Stays) => self.upgrades.called_off += 1,
            Some(End::TakesBack { cut }) => {
                self.upgrades.taken_back += 1;
                // Whoever came to the one that died.
                let is_cut = |number: &u32| cut.iter().any(|(cut, _)| cut == number);
                let orphaned = self.open_clients().into_iter().filter(|number| !is_cut(number));
                self.ledger.borrow_mut().orphan(orphaned);
                self.ledger.borrow_mut().cut(cut);
                self.proxy.miss_counters();
            }
            Some(End::Follows { new, taken }) => {
                self.upgrades.followed += 1;
                self.upgrades.moved += taken.len() as u32;
                let old = std::mem::replace(&mut self.proxy, *new);
                let told = old.counters();
                self.proxy.add_counters(&told);
                self.leaving.push((old, told));
            }
            Some(End::Inherits { new, taken }) => {
                self.upgrades.inherited += 1;
                self.upgrades.moved += taken.len() as u32;
                let open = std::mem::take(&mut self.open_at_death).into_iter();
                self.ledger.borrow_mut().orphan(open.filter(|number| !taken.contains(number)));
                self.proxy = *new;
                self.proxy.miss_counters();
            }
        }
        self.upgrade = None;
        for incident in std::mem::take(&mut self.postponed) {
            self.happen(incident);
        }
        Ok(true)
    }

    /// Processes that have nothing left say what they counted, and are gone.
    fn end_old_processes(&mut self) {
        let (finished, leaving): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.leaving).into_iter().partition(|(old, _)| old.is_gone());
        self.leaving = leaving;
        for (mut old, told) in finished {
            self.proxy.add_counters(&old.counters().since(&told));
            for fault in old.check_left() {
                self.ledger.borrow_mut().fault(format!("an old process: {fault}"));
            }
        }
    }

    /// Clients that have dialled, and of which nothing is told yet.
    fn open_clients(&self) -> Vec<u32> {
        let (now, records) = (self.network.now(), self.proxy.records());
        let scripts = self.scenario.scripts.iter().filter(|script| script.dial_at <= now);
        scripts.map(|script| script.number).filter(|number| !records.contains_key(number)).collect()
    }

    fn incidents_are_over(&self) -> bool {
        self.incidents_done == self.scenario.incidents.len()
    }

    fn happen(&mut self, incident: Incident) {
        if self.upgrade.is_some() && matches!(incident, Incident::Reload(_) | Incident::Resolve) {
            // Changes of the configuration come one at a time, and the new process asks for names itself.
            self.postponed.push(incident);
            return;
        }
        self.ledger.borrow_mut().note(self.network.now(), &format!("{incident:?}"), 0, 0);
        match incident {
            Incident::Crash(backend) => {
                self.ledger.borrow_mut().crash(backend);
                self.backends[backend] = None;
            }
            Incident::Start(backend) => self.start_backend(backend),
            Incident::Block(backend) => self.network.block(&self.scenario.backends[backend]),
            Incident::Refuse(backend) => self.network.refuse(&self.scenario.backends[backend]),
            Incident::Allow(backend) => self.network.allow(&self.scenario.backends[backend]),
            Incident::Reload(configuration) => {
                let apps = &self.scenario.configurations[configuration];
                self.ledger.borrow_mut().configure(self.network.now(), apps);
                self.proxy.reload(apps);
            }
            Incident::Move => self.proxy.move_some(&mut self.random),
            Incident::Upgrade(index) => {
                let now = self.network.now();
                if self.upgrade.is_none() && !self.proxy.is_draining() {
                    self.upgrade = Some(Upgrade::begin(self.scenario.upgrades[index], now));
                }
            }
            Incident::Resolve => {
                let addresses = &self.scenario.backends[..self.scenario.resolved];
                self.proxy.resolve(addresses, &mut self.random);
            }
            Incident::Calm => {
                let calm =
                    SimulatedFaults { latency: self.scenario.faults.latency, ..SimulatedFaults::ragged() };
                self.network.set_faults(calm);
            }
        }
    }

    /// Checks everything, and that nothing is left behind.
    fn finish(mut self, workload: Workload, seed: u64) -> Outcome {
        let has_run_through = self.ledger.borrow().faults().is_empty();
        let time = self.network.now().since(Time::ZERO);
        let records = self.proxy.records();
        if has_run_through {
            let faults = self.proxy.check_end();
            let mut ledger = self.ledger.borrow_mut();
            ledger.check(&self.scenario, &records);
            ledger.check_routes(&self.scenario, &records);
            if self.scenario.denies {
                ledger.check_denied();
            }
            faults.into_iter().for_each(|fault| ledger.fault(fault));
        }
        for (number, records) in &records {
            for record in records {
                let mut ledger = self.ledger.borrow_mut();
                let amount = record.bytes[0] ^ record.bytes[1] << 32;
                let what = format!("ended {} {} {}", record.initiator, record.phase, record.reason);
                ledger.note(record.ended, &what, *number, amount);
            }
        }
        drop((self.proxy, self.upgrade, self.leaving, self.clients, self.backends));
        while self.network.advance() {}
        let left = self.network.socket_count();
        let mut ledger = self.ledger.borrow_mut();
        if has_run_through && left > 0 {
            ledger.fault(format!("{left} sockets are left in the network"));
        }
        let clean = ledger.clean_count();
        Outcome {
            seed,
            workload,
            faults: ledger.faults().to_vec(),
            trace: ledger.trace(),
            lines: ledger.lines().map(str::to_owned),
            connections: self.scenario.scripts.len(),
            clean,
            routes: ledger.routes(),
            handshakes: ledger.handshakes(),
            upgrades: self.upgrades,
            time,
        }
    }
}
