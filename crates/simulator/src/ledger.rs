//! What both ends of every connection did and saw, and what must hold between them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;

use ringway::Time;
use ringway_proxy::control::access_log::{AccessRecord, Secured};
use ringway_proxy::model::{self, Target};

use crate::opening::Says;
use crate::routes::{Goes, UNREADABLE, destinations, is_asked, serves_silence};
use crate::scenario::{Ending, Scenario, is_denied};
use crate::tls::{self, Accord};
use crate::{Handshakes, Routes};

/// Shared by all handlers of a simulation.
pub(crate) type SharedLedger = Rc<RefCell<Ledger>>;

/// Everything that is held against the checks.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) clients: BTreeMap<u32, ClientView>,
    pub(crate) backends: BTreeMap<u32, BackendView>,
    /// Clients whose connections were open when a process of the proxy died.
    orphaned: BTreeSet<u32>,
    /// Clients whose connections were cut because nobody knew how far they had come, and whether they had a backend before a
    /// process was followed by another.
    cut: BTreeMap<u32, bool>,
    /// What the proxy was told to do, and since when.
    configurations: Vec<(Time, Vec<model::App>)>,
    routes: Routes,
    handshakes: Handshakes,
    faults: Vec<String>,
    trace: Trace,
}

/// A connection as its client knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientView {
    pub(crate) connected: bool,
    /// Bytes given to the network, header and what is said first included.
    pub(crate) sent: u64,
    /// Something was, be it of TLS.
    pub(crate) spoke: bool,
    pub(crate) shut: bool,
    /// It ended its connection, but in TLS it did not say so.
    pub(crate) truncated: bool,
    /// What it agreed on with the proxy, in TLS.
    pub(crate) accord: Option<Accord>,
    pub(crate) received: u64,
    /// The connection ended, without an end of the stream in TLS.
    pub(crate) cut_short: bool,
    /// A clean end came.
    pub(crate) ended: bool,
    /// It broke, or this side reset it.
    pub(crate) broken: bool,
    /// Nothing more will happen.
    pub(crate) done: bool,
}

/// A connection as the backend that got its header knows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackendView {
    pub(crate) backend: usize,
    pub(crate) received: u64,
    pub(crate) ended: bool,
    pub(crate) sent: u64,
    pub(crate) shut: bool,
    /// Its connection is gone.
    pub(crate) closed: bool,
    /// The backend died before that; its kernel ended the stream wherever it was.
    pub(crate) crashed: bool,
}

impl Ledger {
    /// Something does not hold.
    pub(crate) fn fault(&mut self, fault: impl Into<String>) {
        // The first few tell all; a broken invariant can repeat itself for ever.
        if self.faults.len() < 20 {
            self.faults.push(fault.into());
        }
    }

    /// A backend dies, and its open connections with it.
    pub(crate) fn crash(&mut self, backend: usize) {
        for view in self.backends.values_mut().filter(|view| view.backend == backend && !view.closed) {
            view.crashed = true;
        }
    }

    /// A process of the proxy died, and with it the connections of these clients: its kernel ended their streams wherever
    /// they were.
    pub(crate) fn orphan(&mut self, clients: impl IntoIterator<Item = u32>) {
        self.orphaned.extend(clients);
    }

    /// The connections of these clients were cut, by a process that may not have been the only one to tell of their end.
    pub(crate) fn cut(&mut self, clients: impl IntoIterator<Item = (u32, bool)>) {
        self.cut.extend(clients);
    }

    /// From now on the proxy goes by these apps.
    pub(crate) fn configure(&mut self, now: Time, apps: &[model::App]) {
        self.configurations.push((now, apps.to_vec()));
    }

    /// What came of routes.
    pub(crate) fn routes(&self) -> Routes {
        self.routes
    }

    /// What came of TLS.
    pub(crate) fn handshakes(&self) -> Handshakes {
        self.handshakes
    }

    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Notes that something happened, in order.
    pub(crate) fn note(&mut self, now: Time, what: &str, number: u32, amount: u64) {
        self.trace.note(now, what, number, amount);
    }

    pub(crate) fn trace(&self) -> u64 {
        self.trace.hash
    }

    /// Keeps the lines of the trace, not only their hash.
    pub(crate) fn keep_lines(&mut self) {
        self.trace.lines = Some(String::new());
    }

    pub(crate) fn lines(&self) -> Option<&str> {
        self.trace.lines.as_deref()
    }

    /// Connections that ended cleanly in both directions.
    pub(crate) fn clean_count(&self) -> usize {
        let is_clean = |(number, backend): (&u32, &BackendView)| {
            backend.ended && self.clients.get(number).is_some_and(|client| client.ended && !client.broken)
        };
        self.backends.iter().filter(|(number, backend)| is_clean((number, backend))).count()
    }

    /// Clients that may not come reached no backend.
    pub(crate) fn check_denied(&mut self) {
        let got_in: Vec<u32> = self.backends.keys().copied().filter(|number| is_denied(*number)).collect();
        if !got_in.is_empty() {
            self.fault(format!("clients that are denied got in: {got_in:?}"));
        }
    }

    /// Every client went where a route sends it that held while it was there, or nowhere.
    pub(crate) fn check_routes(&mut self, scenario: &Scenario, records: &BTreeMap<u32, Vec<AccessRecord>>) {
        for script in &scenario.scripts {
            let number = &script.number;
            let (Some([record]), Some(client)) =
                (records.get(number).map(Vec::as_slice), self.clients.get(number).cloned())
            else {
                continue;
            };
            if self.orphaned.contains(number) || self.cut.contains_key(number) {
                continue;
            }
            let opening = &scenario.openings[*number as usize];
            let says = if client.spoke { opening.says } else { Says::Nothing };
            let first = self.configurations.iter().rposition(|(since, _)| *since < script.dial_at);
            let held = self.configurations[first.unwrap_or(0)..].iter();
            let apps: Vec<&model::App> = held
                .take_while(|(since, _)| *since <= record.ended)
                .filter_map(|(_, apps)| apps.iter().find(|app| app.name == *record.app))
                .collect();
            let each = apps.iter().enumerate();
            let goes: Vec<Goes> =
                each.flat_map(|(place, app)| destinations(app, &apps[..place], says, opening)).collect();
            let got = self.backends.get(number).map(|backend| backend.backend);
            let fault = check_route(&goes, got, record, scenario);
            let is_asked = record.asked.as_ref().is_none_or(|asked| is_asked(asked, says, opening));
            let fault = fault.or((!is_asked).then_some("the record is wrong about what was asked for"));
            let was_silent = !opening.silence.is_zero() && opening.silence >= record.total;
            let in_vain = was_silent && record.reason == "hello_timeout" && !apps.is_empty();
            let in_vain = in_vain && apps.iter().all(|app| serves_silence(app));
            let fault = fault.or(in_vain.then_some("a client waited in vain for the server to speak first"));
            let fault = fault.or_else(|| check_accord(&apps, &client, record));
            let broke_rules = client.truncated && opening.tls.is_some_and(|manner| manner.babbles);
            let is_slandered = is_against_rules(record) && !broke_rules;
            let fault =
                fault.or(is_slandered.then_some("a client that kept the rules is said to have broken them"));
            if let Some(fault) = fault {
                self.fault(format!("{fault}: {script:?}, {says:?}, {goes:?}, backend {got:?}, {record:?}"));
            }
            let protocol = record.asked.as_ref().map(|asked| asked.protocol);
            let is_taken = record.route.is_some() && got.is_some();
            self.routes.taken += u32::from(is_taken);
            self.routes.unreadable += u32::from(is_taken && record.route.as_deref() == Some(UNREADABLE));
            self.routes.silent += u32::from(is_taken && protocol == Some(model::Client::Silent));
            if opening.tls.is_some() {
                self.handshakes.count(&client, self.backends.get(number), record);
            }
            if let Some(which) = REFUSALS.iter().position(|reason| *reason == record.reason) {
                self.routes.refused[which] += 1;
            }
        }
    }

    /// Holds the two ends of every connection, and the proxy's record of it, against each other.
    pub(crate) fn check(&mut self, scenario: &Scenario, records: &BTreeMap<u32, Vec<AccessRecord>>) {
        let close_now = match scenario.ending {
            Ending::AfterTraffic => None,
            Ending::DuringTraffic { close_now, .. } => Some(close_now),
        };
        for script in &scenario.scripts {
            let client = self.clients.get(&script.number).cloned().unwrap_or_default();
            let backend = self.backends.get(&script.number).cloned();
            let records = records.get(&script.number).map_or(&[][..], Vec::as_slice);
            let mut faults = Vec::new();
            let fate = Fate {
                orphaned: self.orphaned.contains(&script.number),
                cut: self.cut.contains_key(&script.number),
                dialled: self.cut.get(&script.number) == Some(&false),
            };
            check_ends(&client, backend.as_ref(), fate, &mut faults);
            let little = scenario.openings[script.number as usize].little();
            check_records(&client, little, backend.as_ref(), fate, records, &mut faults);
            let is_early = |record: &AccessRecord| {
                let is_cut = (record.phase, record.reason) == ("relay", "shutdown");
                is_cut && close_now.is_none_or(|at| record.ended < at)
            };
            if !fate.orphaned && !fate.cut && records.iter().any(is_early) {
                faults.push("a connection was cut before it was time");
            }
            for fault in faults {
                self.fault(format!("{fault}: {script:?}, {client:?}, {backend:?}, {records:?}"));
            }
        }
    }
}

/// What became of a connection without anybody's doing at its two ends.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    orphaned: bool,
    cut: bool,
    /// If there was a backend, it was dialled by a process that died, whose kernel ended that half.
    dialled: bool,
}

/// Why clients end by what they said, or did not.
const REFUSALS: [&str; 4] = ["hello_unreadable", "no_route", "hello_timeout", "limit_handshakes"];
/// What follows from what was said alone.
const CERTAIN: [&str; 3] = ["hello_unreadable", "no_route", "handshake_failed"];
/// Why they end where backends were looked for.
const BEYOND: [&str; 4] = ["no_backend", "backends_full", "queue_full", "queue_timeout"];

fn check_route(
    goes: &[Goes],
    got: Option<usize>,
    record: &AccessRecord,
    scenario: &Scenario,
) -> Option<&'static str> {
    let may_be = |backends: &[Target], got: usize| {
        backends.iter().any(|target| match target {
            Target::Address(address) => *address == scenario.backends[got],
            Target::Host { .. } | Target::Service { .. } => got < scenario.resolved,
        })
    };
    let leads = |one: &Goes| match one {
        Goes::To { route, backends } => {
            route.as_deref() == record.route.as_deref() && got.is_none_or(|got| may_be(backends, got))
        }
        Goes::Refused(_) | Goes::Nowhere => false,
    };
    let has_gone = got.is_some() || record.route.is_some() || record.phase != "accept";
    if (has_gone || BEYOND.contains(&record.reason)) && !goes.iter().any(leads) {
        return Some("a client went where no route sends it");
    }
    let is_refusal = CERTAIN.contains(&record.reason);
    let is_refused = |one: &Goes| matches!(one, Goes::Refused(reason) if *reason == record.reason);
    (is_refusal && !goes.iter().any(is_refused)).then_some("a client was refused that goes somewhere")
}

/// Both ends of a client's TLS tell the same of it, and the certificate was one of a configuration that held.
fn check_accord(apps: &[&model::App], client: &ClientView, record: &AccessRecord) -> Option<&'static str> {
    let Some(Secured::Agreed { version, alpn, is_resumed, .. }) = &record.asked.as_ref()?.secured else {
        return None;
    };
    let Some(accord) = &client.accord else {
        // In TLS 1.2 the client is told last.
        return (*version == "1.3").then_some("the proxy agreed with a client that knows of nothing");
    };
    if (accord.version, accord.alpn.as_deref(), accord.is_resumed) != (*version, alpn.as_deref(), *is_resumed)
    {
        return Some("the record is wrong about what was agreed on");
    }
    let terms = apps.iter().filter_map(|app| app.tls.as_ref()?.termination.as_ref());
    let is_shown = |shown| terms.clone().any(|terms| tls::is_shown(terms, shown));
    (!accord.store.is_none_or(is_shown)).then_some("a certificate is none of its configuration")
}

/// Whether the proxy says that the client broke the rules of TLS after the handshake.
fn is_against_rules(record: &AccessRecord) -> bool {
    (record.initiator, record.reason) == ("client", "tls_failed")
}

impl Handshakes {
    fn count(&mut self, client: &ClientView, backend: Option<&BackendView>, record: &AccessRecord) {
        let secured = record.asked.as_ref().and_then(|asked| asked.secured.as_ref());
        if let Some(Secured::Agreed { version, is_resumed, .. }) = secured {
            self.agreed += 1;
            self.resumed += u32::from(*is_resumed);
            self.old += u32::from(*version == "1.2");
        }
        self.failed += u32::from(record.reason == "handshake_failed");
        let of_parting = ["handshake_timeout", "left_handshake", "failed_handshake"];
        self.broken_off += u32::from(of_parting.contains(&record.reason));
        self.clean += u32::from(client.ended && backend.is_some_and(|backend| backend.ended));
        self.cut_short += u32::from(record.reason == "cut_short");
        self.against_rules += u32::from(is_against_rules(record));
    }
}

fn check_ends(
    client: &ClientView,
    backend: Option<&BackendView>,
    fate: Fate,
    faults: &mut Vec<&'static str>,
) {
    if !client.done {
        faults.push("a client still waits");
    }
    let Some(backend) = backend else {
        if client.received > 0 {
            faults.push("bytes came from no backend");
        }
        return;
    };
    // That they are the right bytes was checked as they came.
    if backend.received > client.sent {
        faults.push("a backend got more than was sent");
    }
    if client.received > backend.sent {
        faults.push("a client got more than was sent");
    }
    if fate.orphaned {
        return;
    }
    let has_finished = client.shut && backend.received == client.sent;
    // Once the response is over, an end of the connection is as good as one of TLS.
    let has_left = client.truncated && backend.shut;
    if backend.ended && !fate.dialled && !has_finished && !has_left {
        faults.push("a request that was cut looks complete");
    }
    if client.ended && !backend.crashed && !(backend.shut && client.received == backend.sent) {
        faults.push("a response that was cut looks complete");
    }
}

/// `little`: so many bytes of a hello are all that the client sent, if that may have been taken for no TLS.
fn check_records(
    client: &ClientView,
    little: Option<u64>,
    backend: Option<&BackendView>,
    fate: Fate,
    records: &[AccessRecord],
    faults: &mut Vec<&'static str>,
) {
    let record = match records {
        [] if !client.connected || fate.orphaned => return,
        // What a dead process told of it, if anything, and what the one that cut it did.
        [_, _] if fate.cut => return,
        [record] => record,
        [] => return faults.push("no access-log record"),
        _ => return faults.push("more than one access-log record"),
    };
    if fate.orphaned || fate.cut {
        return;
    }
    let [there, back] = record.bytes;
    // What TLS adds to bytes that were not taken is taken for payload, so that some seem to be on their way.
    let may_miss = client.accord.is_some() && (client.broken || !client.ended);
    let is_other = record.asked.as_ref().is_some_and(|asked| asked.protocol == model::Client::Other);
    let bare = little.filter(|_| is_other).unwrap_or(0);
    if there > client.sent + bare || back < client.received && !may_miss {
        faults.push("the record counts bytes that never were");
    }
    if client.cut_short && record.reason == "finished" {
        faults.push("a stream that is complete ended without an end of TLS");
    }
    if let Some(backend) = backend {
        if there < backend.received || back > backend.sent {
            faults.push("the record misses bytes");
        }
        if backend.ended
            && client.ended
            && !client.broken
            && !backend.crashed
            && [there, back] != [if client.truncated { backend.received } else { client.sent }, backend.sent]
        {
            faults.push("the record of a clean end is wrong about its bytes");
        }
    }
}

/// A fingerprint of everything that happened, in order.
#[derive(Debug)]
struct Trace {
    hash: u64,
    lines: Option<String>,
}

impl Default for Trace {
    fn default() -> Self {
        // FNV-1a, 64 bits.
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: None }
    }
}

impl Trace {
    fn note(&mut self, now: Time, what: &str, number: u32, amount: u64) {
        let numbers = [now.as_nanos(), u64::from(number), amount];
        for byte in numbers.into_iter().flat_map(u64::to_le_bytes).chain(what.bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            let milliseconds = now.as_nanos() as f64 / 1e6;
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{milliseconds:>12.3} ms  {what} {number} {amount}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(client: ClientView, backend: Option<BackendView>) -> Vec<&'static str> {
        let mut faults = Vec::new();
        check_ends(&client, backend.as_ref(), Fate::default(), &mut faults);
        faults
    }

    #[test]
    fn a_cut_stream_that_looks_complete_is_found() {
        let client = ClientView { connected: true, sent: 10, done: true, ..ClientView::default() };
        let backend = BackendView { received: 10, ended: true, ..BackendView::default() };
        assert_eq!(faults(client.clone(), Some(backend.clone())), ["a request that was cut looks complete"]);
        let shut = ClientView { shut: true, ..client };
        assert!(faults(shut.clone(), Some(backend)).is_empty());
        let short = BackendView { received: 9, ended: true, ..BackendView::default() };
        assert_eq!(faults(shut, Some(short)), ["a request that was cut looks complete"]);
    }

    #[test]
    fn a_prefix_of_a_broken_stream_is_fine() {
        let client =
            ClientView { connected: true, sent: 10, done: true, broken: true, ..ClientView::default() };
        let backend = BackendView { received: 4, ..BackendView::default() };
        assert!(faults(client, Some(backend)).is_empty());
    }
}
