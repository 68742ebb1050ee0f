//! The pauses between the attempts of a sequence.

use std::time::Duration;

use super::invalid::invalid;
use crate::{
    rng::Rng,
    setting::{InvalidSetting, share_reason},
};

/// The pauses between the attempts of a request under [`Mode::Sequential`](super::Mode::Sequential): exponential, up to
/// a cap, with jitter.
///
/// The pauses of one request never get shorter, despite the jitter. `tower`'s backoff differs: it is a future that
/// draws each pause between two bounds, so that a later pause may be shorter, and it does not consider `Retry-After`.
///
/// ```
/// # use std::time::Duration;
/// # use tower_fleet::failover::Backoff;
/// // 100, 300, 900 ms and so on, up to 5 s.
/// let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).factor(3.0);
/// # let _ = backoff;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    factor: f64,
    jitter: f64,
}

impl Default for Backoff {
    /// The default backoff: 2, 4, 8, then 16 s, each but the last lengthened by a random share of up to a tenth.
    fn default() -> Self {
        // Time for a throttled or restarting backend: the first four pauses add up to half a minute.
        Self { base: Duration::from_secs(2), cap: Duration::from_secs(16), factor: 2.0, jitter: 0.1 }
    }
}

impl Backoff {
    /// Creates a backoff that starts with `base`, doubles with each pause, and stays at `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, ..Self::default() }
    }

    /// Sets the factor from one pause to the next, at least 1. Default 2.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Lengthens each pause by a random share of up to this much, from 0 to 1, but not beyond the cap. Default 0.1.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if self.base.is_zero() {
            return Err(invalid("backoff.base", "0ns", "must be longer than zero"));
        }
        if self.cap < self.base {
            return Err(invalid("backoff.cap", format_args!("{:?}", self.cap), "must be at least the base"));
        }
        if !(self.factor >= 1.0 && self.factor.is_finite()) {
            return Err(invalid("backoff.factor", self.factor, "must be a number from 1"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(invalid(
                "backoff.jitter",
                self.jitter,
                share_reason(self.jitter, "must be a share from 0 to 1"),
            ));
        }
        Ok(())
    }

    /// The pause before a retry: `retry` counts from 0, `last` is the pause before this one.
    pub(super) fn pause(&self, retry: u32, last: Duration, rng: &mut Rng) -> Duration {
        // Floating point does not overflow: the pause becomes infinite, and is capped.
        let cap = self.cap.as_secs_f64();
        let grown = (self.base.as_secs_f64() * self.factor.powi(retry.min(i32::MAX as u32) as i32)).min(cap);
        let share = self.jitter * (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        // The longest cap, rounded to a float, is more than a `Duration` can hold.
        Duration::try_from_secs_f64((grown * (1.0 + share)).min(cap))
            .map_or(self.cap, |pause| pause.min(self.cap))
            .max(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C52
    #[test]
    fn pauses_double_up_to_the_cap() {
        let backoff = Backoff::default().jitter(0.0);
        let pauses = (0..6).map(|retry| backoff.pause(retry, Duration::ZERO, &mut Rng::seeded(1)).as_secs());
        assert_eq!(pauses.collect::<Vec<_>>(), [2, 4, 8, 16, 16, 16]);
    }

    // C52, C58
    #[test]
    fn pauses_are_monotone_and_never_overflow() {
        let mut rng = Rng::seeded(3);
        let backoff = Backoff::default().jitter(1.0);
        let mut last = Duration::ZERO;
        for retry in (0..40).chain([u32::MAX / 2, u32::MAX]) {
            let pause = backoff.pause(retry, last, &mut rng);
            assert!(pause >= last && pause <= Duration::from_secs(16), "{retry}: {pause:?} after {last:?}");
            last = pause;
        }
        let extreme = Backoff::new(Duration::from_nanos(1), Duration::MAX).factor(f64::MAX).jitter(1.0);
        extreme.check().unwrap();
        for retry in [0, 1, u32::MAX] {
            assert!(extreme.pause(retry, Duration::ZERO, &mut rng) <= Duration::MAX, "{retry}");
        }
    }

    // C58
    #[test]
    fn invalid_values_are_refused_by_name() {
        for (backoff, field) in [
            (Backoff::new(Duration::ZERO, Duration::MAX), "backoff.base"),
            (Backoff::new(Duration::from_secs(2), Duration::from_secs(1)), "backoff.cap"),
            (Backoff::default().factor(f64::NAN), "backoff.factor"),
            (Backoff::default().factor(0.5), "backoff.factor"),
            (Backoff::default().jitter(-0.1), "backoff.jitter"),
            (Backoff::default().jitter(f64::NAN), "backoff.jitter"),
        ] {
            let error = backoff.check().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
