use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_path_to_error::Track;
use tower::BoxError;
use tower_layer::Layer;

use super::{Fault, Invalid, backend, breaker, failover, node::Node};
use crate::{
    breaker::CircuitBreakerLayer,
    failover::FailoverLayer,
    fleet::{Backend, Fleet, FleetBuilder},
    name::BackendName,
    pick::StrategyName,
    setting::{Field, InvalidSetting},
    shape::{Shape, ShapeLayer},
};

/// A whole fleet from a file, with every value looked at. See [the module](super).
#[derive(Clone, Debug)]
pub struct Config {
    name: Option<Arc<str>>,
    most_ejected: f64,
    panic_below: f64,
    backends: Vec<Backend<ShapeLayer>>,
    failover: FailoverLayer,
    breaker: CircuitBreakerLayer,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    strategy: Option<StrategyName>,
    preset: Option<Preset>,
    most_ejected: Option<f64>,
    panic_below: Option<f64>,
    #[serde(default)]
    failover: failover::Section,
    #[serde(default)]
    breaker: breaker::Section,
    #[serde(default)]
    backend: Vec<backend::Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preset {
    /// One after the other, in the order of the file.
    Llxprt,
}

impl Config {
    /// Reads a source of any format that describes itself: TOML, JSON, YAML. Secrets come from the environment.
    ///
    /// A format that is read from text may want to be asked whether the text ends there; a value such as `toml::Table`
    /// or `serde_json::Value` is whole already.
    pub fn read<'de, D>(source: D) -> Result<Self, Invalid>
    where
        D: Deserializer<'de>,
        D::Error: Into<BoxError>,
    {
        // What is no text is no secret of ours.
        Self::read_with(source, |variable| std::env::var(variable).ok())
    }

    /// Reads a source, with secrets from somewhere else than the environment: `env:NAME` is looked up as `NAME`.
    pub fn read_with<'de, D>(source: D, secret: impl Fn(&str) -> Option<String>) -> Result<Self, Invalid>
    where
        D: Deserializer<'de>,
        D::Error: Into<BoxError>,
    {
        let node = Node::read(source)?;
        let mut track = Track::new();
        let file = File::deserialize(serde_path_to_error::Deserializer::new(&node, &mut track));
        let name = |index| node.get("backend")?.at(index)?.get("name")?.text();
        let file = file.map_err(|fault| Invalid::meaningless(&track.path(), fault, name))?;
        Self::build(file, &secret)
    }

    fn build(file: File, lookup: backend::Lookup<'_>) -> Result<Self, Invalid> {
        let count = file.backend.len();
        if let (Some(Preset::Llxprt), 0 | 1) = (&file.preset, count) {
            let reason = "must be at least two for the preset llxprt: there is nobody to fail over to";
            return Err(Fault::new(count, reason).at("backend", None));
        }
        let outside = failover::Outside { strategy: file.strategy, sequential: file.preset.is_some() };
        let name = file.name.map(Arc::from);
        if let Some(name) = &name {
            BackendName::checked(name).map_err(|refused| {
                Fault::new(format_args!("`{}`", refused.value), refused.reason()).at("name", None)
            })?;
        }
        let config = Self {
            name,
            // As in `FleetBuilder`, where they are explained.
            most_ejected: file.most_ejected.unwrap_or(1.0),
            panic_below: file.panic_below.unwrap_or(0.0),
            failover: file.failover.layer(&outside)?,
            breaker: file.breaker.layer()?,
            backends: backend::backends(file.backend, lookup)?,
        };
        // With the last values that only the fleet itself looks at.
        config.settings(Fleet::<()>::builder()).build().map_err(|refused| {
            let field = if let Field::Fleet(field) = refused.field { field } else { "" };
            Fault::new(&refused.value, refused.reason()).at(field, None)
        })?;
        Ok(config)
    }

    /// The fleet, with a client for each backend. The client gets the requests in the shape of its backend: with its
    /// origin, its headers and its credentials. [`Backend::service`] tells what the shape is.
    ///
    /// Backends may be inserted later with [`Backend::layer`] and a [`ShapeLayer`].
    pub fn fleet<S>(&self, mut client: impl FnMut(&Backend<ShapeLayer>) -> S) -> Result<Fleet<Shape<S>>, InvalidSetting>
    where
        S: Send + Sync + 'static,
    {
        let backends = self.backends.iter().map(|backend| {
            let client = client(backend);
            backend.clone().map(|shape| shape.layer(client))
        });
        self.settings(Fleet::builder()).backends(backends).circuit_breaker(self.breaker()).build()
    }

    /// The backends in the order of the file, for whoever builds the fleet by hand.
    pub fn backends(&self) -> &[Backend<ShapeLayer>] {
        &self.backends
    }

    /// The door of the file: its strategy and its section `failover`.
    pub fn failover(&self) -> FailoverLayer {
        self.failover.clone()
    }

    /// The breaker of each backend.
    pub fn breaker(&self) -> CircuitBreakerLayer {
        self.breaker.clone()
    }

    fn settings<S>(&self, builder: FleetBuilder<S>) -> FleetBuilder<S> {
        let builder = builder.most_ejected(self.most_ejected).panic_below(self.panic_below);
        match &self.name {
            Some(name) => builder.name(Arc::clone(name)),
            None => builder,
        }
    }
}
