use std::{error::Error, fmt};

use serde::de::{self, Expected, Unexpected};
use serde_path_to_error::{Path, Segment};
use tower::BoxError;

/// A configuration that cannot be: where in the source, and why. No secret is shown.
///
/// ```
/// # use tower_fleet::Config;
/// let source = toml::toml! { backend = [{ name = "near" }, { name = "far", weight = -3 }] };
/// let invalid = Config::read(source).unwrap_err();
/// assert_eq!(invalid.path, "backend[1].weight");
/// assert_eq!(
///     invalid.to_string(),
///     "backend[1].weight: -3 of `far` must be a number from 0 to 4294967295",
/// );
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Invalid {
    /// The key, from the root: `backend[2].weight`. Empty where the source as a whole is at fault.
    pub path: String,
    /// The value, whose it is, and what is wrong.
    pub reason: String,
    source: Option<BoxError>,
}

impl Invalid {
    /// For keys of your own beside ours: the errors look alike.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into(), source: None }
    }

    /// What the format itself could not read.
    pub(super) fn unreadable(path: &Path, error: impl Into<BoxError>) -> Self {
        let error = error.into();
        Self { path: spelled(path), reason: error.to_string(), source: Some(error) }
    }

    /// What was read, and means nothing. `name` is the name of the backend with this index.
    pub(super) fn meaningless<'a>(path: &Path, fault: Fault, name: impl Fn(usize) -> Option<&'a str>) -> Self {
        let mut place = spelled(path);
        if let Some(key) = fault.missing {
            place = if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        }
        let mut segments = path.iter();
        let backend = match (segments.next(), segments.next()) {
            (Some(Segment::Map { key }), Some(Segment::Seq { index })) if key == "backend" => Some(*index),
            _ => None,
        };
        let backend = backend.and_then(name);
        if path.iter().any(is_private) { fault.hushed() } else { fault }.at(place, backend)
    }
}

/// What lies here may be a secret, if only by mistake.
fn is_private(segment: &Segment) -> bool {
    matches!(segment, Segment::Map { key } if ["bearer", "secrets", "headers", "origin"].contains(&key.as_str()))
}

fn spelled(path: &Path) -> String {
    let mut spelled = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => spelled.push_str(&format!("[{index}]")),
            // A name is a value; a key below it has its own segment.
            Segment::Map { key } | Segment::Enum { variant: key } => {
                if !spelled.is_empty() {
                    spelled.push('.');
                }
                spelled.push_str(&safe(key));
            }
            Segment::Unknown => {}
        }
    }
    spelled
}

/// Text from the source, as it may be shown: it may be hostile, or a megabyte long.
pub(super) fn safe(text: &str) -> String {
    text.escape_debug().take(80).collect()
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reason, .. } = self;
        if path.is_empty() { f.write_str(reason) } else { write!(f, "{path}: {reason}") }
    }
}

impl Error for Invalid {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// What is wrong with a value, before it is known where it stands.
#[derive(Debug)]
pub(super) struct Fault {
    /// As it may be shown.
    value: Option<String>,
    /// What is said of it, or of its place if it is not shown.
    reason: String,
    /// A key that should be here.
    missing: Option<&'static str>,
    source: Option<BoxError>,
}

impl Fault {
    /// The reason goes after the value: `must be …`.
    pub(super) fn new(value: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self { value: Some(value.to_string()), ..Self::nameless(reason) }
    }

    /// Without the value.
    pub(super) fn nameless(reason: impl fmt::Display) -> Self {
        Self { value: None, reason: reason.to_string(), missing: None, source: None }
    }

    /// Keeps the error that it comes of.
    pub(super) fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    fn hushed(mut self) -> Self {
        self.value = None;
        self
    }

    pub(super) fn at(self, path: impl Into<String>, backend: Option<&str>) -> Invalid {
        let reason = self.reason;
        let reason = match (self.value, backend.map(safe)) {
            (Some(value), Some(backend)) => format!("{value} of `{backend}` {reason}"),
            (Some(value), None) => format!("{value} {reason}"),
            (None, Some(backend)) => format!("{reason} (backend `{backend}`)"),
            (None, None) => reason,
        };
        Invalid { path: path.into(), reason, source: self.source }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::nameless(message)
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        if unexpected == Unexpected::UnitVariant {
            return Self::nameless("needs a value after its name: { name = value }");
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
        Self::nameless(format_args!("there is no such key; the keys here are {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { missing: Some(field), ..Self::nameless("is missing") }
    }
}

/// What serde calls the types of Rust, in words.
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
        "unit" | "unit variant" => "left out, for the name stands alone",
        other => other,
    }
}

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
