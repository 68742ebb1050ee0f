//! A policy in the making.

use std::time::Duration;

use super::{
    check::{PolicyError, check},
    policy::{Failures, Policy, Rate, SlowCalls},
};

impl Policy {
    /// A policy in the making, with every default in place.
    pub(crate) fn draft() -> Draft {
        Draft::default()
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
