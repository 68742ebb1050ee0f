//! An estimate of a latency that follows its samples, and that decays while there are none.

#[cfg(feature = "file-state")]
mod saved;

use std::{
    f32::consts::{LN_2, LOG2_E},
    time::Duration,
};

#[cfg(feature = "file-state")]
pub(crate) use self::saved::SavedEstimate;
use super::sync::{AtomicU64, Ordering};
use crate::time::Moment;

/// An estimate of a latency, in one word: its value and when that was updated.
///
/// Weights are exponential in time, not in the number of samples: a sample loses two thirds of its weight in one time
/// constant. So a busy backend and an idle one forget equally fast.
#[derive(Debug, Default)]
pub(crate) struct Estimate(AtomicU64);

/// The value of an [`Estimate`] in nanoseconds, and the time of its last update in ticks. The word 0 is an estimate
/// without a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Word {
    /// Negative while there is no sample but a lower bound.
    value: f32,
    at: u32,
}

/// A tick is 2^20 ns, about a millisecond, so that ticks wrap after 52 days. After a pause of that length, an estimate
/// is taken for a newer one than it is, once.
const TICK_BITS: u32 = 20;

/// How fast an estimate forgets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Decay {
    /// 1 / (time constant × ln 2), in ticks.
    rate: f32,
}

impl Decay {
    /// A decay with this time constant, of at least a tick.
    pub(crate) fn over(time: Duration) -> Self {
        let ticks = (time.as_nanos() as f32 / (1 << TICK_BITS) as f32).max(1.0);
        Self { rate: LOG2_E / ticks }
    }

    /// Nothing is forgotten.
    pub(crate) const NONE: Self = Self { rate: 0.0 };
    /// Everything is forgotten at once.
    pub(crate) const INSTANT: Self = Self { rate: f32::MAX };

    /// Returns a number that is larger for a faster decay.
    pub(crate) const fn bits(self) -> u32 {
        // The bits of floats that are not negative are in their order.
        self.rate.to_bits()
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self { rate: f32::from_bits(bits) }
    }

    /// Returns the part that is left after some ticks, from 1 to 0.
    #[inline]
    fn left(self, ticks: u32) -> f32 {
        half_to_the(self.rate * ticks as f32)
    }
}

/// Returns 0.5^x for x >= 0, to three digits.
#[inline]
fn half_to_the(x: f32) -> f32 {
    if x >= 126.0 {
        return 0.0;
    }
    let whole = x as u32;
    let part = x - whole as f32;
    // The Taylor series of 2^-part, with the last coefficient set so that it is exact at 1.
    let series = 1.0 - part * (LN_2 - part * (0.240_226_5 - part * (0.055_504_1 - part * 0.008_424_8)));
    series * f32::from_bits((127 - whole) << 23)
}

/// Converts a time to nanoseconds. Faster than by `as_nanos`, which has 128 bits.
#[inline]
fn nanos(time: Duration) -> f32 {
    time.as_secs_f32() * 1e9
}

#[inline]
fn ticks(now: Moment) -> u32 {
    (now.as_nanos() >> TICK_BITS) as u32
}

impl Word {
    #[inline]
    fn unpack(word: u64) -> Option<Self> {
        (word != 0).then_some(Self { value: f32::from_bits((word >> 32) as u32), at: word as u32 })
    }

    #[inline]
    fn pack(self) -> u64 {
        // A sample of zero must not look like no sample.
        u64::from(self.value.abs().max(1.0).copysign(self.value).to_bits()) << 32 | u64::from(self.at)
    }

    /// Whether there is a sample.
    #[inline]
    fn is_sampled(&self) -> bool {
        self.value > 0.0
    }

    /// The value decayed to this tick, and the part of it that is left.
    #[inline]
    fn decayed(self, at: u32, decay: Decay) -> (f32, f32) {
        // Threads read the clock at different times: an update may be newer than the reader's `now`.
        let elapsed = at.wrapping_sub(self.at);
        let left = if elapsed > u32::MAX / 2 { 1.0 } else { decay.left(elapsed) };
        (self.value * left, left)
    }
}

impl Estimate {
    /// Returns the estimate as of its last update, in nanoseconds, and the part of it that is left now. `None` before
    /// the first sample.
    #[inline]
    pub(crate) fn read(&self, now: Moment, decay: Decay) -> Option<(f32, f32)> {
        let word = Word::unpack(self.0.load(Ordering::Relaxed)).filter(Word::is_sampled)?;
        Some((word.value, word.decayed(ticks(now), decay).1))
    }

    /// Returns the estimate as of its last update. `None` before the first sample.
    #[inline]
    pub(crate) fn last(&self) -> Option<f32> {
        Some(Word::unpack(self.0.load(Ordering::Relaxed)).filter(Word::is_sampled)?.value)
    }

    /// Returns the decayed lower bound of an estimate without a sample, in nanoseconds, or 0.
    pub(crate) fn bound(&self, now: Moment, decay: Decay) -> f32 {
        let word = Word::unpack(self.0.load(Ordering::Relaxed)).filter(|word| !word.is_sampled());
        word.map_or(0.0, |word| -word.decayed(ticks(now), decay).0)
    }

    /// Updates a peak: a sample above the decayed estimate replaces it, and a lower one pulls it down with the time.
    #[inline]
    pub(crate) fn peak(&self, sample: Duration, now: Moment, decay: Decay) {
        let sample = nanos(sample);
        self.update(now, |word, at| match word.map(|word| word.decayed(at, decay)) {
            // Above a lower bound too, which is negative.
            Some((value, left)) if sample < value => value + sample * (1.0 - left),
            _ => sample,
        });
    }

    /// Whether there is a sample that is not forgotten.
    #[inline]
    pub(crate) fn has_samples(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Adds one to a decaying count, which is used in place of a latency.
    pub(crate) fn count(&self, now: Moment, decay: Decay) {
        // In units of a thousandth, since a word holds no value below 1.
        self.update(now, |word, at| 1_000.0 + word.map_or(0.0, |word| word.decayed(at, decay).0));
    }

    /// Returns a decaying count, and forgets it once it is below a hundredth.
    pub(crate) fn counted(&self, now: Moment, decay: Decay) -> f32 {
        let packed = self.0.load(Ordering::Relaxed);
        let count = Word::unpack(packed).map_or(0.0, |word| word.decayed(ticks(now), decay).0 / 1_000.0);
        if count < 0.01 {
            let _ = self.0.compare_exchange(packed, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        count
    }

    /// Updates a mean.
    #[inline]
    pub(crate) fn mean(&self, sample: Duration, now: Moment, decay: Decay) {
        let sample = nanos(sample);
        self.update(now, |word, at| match word.filter(Word::is_sampled).map(|word| word.decayed(at, decay)) {
            Some((value, left)) => value + sample * (1.0 - left),
            None => sample,
        });
    }

    /// Raises the estimate to a sample that is a lower bound only. Changes nothing if the estimate is higher. Without an
    /// estimate it is noted as a [bound](Self::bound).
    pub(crate) fn at_least(&self, sample: Duration, now: Moment, decay: Decay) {
        let sample = nanos(sample);
        self.update(now, |word, at| match word.map(|word| word.decayed(at, decay).0) {
            None => -sample,
            Some(value) if sample > value.abs() => sample.copysign(value),
            // `update` writes nothing for a value of NaN.
            Some(_) => f32::NAN,
        });
    }

    /// Raises the estimate for a call that failed: to `penalty`, or to a multiple of the estimate if that is more.
    pub(crate) fn penalize(&self, penalty: Duration, now: Moment, decay: Decay) {
        let penalty = nanos(penalty);
        self.update(now, |word, at| {
            let present = word.map_or(0.0, |word| word.decayed(at, decay).0.abs());
            penalty.max(present * FAILURE_FACTOR).min(MAX_PENALTY).max(present)
        });
    }

    /// Replaces the word by one made of `change`. Writes nothing if an update in the same tick would not raise the
    /// value: it would have no weight.
    #[inline]
    fn update(&self, now: Moment, change: impl Fn(Option<Word>, u32) -> f32) {
        let at = ticks(now);
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let word = Word::unpack(before);
            let value = change(word, at);
            let is_idle = word.is_some_and(|word| {
                at.wrapping_sub(word.at).wrapping_sub(1) > u32::MAX / 2 && value <= word.value && value > 0.0
            });
            if is_idle || value.is_nan() {
                return;
            }
            // An update from before the last one does not turn back its time.
            let at = word.map_or(at, |word| if at.wrapping_sub(word.at) > u32::MAX / 2 { word.at } else { at });
            match self.0.compare_exchange_weak(before, Word { value, at }.pack(), Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => before = now,
            }
        }
    }
}

/// By how much one more failure raises the estimate of a backend that is slow or failing already.
const FAILURE_FACTOR: f32 = 4.0;

/// The highest estimate after a failure, in nanoseconds: ten minutes. Otherwise a backend that failed many times at once
/// would not be selected for days.
const MAX_PENALTY: f32 = 600e9;

#[cfg(all(test, not(fleet_loom)))]
mod tests;
