//! A source as a tree of values, independent of its format.
//!
//! An error of a format may quote a line of the source, and with it a secret. So the source is first read into this
//! tree, and the settings are then read from the tree, with [errors](ValueError) that show no secret.

use std::{cell::Cell, collections::HashMap, fmt};

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_path_to_error::Track;
use tower::BoxError;

use super::{ConfigError, ValueError};

/// A value of the source.
#[derive(PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the source.
    Table(Vec<(String, Node)>),
    /// A value that is not valid, for this reason. The error is returned when it is read, with its path.
    Bad(&'static str),
}

/// Far deeper than any key.
const MAX_DEPTH: u8 = 12;

impl Node {
    pub(super) fn read<'de, D>(source: D) -> Result<Self, ConfigError>
    where
        D: Deserializer<'de>,
        D::Error: Into<BoxError>,
    {
        let (mut track, too_deep) = (Track::new(), Cell::new(false));
        let source = serde_path_to_error::Deserializer::new(source, &mut track);
        let node = ReadNode { levels: MAX_DEPTH, too_deep: &too_deep }.deserialize(source);
        node.map_err(|error| {
            let path = track.path();
            if too_deep.get() {
                ConfigError::invalid(&path, ValueError::hidden("is nested too deep"), |_| None)
            } else {
                ConfigError::unreadable(&path, error)
            }
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Table(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Returns the keys of a table.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = if let Self::Table(entries) = self { entries.as_slice() } else { &[] };
        entries.iter().map(|(key, _)| key.as_str())
    }

    pub(super) fn at(&self, index: usize) -> Option<&Self> {
        let Self::List(nodes) = self else { return None };
        nodes.get(index)
    }

    pub(super) fn text(&self) -> Option<&str> {
        let Self::Text(text) = self else { return None };
        Some(text)
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Unsigned(value) => Unexpected::Unsigned(*value),
            Self::Negative(value) => Unexpected::Signed(*value),
            Self::Float(value) => Unexpected::Float(*value),
            Self::Text(text) => Unexpected::Str(text),
            Self::List(_) => Unexpected::Seq,
            Self::Table(_) => Unexpected::Map,
            Self::Bad(what) => Unexpected::Other(what),
        }
    }

    fn entries(entries: &[(String, Self)]) -> MapDeserializer<'_, impl Iterator<Item = (&str, &Self)>, ValueError> {
        MapDeserializer::new(entries.iter().map(|(key, node)| (key.as_str(), node)))
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Unsigned(value) => visitor.visit_u64(*value),
            Node::Negative(value) => visitor.visit_i64(*value),
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(text) => visitor.visit_borrowed_str(text),
            Node::List(nodes) => visitor.visit_seq(SeqDeserializer::new(nodes.iter())),
            Node::Table(entries) => visitor.visit_map(Node::entries(entries)),
            Node::Bad(what) => Err(ValueError::custom(what)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if matches!(self, Node::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    /// Accepts a table only. The default would also accept a list of the values without their keys.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self {
            Node::Table(_) | Node::Bad(_) => self.deserialize_any(visitor),
            _ => Err(ValueError::invalid_type(self.unexpected(), &"a table")),
        }
    }

    /// Accepts a name, or a table of one name and its value.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self {
            Node::Text(text) => IntoDeserializer::<ValueError>::into_deserializer(text.as_str())
                .deserialize_enum(name, variants, visitor),
            Node::Table(entries) if entries.len() == 1 => {
                MapAccessDeserializer::new(Node::entries(entries)).deserialize_enum(name, variants, visitor)
            }
            Node::Bad(what) => Err(ValueError::custom(what)),
            _ => Err(ValueError::invalid_type(self.unexpected(), &"a name, or a table of one name and its value")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ValueError> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Reads a node with at most this many levels below it.
#[derive(Clone, Copy)]
struct ReadNode<'a> {
    levels: u8,
    /// Set if there were more, since the error of the format may not be shown.
    too_deep: &'a Cell<bool>,
}

impl ReadNode<'_> {
    /// One level deeper. Fails immediately, since the source may be endless.
    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { levels, ..self }),
            None => {
                self.too_deep.set(true);
                Err(E::custom("nested too deep"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for ReadNode<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Node, D::Error> {
        source.deserialize_any(self)
    }
}

const UNKNOWN_TYPE: &str = "has a type that no key accepts";

impl<'de> Visitor<'de> for ReadNode<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table, a list, a text, a number or a boolean")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or(Node::Negative(value), Node::Unsigned))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Bad(UNKNOWN_TYPE))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Bad(UNKNOWN_TYPE))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Node, E> {
        Ok(Node::Bad(UNKNOWN_TYPE))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
        self.deserialize(inner)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
        self.deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let deeper = self.deeper()?;
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(deeper)? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Node, A::Error> {
        let deeper = self.deeper()?;
        let (mut entries, mut places) = (Vec::new(), HashMap::new());
        while let Some(key) = table.next_key::<String>()? {
            let node = table.next_value_seed(deeper)?;
            let place = *places.entry(key.clone()).or_insert(entries.len());
            if place == entries.len() {
                entries.push((key, node));
            } else {
                entries[place].1 = Node::Bad("is set twice");
            }
        }
        Ok(Node::Table(entries))
    }
}
