//! The section `[breaker]`.

use serde::Deserialize;

use super::{Fault, Invalid, units::Span};
use crate::{
    breaker::{CircuitBreakerLayer, Misconfigured},
    outcome::{HttpClassifier, Statuses},
    setting::Field,
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
    longest: Option<Span>,
    jitter: Option<f64>,
    forgive_after: Option<Span>,
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
            longest: None,
            jitter: None,
            forgive_after: None,
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
    rate: f64,
    window: Span,
    minimum_calls: u32,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowCalls {
    rate: f64,
    slower_than: Span,
    window: Span,
    minimum_calls: u32,
}

impl Section {
    pub(super) fn layer(self) -> Result<CircuitBreakerLayer, Invalid> {
        let is_enabled = self.enabled;
        // Looked at even if it is switched off, so that switching it on brings no surprise.
        let refused = |Misconfigured(refused): Misconfigured| {
            let field = match refused.field {
                // What the rule calls by its own name is its share.
                Field::Fleet(rule @ ("failure_rate" | "slow_calls")) => format!("breaker.{rule}.rate"),
                Field::Fleet(field) => format!("breaker.{field}"),
                _ => "breaker".to_owned(),
            };
            Fault::new(&refused.value, refused.reason()).at(field, None)
        };
        let off = (!is_enabled).then(|| self.clone().off().rules());
        let layer = self.rules().checked().map_err(refused)?;
        Ok(off.unwrap_or(layer))
    }

    /// Opened by an operator, and by nothing else: no outage has so many failures. One that succeeds costs nothing then.
    fn off(self) -> Self {
        Self { failures: None, within: None, failure_rate: None, slow_calls: None, consecutive: Some(u32::MAX), ..self }
    }

    fn rules(self) -> CircuitBreakerLayer {
        let mut layer = CircuitBreakerLayer::new();
        if let Some(threshold) = self.failures {
            layer = layer.failures(threshold);
        }
        if let Some(Span(window)) = self.within {
            layer = layer.within(window);
        }
        if let Some(threshold) = self.consecutive {
            layer = layer.consecutive(threshold);
        }
        if let Some(FailureRate { rate, window: Span(window), minimum_calls }) = self.failure_rate {
            layer = layer.failure_rate(rate, window, minimum_calls);
        }
        if let Some(SlowCalls { rate, slower_than: Span(slower_than), window: Span(window), minimum_calls }) =
            self.slow_calls
        {
            layer = layer.slow_calls(rate, slower_than, window, minimum_calls);
        }
        if let Some(Span(duration)) = self.open_for {
            layer = layer.open_for(duration);
        }
        if let Some(factor) = self.growth {
            layer = layer.growth(factor);
        }
        if let Some(Span(longest)) = self.longest {
            layer = layer.longest(longest);
        }
        if let Some(share) = self.jitter {
            layer = layer.jitter(share);
        }
        if let Some(Span(duration)) = self.forgive_after {
            layer = layer.forgive_after(duration);
        }
        if let Some(at_a_time) = self.probes {
            layer = layer.probes(at_a_time);
        }
        if let Some(Span(duration)) = self.probe_timeout {
            layer = layer.probe_timeout(duration);
        }
        if let Some(successes) = self.successes_to_close {
            layer = layer.successes_to_close(successes);
        }
        let mut classifier = HttpClassifier::new().success_at_end(self.success_at_end);
        if let Some(statuses) = self.statuses {
            classifier = classifier.statuses(statuses);
        }
        layer.classify(classifier)
    }
}
