//! The section `[hash]`.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::{ConfigError, ValueError};
use crate::{
    pick::{Hash, KeySource, StrategyName},
    setting::InvalidSetting,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    key: Key,
    bound: Option<Bound>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Header(String),
    Cookie(String),
    Query(String),
    Path,
    Peer,
}

/// A factor; `None` for no bound.
struct Bound(Option<f64>);

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct BoundVisitor;

        impl Visitor<'_> for BoundVisitor {
            type Value = Bound;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("over 1 and at most 1000, such as 1.25, or \"off\"")
            }

            fn visit_f64<E: Error>(self, factor: f64) -> Result<Bound, E> {
                Ok(Bound(Some(factor)))
            }

            fn visit_u64<E: Error>(self, factor: u64) -> Result<Bound, E> {
                self.visit_f64(factor as f64)
            }

            fn visit_i64<E: Error>(self, factor: i64) -> Result<Bound, E> {
                self.visit_f64(factor as f64)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bound, E> {
                match text.trim() {
                    "off" => Ok(Bound(None)),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        source.deserialize_any(BoundVisitor)
    }
}

/// Returns the strategy of the section, if the root names it.
pub(super) fn strategy(name: Option<StrategyName>, section: Option<Section>) -> Result<Option<Hash>, ConfigError> {
    match (name, section) {
        (Some(StrategyName::Hash), Some(section)) => section.strategy().map(Some),
        (Some(StrategyName::Hash), None) => {
            let reason = "is missing: the strategy hash needs it, such as key = { header = \"x-user\" }";
            Err(ValueError::hidden(reason).at("hash.key", None))
        }
        (_, Some(_)) => Err(ValueError::hidden("is read with strategy = \"hash\" only").at("hash", None)),
        (_, None) => Ok(None),
    }
}

impl Section {
    fn strategy(self) -> Result<Hash, ConfigError> {
        let at = |path: &'static str| {
            move |refused: InvalidSetting| -> ConfigError {
                ValueError::new(refused.value(), refused.reason()).at(path, None)
            }
        };
        let source = match self.key {
            Key::Header(name) => KeySource::header(&name).map_err(at("hash.key.header"))?,
            Key::Cookie(name) => KeySource::cookie(&name).map_err(at("hash.key.cookie"))?,
            Key::Query(name) => KeySource::query(&name).map_err(at("hash.key.query"))?,
            Key::Path => KeySource::path(),
            Key::Peer => KeySource::peer(),
        };
        let hash = Hash::new(source);
        match self.bound {
            None => Ok(hash),
            Some(Bound(None)) => Ok(hash.unbounded()),
            Some(Bound(Some(factor))) => hash.bound(factor).map_err(|refused| {
                let reason = format_args!("{}, or \"off\"", refused.reason());
                ValueError::new(refused.value(), reason).at("hash.bound", None)
            }),
        }
    }
}
