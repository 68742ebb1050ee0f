//! The measurement of an attempt, for the percentile of its backend.

use std::time::Duration;

use crate::{fleet::MemberInfo, health::LatencyWindow, time::Moment};

/// The time from which an attempt is late, and whether it was noted that it is.
///
/// Small, since each attempt has one: units of 2^12 ns, about 4 µs, and the flag in the highest bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace(u32);

const UNIT: u32 = 12;
const NOTED: u32 = 1 << 31;

impl Pace {
    pub(super) fn new(late_after: Duration) -> Self {
        // The longest is two hours and a half.
        let units = Moment::since_epoch(late_after).as_nanos() >> UNIT;
        Self(u32::try_from(units).unwrap_or(u32::MAX).min(NOTED - 1))
    }

    fn late_after(self) -> Duration {
        Duration::from_nanos(u64::from(self.0 & !NOTED) << UNIT)
    }

    /// Notes that the attempt has run for this time. Late, it counts once, and before its end.
    pub(super) fn running(&mut self, backend: &MemberInfo, took: Duration, now: Moment) {
        if took >= self.late_after()
            && self.0 & NOTED == 0
            && let Some(latency) = backend.latency()
        {
            latency.slowness.late(now);
            self.0 |= NOTED;
        }
    }

    /// Records that the response of the attempt is final after this time.
    pub(super) fn responded(&mut self, backend: &MemberInfo, took: Duration, now: Moment) {
        let Some(latency) = backend.latency() else { return };
        self.ended(latency, took, now);
        latency.record(took, now);
    }

    /// Records that the attempt was cancelled or has timed out after this time: it takes at least as long.
    ///
    /// In the window it counts as if it had ended now, if it is late. So it is above the percentile, where its place does
    /// not matter. Without it, only the fast ones of the slow attempts would count.
    pub(super) fn cancelled(&mut self, backend: &MemberInfo, took: Duration, now: Moment) {
        if took > self.late_after()
            && let Some(latency) = backend.latency()
        {
            self.ended(latency, took, now);
            latency.record(took, now);
        }
    }

    fn ended(&mut self, latency: &LatencyWindow, took: Duration, now: Moment) {
        match self.0 & NOTED {
            0 if took > self.late_after() => latency.slowness.late(now),
            0 => latency.slowness.in_time(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C58
    #[test]
    fn any_delay_is_kept_to_four_microseconds() {
        for delay in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(3_600)] {
            let kept = Pace::new(delay).late_after();
            assert!(kept <= delay && delay - kept <= Duration::from_nanos(4_096), "{delay:?}");
        }
        assert!(Pace::new(Duration::MAX).late_after() > Duration::from_secs(2 * 3_600));
    }
}
