//! Names of the rooms below that a file may hold; here, so that those rooms need not know of files.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Unexpected, Visitor},
};

use crate::{
    health::Status,
    outcome::{StatusRange, Statuses},
    pick::StrategyName,
};

/// By name, as [`FromStr`](std::str::FromStr) reads it.
impl<'de> Deserialize<'de> for StrategyName {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Named;

        impl Visitor<'_> for Named {
            type Value = StrategyName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a strategy")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<StrategyName, E> {
                name.parse().map_err(E::custom)
            }
        }
        source.deserialize_str(Named)
    }
}

/// `healthy`, `degraded` or `draining`.
impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Word {
            Healthy,
            Degraded,
            Draining,
        }
        Ok(match Word::deserialize(source)? {
            Word::Healthy => Self::Healthy,
            Word::Degraded => Self::Degraded,
            Word::Draining => Self::Draining,
        })
    }
}

/// A list of codes, ranges and classes: `[429, "500-599"]`. Or one text of them: `"429, 5xx"`.
impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Listed;

        impl<'de> Visitor<'de> for Listed {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a list of statuses such as [429, "500-599"]"#)
            }

            fn visit_str<E: Error>(self, list: &str) -> Result<Statuses, E> {
                list.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Statuses, A::Error> {
                let mut statuses = Statuses::none();
                while let Some(Item(more)) = list.next_element()? {
                    statuses = more.iter().try_fold(statuses, Statuses::and).map_err(A::Error::custom)?;
                }
                Ok(statuses)
            }
        }
        source.deserialize_any(Listed)
    }
}

/// One entry of the list.
struct Item(Statuses);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct One;

        impl Visitor<'_> for One {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a code or a range from 100 to 999, or a class (5xx)")
            }

            fn visit_u64<E: Error>(self, code: u64) -> Result<Item, E> {
                let known = u16::try_from(code).ok().and_then(|code| Statuses::none().and(code).ok());
                known.map(Item).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(code), &self))
            }

            fn visit_i64<E: Error>(self, code: i64) -> Result<Item, E> {
                let known = u16::try_from(code).ok().and_then(|code| Statuses::none().and(code).ok());
                known.map(Item).ok_or_else(|| E::invalid_value(Unexpected::Signed(code), &self))
            }

            fn visit_str<E: Error>(self, range: &str) -> Result<Item, E> {
                let known = range.parse::<StatusRange>().and_then(|range| Statuses::none().and(range));
                known.map(Item).map_err(|_| E::invalid_value(Unexpected::Str(range), &self))
            }
        }
        source.deserialize_any(One)
    }
}
