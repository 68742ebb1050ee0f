use std::time::Duration;

use crate::{rng::Rng, setting::InvalidSetting};

/// How long to wait before the next attempt: 2, 4, 8, 16 s and so on by default, up to a cap.
///
/// For one request the pauses never get shorter, jitter or not. `tower`'s own backoff is a future that picks
/// each pause anew between two bounds, so that a later one may be shorter, and knows nothing of `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    factor: f64,
    jitter: f64,
}

impl Default for Backoff {
    /// 2, 4, 8, then 16 s, each up to a tenth longer by chance.
    fn default() -> Self {
        Self { base: Duration::from_secs(2), cap: Duration::from_secs(16), factor: 2.0, jitter: 0.1 }
    }
}

impl Backoff {
    /// Pauses that begin with `base`, double, and end at `cap`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, ..Self::default() }
    }

    /// What each pause is multiplied by for the next. Default 2.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Lengthens each pause by chance, by up to this share, but not beyond the cap. Default 0.1.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    pub(super) fn checked(self) -> Result<Self, InvalidSetting> {
        if self.base.is_zero() {
            return Err(InvalidSetting::setting("backoff.base", "0 s", "must be longer than zero"));
        }
        if self.cap < self.base {
            return Err(InvalidSetting::setting(
                "backoff.cap",
                &format!("{:?}", self.cap),
                "must be at least the base",
            ));
        }
        if !(self.factor >= 1.0 && self.factor.is_finite()) {
            return Err(InvalidSetting::setting("backoff.factor", &self.factor.to_string(), "must be a number from 1"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(InvalidSetting::setting(
                "backoff.jitter",
                &self.jitter.to_string(),
                "must be a share from 0 to 1",
            ));
        }
        Ok(self)
    }

    /// The pause before the retry of this number, counted from 0, which came after a pause of `last`.
    pub(super) fn pause(&self, retry: u32, last: Duration, rng: &mut Rng) -> Duration {
        // In floating point nothing overflows: it becomes infinite, and is capped.
        let cap = self.cap.as_secs_f64();
        let grown = (self.base.as_secs_f64() * self.factor.powi(retry.min(i32::MAX as u32) as i32)).min(cap);
        let share = self.jitter * (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        // The longest cap is, rounded to a float, more than a duration can hold.
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
    fn doubles_up_to_the_cap() {
        let backoff = Backoff::default().jitter(0.0);
        let pauses = (0..6).map(|retry| backoff.pause(retry, Duration::ZERO, &mut Rng::seeded(1)).as_secs());
        assert_eq!(pauses.collect::<Vec<_>>(), [2, 4, 8, 16, 16, 16]);
    }

    // C52, C58
    #[test]
    fn is_monotone_and_never_overflows() {
        let mut rng = Rng::seeded(3);
        let backoff = Backoff::default().jitter(1.0);
        let mut last = Duration::ZERO;
        for retry in (0..40).chain([u32::MAX / 2, u32::MAX]) {
            let pause = backoff.pause(retry, last, &mut rng);
            assert!(pause >= last && pause <= Duration::from_secs(16), "{retry}: {pause:?} after {last:?}");
            last = pause;
        }
        let wild = Backoff::new(Duration::from_nanos(1), Duration::MAX).factor(f64::MAX).jitter(1.0);
        let wild = wild.checked().unwrap();
        for retry in [0, 1, u32::MAX] {
            assert!(wild.pause(retry, Duration::ZERO, &mut rng) <= Duration::MAX, "{retry}");
        }
    }

    // C58
    #[test]
    fn refuses_what_makes_no_sense() {
        for (bad, field) in [
            (Backoff::new(Duration::ZERO, Duration::MAX), "backoff.base"),
            (Backoff::new(Duration::from_secs(2), Duration::from_secs(1)), "backoff.cap"),
            (Backoff::default().factor(f64::NAN), "backoff.factor"),
            (Backoff::default().factor(0.5), "backoff.factor"),
            (Backoff::default().jitter(-0.1), "backoff.jitter"),
            (Backoff::default().jitter(f64::NAN), "backoff.jitter"),
        ] {
            let refused = bad.checked().unwrap_err().to_string();
            assert!(refused.contains(field), "{refused}");
        }
    }
}
