//! The entries of `[[backend]]`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use http::{
    HeaderName,
    header::{AUTHORIZATION, COOKIE, HOST, PROXY_AUTHORIZATION},
};
use serde::Deserialize;

use super::{
    ClientLayer, ConfigError, ValueError,
    content::{self, Limits},
    error::safe,
    json,
    limit::Calls,
    secret::{Lookup, Secret},
    units::Span,
    weight::{self, Weight},
};
use crate::{
    fleet::Backend,
    health::AdminStatus,
    setting::InvalidSetting,
    upstream::{UpstreamLayer, json::JsonEditLayer},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    name: String,
    origin: Option<String>,
    #[cfg(feature = "dns")]
    dns: Option<super::lookup::Section>,
    #[serde(default)]
    weight: Weight,
    #[serde(default)]
    priority: i32,
    timeout: Option<Span>,
    time_limits: Option<Limits>,
    limit: Option<Calls>,
    #[serde(default)]
    status: AdminStatus,
    #[serde(default)]
    tags: Vec<String>,
    bearer: Option<String>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    host: Option<String>,
    #[serde(default)]
    without: Vec<String>,
    json: Option<json::Section>,
}

/// The backends of a file. The service of each is the layer around its client.
#[derive(Clone, Debug, Default)]
pub(super) struct Backends {
    /// Those with one address.
    pub(super) fixed: Vec<Backend<ClientLayer>>,
    /// Those that stand for the endpoints of a lookup.
    #[cfg(feature = "dns")]
    pub(super) templates: Vec<Template>,
}

/// A backend that stands for the endpoints of a lookup.
#[cfg(feature = "dns")]
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) backend: Backend<ClientLayer>,
    pub(super) dns: crate::dns::Dns,
}

/// Returns the tags that any of the backends has.
pub(super) fn tags(entries: &[Section]) -> BTreeSet<String> {
    entries.iter().flat_map(|entry| &entry.tags).cloned().collect()
}

/// Makes the backends of a fleet. `json` is what is edited in the bodies of all of them.
pub(super) fn backends(
    entries: Vec<Section>,
    json: &JsonEditLayer,
    lookup: Lookup<'_>,
) -> Result<Backends, ConfigError> {
    let weights: Vec<_> = entries.iter().map(|entry| entry.weight).collect();
    let mut names = HashMap::new();
    let mut backends = Backends::default();
    for ((index, entry), weight) in entries.into_iter().enumerate().zip(weight::whole(&weights)) {
        #[cfg(feature = "dns")]
        let (dns, entry) = (entry.dns, Section { dns: None, ..entry });
        let backend = entry.backend(index, weight, json, lookup)?;
        if let Some(first) = names.insert(backend.name().to_owned(), index) {
            let error = ValueError::new(
                format_args!("`{}`", backend.name()),
                format_args!("is already the name of backend[{first}]"),
            );
            return Err(error.at(format!("backend[{index}].name"), None));
        }
        #[cfg(feature = "dns")]
        if let Some(dns) = dns {
            backends.templates.push(Template { dns: dns.lookup(index, &backend)?, backend });
            continue;
        }
        backends.fixed.push(backend);
    }
    Ok(backends)
}

impl Section {
    fn backend(
        self,
        index: usize,
        weight: u32,
        json: &JsonEditLayer,
        lookup: Lookup<'_>,
    ) -> Result<Backend<ClientLayer>, ConfigError> {
        let upstream = self.upstream(index, lookup)?;
        let own = self.json.unwrap_or_default().layer(&format!("backend[{index}].json"), Some(&self.name))?;
        let client = ClientLayer::from(upstream).json(own.over(json));
        let mut backend =
            Backend::new(self.name.as_str(), client).weight(weight).priority(self.priority).status(self.status);
        if let Some(Span(timeout)) = self.timeout {
            backend = backend.timeout(timeout);
        }
        if let Some(limits) = self.time_limits {
            backend = backend.time_limits(limits.time_limits());
        }
        if let Some(Calls(limit)) = self.limit {
            backend = backend.limit(limit);
        }
        backend = self.tags.iter().fold(backend, |backend, tag| backend.tag(tag.as_str()));
        match backend.checked() {
            Ok(_) => Ok(backend),
            Err(refused) if refused.field() != "name" => {
                let error = ValueError::new(refused.value(), refused.reason());
                let path = format!("backend[{index}].{}{}", content::section_of(refused.field()), refused.field());
                Err(error.at(path, Some(&self.name)))
            }
            // The weight is at least 1, so the name is refused.
            Err(refused) => {
                let error = ValueError::new(refused.value(), refused.reason());
                Err(error.at(format!("backend[{index}].name"), None))
            }
        }
    }

    fn upstream(&self, index: usize, lookup: Lookup<'_>) -> Result<UpstreamLayer, ConfigError> {
        let at = |key: &str| {
            let path = format!("backend[{index}].{key}");
            move |error: ValueError| error.at(path, Some(&self.name))
        };
        let mut upstream = UpstreamLayer::new();
        let mut set = SetHeaders::default();
        if let Some(origin) = &self.origin {
            upstream = upstream.origin(origin).map_err(refused).map_err(at("origin"))?;
        }
        if let Some(host) = &self.host {
            set.add(HOST).map_err(at("host"))?;
            upstream = upstream.host(host).map_err(refused).map_err(at("host"))?;
        }
        if let Some(reference) = &self.bearer {
            set.add(AUTHORIZATION).map_err(at("bearer"))?;
            let secret = Secret::find(reference, lookup).map_err(at("bearer"))?;
            upstream = upstream.bearer(&secret.value).map_err(|error| secret.refused(error)).map_err(at("bearer"))?;
        }
        for (name, reference) in &self.secrets {
            let at = || at(&format!("secrets.{}", safe(name)));
            set.add(header(name).map_err(at())?).map_err(at())?;
            let secret = Secret::find(reference, lookup).map_err(at())?;
            upstream = upstream.secret(name, &secret.value).map_err(|error| secret.refused(error)).map_err(at())?;
        }
        for (name, value) in &self.headers {
            let at = || at(&format!("headers.{}", safe(name)));
            let header = header(name).map_err(at())?;
            // These headers hold secrets, which must not be in a file that is copied and committed.
            let keys = ["api-key", "x-api-key", "x-goog-api-key", "x-auth-token"];
            if matches!(header, AUTHORIZATION | PROXY_AUTHORIZATION | COOKIE) || keys.contains(&header.as_str()) {
                return Err(at()(ValueError::hidden("is a secret: set it in `secrets`, as \"env:NAME\"")));
            }
            set.add(header).map_err(at())?;
            upstream = upstream.header(name, value).map_err(refused).map_err(at())?;
        }
        for (index, name) in self.without.iter().enumerate() {
            let named = |error| {
                ValueError::new(format_args!("\"{}\"", safe(name)), "must be the name of a header").because(error)
            };
            upstream = upstream.without(name).map_err(named).map_err(at(&format!("without[{index}]")))?;
        }
        Ok(upstream)
    }
}

/// The headers that are set so far, by any key.
#[derive(Default)]
struct SetHeaders(HashSet<HeaderName>);

impl SetHeaders {
    fn add(&mut self, header: HeaderName) -> Result<(), ValueError> {
        let error = ValueError::hidden(format_args!("the header {header} is set twice"));
        if self.0.insert(header) { Ok(()) } else { Err(error) }
    }
}

fn header(name: &str) -> Result<HeaderName, ValueError> {
    HeaderName::try_from(name).map_err(|error| ValueError::hidden("must be the name of a header").because(error))
}

/// The error for a value that the layer refuses. Does not show the value, which may be a secret, if only by mistake.
fn refused(error: InvalidSetting) -> ValueError {
    ValueError::hidden(error.reason()).because(error)
}
