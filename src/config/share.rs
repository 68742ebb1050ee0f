//! The sections `[slow_start]` and `[outliers]`.

use serde::Deserialize;

use super::{
    ConfigError, ValueError,
    units::{OrOff, Share, Span},
};
use crate::{
    health::{Outliers, SlowStart},
    setting::InvalidSetting,
};

/// The section `[slow_start]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlowStartSection {
    window: Span,
    aggression: Option<f64>,
    floor: Option<Share>,
    steps: Option<u32>,
}

impl SlowStartSection {
    /// Makes the settings.
    pub(super) fn settings(self) -> Result<SlowStart, ConfigError> {
        let mut settings = SlowStart::new(self.window.0);
        if let Some(aggression) = self.aggression {
            settings = settings.aggression(aggression);
        }
        if let Some(Share(floor)) = self.floor {
            settings = settings.floor(floor);
        }
        if let Some(steps) = self.steps {
            settings = settings.steps(steps);
        }
        settings.checked().map_err(|refused| at("slow_start", &refused))
    }
}

/// The section `[outliers]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OutliersSection {
    interval: Option<Span>,
    minimum_calls: Option<u32>,
    minimum_hosts: Option<u32>,
    failure_share: Option<OrOff<Share>>,
    success_rate: Option<OrOff<f64>>,
    latency: Option<OrOff<f64>>,
    latency_difference: Option<Span>,
    latency_floor: Option<Span>,
    floor: Option<Share>,
    eject_for: Option<Span>,
    max_eject_for: Option<Span>,
}

impl OutliersSection {
    /// Makes the settings.
    pub(super) fn settings(self) -> Result<Outliers, ConfigError> {
        let mut settings = Outliers::new();
        if let Some(Span(interval)) = self.interval {
            settings = settings.interval(interval);
        }
        if let Some(calls) = self.minimum_calls {
            settings = settings.minimum_calls(calls);
        }
        if let Some(hosts) = self.minimum_hosts {
            settings = settings.minimum_hosts(hosts);
        }
        if let Some(OrOff(share)) = self.failure_share {
            settings = settings.failure_share(share.map(|Share(share)| share));
        }
        if let Some(OrOff(deviations)) = self.success_rate {
            settings = settings.success_rate(deviations);
        }
        if let Some(OrOff(factor)) = self.latency {
            settings = settings.latency(factor);
        }
        if let Some(Span(difference)) = self.latency_difference {
            settings = settings.latency_difference(difference);
        }
        if let Some(Span(floor)) = self.latency_floor {
            settings = settings.latency_floor(floor);
        }
        if let Some(Share(floor)) = self.floor {
            settings = settings.floor(floor);
        }
        if let Some(Span(time)) = self.eject_for {
            settings = settings.eject_for(time);
        }
        if let Some(Span(time)) = self.max_eject_for {
            settings = settings.max_eject_for(time);
        }
        settings.checked().map_err(|refused| at("outliers", &refused))
    }
}

fn at(section: &str, refused: &InvalidSetting) -> ConfigError {
    ValueError::new(refused.value(), refused.reason()).at(format!("{section}.{}", refused.field()), None)
}
