//! The key `dns` of a backend, which stands for several endpoints.

use std::{fmt, net::SocketAddr};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{ClientLayer, ConfigError, ValueError, units::Span};
use crate::{
    dns::{AddressFamily, Dns, Endpoint},
    fleet::Backend,
};

/// A host or a service, and how it is looked up.
pub(super) struct Section {
    dns: Dns,
    /// The key that holds the name.
    key: &'static str,
}

impl<'de> Deserialize<'de> for Section {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(SectionVisitor)
    }
}

struct SectionVisitor;

impl<'de> Visitor<'de> for SectionVisitor {
    type Value = Section;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a host with a port such as \"api.internal:8080\", or a table such as { srv = \"_grpc._tcp.api\" }")
    }

    fn visit_str<E: Error>(self, host: &str) -> Result<Section, E> {
        Ok(Section { dns: Dns::new(host), key: "" })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Section, A::Error> {
        Keys::deserialize(MapAccessDeserializer::new(map))?.section()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    host: Option<String>,
    srv: Option<String>,
    servers: Option<Vec<SocketAddr>>,
    family: Option<Family>,
    min_ttl: Option<Span>,
    max_ttl: Option<Span>,
    max_backoff: Option<Span>,
    timeout: Option<Span>,
    max_endpoints: Option<usize>,
    #[serde(default)]
    allow_empty: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Family {
    V4,
    V6,
    PreferV4,
    PreferV6,
    Both,
}

impl Keys {
    fn section<E: Error>(self) -> Result<Section, E> {
        let (mut dns, key) = match (&self.host, &self.srv) {
            (Some(host), None) => (Dns::new(host), "host"),
            (None, Some(service)) => (Dns::srv(service), "srv"),
            _ => return Err(E::custom("needs either a host or an srv")),
        };
        if let Some(servers) = self.servers {
            dns = dns.name_servers(servers);
        }
        if let Some(family) = self.family {
            dns = dns.family(match family {
                Family::V4 => AddressFamily::V4,
                Family::V6 => AddressFamily::V6,
                Family::PreferV4 => AddressFamily::PreferV4,
                Family::PreferV6 => AddressFamily::PreferV6,
                Family::Both => AddressFamily::Both,
            });
        }
        if let Some(Span(ttl)) = self.min_ttl {
            dns = dns.min_ttl(ttl);
        }
        if let Some(Span(ttl)) = self.max_ttl {
            dns = dns.max_ttl(ttl);
        }
        if let Some(Span(time)) = self.max_backoff {
            dns = dns.max_backoff(time);
        }
        if let Some(Span(timeout)) = self.timeout {
            dns = dns.timeout(timeout);
        }
        if let Some(endpoints) = self.max_endpoints {
            dns = dns.max_endpoints(endpoints);
        }
        Ok(Section { dns: dns.allow_empty(self.allow_empty), key })
    }
}

impl Section {
    /// Returns the lookup for the backend of this index.
    pub(super) fn lookup(self, index: usize, backend: &Backend<ClientLayer>) -> Result<Dns, ConfigError> {
        let name = backend.name();
        if backend.service().target().is_some_and(|origin| origin.port().is_some()) {
            let error = ValueError::hidden("must have no port: the port is that of `dns`");
            return Err(error.at(format!("backend[{index}].origin"), Some(name)));
        }
        let dns = self.dns.name(name);
        let Err(refused) = dns.clone().endpoints() else { return Ok(dns) };
        let key = match refused.field() {
            // The names of its settings, where those of the file differ.
            "address" | "service" => self.key,
            "name_servers" => "servers",
            "name" => {
                let error = ValueError::new(refused.value(), refused.reason());
                return Err(error.at(format!("backend[{index}].name"), None));
            }
            field => field,
        };
        let dot = if key.is_empty() { "" } else { "." };
        // A refused name may be a URL with a password.
        let error = if key == self.key { ValueError::hidden(refused.reason()) } else { shown(&refused) };
        Err(error.at(format!("backend[{index}].dns{dot}{key}"), Some(name)))
    }
}

fn shown(refused: &crate::setting::InvalidSetting) -> ValueError {
    ValueError::new(refused.value(), refused.reason())
}

/// Returns the backend of an endpoint.
pub(super) fn endpoint(template: &Backend<ClientLayer>, endpoint: &Endpoint) -> Backend<ClientLayer> {
    let layer = template.service().clone();
    let layer = layer.map_upstream(|upstream| {
        let upstream = match upstream.target() {
            Some(_) => upstream,
            None => upstream.clone().origin(&format!("http://{}", endpoint.target)).unwrap_or(upstream),
        };
        upstream.address(endpoint.address)
    });
    template.endpoint(endpoint.name.clone(), endpoint.weight, endpoint.priority, layer)
}
