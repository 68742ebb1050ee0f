//! The section `[breaker]`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    ConfigError, ValueError,
    units::{Share, Span},
};
use crate::{
    health::{CircuitPolicy, Rate},
    outcome::{HttpClassifier, Statuses},
};

#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Section {
    enabled: bool,
    failures: Option<u32>,
    within: Option<Span>,
    consecutive: Option<u32>,
    failure_rate: Option<FailureRate>,
    slow_calls: Option<SlowCalls>,
    open_for: Option<Span>,
    growth: Option<f64>,
    max_open_for: Option<Span>,
    jitter: Option<Share>,
    backoff_reset_after: Option<Span>,
    probes: Option<u32>,
    probe_timeout: Option<Span>,
    successes_to_close: Option<u32>,
    statuses: Option<Statuses>,
    success_at_end: bool,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: None,
            within: None,
            consecutive: None,
            failure_rate: None,
            slow_calls: None,
            open_for: None,
            growth: None,
            max_open_for: None,
            jitter: None,
            backoff_reset_after: None,
            probes: None,
            probe_timeout: None,
            successes_to_close: None,
            statuses: None,
            success_at_end: false,
        }
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailureRate {
    share: Share,
    window: Option<Span>,
    minimum_calls: Option<u32>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowCalls {
    share: Share,
    slower_than: Span,
    window: Option<Span>,
    minimum_calls: Option<u32>,
}

impl Section {
    /// Makes the settings of the circuits, and the classifier.
    pub(super) fn parts(self) -> Result<(CircuitPolicy, HttpClassifier), ConfigError> {
        let mut classifier = HttpClassifier::new().success_at_end(self.success_at_end);
        if let Some(statuses) = self.statuses {
            classifier = classifier.statuses(statuses);
        }
        // Validated even if it is switched off, so that it can be switched on safely.
        let off = (!self.enabled).then(|| self.clone().off().policy());
        let policy = self.policy().checked().map_err(|refused| {
            ValueError::new(refused.value(), refused.reason()).at(format!("breaker.{}", refused.field()), None)
        })?;
        Ok((off.unwrap_or(policy), classifier))
    }

    /// The time after which a call is slow, if slow calls count.
    pub(super) fn slower_than(&self) -> Option<Duration> {
        self.slow_calls.as_ref().filter(|_| self.enabled).map(|slow| slow.slower_than.0)
    }

    /// Makes a circuit that only an operator opens: no outage has that many failures. The rule on consecutive failures
    /// costs a successful call the least.
    fn off(self) -> Self {
        Self { failures: None, within: None, failure_rate: None, slow_calls: None, consecutive: Some(u32::MAX), ..self }
    }

    fn policy(self) -> CircuitPolicy {
        let mut policy = CircuitPolicy::new();
        if let Some(threshold) = self.failures {
            policy = policy.failures(threshold);
        }
        if let Some(Span(window)) = self.within {
            policy = policy.within(window);
        }
        if let Some(threshold) = self.consecutive {
            policy = policy.consecutive(threshold);
        }
        if let Some(FailureRate { share, window, minimum_calls }) = self.failure_rate {
            policy = policy.failure_rate(rate(share, window, minimum_calls));
        }
        if let Some(SlowCalls { share, slower_than: Span(slower_than), window, minimum_calls }) = self.slow_calls {
            policy = policy.slow_calls(slower_than, rate(share, window, minimum_calls));
        }
        if let Some(Span(duration)) = self.open_for {
            policy = policy.open_for(duration);
        }
        if let Some(factor) = self.growth {
            policy = policy.growth(factor);
        }
        if let Some(Span(duration)) = self.max_open_for {
            policy = policy.max_open_for(duration);
        }
        if let Some(Share(share)) = self.jitter {
            policy = policy.jitter(share);
        }
        if let Some(Span(duration)) = self.backoff_reset_after {
            policy = policy.backoff_reset_after(duration);
        }
        if let Some(at_a_time) = self.probes {
            policy = policy.probes(at_a_time);
        }
        if let Some(Span(duration)) = self.probe_timeout {
            policy = policy.probe_timeout(duration);
        }
        if let Some(successes) = self.successes_to_close {
            policy = policy.successes_to_close(successes);
        }
        policy
    }
}

fn rate(Share(share): Share, window: Option<Span>, minimum_calls: Option<u32>) -> Rate {
    let mut rate = Rate::new(share);
    if let Some(Span(window)) = window {
        rate = rate.window(window);
    }
    if let Some(calls) = minimum_calls {
        rate = rate.minimum_calls(calls);
    }
    rate
}
