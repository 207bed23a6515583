//! Look-ups as the system is set up: `/etc/hosts`, then the name servers of `/etc/resolv.conf`.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

use super::{Answer, BACK_OFF_MIN, Family, LookupError, Resolver, TTL_MAX, TTL_MIN};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// How long an answer from the hosts file holds.
const HOSTS_TTL: Duration = Duration::from_secs(10);

/// Looks names up as the rest of the system does, and follows when its files change.
#[derive(Default)]
pub struct SystemResolver {
    current: Mutex<Option<Arc<Setup>>>,
}

/// What was read from the files, and which versions of them.
struct Setup {
    versions: [Option<SystemTime>; 2],
    hosts: Hosts,
    resolver: TokioResolver,
}

impl SystemResolver {
    /// The setup of now. Two `stat` calls; both files are read again when one has changed.
    fn setup(&self) -> Result<Arc<Setup>, LookupError> {
        let versions = [RESOLV_CONF, HOSTS].map(version_of);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(setup) = current.as_ref().filter(|setup| setup.versions == versions) {
            return Ok(Arc::clone(setup));
        }
        let setup = Arc::new(read_setup(versions)?);
        *current = Some(Arc::clone(&setup));
        Ok(setup)
    }
}

impl Resolver for SystemResolver {
    async fn lookup(&self, name: &str, family: Family) -> Result<Answer, LookupError> {
        let setup = self.setup()?;
        let mut name = Name::from_utf8(name).map_err(|error| LookupError(error.to_string()))?;
        if let Some(answer) = in_hosts(&setup.hosts, &name, family) {
            return Ok(answer);
        }
        // Local names need no server, and must work without one (RFC 6761, section 6.3).
        if name.is_localhost() {
            name.set_fqdn(true);
        }
        match setup.resolver.lookup(name, record_type(family)).await {
            Ok(lookup) => Ok(Answer {
                addresses: lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect(),
                ttl: lookup.valid_until().saturating_duration_since(Instant::now()),
            }),
            Err(error) if error.is_no_records_found() => {
                Ok(Answer { addresses: Vec::new(), ttl: Duration::from_secs(30) })
            }
            Err(error) => Err(LookupError(error.to_string())),
        }
    }
}

/// What the hosts file says. A name that it knows is asked for nowhere else, whatever the family.
fn in_hosts(hosts: &Hosts, name: &Name, family: Family) -> Option<Answer> {
    let of = |family| hosts.lookup_static_host(&Query::query(name.clone(), record_type(family)));
    if Family::ALL.into_iter().all(|family| of(family).is_none()) {
        return None;
    }
    let lookup = of(family);
    let records = lookup.iter().flat_map(|lookup| lookup.answers());
    Some(Answer { addresses: records.filter_map(|record| record.data.ip_addr()).collect(), ttl: HOSTS_TTL })
}

fn record_type(family: Family) -> RecordType {
    match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    }
}

fn version_of(path: &str) -> Option<SystemTime> {
    fs::metadata(Path::new(path)).and_then(|metadata| metadata.modified()).ok()
}

fn read_setup(versions: [Option<SystemTime>; 2]) -> Result<Setup, LookupError> {
    let (config, mut options) = match hickory_resolver::system_conf::read_system_conf() {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(%error, "{RESOLV_CONF} cannot be used: only local names will be resolved");
            (ResolverConfig::default(), ResolverOpts::default())
        }
    };
    // The hosts file is asked here and not there: a name in it has no other addresses.
    options.use_hosts_file = ResolveHosts::Never;
    options.positive_min_ttl = Some(TTL_MIN);
    options.positive_max_ttl = Some(TTL_MAX);
    // Repeated questions after a failure are paced by the caller, and must reach a server.
    options.negative_max_ttl = Some(BACK_OFF_MIN / 2);
    options.cache_size = 64;
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| LookupError(error.to_string()))?;
    Ok(Setup { versions, hosts: Hosts::from_system().unwrap_or_default(), resolver })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_has_its_address_without_a_name_server() {
        let answer = SystemResolver::default().lookup("localhost", Family::V4).await.expect("an answer");
        assert_eq!(answer.addresses, [std::net::IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn a_name_in_the_hosts_file_is_asked_for_nowhere_else() {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"192.0.2.7 db.test alias.test\n"[..]).expect("well-formed");
        let name = |name| Name::from_utf8(name).expect("a name");
        let v4 = in_hosts(&hosts, &name("alias.test"), Family::V4).expect("it is there");
        assert_eq!(v4.addresses, [std::net::IpAddr::from([192, 0, 2, 7])]);
        let v6 = in_hosts(&hosts, &name("db.test"), Family::V6).expect("it is there");
        assert!(v6.addresses.is_empty());
        assert!(in_hosts(&hosts, &name("other.test"), Family::V4).is_none());
    }
}
