use std::{error::Error, fmt, time::Duration};

use crate::{
    name::BackendName,
    outcome::{Failure, FailureKind},
    setting::InvalidSetting,
};

/// The call was rejected: its circuit is open, and the service was not called.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CircuitOpen {
    /// Whose circuit it is.
    pub backend: BackendName,
    /// After how long a call may be admitted; none when somebody has to say so.
    pub retry_after: Option<Duration>,
    /// What it means to a breaker further out, or a failover.
    failure: Failure,
}

impl CircuitOpen {
    pub(super) fn new(backend: BackendName, retry_after: Option<Duration>) -> Self {
        Self { backend, retry_after, failure: Failure::new(FailureKind::Overloaded).retry_after(retry_after) }
    }
}

impl fmt::Display for CircuitOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circuit of `{}` is open", self.backend)?;
        self.retry_after.map_or(Ok(()), |wait| write!(f, ", to be tried in {wait:.1?}"))
    }
}

impl Error for CircuitOpen {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.failure)
    }
}

/// The breaker was given a value that makes no sense, and admits nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misconfigured(pub(crate) InvalidSetting);

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "circuit breaker: {}", self.0)
    }
}

impl Error for Misconfigured {}
