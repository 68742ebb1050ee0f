//! Validation of settings.

use std::{borrow::Cow, time::Duration};

use super::policy::CircuitPolicy;
use crate::setting::{InvalidSetting, share_reason};

/// Longer durations are refused: they are typing errors.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Bounds the memory of a circuit: eight bytes for each failure in the window.
const MAX_FAILURES: u32 = 10_000;
/// Bounds the work of acquiring a permit, which scans all of them.
const MAX_PROBES: u32 = 1_000;

impl CircuitPolicy {
    /// Returns the policy if all its values make sense, else an error for the first that does not.
    pub(crate) fn checked(self) -> Result<Self, InvalidSetting> {
        if let Some(failures) = self.failures_rule() {
            count("failures", failures.threshold, MAX_FAILURES)?;
            duration("within", failures.within)?;
        }
        if let Some(consecutive) = self.consecutive {
            count("consecutive", consecutive, u32::MAX)?;
        }
        if let Some(rate) = self.failure_rate {
            share("failure_rate.share", rate.share)?;
            duration("failure_rate.window", rate.window)?;
            count("failure_rate.minimum_calls", rate.minimum_calls, u32::MAX)?;
        }
        if let Some(slow) = self.slow_calls {
            share("slow_calls.share", slow.rate.share)?;
            duration("slow_calls.slower_than", slow.slower_than)?;
            duration("slow_calls.window", slow.rate.window)?;
            count("slow_calls.minimum_calls", slow.rate.minimum_calls, u32::MAX)?;
        }
        duration("open_for", self.open_for)?;
        // This form refuses NaN too.
        if !(self.growth >= 1.0 && self.growth.is_finite()) {
            return Err(refused("growth", self.growth, "must be a number from 1"));
        }
        duration("max_open_for", self.longest_open())?;
        if self.longest_open() < self.open_for {
            let value = format!("{:?}", self.longest_open());
            return Err(refused("max_open_for", value, "must be at least as long as open_for"));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(refused("jitter", self.jitter, share_reason(self.jitter, "must be a share from 0 to 1")));
        }
        duration("backoff_reset_after", self.backoff_reset_after)?;
        count("probes", self.probes, MAX_PROBES)?;
        duration("probe_timeout", self.probe_timeout)?;
        count("successes_to_close", self.successes_to_close, u32::MAX)?;
        Ok(self)
    }
}

const POLICY: Part = Part("circuit breaker");

/// A part of the crate whose settings are validated.
#[derive(Clone, Copy)]
pub(super) struct Part(pub(super) &'static str);

impl Part {
    pub(super) fn refused(
        self,
        field: &'static str,
        value: impl ToString,
        reason: impl Into<Cow<'static, str>>,
    ) -> InvalidSetting {
        InvalidSetting::of(self.0, field, value.to_string(), reason)
    }

    /// Validates a number within a range.
    pub(super) fn count(self, field: &'static str, value: u32, min: u32, max: u32) -> Result<(), InvalidSetting> {
        match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(self.refused(field, value, format!("must be from {min} to {max}"))),
        }
    }

    pub(super) fn share(self, field: &'static str, value: f64) -> Result<(), InvalidSetting> {
        match value > 0.0 && value <= 1.0 {
            true => Ok(()),
            false => Err(self.refused(field, value, share_reason(value, "must be a share over 0 and up to 1"))),
        }
    }

    pub(super) fn duration(self, field: &'static str, value: Duration) -> Result<(), InvalidSetting> {
        if value.is_zero() {
            Err(self.refused(field, format!("{value:?}"), "must be longer than zero"))
        } else if value > MAX_DURATION {
            Err(self.refused(field, format!("{value:?}"), "must be at most 30 days"))
        } else {
            Ok(())
        }
    }
}

fn refused(field: &'static str, value: impl ToString, reason: impl Into<Cow<'static, str>>) -> InvalidSetting {
    POLICY.refused(field, value, reason)
}

fn count(field: &'static str, value: u32, max: u32) -> Result<(), InvalidSetting> {
    match value {
        0 => Err(refused(field, value, "must be at least 1")),
        _ if value > max => Err(refused(field, value, format!("must be at most {max}"))),
        _ => Ok(()),
    }
}

fn share(field: &'static str, value: f64) -> Result<(), InvalidSetting> {
    POLICY.share(field, value)
}

fn duration(field: &'static str, value: Duration) -> Result<(), InvalidSetting> {
    POLICY.duration(field, value)
}
