use std::{error::Error, fmt, time::Duration};

use crate::{
    name::BackendName,
    outcome::{Failure, FailureKind},
};

/// A backend did not answer in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimedOut {
    /// Its name.
    pub backend: BackendName,
    /// How long it had.
    pub timeout: Duration,
    /// What set that.
    pub limit: TimeLimit,
}

/// What bounds the time of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeLimit {
    /// The timeout of the backend.
    Backend,
    /// The timeout that a failover has for each attempt.
    Attempt,
    /// Its share of the request's time: of the deadline, or of the bound of a race. Running out of it is no failure of the
    /// backend.
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
