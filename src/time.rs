//! Moments, and the one clock that tells them.

use std::time::Duration;

use tokio::time::Instant;

/// Tells the time since it was made, for as long as the process runs. Follows tokio's paused time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The moment as tokio's timers take it.
    pub(crate) fn instant(self, moment: Moment) -> Instant {
        // A moment beyond what an instant can hold is not waited for to its end by anything that runs.
        let far = || self.0 + Duration::from_secs(u64::from(u32::MAX));
        self.0.checked_add(moment.since(Moment::EPOCH)).unwrap_or_else(far)
    }

    #[inline(always)]
    pub(crate) fn now(self) -> Moment {
        Moment::since_epoch(self.0.elapsed())
    }
}

/// A moment of monotonic time, counted from an epoch that the caller chooses once per process.
///
/// Arithmetic saturates. One `u64` of nanoseconds lasts 584 years, and [`Moment::NEVER`] lies behind them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(u64);

impl Moment {
    /// The epoch itself; as a deadline, one that has always been reached.
    pub(crate) const EPOCH: Self = Self(0);
    /// A deadline that is never reached, not even at the end of time.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The moment this long after the epoch.
    pub(crate) const fn since_epoch(elapsed: Duration) -> Self {
        let nanos = elapsed.as_nanos();
        if nanos > u64::MAX as u128 { Self::NEVER } else { Self(nanos as u64) }
    }

    /// The moment this many nanoseconds after the epoch.
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    #[inline]
    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `later` after this one.
    pub(crate) const fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(Self::since_epoch(later).0))
    }

    /// How long after `earlier` this is; nothing when it is not after it.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whether `deadline` has come. [`Moment::NEVER`] never does.
    pub(crate) const fn reached(self, deadline: Self) -> bool {
        self.0 >= deadline.0 && deadline.0 != Self::NEVER.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_at_both_ends() {
        // C40
        let late = Moment::from_nanos(u64::MAX - 1);
        assert_eq!(late.after(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::since_epoch(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::EPOCH.since(late), Duration::ZERO);
        assert_eq!(late.since(Moment::EPOCH).as_nanos(), u128::from(u64::MAX - 1));
    }

    #[test]
    fn never_is_not_reached_at_the_end_of_time() {
        // C40
        assert!(Moment::NEVER.reached(Moment::EPOCH));
        assert!(!Moment::NEVER.reached(Moment::NEVER));
        assert!(!Moment::EPOCH.reached(Moment::from_nanos(1)));
        assert!(Moment::from_nanos(1).reached(Moment::from_nanos(1)));
    }
}
