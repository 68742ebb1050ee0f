//! Values with a unit: durations and sizes.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::error::safe;

/// A duration with units, such as `30s`, `5min` or `1h 30min`, or the number 0.
#[derive(Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(SpanVisitor)
    }
}

/// Longer durations are refused: they are typing errors, such as `M` (months) for `min`.
const MAX_SPAN: Duration = Duration::from_secs(31 * 24 * 60 * 60);

struct SpanVisitor;

fn needs_a_unit<E: Error>(number: impl fmt::Display) -> E {
    E::custom(format_args!("{number} needs a unit: 30s, 5min"))
}

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as 200ms, 30s, 5min or 1h 30min")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Span, E> {
        if number == 0 { Ok(Span(Duration::ZERO)) } else { Err(needs_a_unit(number)) }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Span, E> {
        if number > 0.0 { Err(needs_a_unit(number)) } else { Err(E::invalid_value(Unexpected::Float(number), &self)) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        match humantime::parse_duration(text.trim()) {
            Ok(span) if span > MAX_SPAN => {
                Err(E::custom(format_args!("{:?} must be at most 31 days; min is minutes, M is months", safe(text))))
            }
            Ok(span) => Ok(Span(span)),
            Err(_) => match text.trim().parse::<f64>() {
                Ok(number) if number > 0.0 && number.is_finite() => Err(needs_a_unit(number)),
                _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
            },
        }
    }
}

/// A number of bytes, such as `4096`, `64KiB`, `1MiB` or `2GiB`.
#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes such as 4096, 64KiB, 1MiB or 2GiB")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
        usize::try_from(bytes).map(Size).map_err(|_| E::invalid_value(Unexpected::Unsigned(bytes), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        size(text.trim()).map(Size).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

fn size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit: usize = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    digits.trim_end().parse::<usize>().ok()?.checked_mul(unit)
}
