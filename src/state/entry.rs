//! One backend in the document, and its conversion from and to what the fleet knows. Every value is checked here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::span::Span;
use crate::{
    fleet::{OutlierReason, SavedBackend, SavedShare},
    health::{AdminStatus, SavedCircuit, SavedEstimate, SavedLoad, SavedStanding},
};

/// One backend in the document.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    circuit: Option<Circuit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cool_down: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlier: Option<Outlier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_start: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<Failures>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Healthy,
    Degraded,
    Draining,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Circuit {
    Closed { openings: u32, closed_for: Span },
    Open { openings: u32, remaining: Span },
    ForcedOpen,
    ForcedClosed,
}

#[derive(Debug, Serialize, Deserialize)]
struct Outlier {
    level: u8,
    remaining: Span,
    #[serde(default)]
    ejections: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
enum Reason {
    Failures { failed: u32, calls: u32 },
    SuccessRate { failed: u32, calls: u32, peers: f32 },
    Latency { took: Span, median: Span },
}

/// A latency: an estimate, or a lower bound of one.
#[derive(Debug, Serialize, Deserialize)]
struct Latency {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<Span>,
    age: Span,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failures {
    count: f32,
    age: Span,
}

/// More failures at a time than this are not counted.
const MAX_FAILURES: f32 = 1e6;

impl Entry {
    pub(super) fn new(saved: &SavedBackend) -> Self {
        let SavedBackend { status, circuit, cools_for, share, load } = *saved;
        Self {
            status: status.map(Status::new),
            circuit: circuit.map(Circuit::new),
            cool_down: cools_for.map(Span::millis),
            outlier: share.outlier.map(Outlier::new),
            slow_start: share.started_for.map(Span::millis),
            peak: load.peak.map(Latency::new),
            mean: load.mean.map(Latency::new),
            failures: load.failures.map(|it| Failures { count: it.value / 1_000.0, age: Span::millis(it.age) }),
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// What the invalid value must be. The value is not shown.
    pub(super) fn checked(self) -> Result<SavedBackend, &'static str> {
        let failures = |Failures { count, age }: Failures| {
            let is_valid = count >= 0.0 && count.is_finite();
            let value = count.min(MAX_FAILURES) * 1_000.0;
            is_valid.then_some(SavedEstimate { value, age: age.0 }).ok_or("failures.count must be a number from 0")
        };
        Ok(SavedBackend {
            status: self.status.map(Status::status),
            circuit: self.circuit.map(Circuit::circuit),
            cools_for: self.cool_down.map(|span| span.0),
            share: SavedShare {
                outlier: self.outlier.map(Outlier::checked).transpose()?,
                started_for: self.slow_start.map(|span| span.0),
            },
            load: SavedLoad {
                peak: self.peak.map(Latency::checked).transpose()?,
                mean: self.mean.map(Latency::checked).transpose()?,
                failures: self.failures.map(failures).transpose()?,
            },
        })
    }
}

impl Status {
    fn new(status: AdminStatus) -> Self {
        match status {
            AdminStatus::Healthy => Self::Healthy,
            AdminStatus::Degraded => Self::Degraded,
            AdminStatus::Draining => Self::Draining,
        }
    }

    fn status(self) -> AdminStatus {
        match self {
            Self::Healthy => AdminStatus::Healthy,
            Self::Degraded => AdminStatus::Degraded,
            Self::Draining => AdminStatus::Draining,
        }
    }
}

impl Circuit {
    fn new(circuit: SavedCircuit) -> Self {
        match circuit {
            SavedCircuit::Closed { openings, closed_for } => {
                Self::Closed { openings, closed_for: Span::millis(closed_for) }
            }
            SavedCircuit::Open { openings, remaining } => Self::Open { openings, remaining: Span::millis(remaining) },
            SavedCircuit::ForcedOpen => Self::ForcedOpen,
            SavedCircuit::ForcedClosed => Self::ForcedClosed,
        }
    }

    fn circuit(self) -> SavedCircuit {
        match self {
            Self::Closed { openings, closed_for } => SavedCircuit::Closed { openings, closed_for: closed_for.0 },
            Self::Open { openings, remaining } => SavedCircuit::Open { openings, remaining: remaining.0 },
            Self::ForcedOpen => SavedCircuit::ForcedOpen,
            Self::ForcedClosed => SavedCircuit::ForcedClosed,
        }
    }
}

impl Outlier {
    fn new(standing: SavedStanding) -> Self {
        let SavedStanding { level, remaining, ejections, reason } = standing;
        Self { level, remaining: Span::millis(remaining), ejections, reason: reason.map(Reason::new) }
    }

    fn checked(self) -> Result<SavedStanding, &'static str> {
        let Self { level, remaining, ejections, reason } = self;
        let reason = reason.map(Reason::checked).transpose()?;
        if level > 0 && reason.is_none() {
            return Err("outlier.reason must be there if the level is more than 0");
        }
        Ok(SavedStanding { level, remaining: remaining.0, ejections, reason })
    }
}

impl Reason {
    fn new(reason: OutlierReason) -> Self {
        match reason {
            OutlierReason::Failures { failed, calls } => Self::Failures { failed, calls },
            OutlierReason::SuccessRate { failed, calls, peers } => Self::SuccessRate { failed, calls, peers },
            OutlierReason::Latency { took, median } => Self::Latency { took: Span(took), median: Span(median) },
        }
    }

    fn checked(self) -> Result<OutlierReason, &'static str> {
        Ok(match self {
            Self::Failures { failed, calls } => OutlierReason::Failures { failed, calls },
            Self::SuccessRate { peers, .. } if !(0.0..=1.0).contains(&peers) => {
                return Err("outlier.reason.peers must be a share from 0 to 1");
            }
            Self::SuccessRate { failed, calls, peers } => OutlierReason::SuccessRate { failed, calls, peers },
            Self::Latency { took, median } => OutlierReason::Latency { took: took.0, median: median.0 },
        })
    }
}

impl Latency {
    fn new(SavedEstimate { value, age }: SavedEstimate) -> Self {
        // A cast of a float saturates.
        let nanos = Some(Span(Duration::from_nanos(value.abs() as u64)));
        let (value, at_least) = if value > 0.0 { (nanos, None) } else { (None, nanos) };
        Self { value, at_least, age: Span::millis(age) }
    }

    fn checked(self) -> Result<SavedEstimate, &'static str> {
        let age = self.age.0;
        let nanos = |span: Span| span.0.as_nanos() as f32;
        match (self.value, self.at_least) {
            (Some(value), None) => Ok(SavedEstimate { value: nanos(value), age }),
            (None, Some(bound)) => Ok(SavedEstimate { value: -nanos(bound), age }),
            _ => Err("an estimate must have either a value or at_least"),
        }
    }
}
