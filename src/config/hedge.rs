//! The delay of a hedge: `"50ms"`, `"p95"`, or a percentile with its settings.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::units::{Share, Span, SpanVisitor};
use crate::failover::{HedgeDelay, Percentile};

/// The delay of a hedge.
pub(super) enum Hedge {
    After(Duration),
    At(Keys),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    percentile: Option<Share>,
    floor: Option<Span>,
    cap: Option<Span>,
    until_measured: Option<Span>,
    window: Option<Span>,
    min_samples: Option<u32>,
}

impl Hedge {
    /// The longest time that the delay may be.
    pub(super) fn longest(&self) -> Duration {
        match self {
            Self::After(delay) => *delay,
            Self::At(keys) => keys.percentile().longest(),
        }
    }
}

impl Keys {
    fn percentile(&self) -> Percentile {
        let mut percentile = self.percentile.map_or_else(Percentile::default, |Share(share)| Percentile::new(share));
        if let Some(Span(floor)) = self.floor {
            percentile = percentile.floor(floor);
        }
        if let Some(Span(cap)) = self.cap {
            percentile = percentile.cap(cap);
        }
        if let Some(Span(delay)) = self.until_measured {
            percentile = percentile.until_measured(delay);
        }
        if let Some(Span(window)) = self.window {
            percentile = percentile.window(window);
        }
        if let Some(samples) = self.min_samples {
            percentile = percentile.min_samples(samples);
        }
        percentile
    }
}

impl From<Hedge> for HedgeDelay {
    fn from(hedge: Hedge) -> Self {
        match hedge {
            Hedge::After(delay) => delay.into(),
            Hedge::At(keys) => keys.percentile().into(),
        }
    }
}

impl<'de> Deserialize<'de> for Hedge {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(HedgeVisitor)
    }
}

struct HedgeVisitor;

impl<'de> Visitor<'de> for HedgeVisitor {
    type Value = Hedge;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 50ms, a percentile such as \"p95\", or a table of settings")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Hedge, E> {
        SpanVisitor.visit_u64(number).map(|Span(delay)| Hedge::After(delay))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Hedge, E> {
        SpanVisitor.visit_f64(number).map(|Span(delay)| Hedge::After(delay))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Hedge, E> {
        let Some(percent) = text.trim().strip_prefix('p') else {
            return SpanVisitor.visit_str(text).map(|Span(delay)| Hedge::After(delay));
        };
        match percent.parse::<f64>() {
            // Out of its range, the layer refuses it.
            Ok(percent) if percent.is_finite() => {
                Ok(Hedge::At(Keys { percentile: Some(Share(percent / 100.0)), ..Keys::default() }))
            }
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<Hedge, A::Error> {
        Keys::deserialize(MapAccessDeserializer::new(keys)).map(Hedge::At)
    }
}
