//! Look-ups as the system is set up: `/etc/hosts`, then the name servers of `/etc/resolv.conf`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

use super::{
    Answer, BACK_OFF_MIN, Family, LookupError, Resolver, ServiceAnswer, ServiceRecord, TTL_MAX, TTL_MIN,
};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// How long an answer from the hosts file holds.
const HOSTS_TTL: Duration = Duration::from_secs(10);
/// How long the answer holds that a name has no address of a family.
const NOTHING_TTL: Duration = Duration::from_secs(30);

/// Looks names up as the rest of the system does, and follows when its files change; or at the name servers that the
/// configuration names.
#[derive(Default)]
pub struct SystemResolver {
    servers: Vec<SocketAddr>,
    timeout: Option<Duration>,
    current: Mutex<Option<Arc<Setup>>>,
}

/// What was read from the files, and which versions of them.
struct Setup {
    versions: [Option<SystemTime>; 2],
    hosts: Hosts,
    resolver: TokioResolver,
}

impl SystemResolver {
    /// Asks these `servers`, or those of the system where there are none.
    pub fn new(servers: Vec<SocketAddr>, timeout: Duration) -> Self {
        Self { servers, timeout: Some(timeout), current: Mutex::default() }
    }

    fn read(&self, versions: [Option<SystemTime>; 2]) -> Result<Setup, LookupError> {
        let (config, mut options) =
            if self.servers.is_empty() { system_conf() } else { named(&self.servers) };
        options.timeout = self.timeout.unwrap_or(options.timeout);
        let hosts = Hosts::from_system().unwrap_or_default();
        Ok(Setup { versions, hosts, resolver: build_resolver(config, options)? })
    }

    /// The setup of now. Two `stat` calls; both files are read again when one has changed.
    fn setup(&self) -> Result<Arc<Setup>, LookupError> {
        let versions = [RESOLV_CONF, HOSTS].map(version_of);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(setup) = current.as_ref().filter(|setup| setup.versions == versions) {
            return Ok(Arc::clone(setup));
        }
        let setup = Arc::new(self.read(versions)?);
        *current = Some(Arc::clone(&setup));
        Ok(setup)
    }
}

impl Resolver for SystemResolver {
    async fn lookup(&self, name: &str, family: Family) -> Result<Answer, LookupError> {
        self.setup()?.lookup(name, family).await
    }

    async fn lookup_service(&self, name: &str) -> Result<ServiceAnswer, LookupError> {
        self.setup()?.lookup_service(name).await
    }
}

impl Setup {
    async fn lookup(&self, name: &str, family: Family) -> Result<Answer, LookupError> {
        let mut name = Name::from_utf8(name).map_err(|error| LookupError(error.to_string()))?;
        if let Some(answer) = in_hosts(&self.hosts, &name, family) {
            return Ok(answer);
        }
        // Local names need no server, and must work without one (RFC 6761, section 6.3).
        if name.is_localhost() {
            name.set_fqdn(true);
        }
        match self.resolver.lookup(name, record_type(family)).await {
            Ok(lookup) => Ok(Answer {
                addresses: lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect(),
                ttl: lookup.valid_until().saturating_duration_since(Instant::now()),
            }),
            Err(error) if error.is_no_records_found() => {
                Ok(Answer { addresses: Vec::new(), ttl: NOTHING_TTL })
            }
            Err(error) => Err(LookupError(error.to_string())),
        }
    }
}

impl Setup {
    async fn lookup_service(&self, name: &str) -> Result<ServiceAnswer, LookupError> {
        let name = Name::from_utf8(name).map_err(|error| LookupError(error.to_string()))?;
        match self.resolver.lookup(name, RecordType::SRV).await {
            Ok(lookup) => Ok(ServiceAnswer {
                records: lookup.answers().iter().filter_map(|record| service_record(&record.data)).collect(),
                ttl: lookup.valid_until().saturating_duration_since(Instant::now()),
            }),
            Err(error) if error.is_no_records_found() => {
                Ok(ServiceAnswer { records: Vec::new(), ttl: NOTHING_TTL })
            }
            Err(error) => Err(LookupError(error.to_string())),
        }
    }
}

/// The root as a target says that there is no such service (RFC 2782), and port zero cannot be dialled.
fn service_record(data: &RData) -> Option<ServiceRecord> {
    let RData::SRV(record) = data else { return None };
    let target = record.target.to_lowercase().to_utf8();
    let target = target.trim_end_matches('.');
    (!target.is_empty() && record.port > 0).then(|| ServiceRecord {
        priority: record.priority,
        weight: record.weight,
        target: target.to_owned(),
        port: record.port,
    })
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

fn system_conf() -> (ResolverConfig, ResolverOpts) {
    hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
        tracing::warn!(%error, "{RESOLV_CONF} cannot be used: only local names will be resolved");
        (ResolverConfig::default(), ResolverOpts::default())
    })
}

/// These servers, in turn, and nothing else of the system.
fn named(servers: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let server = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.into())
    };
    let servers = servers.iter().map(server).collect();
    (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
}

fn build_resolver(config: ResolverConfig, mut options: ResolverOpts) -> Result<TokioResolver, LookupError> {
    // The hosts file is asked here and not there: a name in it has no other addresses.
    options.use_hosts_file = ResolveHosts::Never;
    options.positive_min_ttl = Some(TTL_MIN);
    options.positive_max_ttl = Some(TTL_MAX);
    // Repeated questions after a failure are paced by the caller, and must reach a server.
    options.negative_max_ttl = Some(BACK_OFF_MIN / 2);
    options.cache_size = 64;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| LookupError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::{RData, Record};
    use tokio::net::UdpSocket;

    use super::*;

    #[tokio::test]
    async fn localhost_has_its_address_without_a_name_server() {
        let answer = SystemResolver::default().lookup("localhost", Family::V4).await.expect("an answer");
        assert_eq!(answer.addresses, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn a_name_in_the_hosts_file_is_asked_for_nowhere_else() {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"192.0.2.7 db.test alias.test\n"[..]).expect("well-formed");
        let name = |name| Name::from_utf8(name).expect("a name");
        let v4 = in_hosts(&hosts, &name("alias.test"), Family::V4).expect("it is there");
        assert_eq!(v4.addresses, [IpAddr::from([192, 0, 2, 7])]);
        let v6 = in_hosts(&hosts, &name("db.test"), Family::V6).expect("it is there");
        assert!(v6.addresses.is_empty());
        assert!(in_hosts(&hosts, &name("other.test"), Family::V4).is_none());
    }

    /// Answers each question as `answer` says, until the test ends.
    async fn name_server(answer: impl Fn(&Query, &mut Message) + Send + 'static) -> Setup {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).expect("a question");
                let query = question.queries[0].clone();
                let mut response = Message::response(question.metadata.id, question.metadata.op_code);
                response.add_query(query.clone());
                answer(&query, &mut response);
                let bytes = response.to_vec().expect("an answer");
                socket.send_to(&bytes, peer).await.expect("it is read");
            }
        });
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let resolver = build_resolver(config, ResolverOpts::default()).expect("it is built");
        Setup { versions: [None; 2], hosts: Hosts::default(), resolver }
    }

    fn add_addresses(query: &Query, response: &mut Message, ttl: u32) {
        let addresses: &[IpAddr] = match query.query_type() {
            RecordType::A => &[IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])],
            _ => &[],
        };
        for address in addresses {
            let data = RData::from(*address);
            response.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
        }
    }

    #[tokio::test]
    async fn a_name_server_is_asked_for_all_addresses_and_for_how_long_they_hold() {
        let setup = name_server(|query, response| add_addresses(query, response, 60)).await;
        let v4 = setup.lookup("db.test", Family::V4).await.expect("an answer");
        assert_eq!(v4.addresses, [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])]);
        assert!(v4.ttl > Duration::from_secs(50) && v4.ttl <= Duration::from_secs(60), "{:?}", v4.ttl);
        let v6 = setup.lookup("db.test", Family::V6).await.expect("an answer");
        assert!(v6.addresses.is_empty());
    }

    #[tokio::test]
    async fn a_service_has_the_records_that_its_server_names_and_those_that_say_no() {
        use hickory_resolver::proto::rr::rdata::SRV;
        let setup = name_server(|query, response| {
            let targets = match query.name().to_utf8().starts_with("_none") {
                true => vec![(0, 0, 0, ".")],
                false => vec![(1, 60, 5432, "DB1.test."), (2, 0, 5433, "db2.test."), (1, 5, 0, "db3.test.")],
            };
            for (priority, weight, port, target) in targets {
                let target = Name::from_utf8(target).expect("a name");
                let data = RData::SRV(SRV::new(priority, weight, port, target));
                response.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
        })
        .await;
        let answer = setup.lookup_service("_pg._tcp.test").await.expect("an answer");
        let record = |priority, weight, port, target: &str| ServiceRecord {
            priority,
            weight,
            target: target.to_owned(),
            port,
        };
        assert_eq!(answer.records, [record(1, 60, 5432, "db1.test"), record(2, 0, 5433, "db2.test")]);
        assert!(answer.ttl > Duration::from_secs(50) && answer.ttl <= Duration::from_secs(60));
        assert!(setup.lookup_service("_none._tcp.test").await.expect("an answer").records.is_empty());
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_has_no_address() {
        let setup = name_server(|_, response| response.metadata.response_code = ResponseCode::NXDomain).await;
        let answer = setup.lookup("badroute", Family::V4).await.expect("an answer");
        assert!(answer.addresses.is_empty());
    }

    #[tokio::test]
    async fn a_server_that_fails_gives_no_answer() {
        let setup = name_server(|_, response| response.metadata.response_code = ResponseCode::ServFail).await;
        assert!(setup.lookup("db.test", Family::V4).await.is_err());
    }
}
