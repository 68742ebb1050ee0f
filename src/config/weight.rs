//! Weights, which in a file may be fractions.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

/// What a file says of a backend's share: a number from 0.
#[derive(Clone, Copy)]
pub(super) struct Weight(f64);

impl Default for Weight {
    fn default() -> Self {
        Self(1.0)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(AsWeight)
    }
}

struct AsWeight;

impl Visitor<'_> for AsWeight {
    type Value = Weight;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number from 0 to {}", u32::MAX)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Weight, E> {
        let weight = u32::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))?;
        Ok(Weight(weight.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Weight, E> {
        u64::try_from(number)
            .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            .and_then(|number| self.visit_u64(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Weight, E> {
        // Written so that NaN is refused too.
        if (0.0..=f64::from(u32::MAX)).contains(&number) {
            Ok(Weight(number))
        } else {
            Err(E::invalid_value(Unexpected::Float(number), &self))
        }
    }
}

/// The weights as the fleet takes them. A weight of 0 counts as 1; whole numbers stay as they are; with a fraction among
/// them all are brought to one scale: 0.7 and 0.3 become 7 and 3.
pub(super) fn whole(weights: &[Weight]) -> Vec<u32> {
    let weights: Vec<f64> = weights.iter().map(|Weight(weight)| if *weight == 0.0 { 1.0 } else { *weight }).collect();
    if weights.iter().all(|weight| weight.fract() == 0.0) {
        return weights.into_iter().map(|weight| weight as u32).collect();
    }
    let most = weights.iter().copied().fold(0.0, f64::max);
    // What is smaller than any sensible number is lifted first: the factor would be infinite.
    let lift = if most < 1e-200 { 1e200 } else { 1.0 };
    // By a power of ten, since fractions are written in tenths: then they come out exactly, up to nine places.
    let room = f64::from(u32::MAX) / (most * lift);
    let factor = 10_f64.powi(room.log10().floor() as i32);
    // Cut at both ends, so that a share beyond the scale is still a share.
    let scaled = weights.iter().map(|weight| (weight * lift * factor).round().max(1.0) as u32).collect::<Vec<_>>();
    let divisor = scaled.iter().copied().fold(0, gcd).max(1);
    scaled.into_iter().map(|weight| weight / divisor).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
