//! The key `failover.commit`: a name, or a table with the bounds on what is held.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::{
    ConfigError, ValueError,
    units::{Size, Span},
};
use crate::{
    body::ReplayMemory,
    failover::{Beyond, CommitPoint},
};

/// When a response is final.
pub(super) enum Commit {
    Head,
    FirstFrame,
    Held(Box<Keys>),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    whole: Option<Size>,
    first_content: Option<Size>,
    until_end: Option<Size>,
    until: Option<String>,
    bound: Option<Size>,
    within: Option<Span>,
    beyond: Option<BeyondName>,
    memory: Option<Size>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BeyondName {
    Commit,
    Fail,
}

impl Commit {
    /// Whether events have to be read for it.
    pub(super) fn reads_events(&self) -> bool {
        matches!(self, Self::Held(keys) if keys.first_content.is_some() || keys.until_end.is_some())
    }

    pub(super) fn point(self) -> Result<CommitPoint, ConfigError> {
        match self {
            Self::Head => Ok(CommitPoint::head()),
            Self::FirstFrame => Ok(CommitPoint::first_frame()),
            Self::Held(keys) => keys.point().map_err(|error| error.at("failover.commit", None)),
        }
    }
}

impl Keys {
    fn point(self) -> Result<CommitPoint, ValueError> {
        let mut points = Vec::new();
        points.extend(self.whole.map(|Size(bound)| CommitPoint::whole(bound)));
        points.extend(self.first_content.map(|Size(bound)| CommitPoint::first_content(bound)));
        points.extend(self.until_end.map(|Size(bound)| CommitPoint::until_end(bound)));
        points.extend(match (&self.until, self.bound) {
            (Some(marker), Some(Size(bound))) => Some(CommitPoint::until(marker, bound)),
            (Some(_), None) => return Err(ValueError::hidden("needs `bound` beside `until`: the most bytes to hold")),
            (None, Some(_)) => return Err(ValueError::hidden("has a `bound`, which is for `until`")),
            (None, None) => None,
        });
        let (1, Some(mut point)) = (points.len(), points.pop()) else {
            let needed = "must have exactly one of `whole`, `first_content`, `until_end` and `until`";
            return Err(ValueError::hidden(needed));
        };
        if let Some(Span(time)) = self.within {
            point = point.within(time);
        }
        if let Some(beyond) = self.beyond {
            point = point.beyond(match beyond {
                BeyondName::Commit => Beyond::Commit,
                BeyondName::Fail => Beyond::Fail,
            });
        }
        if let Some(Size(memory)) = self.memory {
            point = point.memory(ReplayMemory::new(memory));
        }
        Ok(point)
    }
}

impl<'de> Deserialize<'de> for Commit {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(CommitVisitor)
    }
}

struct CommitVisitor;

impl<'de> Visitor<'de> for CommitVisitor {
    type Value = Commit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"head\", \"first_frame\", or a table such as { first_content = \"64KiB\" }")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Commit, E> {
        match name {
            "head" => Ok(Commit::Head),
            "first_frame" => Ok(Commit::FirstFrame),
            _ => Err(E::invalid_value(Unexpected::Str(name), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Commit, A::Error> {
        Keys::deserialize(MapAccessDeserializer::new(map)).map(|keys| Commit::Held(Box::new(keys)))
    }
}
