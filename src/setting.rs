//! The one error for a value that makes no sense.

use std::{error::Error, fmt};

/// A value that a fleet does not take. The fleet is as it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidSetting {
    /// The backend it was meant for; empty where the name itself is at fault, or a setting of the whole fleet.
    pub backend: String,
    /// What was to be set.
    pub field: Field,
    /// The value, made safe to print.
    pub value: String,
    reason: String,
}

/// A setting of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// [`Backend::new`](crate::Backend::new).
    Name,
    /// [`Backend::weight`](crate::Backend::weight).
    Weight,
    /// [`Backend::timeout`](crate::Backend::timeout).
    Timeout,
    /// A setting of the whole fleet, by its name.
    Fleet(&'static str),
}

impl InvalidSetting {
    pub(crate) fn new(backend: &str, field: Field, value: &str, reason: &str) -> Self {
        // A refused name may be anything at all: hostile, or a megabyte long.
        let value = value.escape_debug().take(160).collect();
        Self { backend: backend.to_owned(), field, value, reason: reason.to_owned() }
    }

    /// A setting of the whole fleet.
    pub(crate) fn setting(field: &'static str, value: &str, reason: &str) -> Self {
        Self::new("", Field::Fleet(field), value, reason)
    }

    /// What is wrong with the value, to be said after it: `must be at least 1`.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn taken(name: &str) -> Self {
        Self::new(name, Field::Name, name, "is taken already")
    }

    pub(crate) fn unknown(name: &str) -> Self {
        Self::new("", Field::Name, name, "names no backend of this fleet")
    }
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, field, value, reason } = self;
        match field {
            Field::Name => write!(f, "backend name `{value}` {reason}"),
            Field::Weight => write!(f, "backend `{backend}`: weight {value} {reason}"),
            Field::Fleet(field) if value.is_empty() => write!(f, "{field} {reason}"),
            Field::Fleet(field) => write!(f, "{field} {value} {reason}"),
            Field::Timeout => write!(f, "backend `{backend}`: timeout {value} {reason}"),
        }
    }
}

impl Error for InvalidSetting {}
