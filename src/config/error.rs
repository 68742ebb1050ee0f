//! The errors of a configuration, which name the place and show no secret.

use std::{error::Error, fmt};

use serde::de::{self, Expected, Unexpected};
use serde_path_to_error::{Path, Segment};
use tower::BoxError;

/// The error of a configuration that is not valid: the path of the key, the value, and what is wrong with it.
///
/// It shows no secret. To report keys of your own in the same form, create one with [`new`](Self::new).
///
/// ```
/// # use tower_fleet::Config;
/// let source = toml::toml! { backend = [{ name = "near" }, { name = "far", weight = -3 }] };
/// let invalid = Config::read(source).unwrap_err();
/// assert_eq!(invalid.path, "backend[1].weight");
/// assert_eq!(
///     invalid.to_string(),
///     "backend[1].weight: -3 of `far` must be a number over 0 and up to 4294967295; \
///      to send a backend no requests, write status = \"draining\"",
/// );
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ConfigError {
    /// The path of the key, such as `backend[2].weight`. Empty if the source as a whole is not valid.
    pub path: String,
    /// The value, the name of its backend, and what is wrong with it.
    pub reason: String,
    /// The file that it is in, if it was read from a [`ConfigFile`](super::ConfigFile).
    file: Option<String>,
    source: Option<BoxError>,
}

impl ConfigError {
    /// Creates an error for a key of your own.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), file: None, source: None }
    }

    /// The same error with the path of its file, which is shown before that of the key.
    pub(super) fn in_file(self, file: &std::path::Path) -> Self {
        Self { file: Some(file.display().to_string().escape_debug().collect()), ..self }
    }

    /// An error of the format itself.
    pub(super) fn unreadable(path: &Path, error: impl Into<BoxError>) -> Self {
        let error = error.into();
        Self { path: written(path), reason: error.to_string(), file: None, source: Some(error) }
    }

    /// An error of a value. `name` returns the name of the backend with an index.
    pub(super) fn invalid<'a>(path: &Path, error: ValueError, name: impl Fn(usize) -> Option<&'a str>) -> Self {
        let mut place = written(path);
        if let Some(key) = error.missing {
            place = if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        }
        let mut segments = path.iter();
        let backend = match (segments.next(), segments.next()) {
            (Some(Segment::Map { key }), Some(Segment::Seq { index })) if key == "backend" => Some(*index),
            _ => None,
        };
        let backend = backend.and_then(name);
        if path.iter().any(is_private) { error.without_value() } else { error }.at(place, backend)
    }
}

/// Whether the values below may be secrets, if only by mistake.
fn is_private(segment: &Segment) -> bool {
    matches!(segment, Segment::Map { key } if ["bearer", "secrets", "headers", "origin"].contains(&key.as_str()))
}

/// The path as [`ConfigError::path`] shows it.
fn written(path: &Path) -> String {
    let mut written = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => written.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                if !written.is_empty() {
                    written.push('.');
                }
                written.push_str(&safe(key));
            }
            Segment::Unknown => {}
        }
    }
    written
}

/// Text from the source in printable form: it may be hostile, or a megabyte long.
pub(super) fn safe(text: &str) -> String {
    text.escape_debug().take(80).collect()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reason, file, .. } = self;
        if let Some(file) = file {
            write!(f, "{file}: ")?;
        }
        if path.is_empty() { f.write_str(reason) } else { write!(f, "{path}: {reason}") }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// The error of a value, before its path is known.
#[derive(Debug)]
pub(super) struct ValueError {
    /// The value in printable form, if it may be shown.
    value: Option<String>,
    /// What is wrong with the value or, if it is not shown, with the key.
    reason: String,
    /// The key that is missing below the path.
    missing: Option<&'static str>,
    source: Option<BoxError>,
}

impl ValueError {
    /// An error that shows the value. The `reason` follows it: `must be …`.
    pub(super) fn new(value: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self { value: Some(value.to_string()), ..Self::hidden(reason) }
    }

    /// An error that does not show the value.
    pub(super) fn hidden(reason: impl fmt::Display) -> Self {
        Self { value: None, reason: reason.to_string(), missing: None, source: None }
    }

    /// Adds the source of the error.
    pub(super) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    fn without_value(mut self) -> Self {
        self.value = None;
        self
    }

    /// Adds the path and the name of the backend.
    pub(super) fn at(self, path: impl Into<String>, backend: Option<&str>) -> ConfigError {
        let reason = self.reason;
        let reason = match (self.value, backend.map(safe)) {
            (Some(value), Some(backend)) => format!("{value} of `{backend}` {reason}"),
            (Some(value), None) => format!("{value} {reason}"),
            (None, Some(backend)) => format!("{reason} (backend `{backend}`)"),
            (None, None) => reason,
        };
        ConfigError { path: path.into(), reason, file: None, source: self.source }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for ValueError {}

impl de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::hidden(message)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        if unexpected == Unexpected::UnitVariant {
            return Self::hidden(
                "needs a value beside its name, such as { hedged = \"50ms\" } or { whole = \"64KiB\" }",
            );
        }
        let expected = expected.to_string();
        Self::new(Shown(unexpected), format_args!("must be {}", plain(&expected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(name: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format_args!("{:?}", safe(name)), format_args!("must be one of {}", expected.join(", ")))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::hidden(format_args!("there is no such key; the keys here are {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::hidden("is missing") }
    }
}

/// Plain words for the types that serde expects.
fn plain(expected: &str) -> &str {
    match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        "a map" => "a table",
        "unit" | "unit variant" => "omitted: the name takes no value",
        other => other,
    }
}

/// A value in printable form.
struct Shown<'a>(Unexpected<'a>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => value.fmt(f),
            Unexpected::Unsigned(value) => value.fmt(f),
            Unexpected::Signed(value) => value.fmt(f),
            Unexpected::Float(value) => value.fmt(f),
            Unexpected::Str(text) => write!(f, "\"{}\"", safe(text)),
            Unexpected::Seq => f.write_str("a list"),
            Unexpected::Map | Unexpected::NewtypeVariant => f.write_str("a table"),
            Unexpected::Unit => f.write_str("nothing"),
            other => other.fmt(f),
        }
    }
}
