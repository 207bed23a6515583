//! The limits of one app: who may come at all, how many at once, and how fast.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use ringway::Time;

use super::{
    AddressList, ExactCount, Pacer, Rate, Source, SourceLimits, SourcePermit, SourceRefusal, SourceTable,
};
use crate::model::Limits;

/// What a configuration says, ready to be looked up.
#[derive(Debug)]
pub struct AppRules {
    /// `None`: everybody.
    allow: Option<AddressList>,
    deny: AddressList,
    connections: Option<u32>,
    per_second: Option<u32>,
    source: SourceLimits,
    handshakes: Option<u32>,
    handshakes_per_source: Option<u32>,
    prefix_v6: u8,
}

/// What is counted against the limits. It stays while the configuration of an app changes.
#[derive(Debug, Default)]
pub struct AppCounts {
    /// Connections that were let in and are open.
    open: ExactCount,
    rate: Rate,
    sources: Arc<SourceTable>,
    bandwidth: [Pacer; 2],
    /// Of those, the ones that have not said where they go.
    handshakes: ExactCount,
    /// Made when it is first needed: it takes some kilobytes.
    handshake_sources: OnceLock<Arc<SourceTable>>,
}

/// A client that has not said where it goes; dropped, it is one less.
#[derive(Debug)]
pub struct HandshakePermit {
    counts: Arc<AppCounts>,
    _source: Option<SourcePermit>,
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.counts.handshakes.release();
    }
}

/// Why a client is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By address.
    Denied,
    /// The app has as many connections as it may.
    Connections,
    /// Its source has as many connections as it may.
    SourceConnections,
    /// The app got as many new connections as it may.
    Rate,
    /// Its source opened as many new connections as it may.
    SourceRate,
    /// As many clients of the app as may have not said where they go.
    Handshakes,
    /// As many clients of its source as may have not said where they go.
    SourceHandshakes,
}

impl AppRules {
    /// The rules of these limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            allow: limits.allow.as_ref().map(|networks| AddressList::new(networks)),
            deny: AddressList::new(&limits.deny),
            connections: limits.connections,
            per_second: limits.connections_per_second,
            source: SourceLimits {
                connections: limits.connections_per_source,
                per_second: limits.connections_per_second_per_source,
            },
            handshakes: limits.handshakes,
            handshakes_per_source: limits.handshakes_per_source,
            prefix_v6: limits.source_prefix_v6,
        }
    }

    /// Whether everybody may come, always.
    pub fn are_none(&self) -> bool {
        self.allow.is_none()
            && self.deny.is_empty()
            && self.connections.is_none()
            && self.per_second.is_none()
            && self.source == SourceLimits::default()
    }

    /// Whether clients that have not said where they go are counted.
    pub fn limit_handshakes(&self) -> bool {
        self.handshakes.is_some() || self.handshakes_per_source.is_some()
    }

    /// Whether a client with this address may come at all.
    pub fn allows(&self, ip: IpAddr) -> bool {
        !self.deny.contains(ip) && self.allow.as_ref().is_none_or(|allow| allow.contains(ip))
    }
}

impl AppCounts {
    /// Connections that were let in and are open.
    pub fn open(&self) -> &ExactCount {
        &self.open
    }

    /// The bytes of all its connections: from clients, from backends.
    pub fn bandwidth(&self) -> &[Pacer; 2] {
        &self.bandwidth
    }

    /// The sources of those that are limited by source.
    pub fn sources(&self) -> &SourceTable {
        &self.sources
    }

    /// When the bucket of new connections is full again, in nanoseconds of the process clock.
    pub(crate) fn rate_full_at(&self) -> u64 {
        self.rate.full_at()
    }

    /// Goes on with the bucket of another process that had the same clock.
    pub(crate) fn set_rate_full_at(&self, full_at: u64) {
        self.rate.fill_at(full_at);
    }

    /// Counts a client at its source that another process had let in: it is there, whatever the limit says.
    pub(crate) fn rejoin(&self, rules: &AppRules, ip: IpAddr) -> SourcePermit {
        let source = Source::of(ip, rules.prefix_v6);
        let entered = self.sources.enter(source, SourceLimits::default(), Time::ZERO);
        entered.unwrap_or_else(|_| unreachable!("without limits nobody is refused"))
    }

    /// Waits for a client to say where it goes, until the permit is dropped.
    ///
    /// # Errors
    /// Why not; nothing is counted then.
    pub fn begin_handshake(
        self: &Arc<Self>,
        rules: &AppRules,
        ip: Option<IpAddr>,
    ) -> Result<HandshakePermit, Refusal> {
        let source = match (ip, rules.handshakes_per_source) {
            (Some(ip), Some(_)) => {
                let limits = SourceLimits { connections: rules.handshakes_per_source, per_second: None };
                let sources = self.handshake_sources.get_or_init(Arc::default);
                let entered = sources.enter(Source::of(ip, rules.prefix_v6), limits, Time::ZERO);
                Some(entered.map_err(|_| Refusal::SourceHandshakes)?)
            }
            _ => None,
        };
        if !self.handshakes.try_acquire(rules.handshakes.unwrap_or(u32::MAX)) {
            return Err(Refusal::Handshakes);
        }
        Ok(HandshakePermit { counts: Arc::clone(self), _source: source })
    }

    /// Waits on for a client that another process had let in: it is there, whatever the limit says.
    pub(crate) fn rejoin_handshake(
        self: &Arc<Self>,
        rules: &AppRules,
        ip: Option<IpAddr>,
    ) -> HandshakePermit {
        let source = ip.filter(|_| rules.handshakes_per_source.is_some()).map(|ip| {
            let sources = self.handshake_sources.get_or_init(Arc::default);
            let entered = sources.enter(Source::of(ip, rules.prefix_v6), SourceLimits::default(), Time::ZERO);
            entered.unwrap_or_else(|_| unreachable!("without limits nobody is refused"))
        });
        self.handshakes.acquire();
        HandshakePermit { counts: Arc::clone(self), _source: source }
    }

    /// Clients that have not said where they go.
    pub fn handshakes(&self) -> &ExactCount {
        &self.handshakes
    }

    /// Lets a client in: counts it in [`Self::open`], which the caller gives back, and at its source, which the permit
    /// does. `ip`: `None` for a client of a Unix socket, of which nothing that goes by address holds.
    ///
    /// # Errors
    /// Why not; nothing is counted then, but what was taken of a rate.
    pub fn enter(
        &self,
        rules: &AppRules,
        ip: Option<IpAddr>,
        now: Time,
    ) -> Result<Option<SourcePermit>, Refusal> {
        if ip.is_some_and(|ip| !rules.allows(ip)) {
            return Err(Refusal::Denied);
        }
        if !self.open.try_acquire(rules.connections.unwrap_or(u32::MAX)) {
            return Err(Refusal::Connections);
        }
        let refuse = |refusal| {
            self.open.release();
            Err(refusal)
        };
        let permit = match ip.filter(|_| rules.source != SourceLimits::default()) {
            None => None,
            // First of all by source: who comes too often takes nothing from the others.
            Some(ip) => match self.sources.enter(Source::of(ip, rules.prefix_v6), rules.source, now) {
                Ok(permit) => Some(permit),
                Err(SourceRefusal::Connections) => return refuse(Refusal::SourceConnections),
                Err(SourceRefusal::Rate) => return refuse(Refusal::SourceRate),
            },
        };
        match rules.per_second {
            Some(per_second) if !self.rate.try_take(now.as_nanos(), per_second) => refuse(Refusal::Rate),
            _ => Ok(permit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Network;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn rules(limits: Limits) -> AppRules {
        AppRules::new(&limits)
    }

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| Network::parse(text).expect("a network")).collect()
    }

    #[test]
    fn denied_wins_over_allowed_and_unix_clients_have_no_address_to_be_denied_by() {
        let rules = rules(Limits {
            allow: Some(networks(&["10.0.0.0/8"])),
            deny: networks(&["10.6.0.0/16"]),
            ..Limits::default()
        });
        let counts = AppCounts::default();
        let enter = |ip| counts.enter(&rules, ip, Time::ZERO).map(drop);
        assert_eq!(enter(ip("10.1.2.3")), Ok(()));
        assert_eq!(enter(ip("10.6.2.3")), Err(Refusal::Denied));
        assert_eq!(enter(ip("192.0.2.1")), Err(Refusal::Denied));
        assert_eq!(enter(None), Ok(()));
        assert_eq!(counts.open().get(), 2);
    }

    #[test]
    fn refused_connection_is_counted_nowhere() {
        let rules = rules(Limits {
            connections: Some(3),
            connections_per_source: Some(2),
            connections_per_second: Some(3),
            ..Limits::default()
        });
        let counts = AppCounts::default();
        let enter = |ip| counts.enter(&rules, ip, Time::from_nanos(7_000_000_000));
        let first = [enter(ip("192.0.2.1")), enter(ip("192.0.2.1"))];
        assert!(first.iter().all(Result::is_ok));
        assert_eq!(enter(ip("192.0.2.1")).err(), Some(Refusal::SourceConnections));
        let second = enter(ip("192.0.2.2"));
        assert!(second.is_ok());
        assert_eq!(enter(ip("192.0.2.3")).err(), Some(Refusal::Connections));
        counts.open().release();
        assert_eq!(enter(ip("192.0.2.3")).err(), Some(Refusal::Rate));
        assert_eq!((counts.open().get(), counts.sources().len()), (2, 2));
    }

    #[test]
    fn without_limits_there_is_nothing_to_check() {
        assert!(rules(Limits::default()).are_none());
        assert!(!rules(Limits { allow: Some(Vec::new()), ..Limits::default() }).are_none());
        assert!(!rules(Limits { connections_per_second: Some(1), ..Limits::default() }).are_none());
    }
}
