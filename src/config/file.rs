//! The root of a file, and the [`Config`] that is made of it.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde::{Deserialize, Deserializer};
use serde_path_to_error::Track;
use tower::BoxError;
use tower_layer::Layer;

#[cfg(feature = "valkey")]
use super::neighbours;
#[cfg(feature = "file-state")]
use super::saved;
use super::{
    Client, ClientLayer, ConfigError, FileResume, ValueError, backend, breaker, content, failover, hash, json, limit,
    node::Node, probe, resume, secret::Lookup, share, units,
};
#[cfg(feature = "valkey")]
use crate::replicas::{Share, ValkeyStore};
#[cfg(feature = "file-state")]
use crate::state::FileStore;
use crate::{
    failover::FailoverLayer,
    fleet::{Backend, Fleet, FleetBuilder, Reconciled, WhenFull},
    health::{CircuitPolicy, Limit, Outliers, SlowStart},
    name::BackendName,
    outcome::HttpClassifier,
    pick::StrategyName,
    resume::ResumeLayer,
    setting::InvalidSetting,
};

/// A whole fleet from a configuration file, with all values validated. See [the module](super) for the keys, and
/// [`ConfigFollower`](super::ConfigFollower) for a fleet that follows its file.
///
/// ```
/// # use tower_fleet::Config;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::read(toml::toml! {
///     name = "api"
///     backend = [{ name = "near", priority = 10 }, { name = "far" }]
/// })?;
/// assert_eq!(config.backends().len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    name: Option<Arc<str>>,
    max_ejected: f64,
    panic_below: f64,
    max_hinted: Option<f64>,
    limit: Option<Limit>,
    when_full: WhenFull,
    named_times: Option<bool>,
    headroom: Option<bool>,
    slow_start: Option<SlowStart>,
    outliers: Option<Outliers>,
    pub(super) backends: backend::Backends,
    pub(super) failover: FailoverLayer,
    pub(super) policy: CircuitPolicy,
    pub(super) classifier: HttpClassifier,
    pub(super) probe: Option<probe::Section>,
    pub(super) resume: ResumeLayer<FileResume>,
    #[cfg(feature = "file-state")]
    pub(super) store: Option<FileStore>,
    #[cfg(feature = "valkey")]
    pub(super) share: Option<Share<ValkeyStore>>,
    source: Source,
}

/// The values of the file, to be compared with those of its next version.
#[derive(Clone)]
struct Source(Arc<Node>);

/// Shows no values.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The keys of a file that a running fleet and its doors can follow.
const FOLLOWED: [&str; 7] = ["backend", "failover", "hash", "json", "preset", "resume", "strategy"];

/// The root of a file, before its values are validated.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    strategy: Option<StrategyName>,
    preset: Option<Preset>,
    max_ejected: Option<units::Share>,
    panic_below: Option<units::Share>,
    max_hinted: Option<units::Share>,
    limit: Option<limit::Calls>,
    when_full: Option<limit::AtLimit>,
    named_times: Option<bool>,
    headroom: Option<bool>,
    hash: Option<hash::Section>,
    #[serde(default)]
    failover: failover::Section,
    #[serde(default)]
    breaker: breaker::Section,
    events: Option<content::Events>,
    slow_start: Option<share::SlowStartSection>,
    outliers: Option<share::OutliersSection>,
    probe: Option<probe::Section>,
    json: Option<json::Section>,
    resume: Option<resume::Section>,
    #[cfg(feature = "file-state")]
    state: Option<saved::Section>,
    #[cfg(feature = "valkey")]
    share: Option<neighbours::Section>,
    #[serde(default)]
    backend: Vec<backend::Section>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preset {
    /// Sequential, in the order of the file.
    Llxprt,
}

impl Config {
    /// Reads a configuration from any self-describing format of serde, such as TOML, JSON or YAML. Secrets are read
    /// from environment variables.
    ///
    /// Some deserializers of text do not check that the text ends after the value, such as `serde_json::Deserializer`:
    /// call its `end` afterwards.
    ///
    /// # Errors
    ///
    /// Returns an error for the first key that is unknown or missing, or whose value is not valid. Also if a secret is
    /// not set, or if the source cannot be parsed.
    pub fn read<'de, D>(source: D) -> Result<Self, ConfigError>
    where
        D: Deserializer<'de>,
        D::Error: Into<BoxError>,
    {
        // A variable that is not Unicode counts as not set.
        Self::read_with(source, |variable| std::env::var(variable).ok())
    }

    /// Reads a configuration as [`read`](Self::read) does, with secrets from `secret`: for `env:NAME`, it is called
    /// with `NAME`.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read). A secret for which `secret` returns `None` or an empty text is not set.
    pub fn read_with<'de, D>(source: D, secret: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError>
    where
        D: Deserializer<'de>,
        D::Error: Into<BoxError>,
    {
        let node = Node::read(source)?;
        let mut track = Track::new();
        let file = File::deserialize(serde_path_to_error::Deserializer::new(&node, &mut track));
        let name = |index| node.get("backend")?.at(index)?.get("name")?.text();
        let file = file.map_err(|error| ConfigError::invalid(&track.path(), error, name))?;
        Self::build(file, Source(Arc::new(node)), &secret)
    }

    fn build(file: File, source: Source, lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let count = file.backend.len();
        if let (Some(Preset::Llxprt), 0 | 1) = (&file.preset, count) {
            let reason = "must be at least two for the preset llxprt, which sends failed requests to the next backend";
            return Err(ValueError::new(count, reason).at("backend", None));
        }
        if count == 0 {
            return Err(ValueError::hidden("is missing: a fleet needs at least one [[backend]]").at("backend", None));
        }
        if let (Some(delay), Some(limit)) = (file.failover.hedge_delay(), file.breaker.slower_than())
            && limit > delay
        {
            // Else a call that loses to its hedge is cancelled before it is slow, and the circuit never opens.
            let reason = format!("must be at most the delay of failover.mode.hedged, {delay:?}");
            return Err(ValueError::new(format_args!("{limit:?}"), reason).at("breaker.slow_calls.slower_than", None));
        }
        let hash = hash::strategy(file.strategy, file.hash)?;
        let tags = backend::tags(&file.backend);
        let root = failover::RootKeys { strategy: file.strategy, hash, sequential: file.preset.is_some(), tags };
        let name = file.name.map(Arc::from);
        if let Some(name) = &name {
            BackendName::checked(name)
                .map_err(|refused| ValueError::new(refused.value(), refused.reason()).at("name", None))?;
        }
        let (policy, classifier) = file.breaker.parts()?;
        let reads_events = file.failover.reads_events();
        let failover = file.failover.layer(root)?;
        if file.events.is_none() && reads_events {
            let reason = "needs the section [events], which tells content and the end of a stream";
            return Err(ValueError::hidden(reason).at("failover.commit", None));
        }
        let classifier = match file.events {
            Some(events) => classifier.events(events.rules()?),
            None => classifier,
        };
        let json = file.json.unwrap_or_default().layer("json", None)?;
        let backends = backend::backends(file.backend, &json, lookup)?;
        let resume = file.resume.map(|section| section.layer(&backends)).transpose()?;
        let config = Self {
            name,
            // The defaults of `FleetBuilder`, which explains them.
            max_ejected: file.max_ejected.map_or(1.0, |units::Share(share)| share),
            panic_below: file.panic_below.map_or(0.0, |units::Share(share)| share),
            max_hinted: file.max_hinted.map(|units::Share(share)| share),
            limit: file.limit.map(|limit::Calls(limit)| limit),
            when_full: file.when_full.map_or_else(WhenFull::default, WhenFull::from),
            named_times: file.named_times,
            headroom: file.headroom,
            slow_start: file.slow_start.map(share::SlowStartSection::settings).transpose()?,
            outliers: file.outliers.map(share::OutliersSection::settings).transpose()?,
            failover,
            policy,
            classifier,
            probe: file.probe.map(probe::Section::checked).transpose()?,
            #[cfg(feature = "file-state")]
            store: file.state.map(saved::Section::store).transpose()?,
            #[cfg(feature = "valkey")]
            share: file.share.map(|section| section.share(lookup)).transpose()?,
            source,
            resume: resume.unwrap_or_else(|| ResumeLayer::new((None, None))),
            backends,
        };
        // Validates the values that only the fleet knows: `max_ejected`, `panic_below`, `limit` and `when_full`.
        config
            .settings(Fleet::<()>::builder())
            .build()
            .map_err(|refused| ValueError::new(refused.value(), refused.reason()).at(refused.field(), None))?;
        Ok(config)
    }

    /// Builds the fleet, with the client that `client` returns for each backend.
    ///
    /// The client gets requests with the origin, the headers, the credentials and the edited JSON of its backend. The
    /// [service](Backend::service) of the backend that is passed to `client` is the [`ClientLayer`] that makes them.
    ///
    /// To insert another backend later, add a [`ClientLayer`] to it with [`Backend::layer`].
    ///
    /// # Errors
    ///
    /// No error is expected, since all values are already validated.
    pub fn fleet<S>(&self, client: impl FnMut(&Backend<ClientLayer>) -> S) -> Result<Fleet<Client<S>>, InvalidSetting>
    where
        S: Send + Sync + 'static,
    {
        let fleet = self.settings(Fleet::builder());
        let fleet = fleet.classify(self.classifier.clone()).circuit_breaker(self.circuit_policy()).build()?;
        reconcile(&fleet, self.backends().iter().cloned(), client)?;
        Ok(fleet)
    }

    /// Returns the keys at the root that differ from those of another version, and that a running fleet cannot follow.
    pub(super) fn needs_restart(&self, before: &Self) -> Vec<String> {
        let (Source(root), Source(earlier)) = (&self.source, &before.source);
        let keys: BTreeSet<_> = root.keys().chain(earlier.keys()).filter(|key| !FOLLOWED.contains(key)).collect();
        keys.into_iter().filter(|key| root.get(key) != earlier.get(key)).map(str::to_owned).collect()
    }

    fn settings<S>(&self, builder: FleetBuilder<S>) -> FleetBuilder<S> {
        let builder = builder.max_ejected(self.max_ejected).panic_below(self.panic_below).when_full(self.when_full);
        let builder = self.max_hinted.into_iter().fold(builder, FleetBuilder::max_hinted);
        let builder = self.named_times.into_iter().fold(builder, FleetBuilder::named_times);
        let builder = self.headroom.into_iter().fold(builder, FleetBuilder::headroom);
        let builder = self.limit.into_iter().fold(builder, FleetBuilder::limit);
        let builder = self.slow_start.into_iter().fold(builder, FleetBuilder::slow_start);
        let builder = self.outliers.into_iter().fold(builder, FleetBuilder::outliers);
        match &self.name {
            Some(name) => builder.name(Arc::clone(name)),
            None => builder,
        }
    }
}

/// Changes a fleet to these backends, as [`Fleet::reconcile`] does: a backend keeps its service as long as its origin,
/// headers, secrets and edits stay the same.
pub(super) fn reconcile<S: Send + Sync + 'static>(
    fleet: &Fleet<Client<S>>,
    backends: impl IntoIterator<Item = Backend<ClientLayer>>,
    mut client: impl FnMut(&Backend<ClientLayer>) -> S,
) -> Result<Reconciled, InvalidSetting> {
    fleet.reconcile(backends, |backend| backend.service().layer(client(backend)))
}
