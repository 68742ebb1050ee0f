//! Backends from DNS.
//!
//! [`Dns`] looks up a host ([`Dns::new`]: A and AAAA records) or a service ([`Dns::srv`]: SRV records), again and again.
//! [`Endpoints`] is the stream of the sets that it finds, and [`Fleet::follow_lists`](crate::Fleet::follow_lists) keeps
//! the backends of a fleet like the latest one. Unchanged backends keep their connections, health and load; changed
//! weights and priorities are updated in place.
//!
//! ```text
//!  Dns ──► lookup ──► set of endpoints ──► changed? ──► Endpoints ──► Fleet::follow_lists
//!            ▲                                 │
//!            └── after the TTL, or a backoff ◄─┘
//! ```
//!
//! | DNS answers | the set | next lookup |
//! |---|---|---|
//! | with records | what the records say | after the least TTL, within [`min_ttl`](Dns::min_ttl) and [`max_ttl`](Dns::max_ttl), plus up to a tenth |
//! | `NXDOMAIN`, or without records | the last good one, unless [`allow_empty`](Dns::allow_empty) | after the negative TTL or the backoff |
//! | `SERVFAIL`, `REFUSED`, garbage, nothing, a loop of CNAMEs | the last good one | after `min_ttl`, then twice as long each, up to [`max_backoff`](Dns::max_backoff), plus up to a half |
//! | for some of the names or families only | the last good addresses of the others | after the TTL or the backoff |
//!
//! An outage is one warning at its beginning and one info at its end; [`Endpoints::status`] shows its reason.
//!
//! # SRV records
//!
//! | record | backend |
//! |---|---|
//! | priority | [`priority`](crate::Backend::priority), negated: the lowest is the highest tier, which serves while it can |
//! | weight | [`weight`](crate::Backend::weight) of each address of the target. 0 counts as 1: the least share beside larger weights, an equal one if all are 0 |
//! | port | the port. 0 is left out |
//! | target | its addresses, from the additional section if they are there, else looked up. `.` is left out: the service is not available |
//!
//! # Names
//!
//! With the name servers of the system, a name is completed by the search domains of `/etc/resolv.conf` as glibc does it,
//! and the hosts file is read first. With a final dot, `api.internal.:8080`, it is absolute: that saves up to four
//! queries per lookup in Kubernetes. With [`name_servers`](Dns::name_servers), all names are absolute. The system's
//! settings are read again for each lookup.
//!
//! Each query is sent to the next name server after a failure, and repeated over TCP if the answer is long. CNAME chains
//! are followed for eight steps. There is no cache. The sockets of a lookup run on tasks of hickory, which end with the
//! lookup.
//!
//! # When not to use it
//!
//! If one address stands for all replicas, such as a `ClusterIP` in Kubernetes, there is nothing to balance: connect to
//! the name, or make the service headless. A name server that puts a random part of its records into each answer makes the
//! set change with each lookup: ask one that knows them all. For membership from elsewhere see [`Fleet::follow`](crate::Fleet::follow).
//!
//! # Examples
//!
//! A fleet whose backends are the addresses of a host. It serves at once if DNS answers within two seconds:
//!
//! ```no_run
//! # use std::{net::SocketAddr, time::Duration};
//! # use tower_fleet::{BalanceLayer, Fleet, dns::Dns};
//! # #[derive(Clone)] struct Client(SocketAddr);
//! # async fn run() -> Result<(), tower_fleet::InvalidSetting> {
//! let fleet = Fleet::plain().build()?;
//! let mut endpoints = Dns::new("api.internal:8080").endpoints()?;
//! if let Err(error) = endpoints.first(Duration::from_secs(2)).await {
//!     eprintln!("{error}; serving without backends until DNS answers");
//! }
//! tokio::spawn(fleet.follow_lists(endpoints.backends(), |backend| Client(*backend.service())));
//! # Ok(())
//! # }
//! ```
//!
//! A service with SRV records, another name server, and a timeout for each backend:
//!
//! ```no_run
//! # use std::{net::SocketAddr, time::Duration};
//! # use futures::StreamExt;
//! # use tower_fleet::{Fleet, dns::Dns};
//! # #[derive(Clone)] struct Client(SocketAddr);
//! # async fn run(fleet: Fleet<Client>) -> Result<(), Box<dyn std::error::Error>> {
//! let dns = Dns::srv("_grpc._tcp.api.internal").name_servers(["127.0.0.1:8600".parse()?]).max_ttl(Duration::from_secs(30));
//! let endpoints = dns.endpoints()?;
//! let status = endpoints.status();
//! let lists = endpoints.map(|set| {
//!     let backend = |endpoint: &tower_fleet::dns::Endpoint| endpoint.backend().timeout(Duration::from_secs(10));
//!     set.iter().map(backend).collect()
//! });
//! tokio::spawn(fleet.follow_lists(lists, |backend| Client(*backend.service())));
//! if let Some(error) = status.error() {
//!     eprintln!("{error}, for {:?}", status.age());
//! }
//! # Ok(())
//! # }
//! ```

mod endpoint;
mod endpoints;
mod error;
mod lookup;
mod query;
mod refresh;
mod settings;
mod status;
mod target;
mod timing;

pub use self::{
    endpoint::Endpoint,
    endpoints::Endpoints,
    error::{ResolveError, ResolveErrorKind},
    lookup::AddressFamily,
    settings::Dns,
    status::DnsStatus,
};

#[cfg(test)]
mod tests;
