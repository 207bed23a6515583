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
}

impl Resolver for Script {
    async fn lookup(&self, _name: &str, family: Family) -> Result<Answer, LookupError> {
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
    _discovery: Discovery<Script>,
    script: Arc<Script>,
    app: Arc<AppState>,
    metrics: Arc<ProcessMetrics>,
    sets: UnboundedReceiver<Arc<EndpointSet>>,
    all_asked: tokio::sync::mpsc::Receiver<std::convert::Infallible>,
    started: Instant,
}

fn start(v4: Vec<Result<Answer, LookupError>>, v6: Vec<Result<Answer, LookupError>>) -> Running {
    let script = Arc::new(Script::default());
    script.answers.lock().expect("no panic").extend([(Family::V4, v4), (Family::V6, v6)]);
    let app = Arc::new(AppState::new(0, &app_of_hosts(&[(1, false)])));
    let (sender, sets) = unbounded_channel();
    let metrics: Arc<ProcessMetrics> = Arc::default();
    let published = Arc::clone(&app);
    let publish = move |_| {
        let _ = sender.send(published.endpoints());
    };
    let mut discovery = Discovery::new(Arc::clone(&script), Arc::clone(&metrics), publish);
    let all_asked = discovery.adopt([&app]);
    Running { _discovery: discovery, script, app, metrics, sets, all_asked, started: Instant::now() }
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
