//! `Deserialize` for types of other modules, which do not depend on serde.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Unexpected, Visitor},
};

use crate::{health::AdminStatus, outcome::Statuses, pick::StrategyName, setting::InvalidSetting};

/// Reads a name, as [`FromStr`](std::str::FromStr) does.
impl<'de> Deserialize<'de> for StrategyName {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl Visitor<'_> for NameVisitor {
            type Value = StrategyName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a strategy")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<StrategyName, E> {
                name.parse().map_err(|refused: InvalidSetting| {
                    E::custom(format_args!("{} {}", refused.value(), refused.reason()))
                })
            }
        }
        source.deserialize_str(NameVisitor)
    }
}

/// Reads `healthy`, `degraded` or `draining`.
impl<'de> Deserialize<'de> for AdminStatus {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Name {
            Healthy,
            Degraded,
            Draining,
        }
        Ok(match Name::deserialize(source)? {
            Name::Healthy => Self::Healthy,
            Name::Degraded => Self::Degraded,
            Name::Draining => Self::Draining,
        })
    }
}

/// Reads a list of codes, ranges and classes such as `[429, "500-599"]`, or a text such as `"429, 5xx"`.
impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
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
        source.deserialize_any(ListVisitor)
    }
}

/// An entry of the list.
struct Item(Statuses);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct ItemVisitor;

        impl Visitor<'_> for ItemVisitor {
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
                let known = Statuses::none().and_text(range);
                known.map(Item).map_err(|_| E::invalid_value(Unexpected::Str(range), &self))
            }
        }
        source.deserialize_any(ItemVisitor)
    }
}
