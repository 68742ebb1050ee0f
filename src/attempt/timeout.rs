//! The error of an attempt that timed out.

use std::{error::Error, fmt, time::Duration};

use crate::{
    name::BackendName,
    outcome::{Failure, FailureKind},
};

/// The error of an attempt that timed out.
///
/// It is in the [source](Error::source) chain of the error of a [`Failover`](crate::Failover).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimedOut {
    /// The name of the backend.
    pub backend: BackendName,
    /// The time that the attempt had.
    pub timeout: Duration,
    /// The setting that limited it.
    pub limit: TimeLimit,
}

/// The setting that limits the time of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeLimit {
    /// The timeout of the backend: [`Backend::timeout`](crate::Backend::timeout).
    Backend,
    /// The timeout of each attempt of a failover:
    /// [`FailoverBuilder::timeout`](crate::failover::FailoverBuilder::timeout).
    Attempt,
    /// The attempt's share of the deadline of a request. Does not count as a failure of the backend.
    Request,
}

impl TimedOut {
    pub(crate) fn new(backend: BackendName, timeout: Duration, limit: TimeLimit) -> Self {
        Self { backend, timeout, limit }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, timeout, limit } = self;
        let limit = match limit {
            TimeLimit::Backend => "its timeout",
            TimeLimit::Attempt => "the timeout of an attempt",
            TimeLimit::Request => "its share of the request's time",
        };
        write!(f, "backend `{backend}` did not answer within {timeout:?}, {limit}")
    }
}

impl Error for TimedOut {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        const FAILURE: &Failure = &Failure::new(FailureKind::Timeout);
        Some(FAILURE)
    }
}
