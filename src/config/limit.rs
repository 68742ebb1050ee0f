//! The key `limit`, of the fleet and of a backend, and what happens at the limit.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::units::Span;
use crate::{
    fleet::WhenFull,
    health::{AdaptiveLimit, Limit},
};

/// A number of calls, or the settings of an adaptive limit.
pub(super) struct Calls(pub(super) Limit);

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(CallsVisitor)
    }
}

struct CallsVisitor;

impl<'de> Visitor<'de> for CallsVisitor {
    type Value = Calls;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of calls such as 100, or the keys of an adaptive limit such as { max = 200 }")
    }

    fn visit_u64<E: Error>(self, calls: u64) -> Result<Calls, E> {
        let calls = u32::try_from(calls).map_err(|_| E::invalid_value(Unexpected::Unsigned(calls), &self))?;
        Ok(Calls(Limit::Fixed(calls)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Calls, A::Error> {
        Adaptive::deserialize(MapAccessDeserializer::new(map)).map(|keys| Calls(Limit::Adaptive(keys.limit())))
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Adaptive {
    initial: Option<u32>,
    min: Option<u32>,
    max: Option<u32>,
    tolerance: Option<f64>,
    window: Option<Span>,
    recheck_after: Option<Span>,
}

impl Adaptive {
    fn limit(self) -> AdaptiveLimit {
        let mut limit = AdaptiveLimit::new();
        if let Some(calls) = self.initial {
            limit = limit.initial(calls);
        }
        if let Some(calls) = self.min {
            limit = limit.min(calls);
        }
        if let Some(calls) = self.max {
            limit = limit.max(calls);
        }
        if let Some(factor) = self.tolerance {
            limit = limit.tolerance(factor);
        }
        if let Some(Span(window)) = self.window {
            limit = limit.window(window);
        }
        if let Some(Span(time)) = self.recheck_after {
            limit = limit.recheck_after(time);
        }
        limit
    }
}

/// What doors do while all backends are full.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AtLimit {
    Wait,
    Refuse,
    Queue(u32),
}

impl From<AtLimit> for WhenFull {
    fn from(keys: AtLimit) -> Self {
        match keys {
            AtLimit::Wait => Self::Wait,
            AtLimit::Refuse => Self::Refuse,
            AtLimit::Queue(requests) => Self::Queue(requests),
        }
    }
}
