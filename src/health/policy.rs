//! When a circuit opens, for how long, and how it closes again.

use std::time::Duration;

use super::check::{PolicyError, check};

/// When a circuit opens, for how long, and how it closes again. Made by [`Draft::build`], so its values make sense.
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
    /// A policy in the making, with every default in place.
    pub(crate) fn draft() -> Draft {
        Draft::default()
    }

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

/// A [`Policy`] in the making.
///
/// Setting any of the four rules ([`failures`](Self::failures) with [`within`](Self::within),
/// [`consecutive`](Self::consecutive), [`failure_rate`](Self::failure_rate), [`slow_calls`](Self::slow_calls)) replaces
/// the default one. Several can be set; then any one of them opens the circuit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    policy: Policy,
    failures: Option<u32>,
    within: Option<Duration>,
    /// Asked for, rather than the default; it must then not be shorter than `open_for`.
    longest: Option<Duration>,
}

impl Draft {
    /// Opens at this many failures within [`within`](Self::within); successes do not make up for them. Default 5.
    pub(crate) fn failures(mut self, threshold: u32) -> Self {
        self.failures = Some(threshold);
        self
    }

    /// The sliding window of [`failures`](Self::failures): the first of them is at most this old. Default 60 s.
    pub(crate) fn within(mut self, window: Duration) -> Self {
        self.within = Some(window);
        self
    }

    /// Opens at this many failures without a success between them.
    pub(crate) fn consecutive(mut self, threshold: u32) -> Self {
        self.policy.consecutive = Some(threshold);
        self
    }

    /// Opens when this share of the calls in the window failed, and they were at least `minimum_calls`.
    ///
    /// A call counts for 31/32 of the window or a little longer, never for more than the window.
    pub(crate) fn failure_rate(mut self, rate: f64, window: Duration, minimum_calls: u32) -> Self {
        self.policy.failure_rate = Some(Rate { rate, window, minimum_calls });
        self
    }

    /// Opens when this share of the calls in the window, failed ones included, took longer than `slower_than`, and they
    /// were at least `minimum_calls`.
    ///
    /// A probe slower than that counts as a failed one, or a slow backend would be let back at once.
    pub(crate) fn slow_calls(mut self, rate: f64, slower_than: Duration, window: Duration, minimum_calls: u32) -> Self {
        self.policy.slow_calls = Some(SlowCalls { slower_than, share: Rate { rate, window, minimum_calls } });
        self
    }

    /// How long the circuit stays open before it probes. Default 30 s.
    pub(crate) fn open_for(mut self, duration: Duration) -> Self {
        self.policy.open_for = duration;
        self
    }

    /// Multiplies the opening time at each re-opening. Default 1, no growth.
    pub(crate) fn growth(mut self, factor: f64) -> Self {
        self.policy.growth = factor;
        self
    }

    /// The cap of a grown opening time. Default 5 min, or `open_for` where that is longer.
    pub(crate) fn longest(mut self, duration: Duration) -> Self {
        self.longest = Some(duration);
        self
    }

    /// Shortens each opening time by a random share up to this one, so that replicas do not probe in step. Default 0.
    ///
    /// It shortens rather than lengthens, so it is still at work at the cap.
    pub(crate) fn jitter(mut self, share: f64) -> Self {
        self.policy.jitter = share;
        self
    }

    /// Half of the re-openings are forgotten for each such time that the circuit stayed closed. Default 60 s.
    pub(crate) fn forgive_after(mut self, duration: Duration) -> Self {
        self.policy.forgive_after = duration;
        self
    }

    /// How many probes may run at a time while half-open. Default 1.
    pub(crate) fn probes(mut self, at_a_time: u32) -> Self {
        self.policy.probes = at_a_time;
        self
    }

    /// A probe that has not come back by then loses its permit to the next caller. Default 60 s.
    ///
    /// Its outcome still counts if it comes while the circuit is half-open, so a backend whose calls always take longer
    /// can recover too.
    pub(crate) fn probe_timeout(mut self, duration: Duration) -> Self {
        self.policy.probe_timeout = duration;
        self
    }

    /// How many probes must succeed, none failing, before the circuit closes. Default 1.
    pub(crate) fn successes_to_close(mut self, successes: u32) -> Self {
        self.policy.successes_to_close = successes;
        self
    }

    /// The policy, if every value makes sense.
    ///
    /// # Errors
    ///
    /// Names the first field that does not, and its value.
    pub(crate) fn build(self) -> Result<Policy, PolicyError> {
        let mut policy = self.policy;
        let default = Policy::default();
        let other_rule = policy.consecutive.is_some() || policy.failure_rate.is_some() || policy.slow_calls.is_some();
        policy.failures = match (self.failures, self.within) {
            (None, None) if other_rule => None,
            (threshold, within) => default.failures.map(|failures| Failures {
                threshold: threshold.unwrap_or(failures.threshold),
                within: within.unwrap_or(failures.within),
            }),
        };
        policy.longest = self.longest.unwrap_or(policy.longest.max(policy.open_for));
        check(&policy)?;
        Ok(policy)
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
