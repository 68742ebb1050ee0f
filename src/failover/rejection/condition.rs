//! The conditions of a rule on the body of a response.

use std::cell::OnceCell;

#[cfg(feature = "json")]
use serde_json::Value;

#[cfg(feature = "json")]
use crate::content::JsonPath;

/// What a body must hold: at least one of several texts.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// One of these, in lower case, is somewhere in the body.
    Contains(Box<[Box<str>]>),
    /// A value at the path is one of these.
    #[cfg(feature = "json")]
    Json(JsonPath, Box<[Box<str>]>),
}

/// The body of a response, which is decoded for the first condition that needs it.
pub(super) struct Body<'a> {
    bytes: &'a [u8],
    lowercase: OnceCell<String>,
    #[cfg(feature = "json")]
    document: OnceCell<Value>,
}

/// The most texts of one condition, and the most bytes of each.
const MAX_TEXTS: usize = 256;
const MAX_LEN: usize = 256;

impl Condition {
    pub(super) fn contains(texts: impl Iterator<Item = String>) -> Self {
        Self::Contains(texts.map(|text| text.to_lowercase().into()).collect())
    }

    #[cfg(feature = "json")]
    pub(super) fn json(path: JsonPath, texts: impl Iterator<Item = String>) -> Self {
        Self::Json(path, texts.map(Into::into).collect())
    }

    pub(super) fn holds(&self, body: &Body<'_>) -> bool {
        match self {
            Self::Contains(texts) => texts.iter().any(|text| body.lowercase().contains(&**text)),
            #[cfg(feature = "json")]
            Self::Json(path, texts) => {
                path.find(body.document()).any(|value| texts.iter().any(|it| is_text(value, it)))
            }
        }
    }

    /// Whether every body for which this condition holds is one for which `other` holds, as far as the texts tell.
    pub(super) fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Contains(own), Self::Contains(others)) => {
                own.iter().all(|own| others.iter().any(|other| own.contains(&**other)))
            }
            #[cfg(feature = "json")]
            (Self::Json(own_path, own), Self::Json(path, others)) => {
                own_path == path && own.iter().all(|own| others.contains(own))
            }
            #[cfg(feature = "json")]
            _ => false,
        }
    }

    /// The key of the condition, and why its texts are refused, if they are.
    pub(super) fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        let (key, texts) = match self {
            Self::Contains(texts) => ("contains", texts),
            #[cfg(feature = "json")]
            Self::Json(_, texts) => ("json.any", texts),
        };
        if texts.is_empty() {
            return Some((key, "[]".into(), "must not be empty: it never holds"));
        }
        if texts.len() > MAX_TEXTS {
            return Some((key, texts.len().to_string(), "must be at most 256 texts"));
        }
        texts.iter().find_map(|text| match text.len() {
            0 => Some((key, "\"\"".into(), "must not be an empty text")),
            1..=MAX_LEN => None,
            _ => Some((key, format!("\"{text}\""), "must have at most 256 bytes")),
        })
    }
}

impl<'a> Body<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            lowercase: OnceCell::new(),
            #[cfg(feature = "json")]
            document: OnceCell::new(),
        }
    }

    fn lowercase(&self) -> &str {
        self.lowercase.get_or_init(|| String::from_utf8_lossy(self.bytes).to_lowercase())
    }

    /// The document, or `null` for a body that is no JSON.
    #[cfg(feature = "json")]
    fn document(&self) -> &Value {
        self.document.get_or_init(|| serde_json::from_slice(self.bytes).unwrap_or_default())
    }
}

/// Whether a value is this text. Numbers and booleans are compared as they are written.
#[cfg(feature = "json")]
fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(value) => value == text,
        Value::Number(_) | Value::Bool(_) => {
            let written = value.to_string();
            written == text
        }
        _ => false,
    }
}
