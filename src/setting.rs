//! The one error for an invalid setting.

use std::{borrow::Cow, error::Error, fmt};

/// The error for an invalid setting: names the setting, its value, and what the value must be.
///
/// Returned by builders, and by the methods that change a fleet. The builder then returns no layer or fleet, and the
/// fleet stays as it was.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::FailoverLayer;
/// let error = FailoverLayer::plain().deadline(Duration::ZERO).build().unwrap_err();
/// assert_eq!(error.field(), "deadline");
/// assert_eq!(error.to_string(), "failover: deadline 0ns must be longer than zero");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    part: &'static str,
    backend: Option<String>,
    field: Cow<'static, str>,
    value: String,
    reason: Cow<'static, str>,
}

impl InvalidSetting {
    /// An invalid setting of one part of the crate, such as `failover`.
    pub(crate) fn of(
        part: &'static str,
        field: &'static str,
        value: impl fmt::Display,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { part, backend: None, field: field.into(), value: printable(value), reason: reason.into() }
    }

    /// An invalid setting of one backend. Its name was checked before, so it is safe to show.
    pub(crate) fn of_backend(
        backend: &str,
        field: &'static str,
        value: impl fmt::Display,
        reason: &'static str,
    ) -> Self {
        Self { backend: Some(backend.to_owned()), ..Self::of("", field, value, reason) }
    }

    /// An invalid name of a backend.
    pub(crate) fn of_name(name: &str, reason: &'static str) -> Self {
        Self::of("", "name", format_args!("`{name}`"), reason)
    }

    /// An invalid name of a fleet or of a breaker. The rules are those of a backend's name, and so is `error`.
    pub(crate) fn in_part(part: &'static str, error: Self) -> Self {
        Self { part, ..error }
    }

    /// An invalid setting whose value is not shown, since it may be a secret.
    #[cfg(any(feature = "http", feature = "dns"))]
    pub(crate) fn without_value(part: &'static str, field: &'static str, reason: &'static str) -> Self {
        Self::of(part, field, "", reason)
    }

    /// Returns the backend of the setting. `None` for the name of a backend, and for a setting of a fleet or a layer.
    pub fn backend(&self) -> Option<&str> {
        self.backend.as_deref()
    }

    /// Returns the name of the setting, which is that of its method or key: `weight`, `backoff.base`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Returns the invalid value, escaped and cut to 160 characters. Empty if it may be a secret.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns what the value must be, such as `must be at least 1`.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Makes a value safe to print: it may be hostile, or a megabyte long.
fn printable(value: impl fmt::Display) -> String {
    value.to_string().escape_debug().take(160).collect()
}

/// The reason to refuse a share. A number from 2 to 100 is usually a percentage, so the reason shows the share to write.
pub(crate) fn share_reason(value: f64, range: &'static str) -> Cow<'static, str> {
    if (2.0..=100.0).contains(&value) {
        // As `f32`, so that 29 % is shown as 0.29.
        return format!("{range}; for {value} %, write {}", (value / 100.0) as f32).into();
    }
    range.into()
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, backend, field, value, reason } = self;
        match backend {
            Some(backend) => write!(f, "backend `{backend}`: ")?,
            None if part.is_empty() => f.write_str(if field == "name" { "backend " } else { "" })?,
            None => write!(f, "{part}: ")?,
        }
        let space = if value.is_empty() { "" } else { " " };
        write!(f, "{field} {value}{space}{reason}")
    }
}

impl Error for InvalidSetting {}
