//! What a policy may not be.

use std::{error::Error, fmt, time::Duration};

use super::policy::Policy;

/// Longer durations are refused: they are typing errors, not policies.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Bounds the memory of a circuit: eight bytes for each failure that must be remembered.
const MOST_FAILURES: u32 = 10_000;
/// Bounds the work of giving out a permit.
const MOST_PROBES: u32 = 1_000;

/// Refuses what makes no sense, the first such value by name.
pub(super) fn check(policy: &Policy) -> Result<(), PolicyError> {
    if let Some(failures) = policy.failures {
        count("failures", failures.threshold, MOST_FAILURES)?;
        duration("within", failures.within)?;
    }
    if let Some(consecutive) = policy.consecutive {
        count("consecutive", consecutive, u32::MAX)?;
    }
    if let Some(rate) = policy.failure_rate {
        share("failure_rate", rate.rate)?;
        duration("failure_rate.window", rate.window)?;
        count("failure_rate.minimum_calls", rate.minimum_calls, u32::MAX)?;
    }
    if let Some(slow) = policy.slow_calls {
        share("slow_calls", slow.share.rate)?;
        duration("slow_calls.slower_than", slow.slower_than)?;
        duration("slow_calls.window", slow.share.window)?;
        count("slow_calls.minimum_calls", slow.share.minimum_calls, u32::MAX)?;
    }
    duration("open_for", policy.open_for)?;
    // Written so that NaN is refused too.
    if !(policy.growth >= 1.0 && policy.growth.is_finite()) {
        return Err(PolicyError::new("growth", policy.growth, "a number from 1"));
    }
    duration("longest", policy.longest)?;
    if policy.longest < policy.open_for {
        let needed = "at least as long as `open_for`";
        return Err(PolicyError::new("longest", Debugged(policy.longest), needed));
    }
    if !(0.0..=1.0).contains(&policy.jitter) {
        return Err(PolicyError::new("jitter", policy.jitter, "a share from 0 to 1"));
    }
    duration("forgive_after", policy.forgive_after)?;
    count("probes", policy.probes, MOST_PROBES)?;
    duration("probe_timeout", policy.probe_timeout)?;
    count("successes_to_close", policy.successes_to_close, u32::MAX)
}

fn count(field: &'static str, value: u32, most: u32) -> Result<(), PolicyError> {
    match value {
        0 => Err(PolicyError::new(field, value, "at least 1")),
        _ if value > most => Err(PolicyError::new(field, value, format_args!("at most {most}"))),
        _ => Ok(()),
    }
}

fn share(field: &'static str, value: f64) -> Result<(), PolicyError> {
    if value > 0.0 && value <= 1.0 { Ok(()) } else { Err(PolicyError::new(field, value, "a share over 0 and up to 1")) }
}

fn duration(field: &'static str, value: Duration) -> Result<(), PolicyError> {
    if value.is_zero() {
        Err(PolicyError::new(field, Debugged(value), "over 0"))
    } else if value > LONGEST {
        Err(PolicyError::new(field, Debugged(value), "at most 30 days"))
    } else {
        Ok(())
    }
}

/// A value of a [`Policy`] was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyError {
    pub(crate) field: &'static str,
    pub(crate) value: String,
    pub(crate) needed: String,
}

impl PolicyError {
    fn new(field: &'static str, value: impl fmt::Display, needed: impl fmt::Display) -> Self {
        Self { field, value: value.to_string(), needed: needed.to_string() }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, needed } = self;
        write!(f, "`{field}` must be {needed}, not {value}")
    }
}

impl Error for PolicyError {}

/// Durations have no `Display`.
struct Debugged(Duration);

impl fmt::Display for Debugged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
