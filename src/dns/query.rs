//! Queries to name servers.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{
    Hosts, MAX_TTL, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RData, Record, RecordType},
    },
    system_conf::read_system_conf,
};

use super::{
    error::{Failure, ResolveErrorKind},
    target::HostName,
};

/// Which name servers are queried. `None` for those of the system.
pub(super) type NameServers = Option<Vec<SocketAddr>>;

/// The most name servers of the system that are queried, as in glibc.
const MAX_SYSTEM_SERVERS: usize = 3;

/// The most CNAME records from a name to its addresses. More of them are a loop.
const MAX_ALIASES: usize = 32;

/// What the queries of one lookup use: a resolver for each name server, and the search domains.
///
/// It is made anew for each lookup, so changes of the system's settings and of its hosts file are seen, and no socket or
/// task exists between lookups. It has no cache: the times between lookups are those of the TTLs already, and a second
/// cache would hide changes.
pub(super) struct Client {
    /// One for each name server, so that an error of one is followed by a query to the next. A resolver of several would
    /// return it.
    resolvers: Vec<TokioResolver>,
    /// Those of the system's file. Read once here, and not by each resolver.
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
}

/// The records of an answer, and the time for which they are valid.
pub(super) struct Records {
    pub(super) answers: Vec<Record>,
    pub(super) additionals: Vec<Record>,
    pub(super) ttl: Duration,
}

impl Client {
    /// Makes the resolvers. The queries about one name and type take at most this time.
    pub(super) fn new(servers: &NameServers, time: Duration) -> Result<Self, Failure> {
        let invalid = |error: NetError| Failure::with_cause(ResolveErrorKind::InvalidSystemSettings, error);
        let (search, ndots, servers, mut options, hosts) = match servers {
            Some(servers) => {
                let servers = servers.iter().copied().map(name_server).collect();
                (Vec::new(), 1, servers, ResolverOpts::default(), Hosts::default())
            }
            None => {
                // A few small files, once per lookup.
                let (config, options) = read_system_conf().map_err(invalid)?;
                let (domain, mut search, mut servers) = config.into_parts();
                search.extend(domain.filter(|_| search.is_empty()));
                servers.truncate(MAX_SYSTEM_SERVERS);
                (search, options.ndots, servers, options, Hosts::from_system().unwrap_or_default())
            }
        };
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        // Which records are those of a name is told by them.
        options.preserve_intermediates = true;
        // Within the time, hickory repeats an unanswered query by itself.
        options.attempts = 0;
        options.timeout = time / u32::try_from(servers.len().max(1)).unwrap_or(1);
        let resolver = |server| {
            let config = ResolverConfig::from_name_servers(vec![server]);
            let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.with_options(options.clone()).build()
        };
        let resolvers = servers.into_iter().map(resolver).collect::<Result<_, _>>().map_err(invalid)?;
        Ok(Self { resolvers, hosts, search, ndots })
    }

    /// Returns the names to be looked up, one after the other until one exists.
    pub(super) fn candidates(&self, host: &HostName) -> Vec<Name> {
        let is_static = |name: &Name| {
            let known = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)).is_some();
            known(RecordType::A) || known(RecordType::AAAA)
        };
        match host.candidates(&[], self.ndots) {
            // As glibc: before any query about it with a search domain.
            plain if plain.iter().any(is_static) => plain,
            _ => host.candidates(&self.search, self.ndots),
        }
    }

    /// Returns the records of a name. Queries the next name server after a failure, but not after a negative answer.
    pub(super) async fn records(&self, name: &Name, kind: RecordType) -> Result<Records, Failure> {
        if let Some(lookup) = self.hosts.lookup_static_host(&Query::query(name.clone(), kind)) {
            let (answers, ttl) = (lookup.answers().to_vec(), Duration::from_secs(MAX_TTL.into()));
            return Ok(Records { answers, additionals: Vec::new(), ttl });
        }
        let mut failure = Failure::new(ResolveErrorKind::InvalidSystemSettings);
        for resolver in &self.resolvers {
            match resolver.lookup(name.clone(), kind).await {
                Ok(lookup) => {
                    let message = lookup.message();
                    let (answers, ttl) = of_name(name, kind, &message.answers);
                    let (additionals, ttl) = (message.additionals.clone(), Duration::from_secs(ttl.into()));
                    return Ok(Records { answers, additionals, ttl });
                }
                Err(error) => failure = Failure::of_query(error),
            }
            if failure.is_definite {
                break;
            }
        }
        Err(failure)
    }
}

/// Returns the records of a type that a name has, by itself or by its CNAME records, and the least TTL of them all. An
/// answer may hold records of other names too, which no query named.
fn of_name(name: &Name, kind: RecordType, answers: &[Record]) -> (Vec<Record>, u32) {
    let (mut names, mut least) = (vec![name], u32::MAX);
    // They may form a loop.
    while names.len() <= MAX_ALIASES
        && let Some((target, ttl)) = names.last().and_then(|name| alias(name, answers))
    {
        names.push(target);
        least = least.min(ttl);
    }
    let is_of = |record: &&Record| record.record_type() == kind && names.contains(&&record.name);
    let found: Vec<_> = answers.iter().filter(is_of).cloned().collect();
    let ttl = found.iter().map(|record| record.ttl).min().map_or(0, |ttl| ttl.min(least));
    (found, ttl)
}

/// Returns the name that another one is an alias of, and for how long.
fn alias<'a>(name: &Name, answers: &'a [Record]) -> Option<(&'a Name, u32)> {
    answers.iter().filter(|record| record.name == *name).find_map(|record| match &record.data {
        RData::CNAME(target) => Some((&target.0, record.ttl)),
        _ => None,
    })
}

/// A name server over UDP, and over TCP for long answers.
fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    // C56
    #[tokio::test]
    async fn a_name_of_the_hosts_file_is_used_before_any_query_with_a_search_domain() {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"10.0.0.1 near Far.example\n10.0.0.2 near # and\n"[..]).expect("a file");
        let search = vec![Name::from_ascii("cluster.local.").expect("a name")];
        let client = Client { resolvers: Vec::new(), hosts, search, ndots: 5 };
        let names = |host: &str| {
            let host = HostName { text: host.into(), is_absolute: false };
            client.candidates(&host).iter().map(Name::to_ascii).collect::<Vec<_>>()
        };
        assert_eq!(names("near"), ["near."]);
        assert_eq!(names("far.example"), ["far.example."]);
        assert_eq!(names("other"), ["other.cluster.local.", "other."]);
        let near = Name::from_ascii("near.").expect("a name");
        let records = client.records(&near, RecordType::A).await.map_err(|failure| failure.kind).expect("it is known");
        let ips: Vec<_> = records.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
        assert_eq!(ips, ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse::<std::net::IpAddr>().expect("an address")));
        assert!(client.records(&near, RecordType::AAAA).await.is_err(), "that one is a query");
    }
}
