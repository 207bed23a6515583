//! Backends named by service: SRV records (RFC 2782), and the addresses of their targets.
//!
//! Records of the lowest priority that has an address are the service; the others stand in while none of these is
//! available. A new answer counts from when its targets have been asked for: until then the last one does, so that no
//! moment is without addresses. Targets are looked up by their names, whatever an answer brings along.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use ringway::SocketAddress;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use super::{
    BACK_OFF_MAX, BACK_OFF_MIN, Followed, Known, Resolver, ServiceRecord, Shared, State, Subject, TTL_MAX,
    TTL_MIN,
};
use crate::endpoint::{Record, Resolved};
use crate::metrics::ProcessCounter;

/// Records of one service that are used: each target is two look-ups, and the answer is from the network.
const RECORDS_MAX: usize = 256;

/// What is known of a service.
#[derive(Debug, Default)]
pub(super) struct Service {
    /// What its apps go by.
    current: Vec<ServiceRecord>,
    /// What they will go by once its targets have been asked for.
    next: Option<Vec<ServiceRecord>>,
    /// Trouble is told once, and so is its end.
    in_trouble: bool,
}

impl<R: Resolver> Shared<R> {
    /// Looks up one service, for ever, and its targets.
    pub(super) async fn follow_service(self: Arc<Self>, name: String, asked: Sender<Infallible>) {
        let subject = Subject::Service(name.clone());
        let mut targets: BTreeMap<String, JoinSet<()>> = BTreeMap::new();
        let mut back_off = BACK_OFF_MIN;
        let mut asked = Some(asked);
        loop {
            let trouble = match self.resolver.lookup_service(&name).await {
                Ok(answer) if answer.records.is_empty() => "it has no record".to_owned(),
                Ok(answer) => {
                    let records = in_order(&name, answer.records);
                    let hosts: BTreeSet<String> =
                        records.iter().map(|record| record.target.clone()).collect();
                    targets.retain(|host, _| hosts.contains(host));
                    self.take_in_records(&subject, &name, records);
                    // Whoever waits for the first answers waits for those of the targets.
                    let waiting = asked.take().unwrap_or_else(|| tokio::sync::mpsc::channel(1).0);
                    for host in hosts {
                        targets
                            .entry(host)
                            .or_insert_with_key(|host| self.start_following(&subject, host, &waiting));
                    }
                    drop(waiting);
                    self.metrics.add(ProcessCounter::LookupsAnswered, 1);
                    back_off = BACK_OFF_MIN;
                    tokio::time::sleep(answer.ttl.clamp(TTL_MIN, TTL_MAX)).await;
                    continue;
                }
                Err(error) => error.to_string(),
            };
            asked.take();
            self.metrics.add(ProcessCounter::LookupsFailed, 1);
            self.report_trouble_of_service(&name, &trouble);
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    fn take_in_records(&self, subject: &Subject, name: &str, records: Vec<ServiceRecord>) {
        let mut state = self.lock();
        let service = state.services.entry(name.to_owned()).or_default();
        let was_in_trouble = std::mem::take(&mut service.in_trouble);
        let is_known = *service.next.as_ref().unwrap_or(&service.current) == records;
        if was_in_trouble || !is_known {
            let shown: Vec<String> = records.iter().map(shown).collect();
            tracing::info!(service = name, records = ?shown, "backend service resolved");
        }
        if is_known {
            return;
        }
        service.next = (service.current != records).then_some(records);
        state.forget_targets(subject, name);
        if state.settle(subject) {
            self.publish_all(subject, &state);
        }
    }

    fn report_trouble_of_service(&self, name: &str, trouble: &str) {
        let mut state = self.lock();
        let service = state.services.entry(name.to_owned()).or_default();
        if std::mem::replace(&mut service.in_trouble, true) {
            tracing::debug!(service = name, trouble, "backend service not resolved");
        } else if service.current.is_empty() {
            tracing::warn!(service = name, trouble, "backend service has no record; it is unavailable");
        } else {
            tracing::warn!(
                service = name,
                trouble,
                "backend service not resolved; its last records are kept"
            );
        }
    }
}

impl State {
    /// Lets the next records of a service count, if it is time; says whether they do from now on.
    pub(super) fn settle(&mut self, subject: &Subject) -> bool {
        let Subject::Service(name) = subject else { return false };
        let Some(service) = self.services.get(name) else { return false };
        let Some(next) = &service.next else { return false };
        let known = |record: &ServiceRecord| {
            let followed = Followed { subject: subject.clone(), host: record.target.clone() };
            self.hosts.get(&followed)
        };
        let has_address = |record: &ServiceRecord| known(record).is_some_and(|known| !known.is_empty());
        let was_asked =
            |record: &ServiceRecord| known(record).is_some_and(|known| known.answered == [true; 2]);
        let is_better = next.iter().any(has_address)
            && (next.iter().all(was_asked) || !service.current.iter().any(has_address));
        if !is_better {
            return false;
        }
        let service = self.services.get_mut(name).expect("it is there");
        service.current = service.next.take().expect("it is there");
        self.forget_targets(subject, name);
        true
    }

    /// Forgets the addresses of hosts that are targets neither of a service nor of what it may be next.
    fn forget_targets(&mut self, subject: &Subject, name: &str) {
        let Some(service) = self.services.get(name) else { return };
        let records = service.current.iter().chain(service.next.iter().flatten());
        let targets: BTreeSet<&str> = records.map(|record| record.target.as_str()).collect();
        self.hosts
            .retain(|followed, _| followed.subject != *subject || targets.contains(followed.host.as_str()));
    }

    pub(super) fn addresses_of_service(&self, name: &str) -> Vec<Resolved> {
        let Some(service) = self.services.get(name) else { return Vec::new() };
        let subject = Subject::Service(name.to_owned());
        let addresses = |record: &ServiceRecord| {
            let followed = Followed { subject: subject.clone(), host: record.target.clone() };
            self.hosts.get(&followed).into_iter().flat_map(Known::all).collect::<Vec<_>>()
        };
        let mut first = None;
        let mut all = Vec::new();
        for record in &service.current {
            let addresses = addresses(record);
            if addresses.is_empty() {
                continue;
            }
            let is_backup = *first.get_or_insert(record.priority) < record.priority;
            let rank = Some(Record::new(record.weight, addresses.len(), is_backup));
            all.extend(addresses.into_iter().map(|ip| Resolved {
                address: SocketAddress::from(SocketAddr::new(ip, record.port)),
                record: rank,
            }));
        }
        all
    }
}

/// By priority; what an answer has too many of is left out from the end.
fn in_order(name: &str, mut records: Vec<ServiceRecord>) -> Vec<ServiceRecord> {
    records.sort_unstable();
    records.dedup();
    if records.len() > RECORDS_MAX {
        tracing::debug!(service = name, records = records.len(), used = RECORDS_MAX, "too many records");
        records.truncate(RECORDS_MAX);
    }
    records
}

/// As zone files write it.
fn shown(record: &ServiceRecord) -> String {
    let ServiceRecord { priority, weight, port, target } = record;
    format!("{priority} {weight} {port} {target}")
}
