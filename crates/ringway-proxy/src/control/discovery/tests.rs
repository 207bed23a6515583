//! Discovery against a scripted resolver, in paused time.

use std::collections::HashMap;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::*;
use crate::endpoint::EndpointSet;
use crate::endpoint::testing::app_of_hosts;

/// Answers from a script; what the script does not say is a failure.
#[derive(Default)]
struct Script {
    answers: Mutex<HashMap<Family, Vec<Result<Answer, LookupError>>>>,
    asked: Mutex<Vec<(Family, Instant)>>,
    /// For hosts that have an entry, instead of the answers above, and at once.
    hosts: Mutex<HashMap<String, Vec<IpAddr>>>,
    services: Mutex<Vec<Result<ServiceAnswer, LookupError>>>,
    asked_service: Mutex<Vec<Instant>>,
}

impl Resolver for Script {
    async fn lookup_service(&self, _name: &str) -> Result<ServiceAnswer, LookupError> {
        self.asked_service.lock().expect("no panic").push(Instant::now());
        let mut services = self.services.lock().expect("no panic");
        if services.is_empty() {
            Err(LookupError("no server answers".to_owned()))
        } else {
            services.remove(0)
        }
    }

    async fn lookup(&self, name: &str, family: Family) -> Result<Answer, LookupError> {
        if let Some(addresses) = self.hosts.lock().expect("no panic").get(name) {
            let of_family = |ip: &&IpAddr| ip.is_ipv4() == (family == Family::V4);
            let addresses = addresses.iter().filter(of_family).copied().collect();
            return Ok(Answer { addresses, ttl: Duration::from_secs(5) });
        }
        if name.starts_with("slow") {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        self.asked.lock().expect("no panic").push((family, Instant::now()));
        let mut answers = self.answers.lock().expect("no panic");
        match answers.get_mut(&family) {
            Some(left) if !left.is_empty() => left.remove(0),
            _ => failure(),
        }
    }
}

fn answer(addresses: &[&str], ttl: u64) -> Result<Answer, LookupError> {
    let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
    Ok(Answer { addresses, ttl: Duration::from_secs(ttl) })
}

fn failure() -> Result<Answer, LookupError> {
    Err(LookupError("no server answers".to_owned()))
}

struct Running {
    discovery: Discovery<Script>,
    script: Arc<Script>,
    app: Arc<AppState>,
    metrics: Arc<ProcessMetrics>,
    sets: UnboundedReceiver<Arc<EndpointSet>>,
    all_asked: tokio::sync::mpsc::Receiver<std::convert::Infallible>,
    started: Instant,
}

fn start(v4: Vec<Result<Answer, LookupError>>, v6: Vec<Result<Answer, LookupError>>) -> Running {
    let script = Script::default();
    script.answers.lock().expect("no panic").extend([(Family::V4, v4), (Family::V6, v6)]);
    run(script, &app_of_hosts(&[(1, false)]))
}

fn run(script: Script, model: &crate::model::App) -> Running {
    let script = Arc::new(script);
    let app = Arc::new(AppState::new(0, model));
    let (sender, sets) = unbounded_channel();
    let metrics: Arc<ProcessMetrics> = Arc::default();
    let published = Arc::clone(&app);
    let publish = move |_| {
        let _ = sender.send(published.endpoints());
    };
    let mut discovery = Discovery::new(Arc::clone(&script), Arc::clone(&metrics), publish);
    let all_asked = discovery.adopt([&app]);
    Running { discovery, script, app, metrics, sets, all_asked, started: Instant::now() }
}

impl Running {
    async fn next_set(&mut self) -> Vec<String> {
        let set = self.sets.recv().await.expect("discovery runs");
        texts(&set)
    }

    fn current(&self) -> Vec<String> {
        texts(&self.app.endpoints())
    }

    /// Seconds after the start at which a family was asked for.
    fn asked(&self, family: Family) -> Vec<u64> {
        let asked = self.script.asked.lock().expect("no panic");
        let times = asked.iter().filter(|(of, _)| *of == family);
        times.map(|(_, at)| at.duration_since(self.started).as_secs()).collect()
    }
}

fn texts(set: &EndpointSet) -> Vec<String> {
    set.endpoints().iter().map(|endpoint| endpoint.address().inet().expect("inet").ip().to_string()).collect()
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn every_address_of_both_families_becomes_an_endpoint() {
    let mut running =
        start(vec![answer(&["192.0.2.2", "192.0.2.1"], 60)], vec![answer(&["2001:db8::1"], 60)]);
    running.next_set().await;
    assert_eq!(running.next_set().await, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_asked_for_again_when_its_time_to_live_is_over() {
    let mut running =
        start(vec![answer(&["192.0.2.1"], 30), answer(&["192.0.2.9"], 30)], vec![answer(&[], 300)]);
    assert_eq!(running.next_set().await, ["192.0.2.1"]);
    assert_eq!(running.next_set().await, ["192.0.2.9"]);
    assert_eq!(running.started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn times_to_live_are_kept_between_one_second_and_five_minutes() {
    let good = |ttl| answer(&["192.0.2.1"], ttl);
    let running = start(vec![good(0), good(100_000), good(60)], vec![answer(&[], 300)]);
    pass(310).await;
    assert_eq!(running.asked(Family::V4), [0, 1, 301]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_look_up_keeps_the_last_good_answer_and_backs_off() {
    let running = start(vec![answer(&["192.0.2.1"], 10)], vec![answer(&[], 300)]);
    pass(200).await;
    assert_eq!(running.current(), ["192.0.2.1"]);
    assert_eq!(running.asked(Family::V4), [0, 10, 11, 13, 17, 25, 41, 73, 133, 193]);
    assert_eq!(running.metrics.get(ProcessCounter::LookupsFailed), 9);
    assert_eq!(running.metrics.get(ProcessCounter::LookupsAnswered), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_any_address_keeps_the_last_good_one() {
    let running = start(vec![answer(&["192.0.2.1"], 10), answer(&[], 10)], vec![answer(&[], 300)]);
    pass(15).await;
    assert_eq!(running.current(), ["192.0.2.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_family_that_a_name_gave_up_is_left_out_while_the_other_stays() {
    let mut running =
        start(vec![answer(&["192.0.2.1"], 300)], vec![answer(&["2001:db8::1"], 10), answer(&[], 10)]);
    running.next_set().await;
    running.next_set().await;
    assert_eq!(running.next_set().await, ["192.0.2.1"]);
}

#[tokio::test(start_paused = true)]
async fn one_family_serves_while_the_other_fails() {
    let running = start(vec![failure(), answer(&["192.0.2.1"], 300)], vec![]);
    pass(5).await;
    assert_eq!(running.current(), ["192.0.2.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_address_has_no_endpoint_until_it_gets_one() {
    let mut running =
        start(vec![answer(&[], 5), failure(), answer(&["192.0.2.1"], 300)], vec![answer(&[], 300)]);
    assert!(running.current().is_empty());
    assert_eq!(running.next_set().await, ["192.0.2.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_answer_changes_nothing() {
    let mut running = start(
        vec![answer(&["192.0.2.1", "192.0.2.2"], 5), answer(&["192.0.2.2", "192.0.2.1"], 300)],
        vec![answer(&[], 300)],
    );
    running.next_set().await;
    pass(20).await;
    assert_eq!(running.asked(Family::V4), [0, 5]);
    assert!(running.sets.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn the_start_learns_when_every_name_was_asked_for_once() {
    let mut running = start(vec![], vec![answer(&[], 300)]);
    assert!(running.all_asked.recv().await.is_none());
    assert_eq!(running.started.elapsed(), Duration::ZERO);
}

/// An answer with these records: priority, target, port, weight.
fn service(records: &[(u16, &str, u16, u16)], ttl: u64) -> Result<ServiceAnswer, LookupError> {
    let record = |(priority, target, port, weight): &(u16, &str, u16, u16)| ServiceRecord {
        priority: *priority,
        weight: *weight,
        target: (*target).to_owned(),
        port: *port,
    };
    Ok(ServiceAnswer { records: records.iter().map(record).collect(), ttl: Duration::from_secs(ttl) })
}

fn start_service(services: Vec<Result<ServiceAnswer, LookupError>>, hosts: &[(&str, &[&str])]) -> Running {
    let address = |text: &&str| text.parse().expect("an address");
    let hosts = hosts.iter().map(|(host, list)| ((*host).to_owned(), list.iter().map(address).collect()));
    let script =
        Script { services: Mutex::new(services), hosts: Mutex::new(hosts.collect()), ..Script::default() };
    let mut model = app_of_hosts(&[(1, false)]);
    model.backends[0].target = Target::Service { name: "_pg._tcp.test".to_owned() };
    run(script, &model)
}

/// `address weight`, and whether it is a backup, of each endpoint.
fn ranked(running: &Running) -> Vec<String> {
    let set = running.app.endpoints();
    let text = |endpoint: &Arc<crate::endpoint::Endpoint>| {
        let backup = if endpoint.is_backup() { " backup" } else { "" };
        format!("{} {}{backup}", endpoint.address(), endpoint.weight())
    };
    set.endpoints().iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn records_of_a_service_give_ports_weights_and_ranks() {
    let mut running = start_service(
        vec![service(&[(20, "b.test", 1, 7), (10, "a.test", 2, 30), (10, "c.test", 3, 0)], 60)],
        &[("a.test", &["192.0.2.1", "2001:db8::1"]), ("b.test", &["192.0.2.2"]), ("c.test", &["192.0.2.3"])],
    );
    assert!(running.all_asked.recv().await.is_none());
    assert_eq!(
        ranked(&running),
        ["192.0.2.3:3 1", "192.0.2.1:2 15", "[2001:db8::1]:2 15", "192.0.2.2:1 7 backup"],
    );
}

#[tokio::test(start_paused = true)]
async fn another_answer_after_its_time_to_live_changes_targets_and_weights() {
    let running = start_service(
        vec![
            service(&[(1, "a.test", 80, 10)], 30),
            service(&[(1, "a.test", 80, 5), (1, "b.test", 80, 20)], 30),
        ],
        &[("a.test", &["192.0.2.1"]), ("b.test", &["192.0.2.2"])],
    );
    pass(29).await;
    assert_eq!(ranked(&running), ["192.0.2.1:80 10"]);
    let first = Arc::clone(&running.app.endpoints().endpoints()[0]);
    pass(2).await;
    assert_eq!(ranked(&running), ["192.0.2.1:80 5", "192.0.2.2:80 20"]);
    assert!(Arc::ptr_eq(&first, &running.app.endpoints().endpoints()[0]), "its counts and health stay");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_moves_is_followed_by_its_own_time_to_live() {
    let running = start_service(vec![service(&[(1, "a.test", 80, 1)], 300)], &[("a.test", &["192.0.2.1"])]);
    pass(1).await;
    let moved = vec!["192.0.2.9".parse().expect("an address")];
    running.script.hosts.lock().expect("no panic").insert("a.test".to_owned(), moved);
    pass(6).await;
    assert_eq!(ranked(&running), ["192.0.2.9:80 1"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_records_count_until_the_targets_of_the_next_were_asked_for() {
    let running = start_service(
        vec![
            service(&[(1, "a.test", 80, 1)], 10),
            service(&[(1, "b.test", 80, 1), (1, "slow.test", 80, 1)], 100),
        ],
        &[("a.test", &["192.0.2.1"]), ("b.test", &["192.0.2.2"])],
    );
    pass(12).await;
    assert_eq!(ranked(&running), ["192.0.2.1:80 1"], "the slow one is being asked for");
    pass(2).await;
    assert_eq!(ranked(&running), ["192.0.2.2:80 1"], "it has no address, and the other one serves");
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_targets_all_lost_their_addresses_keeps_the_last_good_ones() {
    let running = start_service(
        vec![service(&[(1, "a.test", 80, 1)], 10), service(&[(1, "gone.test", 80, 1)], 10), service(&[], 10)],
        &[("a.test", &["192.0.2.1"])],
    );
    pass(120).await;
    assert_eq!(ranked(&running), ["192.0.2.1:80 1"]);
    let asked = running.script.asked_service.lock().expect("no panic").clone();
    let seconds: Vec<u64> = asked.iter().map(|at| at.duration_since(running.started).as_secs()).collect();
    assert_eq!(seconds, [0, 10, 20, 21, 23, 27, 35, 51, 83]);
}

#[tokio::test(start_paused = true)]
async fn a_service_without_a_record_has_no_endpoint_until_it_gets_one() {
    let mut running = start_service(
        vec![
            service(&[], 5),
            Err(LookupError("no server answers".to_owned())),
            service(&[(1, "a.test", 80, 1)], 60),
        ],
        &[("a.test", &["192.0.2.1"])],
    );
    assert!(running.all_asked.recv().await.is_none());
    assert!(running.current().is_empty());
    assert_eq!(running.next_set().await, ["192.0.2.1"]);
    assert!(running.metrics.get(ProcessCounter::LookupsFailed) >= 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_too_many_records_is_cut_from_the_end() {
    let names: Vec<String> = (0..1_000).map(|index| format!("h{index:04}.test")).collect();
    let records: Vec<(u16, &str, u16, u16)> =
        names.iter().enumerate().map(|(index, name)| (index as u16, name.as_str(), 80, 1)).collect();
    let addresses: &[&str] = &["192.0.2.1"];
    let hosts: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), addresses)).collect();
    let running = start_service(vec![service(&records, 60)], &hosts);
    pass(1).await;
    assert_eq!(running.script.hosts.lock().expect("no panic").len(), 1_000);
    let answered = running.metrics.get(ProcessCounter::LookupsAnswered);
    assert_eq!(answered, 1 + 2 * 256);
    assert_eq!(ranked(&running), ["192.0.2.1:80 1"], "the same address counts once, by its first record");
}

#[tokio::test(start_paused = true)]
async fn targets_of_answers_that_never_counted_are_forgotten() {
    let names: Vec<String> = (0..50).map(|index| format!("h{index}.test")).collect();
    let mut answers = vec![service(&[(1, "a.test", 80, 1)], 10)];
    answers.extend(names.iter().map(|name| service(&[(1, name, 80, 1)], 10)));
    let running = start_service(answers, &[("a.test", &["192.0.2.1"])]);
    pass(400).await;
    assert_eq!(ranked(&running), ["192.0.2.1:80 1"]);
    let hosts: Vec<String> =
        running.discovery.shared.lock().hosts.keys().map(|followed| followed.host.clone()).collect();
    assert_eq!(hosts.len(), 2, "that which counts, and that which is asked for: {hosts:?}");
}
