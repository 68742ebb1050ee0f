//! The settings of lookups.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{
    endpoints::Endpoints,
    lookup::{AddressFamily, Known, Lookup},
    query::NameServers,
    target::Target,
    timing::Timing,
};
use crate::{name::BackendName, setting::InvalidSetting};

/// Looks up the backends of a service in DNS.
///
/// See the [module](crate::dns) for what is looked up and when.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::dns::{AddressFamily, Dns};
/// let hosts = Dns::new("api.internal:8080").family(AddressFamily::Both).endpoints()?;
/// let service = Dns::srv("_grpc._tcp.api.internal").max_ttl(Duration::from_secs(30)).endpoints()?;
/// assert!(Dns::new("api.internal").endpoints().is_err(), "the port is missing");
/// # Ok::<_, tower_fleet::InvalidSetting>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "nothing is looked up until the endpoints are polled"]
pub struct Dns {
    /// Parsed at once, since a refused URL may hold a password.
    target: Result<Target, InvalidSetting>,
    name: Option<String>,
    family: AddressFamily,
    servers: NameServers,
    min_ttl: Duration,
    max_ttl: Option<Duration>,
    max_backoff: Option<Duration>,
    timeout: Duration,
    max_endpoints: usize,
    allow_empty: bool,
}

/// The longest time of any setting.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Ten lookups a second are the most that any setting allows.
const SHORTEST_TTL: Duration = Duration::from_millis(100);

/// The longest name of a source: with the longest address, it is a valid name of a backend.
const MAX_NAME: usize = 80;

impl Dns {
    /// Looks up the addresses of a host: `api.internal:8080`. An IP address with a port needs no lookup.
    pub fn new(address: &str) -> Self {
        Self::of(Target::host(address))
    }

    /// Looks up the SRV records of a service: `_grpc._tcp.api.internal`.
    pub fn srv(service: &str) -> Self {
        Self::of(Target::service(service))
    }

    fn of(target: Result<Target, InvalidSetting>) -> Self {
        Self {
            target,
            name: None,
            family: AddressFamily::default(),
            servers: None,
            min_ttl: Duration::from_secs(5),
            max_ttl: None,
            max_backoff: None,
            timeout: Duration::from_secs(5),
            max_endpoints: 1_000,
            allow_empty: false,
        }
    }

    /// Sets the first part of the names of the backends, before the address. Default the name that is looked up, without
    /// the port, and cut to 80 bytes.
    ///
    /// Two sources in one fleet that may find the same address need different names.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets which addresses of a host are used. Default [`AddressFamily::PreferV4`].
    pub fn family(mut self, family: AddressFamily) -> Self {
        self.family = family;
        self
    }

    /// Queries these name servers, over UDP and TCP. Default those of the system.
    ///
    /// Names are absolute then: there is no search domain, and no hosts file. A failure of the first server is followed
    /// by a query to the next.
    pub fn name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.servers = Some(servers.into_iter().collect());
        self
    }

    /// Sets the shortest time between two lookups, whatever the TTL is. Default 5 s, at least 100 ms.
    ///
    /// Failures are retried after this time, and then after twice as long each, up to [`max_backoff`](Self::max_backoff).
    pub fn min_ttl(mut self, ttl: Duration) -> Self {
        self.min_ttl = ttl;
        self
    }

    /// Sets the longest time for which an answer is used without another lookup. Default 5 min, or `min_ttl` if that is
    /// longer.
    ///
    /// A TTL of a day would keep a removed backend for a day.
    pub fn max_ttl(mut self, ttl: Duration) -> Self {
        self.max_ttl = Some(ttl);
        self
    }

    /// Sets the longest time between lookups that fail. Default 1 min, or `min_ttl` if that is longer.
    pub fn max_backoff(mut self, time: Duration) -> Self {
        self.max_backoff = Some(time);
        self
    }

    /// Limits the time of one lookup with all its queries. Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Limits the number of endpoints. Default 1,000. Those of the highest tier and lowest address are kept, with a
    /// warning.
    pub fn max_endpoints(mut self, endpoints: usize) -> Self {
        self.max_endpoints = endpoints;
        self
    }

    /// Yields an empty set if a name server says for certain that there is none. Default false: the last good set stays.
    ///
    /// That is `NXDOMAIN`, an empty answer with the SOA record of its zone, or an SRV record with the target `.`. For
    /// services that are scaled down to nothing on purpose.
    pub fn allow_empty(mut self, allowed: bool) -> Self {
        self.allow_empty = allowed;
        self
    }

    /// Returns the stream of the sets of endpoints. Poll it in a tokio runtime with I/O and time.
    ///
    /// # Errors
    ///
    /// The first invalid setting.
    pub fn endpoints(self) -> Result<Endpoints, InvalidSetting> {
        let target = self.target?;
        let source = match self.name {
            Some(name) => checked_name(name)?,
            None => target.name().chars().take(MAX_NAME).collect::<String>().into(),
        };
        checked_time("min_ttl", self.min_ttl, SHORTEST_TTL, "must be from 100 ms to 30 days")?;
        checked_time("timeout", self.timeout, Duration::from_millis(10), "must be from 10 ms to 30 days")?;
        let at_least_min = |field, time: Option<Duration>, default: Duration| match time {
            Some(time) => checked_time(field, time, self.min_ttl, "must be from min_ttl to 30 days"),
            None => Ok(default.max(self.min_ttl)),
        };
        let timing = Timing {
            min_ttl: self.min_ttl,
            max_ttl: at_least_min("max_ttl", self.max_ttl, Duration::from_secs(300))?,
            max_backoff: at_least_min("max_backoff", self.max_backoff, Duration::from_secs(60))?,
        };
        if !(1..=100_000).contains(&self.max_endpoints) {
            return Err(refused("max_endpoints", self.max_endpoints, "must be from 1 to 100000"));
        }
        let lookup = Lookup {
            source,
            target,
            family: self.family,
            servers: checked_servers(self.servers)?,
            timeout: self.timeout,
            max_endpoints: self.max_endpoints,
            allow_empty: self.allow_empty,
            known: Known::default(),
        };
        Ok(Endpoints::new(timing, lookup))
    }
}

fn refused(field: &'static str, value: impl std::fmt::Display, reason: &'static str) -> InvalidSetting {
    InvalidSetting::of("dns", field, value, reason)
}

fn checked_time(
    field: &'static str,
    time: Duration,
    least: Duration,
    reason: &'static str,
) -> Result<Duration, InvalidSetting> {
    let is_valid = (least..=LONGEST).contains(&time);
    if is_valid { Ok(time) } else { Err(refused(field, format_args!("{time:?}"), reason)) }
}

fn checked_name(name: String) -> Result<Arc<str>, InvalidSetting> {
    let name: Arc<str> = name.into();
    BackendName::checked(&name).map_err(|error| InvalidSetting::in_part("dns", error))?;
    if name.len() > MAX_NAME {
        return Err(refused("name", format_args!("`{name}`"), "must have at most 80 bytes"));
    }
    Ok(name)
}

fn checked_servers(servers: NameServers) -> Result<NameServers, InvalidSetting> {
    let Some(servers) = servers else { return Ok(None) };
    if !(1..=8).contains(&servers.len()) {
        return Err(refused("name_servers", servers.len(), "must be from 1 to 8"));
    }
    let is_valid = |server: &&SocketAddr| server.port() != 0 && !server.ip().is_unspecified();
    if let Some(server) = servers.iter().find(|server| !is_valid(server)) {
        return Err(refused("name_servers", server, "must be an address with a port"));
    }
    Ok(Some(servers))
}

#[cfg(test)]
mod tests {
    use super::*;

    // C58, C63
    #[test]
    fn settings_without_sense_are_refused_by_name() {
        let dns = || Dns::new("api:80");
        let (day, long) = (Duration::from_secs(86_400), "a".repeat(81));
        let cases = [
            (dns().min_ttl(Duration::ZERO), "min_ttl"),
            (dns().min_ttl(Duration::from_millis(99)), "min_ttl"),
            (dns().min_ttl(31 * day), "min_ttl"),
            (dns().min_ttl(Duration::MAX), "min_ttl"),
            (dns().max_ttl(Duration::from_secs(4)), "max_ttl"),
            (dns().max_ttl(Duration::MAX), "max_ttl"),
            (dns().max_backoff(Duration::ZERO), "max_backoff"),
            (dns().max_backoff(31 * day), "max_backoff"),
            (dns().timeout(Duration::ZERO), "timeout"),
            (dns().timeout(Duration::MAX), "timeout"),
            (dns().max_endpoints(0), "max_endpoints"),
            (dns().max_endpoints(usize::MAX), "max_endpoints"),
            (dns().name_servers([]), "name_servers"),
            (dns().name_servers(["127.0.0.1:0".parse().expect("an address")]), "name_servers"),
            (dns().name_servers(["0.0.0.0:53".parse().expect("an address")]), "name_servers"),
            (dns().name_servers(["127.0.0.1:53".parse().expect("an address"); 9]), "name_servers"),
            (dns().name(""), "name"),
            (dns().name("a b"), "name"),
            (dns().name(long), "name"),
            (Dns::new("api"), "address"),
            (Dns::srv("a b"), "service"),
        ];
        for (dns, field) in cases {
            let error = dns.endpoints().expect_err(field);
            assert_eq!(error.field(), field, "{error}");
            assert!(error.to_string().starts_with("dns: "), "{error}");
        }
    }

    // C63
    #[test]
    fn a_long_minimum_lengthens_the_defaults() {
        assert!(Dns::new("api:80").min_ttl(Duration::from_secs(3_600)).endpoints().is_ok());
    }

    // C59
    #[test]
    fn a_password_in_an_address_is_not_shown() {
        let dns = Dns::new("http://user:hunter2@api:80");
        assert!(!format!("{dns:?} {:?}", dns.clone().endpoints()).contains("hunter2"));
    }
}
