//! The gateway's file: `[server]` and `[upstreams]` are its own, the rest is the fleet.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::PathBuf,
    thread,
    time::Duration,
};

use http::HeaderName;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, Error as _},
};
use toml::Table;
use tower::BoxError;
use tower_fleet::Config;

use crate::{error_format::ErrorFormat, headers::frames_messages};

/// Everything that the file sets.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) server: Server,
    pub(crate) upstreams: Upstreams,
    pub(crate) config: Config,
}

/// The side of the clients.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Server {
    #[serde(deserialize_with = "address")]
    pub(crate) listen: SocketAddr,
    /// One per core.
    #[serde(deserialize_with = "workers")]
    pub(crate) workers: NonZeroUsize,
    /// How long a client may take for the head of a request, and be idle between two.
    #[serde(deserialize_with = "duration")]
    pub(crate) header_timeout: Duration,
    /// How long a body may stand still, either way.
    #[serde(deserialize_with = "duration")]
    pub(crate) stall: Duration,
    /// How long requests have to finish when the gateway stops.
    #[serde(deserialize_with = "duration")]
    pub(crate) grace: Duration,
    /// Hyper's hundred, unless it is set: then it takes memory of its own for each request.
    #[serde(deserialize_with = "headers")]
    pub(crate) max_headers: Option<usize>,
    pub(crate) max_header_bytes: usize,
    pub(crate) max_connections: NonZeroUsize,
    /// Requests at a time on one HTTP/2 connection.
    pub(crate) max_streams: u32,
    /// Proxies in front of this one, whose `X-Forwarded-*` headers are kept and added to.
    #[serde(deserialize_with = "addresses")]
    pub(crate) trusted_proxies: Vec<IpAddr>,
    /// Tells clients which backends were tried when all of them failed.
    pub(crate) explain: bool,
    pub(crate) errors: ErrorFormat,
    /// The name of a response header that says which backends were tried.
    #[serde(deserialize_with = "header")]
    pub(crate) ledger_header: Option<HeaderName>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            header_timeout: Duration::from_secs(30),
            // A language model may think for a while between two tokens.
            stall: Duration::from_secs(120),
            grace: Duration::from_secs(30),
            max_headers: None,
            max_header_bytes: 64 * 1024,
            max_connections: NonZeroUsize::new(10_000).expect("not zero"),
            max_streams: 200,
            trusted_proxies: Vec::new(),
            explain: false,
            errors: ErrorFormat::default(),
            ledger_header: None,
        }
    }
}

impl Server {
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.contains(&peer.to_canonical())
    }
}

/// The side of the backends.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Upstreams {
    #[serde(deserialize_with = "duration")]
    pub(crate) connect_timeout: Duration,
    /// Backends that speak HTTP/2 without TLS. With TLS the two agree on it by themselves.
    pub(crate) h2c: Vec<String>,
    /// The certificates that are trusted, instead of the system's.
    pub(crate) ca: Option<PathBuf>,
}

impl Default for Upstreams {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(5), h2c: Vec::new(), ca: None }
    }
}

impl Settings {
    /// Every error names the place in the file and the value.
    pub(crate) fn read(text: &str) -> Result<Self, BoxError> {
        let mut file: Table = text.parse()?;
        let server = section(&mut file, "server")?;
        let upstreams: Upstreams = section(&mut file, "upstreams")?;
        let config = Config::read(file)?;
        for (index, name) in upstreams.h2c.iter().enumerate() {
            if !config.backends().iter().chain(config.discovered()).any(|backend| *name == *backend.name()) {
                return Err(format!("upstreams.h2c[{index}]: `{name}` names no backend").into());
            }
        }
        for (index, backend) in config.backends().iter().enumerate() {
            let wrong = |reason| format!("backend[{index}].origin: backend `{}` {reason}", backend.name());
            let target = backend.service().target().ok_or_else(|| wrong("has no origin".to_owned()))?;
            // As nginx does: a name with a typo is found now, and not with the first request.
            let host = target.host().unwrap_or_default();
            resolved(host, target.port_u16().unwrap_or(0))
                .map_err(|error| wrong(format!("has a host that cannot be resolved: `{host}`: {error}")))?;
        }
        Ok(Self { server, upstreams, config })
    }
}

impl AsRef<Config> for Settings {
    fn as_ref(&self) -> &Config {
        &self.config
    }
}

/// Takes one of the gateway's own tables out of the file.
fn section<T: Default + DeserializeOwned>(file: &mut Table, name: &str) -> Result<T, String> {
    let Some(table) = file.remove(name) else { return Ok(T::default()) };
    serde_path_to_error::deserialize(table)
        .map_err(|error| format!("{name}.{}: {}", error.path(), error.inner().message()))
}

fn duration<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    let duration = |text: &str| humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero());
    read(String::deserialize(source)?, duration, "a duration such as 30s or 5min")
}

fn address<'de, D: Deserializer<'de>>(source: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(source)?;
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let named = |text: &str| text.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    let needed = "an address or a host name, and a port, such as 127.0.0.1:8080 or localhost:8080";
    let (host, port) = read(text.clone(), |text| named(text).filter(|(host, _)| !host.is_empty()), needed)?;
    resolved(&host, port).map_err(|error| D::Error::custom(format_args!("{text:?} cannot be resolved: {error}")))
}

/// The address of a host. Of several the first of IPv4, which clients that have no IPv6 can reach too.
fn resolved(host: &str, port: u16) -> io::Result<SocketAddr> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    address.copied().ok_or_else(|| io::Error::other("it has no address"))
}

fn addresses<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<IpAddr>, D::Error> {
    let one = |text| read(text, |text| text.parse().ok(), "an address such as 10.0.0.1");
    Vec::deserialize(source)?.into_iter().map(one).collect()
}

fn workers<'de, D: Deserializer<'de>>(source: D) -> Result<NonZeroUsize, D::Error> {
    number(u64::deserialize(source)?, 1..=1_024).map(|number| NonZeroUsize::new(number).expect("from 1"))
}

fn headers<'de, D: Deserializer<'de>>(source: D) -> Result<Option<usize>, D::Error> {
    number(u64::deserialize(source)?, 1..=1_000).map(Some)
}

fn header<'de, D: Deserializer<'de>>(source: D) -> Result<Option<HeaderName>, D::Error> {
    let header = |text: &str| text.parse().ok().filter(|name| !frames_messages(name));
    read(String::deserialize(source)?, header, "the name of a header that frames no message").map(Some)
}

fn number<E: de::Error>(number: u64, from: RangeInclusive<usize>) -> Result<usize, E> {
    let known = usize::try_from(number).ok().filter(|number| from.contains(number));
    known.ok_or_else(|| E::custom(format_args!("{number} must be from {} to {}", from.start(), from.end())))
}

/// A value, or an error that shows what was there instead.
fn read<T, E: de::Error>(text: String, value: impl Fn(&str) -> Option<T>, needed: &str) -> Result<T, E> {
    value(&text).ok_or_else(|| E::custom(format_args!("{text:?} must be {needed}")))
}
