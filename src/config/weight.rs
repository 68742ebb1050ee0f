//! Weights, which may be fractions in a file.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// The weight of a backend in a file: a number over 0.
#[derive(Clone, Copy)]
pub(super) struct Weight(f64);

impl Default for Weight {
    fn default() -> Self {
        Self(1.0)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(WeightVisitor)
    }
}

struct WeightVisitor;

impl Visitor<'_> for WeightVisitor {
    type Value = Weight;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number over 0 and up to {}; to send a backend no requests, write status = \"draining\"", u32::MAX)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Weight, E> {
        match u32::try_from(number) {
            Ok(weight @ 1..) => Ok(Weight(weight.into())),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Weight, E> {
        u64::try_from(number)
            .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            .and_then(|number| self.visit_u64(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Weight, E> {
        // This form refuses NaN too.
        if number > 0.0 && number <= f64::from(u32::MAX) {
            Ok(Weight(number))
        } else {
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }
}

/// Converts weights into whole numbers, as a fleet needs them. If any of them is a fraction, all are scaled: 0.7 and
/// 0.3 become 7 and 3.
pub(super) fn whole(weights: &[Weight]) -> Vec<u32> {
    let weights: Vec<f64> = weights.iter().map(|Weight(weight)| *weight).collect();
    if weights.iter().all(|weight| weight.fract() == 0.0) {
        return weights.into_iter().map(|weight| weight as u32).collect();
    }
    let most = weights.iter().copied().fold(0.0, f64::max);
    // Tiny weights are scaled up first, or the factor would be infinite.
    let lift = if most < 1e-200 { 1e200 } else { 1.0 };
    // A power of ten, so that decimal fractions of up to nine places stay exact.
    let room = f64::from(u32::MAX) / (most * lift);
    let factor = 10_f64.powi(room.log10().floor() as i32);
    // Saturates at both ends, so that a weight beyond the scale is at least 1.
    let scaled = weights.iter().map(|weight| (weight * lift * factor).round().max(1.0) as u32).collect::<Vec<_>>();
    let divisor = scaled.iter().copied().fold(0, gcd).max(1);
    scaled.into_iter().map(|weight| weight / divisor).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
