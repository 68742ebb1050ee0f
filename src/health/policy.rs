//! When a circuit opens, for how long, and how it closes again.

use std::time::Duration;

/// When a circuit opens, for how long, and how it closes again. Made by [`Draft::build`](super::Draft::build), so its values make sense.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    pub(super) failures: Option<Failures>,
    pub(super) consecutive: Option<u32>,
    pub(super) failure_rate: Option<Rate>,
    pub(super) slow_calls: Option<SlowCalls>,
    pub(super) open_for: Duration,
    pub(super) growth: f64,
    pub(super) longest: Duration,
    pub(super) jitter: f64,
    pub(super) forgive_after: Duration,
    pub(super) probes: u32,
    pub(super) probe_timeout: Duration,
    pub(super) successes_to_close: u32,
}

/// So many failures, the first of them at most so old.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Failures {
    pub(super) threshold: u32,
    pub(super) within: Duration,
}

/// A share of the calls in a window, once there are enough of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub(super) rate: f64,
    pub(super) window: Duration,
    pub(super) minimum_calls: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SlowCalls {
    pub(super) slower_than: Duration,
    pub(super) share: Rate,
}

impl Policy {
    /// How long the opening after `before` remembered ones lasts.
    pub(super) fn opening(&self, before: u32, random: impl FnOnce() -> u64) -> Duration {
        // Nanoseconds as `f64`: exact up to 104 days, and a growth beyond all bounds is infinite, then capped.
        let grown = self.open_for.as_nanos() as f64 * self.growth.powi(before.min(i32::MAX as u32) as i32);
        let capped = grown.min(self.longest.as_nanos() as f64);
        let share = if self.jitter > 0.0 { self.jitter * unit(random()) } else { 0.0 };
        Duration::from_nanos((capped - capped * share) as u64).max(Duration::from_nanos(1))
    }
}

/// A random number in [0, 1).
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

impl Default for Policy {
    /// Five failures within 60 s open for 30 s, and one good probe closes again.
    fn default() -> Self {
        Self {
            // Seldom enough to spare a backend with the odd failure, soon enough to spare its callers an outage.
            failures: Some(Failures { threshold: 5, within: Duration::from_secs(60) }),
            consecutive: None,
            failure_rate: None,
            slow_calls: None,
            // About what a restart takes.
            open_for: Duration::from_secs(30),
            // No growth: an outage of hours is probed as often as one of minutes, and ends as soon.
            growth: 1.0,
            // With growth: a backend is asked at least every five minutes.
            longest: Duration::from_secs(300),
            // None: what was configured is what happens. With many replicas a tenth keeps them out of step.
            jitter: 0.0,
            // As long as the default window: after that, nothing of the outage is left in it.
            forgive_after: Duration::from_secs(60),
            // One caller at risk suffices to learn whether the backend is back.
            probes: 1,
            // Longer than nearly every call; it only matters when an outcome never comes.
            probe_timeout: Duration::from_secs(60),
            successes_to_close: 1,
        }
    }
}
