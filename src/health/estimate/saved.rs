//! What is saved of an estimate for the next start of the process.

use std::time::Duration;

use super::{Estimate, MAX_PENALTY, TICK_BITS, Word, ticks};
use crate::{health::sync::Ordering, time::Moment};

/// An estimate as it is saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SavedEstimate {
    /// In nanoseconds. Negative while there is no sample but a lower bound.
    pub(crate) value: f32,
    /// The time since its last update.
    pub(crate) age: Duration,
}

/// Older estimates are forgotten: they have no weight any more.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);

impl SavedEstimate {
    /// Returns the estimate as it is after some time without calls. `None` if it is forgotten then.
    pub(crate) fn aged(self, by: Duration) -> Option<Self> {
        let age = self.age.saturating_add(by);
        (age <= MAX_AGE).then_some(Self { age, ..self })
    }
}

impl Estimate {
    /// Returns what is to be saved. `None` without a sample of the last time.
    pub(crate) fn saved(&self, now: Moment) -> Option<SavedEstimate> {
        let word = Word::unpack(self.0.load(Ordering::Relaxed))?;
        let elapsed = ticks(now).wrapping_sub(word.at);
        // An update may be newer than `now`.
        let elapsed = if elapsed > u32::MAX / 2 { 0 } else { elapsed };
        let age = Duration::from_nanos(u64::from(elapsed) << TICK_BITS);
        SavedEstimate { value: word.value, age }.aged(Duration::ZERO)
    }

    /// Continues from what was saved. Has no effect after a sample, which is newer.
    pub(crate) fn restore(&self, saved: SavedEstimate, now: Moment) {
        let Some(SavedEstimate { value, age }) = saved.aged(Duration::ZERO).filter(|saved| saved.value.is_finite())
        else {
            return;
        };
        // Ticks wrap, so that this may be before the start of the process.
        let at = ticks(now).wrapping_sub((Moment::since_epoch(age).as_nanos() >> TICK_BITS) as u32);
        let word = Word { value: value.abs().min(MAX_PENALTY).copysign(value), at };
        let _ = self.0.compare_exchange(0, word.pack(), Ordering::Relaxed, Ordering::Relaxed);
    }
}
