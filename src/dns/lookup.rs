//! One lookup: from a name to a set of endpoints.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join},
    stream,
};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType, rdata::SRV};

use super::{
    endpoint::{Endpoint, Found, endpoints},
    error::{Failure, ResolveErrorKind},
    query::{Client, NameServers},
    refresh::{Answer, Resolve},
    target::{HostName, Target},
};

/// Which addresses of a host are used.
///
/// A host with addresses of both families is there twice under [`Both`](Self::Both), and so gets twice the traffic of
/// one that has a single address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressFamily {
    /// Those of IPv4, or those of IPv6 if there is none of IPv4.
    #[default]
    PreferV4,
    /// Those of IPv6, or those of IPv4 if there is none of IPv6.
    PreferV6,
    /// Those of IPv4 only.
    V4,
    /// Those of IPv6 only.
    V6,
    /// All of both.
    Both,
}

/// The lookups of one source.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) source: Arc<str>,
    pub(super) target: Target,
    pub(super) family: AddressFamily,
    pub(super) servers: NameServers,
    /// The limit on the time of one lookup.
    pub(super) timeout: Duration,
    pub(super) max_endpoints: usize,
    pub(super) allow_empty: bool,
    /// The addresses of the last answers, for when one of several queries fails.
    pub(super) known: Known,
}

/// The last addresses of a name and family.
pub(super) type Known = HashMap<(Name, RecordType), Vec<IpAddr>>;

/// The addresses of one name.
#[derive(Default)]
struct Addresses {
    ips: Vec<IpAddr>,
    /// The least one of the answers.
    ttl: Option<Duration>,
    failure: Option<Failure>,
    /// What was learned.
    answers: Known,
}

/// The endpoints that were found, before duplicates are dropped.
#[derive(Default)]
struct Search {
    found: Vec<Found>,
    ttl: Option<Duration>,
    failure: Option<Failure>,
    known: Known,
    /// The number of SRV records, of which the surplus ones are not looked up.
    services: usize,
}

/// The targets of SRV records that are looked up at the same time.
const CONCURRENT_TARGETS: usize = 16;

impl Resolve for Lookup {
    fn resolve(mut self) -> BoxFuture<'static, (Self, Result<Answer, Failure>)> {
        async move {
            let result = tokio::time::timeout(self.timeout, self.search()).await;
            let result = result.unwrap_or_else(|_| Err(Failure::new(ResolveErrorKind::TimedOut)));
            let result = result.and_then(|search| self.answer(search));
            let result = result.or_else(|failure| match failure.negative_ttl {
                ttl if failure.is_definite && self.allow_empty => Ok(Answer::empty(ttl.unwrap_or_default())),
                _ => Err(failure),
            });
            (self, result)
        }
        .boxed()
    }
}

impl Lookup {
    async fn search(&self) -> Result<Search, Failure> {
        let (host, port) = match &self.target {
            Target::Literal(address) => {
                let found = Found::of_host(address.ip(), address.port(), &address.ip().to_string().into());
                return Ok(Search { found: vec![found], ..Search::default() });
            }
            Target::Host(host, port) => (host, Some(*port)),
            Target::Service(host) => (host, None),
        };
        // A query takes half of the time at most: those about the targets of a service come after the one about it.
        let client = Client::new(&self.servers, self.timeout / 2)?;
        let mut failure = Failure::new(ResolveErrorKind::NoRecords);
        for name in client.candidates(host) {
            let search = match port {
                Some(port) => self.host(&client, &name, port, &host.text).await,
                None => self.service(&client, &name).await,
            };
            match search {
                Ok(search) => return Ok(search),
                // A name server that fails does not say that the name does not exist, so the next one might be the wrong
                // name.
                Err(other) if !other.is_definite => return Err(other),
                Err(other) => failure = other,
            }
        }
        Err(failure)
    }

    /// Looks up the addresses of a host.
    async fn host(&self, client: &Client, name: &Name, port: u16, text: &str) -> Result<Search, Failure> {
        let addresses = self.addresses(client, name.clone(), &[]).await;
        let target = Arc::from(text);
        let found: Vec<_> = addresses.ips.into_iter().map(|ip| Found::of_host(ip, port, &target)).collect();
        match addresses.failure {
            // Not one query was answered: what is known is no news.
            Some(failure) if addresses.ttl.is_none() => Err(failure),
            failure => {
                // That one of the families has no address is no failure.
                let failure = failure.filter(|failure| !failure.is_definite);
                Ok(Search { found, ttl: addresses.ttl, failure, known: addresses.answers, services: 0 })
            }
        }
    }

    /// Looks up the SRV records of a service and the addresses of their targets.
    async fn service(&self, client: &Client, name: &Name) -> Result<Search, Failure> {
        let records = client.records(name, RecordType::SRV).await?;
        let srv = |record: &Record| if let RData::SRV(srv) = &record.data { Some(srv.clone()) } else { None };
        let mut services: Vec<SRV> = records.answers.iter().filter_map(srv).collect();
        if services.iter().any(|service| service.target.is_root()) {
            services.retain(|service| !service.target.is_root());
            if services.is_empty() {
                return Err(Failure::definite(ResolveErrorKind::NotAvailable, records.ttl));
            }
        }
        services.retain(|service| service.port != 0 && HostName::of_answer(&service.target).is_some());
        services.sort_by_key(|service| (service.priority, service.target.clone(), service.port));
        let mut search = Search { ttl: Some(records.ttl), services: services.len(), ..Search::default() };
        // Each target has a query or two.
        services.truncate(self.max_endpoints);
        let mut targets = BTreeMap::<Name, Vec<SRV>>::new();
        for service in services {
            targets.entry(service.target.to_lowercase()).or_default().push(service);
        }
        let additionals = &records.additionals;
        let lookups = targets.into_iter().map(|(target, services)| async move {
            let mut name = target.clone();
            name.set_fqdn(true);
            (target, services, self.addresses(client, name, additionals).await)
        });
        let mut lookups = stream::iter(lookups).buffer_unordered(CONCURRENT_TARGETS);
        while let Some((target, services, addresses)) = lookups.next().await {
            let target = Arc::from(HostName::of_answer(&target).unwrap_or_default());
            for service in services {
                let found = |ip| Found {
                    ip,
                    port: service.port,
                    target: Arc::clone(&target),
                    srv_priority: service.priority,
                    srv_weight: service.weight,
                };
                search.found.extend(addresses.ips.iter().copied().map(found));
            }
            search.ttl = search.ttl.into_iter().chain(addresses.ttl).min();
            search.known.extend(addresses.answers);
            // A target that has no address is none, if the name server is certain of it.
            let failure = addresses.failure.filter(|failure| !failure.is_definite);
            search.failure = search.failure.or(failure);
        }
        Ok(search)
    }

    /// Looks up the addresses of a name, unless they are among the additional records of another answer.
    async fn addresses(&self, client: &Client, name: Name, additionals: &[Record]) -> Addresses {
        let (first, second, is_both) = match self.family {
            AddressFamily::PreferV4 => (RecordType::A, Some(RecordType::AAAA), false),
            AddressFamily::PreferV6 => (RecordType::AAAA, Some(RecordType::A), false),
            AddressFamily::V4 => (RecordType::A, None, false),
            AddressFamily::V6 => (RecordType::AAAA, None, false),
            AddressFamily::Both => (RecordType::A, Some(RecordType::AAAA), true),
        };
        let mut addresses = Addresses::default();
        let of = |kind| self.of_family(client, &name, kind, additionals);
        match second {
            Some(second) if is_both => {
                let (one, other) = join(of(first), of(second)).await;
                addresses.add(&name, first, one, &self.known);
                addresses.add(&name, second, other, &self.known);
            }
            _ => {
                addresses.add(&name, first, of(first).await, &self.known);
                // After a failure it is not known whether there are any of the first family.
                let is_none = addresses.failure.as_ref().is_some_and(|failure| failure.is_definite);
                if let Some(second) = second.filter(|_| is_none) {
                    addresses.add(&name, second, of(second).await, &self.known);
                }
            }
        }
        addresses
    }

    async fn of_family(
        &self,
        client: &Client,
        name: &Name,
        kind: RecordType,
        additionals: &[Record],
    ) -> Result<(Vec<IpAddr>, Duration), Failure> {
        let is_of = |record: &&Record| record.record_type() == kind && record.name == *name;
        let given: Vec<_> = additionals.iter().filter(is_of).collect();
        if let Some(ttl) = given.iter().map(|record| record.ttl).min() {
            let ips = given.iter().filter_map(|record| record.data.ip_addr()).collect();
            return Ok((ips, Duration::from_secs(ttl.into())));
        }
        let records = client.records(name, kind).await?;
        let ips: Vec<_> = records.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
        if ips.is_empty() {
            return Err(Failure::new(ResolveErrorKind::NoRecords));
        }
        Ok((ips, records.ttl))
    }

    /// Makes the answer of what was found, and keeps it for the next lookup.
    fn answer(&mut self, search: Search) -> Result<Answer, Failure> {
        let Search { found, ttl, failure, known, services } = search;
        let mut set: Vec<Endpoint> = endpoints(&self.source, found);
        if set.is_empty() {
            return Err(failure.unwrap_or_else(|| Failure::new(ResolveErrorKind::NoRecords)));
        }
        self.known = known;
        let found = set.len().max(services);
        set.truncate(self.max_endpoints);
        let ttl = match self.target {
            Target::Literal(_) => None,
            _ => Some(ttl.unwrap_or_default()),
        };
        Ok(Answer { endpoints: set, found, ttl, failure })
    }
}

impl Addresses {
    /// Adds the answer about one family. After a failure, the addresses that are known are the best answer.
    fn add(&mut self, name: &Name, kind: RecordType, answer: Result<(Vec<IpAddr>, Duration), Failure>, known: &Known) {
        let key = (name.clone(), kind);
        let (ips, ttl) = match answer {
            Ok((ips, ttl)) => (ips, Some(ttl)),
            Err(failure) => {
                let ips = known.get(&key).filter(|_| !failure.is_definite).cloned().unwrap_or_default();
                // One that is not certain counts more.
                if self.failure.as_ref().is_none_or(|other| other.is_definite) {
                    self.failure = Some(failure);
                }
                (ips, None)
            }
        };
        self.ttl = self.ttl.into_iter().chain(ttl).min();
        if !ips.is_empty() {
            self.answers.insert(key, ips.clone());
        }
        self.ips.extend(ips);
    }
}

impl Found {
    fn of_host(ip: IpAddr, port: u16, target: &Arc<str>) -> Self {
        Self { ip, port, target: Arc::clone(target), srv_priority: 0, srv_weight: 0 }
    }
}
