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
}

impl TimedOut {
    pub(crate) fn new(backend: BackendName, timeout: Duration) -> Self {
        Self { backend, timeout }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend `{}` did not answer within {:?}", self.backend, self.timeout)
    }
}

impl Error for TimedOut {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        const FAILURE: &Failure = &Failure::new(FailureKind::Timeout);
        Some(FAILURE)
    }
}
