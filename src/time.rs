//! Monotonic moments, and the one clock that measures them.

use std::time::Duration;

use tokio::time::Instant;

/// Measures the time since it was started. Follows tokio's paused time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Starts the clock. The first moment is one nanosecond after the epoch, since the epoch stands for no moment: also
    /// while time is paused, the start of the first call is one.
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self(now.checked_sub(Duration::from_nanos(1)).unwrap_or(now))
    }

    /// Converts a moment to the `Instant` of tokio's timers.
    pub(crate) fn instant(self, moment: Moment) -> Instant {
        // 136 years, for a moment beyond the range of `Instant`: no timer runs that long.
        let far = || self.0 + Duration::from_secs(u64::from(u32::MAX));
        self.0.checked_add(moment.since(Moment::EPOCH)).unwrap_or_else(far)
    }

    /// Converts an `Instant` to a moment. One before the start of the clock is its epoch.
    pub(crate) fn moment(self, instant: Instant) -> Moment {
        Moment::since_epoch(instant.saturating_duration_since(self.0))
    }

    /// Returns the current moment.
    #[inline(always)]
    pub(crate) fn now(self) -> Moment {
        Moment::since_epoch(self.0.elapsed())
    }
}

/// A moment of monotonic time: nanoseconds since the start of a [`Clock`].
///
/// Arithmetic saturates. A `u64` of nanoseconds lasts for 584 years; its maximum is [`Moment::NEVER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(u64);

impl Moment {
    /// The start of the clock. As a deadline, it is always reached.
    pub(crate) const EPOCH: Self = Self(0);
    /// A deadline that is never reached.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// Returns the moment this long after the epoch.
    pub(crate) const fn since_epoch(elapsed: Duration) -> Self {
        // Faster than by `as_nanos`, which has 128 bits.
        Self(elapsed.as_secs().saturating_mul(1_000_000_000).saturating_add(elapsed.subsec_nanos() as u64))
    }

    /// Returns the moment this many nanoseconds after the epoch.
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns the nanoseconds since the epoch.
    #[inline]
    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the moment `later` after this one.
    pub(crate) const fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(Self::since_epoch(later).0))
    }

    /// Returns the time from `earlier` to this moment; zero if `earlier` is not earlier.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns whether `deadline` is reached at this moment. [`Moment::NEVER`] never is.
    pub(crate) const fn reached(self, deadline: Self) -> bool {
        self.0 >= deadline.0 && deadline.0 != Self::NEVER.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        // C40
        let late = Moment::from_nanos(u64::MAX - 1);
        assert_eq!(late.after(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::since_epoch(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::EPOCH.since(late), Duration::ZERO);
        assert_eq!(late.since(Moment::EPOCH).as_nanos(), u128::from(u64::MAX - 1));
    }

    #[test]
    fn never_is_not_reached_even_by_itself() {
        // C40
        assert!(Moment::NEVER.reached(Moment::EPOCH));
        assert!(!Moment::NEVER.reached(Moment::NEVER));
        assert!(!Moment::EPOCH.reached(Moment::from_nanos(1)));
        assert!(Moment::from_nanos(1).reached(Moment::from_nanos(1)));
    }
}
