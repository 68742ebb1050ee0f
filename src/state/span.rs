//! Durations and moments as the document shows them: `1m 30s`, `2026-11-26T21:34:00.123Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span(pub(super) Duration);

impl Span {
    /// Rounds down to milliseconds: a deadline comes no later for being saved.
    pub(super) fn millis(duration: Duration) -> Self {
        Self(Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000))
    }
}

impl Serialize for Span {
    fn serialize<Ser: Serializer>(&self, serializer: Ser) -> Result<Ser::Ok, Ser::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        humantime::parse_duration(&text).map(Self).map_err(|_| D::Error::custom("not a duration"))
    }
}

/// A moment of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wall(pub(super) SystemTime);

/// The last second of the year 9999, which is the last one that has a form.
const LAST: Duration = Duration::from_secs(253_402_300_799);

impl Serialize for Wall {
    fn serialize<Ser: Serializer>(&self, serializer: Ser) -> Result<Ser::Ok, Ser::Error> {
        // A clock that is far off must not cost the document.
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
        serializer.collect_str(&humantime::format_rfc3339_millis(UNIX_EPOCH + since))
    }
}

impl<'de> Deserialize<'de> for Wall {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        humantime::parse_rfc3339(&text).map(Self).map_err(|_| D::Error::custom("not a moment"))
    }
}
