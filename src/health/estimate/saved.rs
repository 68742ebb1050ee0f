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

#[cfg(all(test, not(fleet_loom)))]
mod tests {
    use super::{super::Decay, *};

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    // C54: the process begins anew, and so does its clock.
    #[test]
    fn a_restored_estimate_is_as_old_as_the_saved_one() {
        let decay = Decay::over(millis(10_000));
        let (old, new) = (Estimate::default(), Estimate::default());
        let at = |time| Moment::since_epoch(millis(time));
        assert_eq!(old.saved(at(1)), None);
        old.peak(millis(80), at(500_000), decay);
        let saved = old.saved(at(503_000)).unwrap().aged(millis(2_000)).unwrap();
        new.restore(saved, at(1));
        let (value, left) = new.read(at(1), decay).unwrap();
        let (expected, rest) = old.read(at(505_000), decay).unwrap();
        assert_eq!(value, expected);
        assert!((left - rest).abs() < 0.001 && (0.6..0.61).contains(&left), "{left} {rest}");
        // A bound stays a bound.
        let (old, new) = (Estimate::default(), Estimate::default());
        old.at_least(millis(80), at(1_000), decay);
        new.restore(old.saved(at(1_000)).unwrap(), at(1));
        assert!(new.last().is_none() && new.bound(at(1), decay) > 70e6);
    }

    // C54
    #[test]
    fn a_sample_of_this_process_is_newer_and_an_old_one_is_forgotten() {
        let at = |time| Moment::since_epoch(millis(time));
        let estimate = Estimate::default();
        estimate.peak(millis(80), at(1_000), Decay::NONE);
        estimate.restore(SavedEstimate { value: 1e6, age: Duration::ZERO }, at(1_000));
        assert_eq!(estimate.last(), Some(80e6));
        assert!(estimate.saved(at(3_600_000)).is_some());
        assert_eq!(estimate.saved(at(1_100 + 3_600_000)), None);
    }

    // C54, C58
    #[test]
    fn absurd_values_are_cut_or_ignored() {
        let now = Moment::since_epoch(millis(1));
        for (value, age, expected) in [
            (f32::NAN, Duration::ZERO, None),
            (f32::INFINITY, Duration::ZERO, None),
            (1e6, Duration::MAX, None),
            (f32::MAX, Duration::ZERO, Some(MAX_PENALTY)),
            (0.0, Duration::ZERO, Some(1.0)),
        ] {
            let estimate = Estimate::default();
            estimate.restore(SavedEstimate { value, age }, now);
            assert_eq!(estimate.last(), expected, "{value} {age:?}");
        }
    }
}
