//! Values with a unit: durations, sizes and shares.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IntoDeserializer, Unexpected, Visitor},
};

use super::error::safe;

/// A duration with units, such as `30s`, `5min` or `1h 30min`, or the number 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(SpanVisitor)
    }
}

/// Longer durations are refused: they are typing errors, such as `M` (months) for `min`.
const MAX_SPAN: Duration = Duration::from_secs(31 * 24 * 60 * 60);

pub(super) struct SpanVisitor;

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

/// A share, such as `0.2` or `"20%"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share(pub(super) f64);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(ShareVisitor)
    }
}

struct ShareVisitor;

impl Visitor<'_> for ShareVisitor {
    type Value = Share;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share from 0 to 1, such as 0.2 or \"20%\"")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Share, E> {
        match number {
            0 | 1 => Ok(Share(number as f64)),
            2..=100 => Err(needs_a_percent_sign(number as f64)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Share, E> {
        match number {
            0.0..=1.0 => Ok(Share(number)),
            2.0..=100.0 => Err(needs_a_percent_sign(number)),
            _ => Err(E::invalid_value(Unexpected::Float(number), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Share, E> {
        let percent = text.trim().strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
        match percent {
            Some(percent @ 0.0..=100.0) => Ok(Share(percent / 100.0)),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

/// A number or a text, or `false` for none.
#[derive(Clone, Copy)]
pub(super) struct OrOff<T>(pub(super) Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(OrOffVisitor(PhantomData))
    }
}

struct OrOffVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OrOffVisitor<T> {
    type Value = OrOff<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or false to switch it off")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<OrOff<T>, E> {
        if on { Err(E::invalid_value(Unexpected::Bool(on), &self)) } else { Ok(OrOff(None)) }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<OrOff<T>, E> {
        T::deserialize(number.into_deserializer()).map(|value| OrOff(Some(value)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<OrOff<T>, E> {
        T::deserialize(number.into_deserializer()).map(|value| OrOff(Some(value)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<OrOff<T>, E> {
        T::deserialize(number.into_deserializer()).map(|value| OrOff(Some(value)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<OrOff<T>, E> {
        T::deserialize(text.into_deserializer()).map(|value| OrOff(Some(value)))
    }
}

/// A number from 2 to 100 is usually a percentage.
fn needs_a_percent_sign<E: Error>(number: f64) -> E {
    // As `f32`, so that 29 % is shown as 0.29.
    let share = (number / 100.0) as f32;
    E::custom(format_args!("{number} must be a share from 0 to 1; for {number} %, write {share} or \"{number}%\""))
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
