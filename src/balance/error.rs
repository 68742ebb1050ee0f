use std::{error, fmt, time::Duration};

use tower::BoxError;

#[cfg(feature = "http")]
use crate::outcome::gateway_status;
use crate::{
    attempt::{Failed, NotReady, TimedOut, Unready},
    name::BackendName,
    outcome::{Failure, FailureKind, inspect},
};

/// Why a request was not answered, and by whom.
///
/// One pointer wide, since every response carries the room for it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// What it means to a breaker further out, where no cause says so.
    failure: Failure,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The fleet is empty.
    NoBackends,
    /// Nobody in the fleet is eligible.
    #[non_exhaustive]
    NoneAvailable {
        /// How many backends the fleet has.
        backends: usize,
        /// After how long somebody may be eligible again; none when nobody will be by itself.
        retry_after: Option<Duration>,
    },
    /// The backend will not get ready, and neither will any other.
    #[non_exhaustive]
    NotReady {
        /// The last one that was asked.
        backend: BackendName,
        /// What it said.
        source: BoxError,
    },
    /// The backend took too long.
    #[non_exhaustive]
    Timeout {
        /// Who.
        backend: BackendName,
        /// How long it had.
        timeout: Duration,
    },
    /// The backend's own error.
    #[non_exhaustive]
    Failed {
        /// Whose.
        backend: BackendName,
        /// What it said.
        source: BoxError,
    },
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// After how long the caller may come again, if anybody said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure()?.retry_delay()
    }

    /// What it says of the backend.
    fn failure(&self) -> Option<Failure> {
        match self.kind() {
            ErrorKind::NotReady { source, .. } | ErrorKind::Failed { source, .. } => {
                inspect(&**source).failure().copied()
            }
            _ => Some(self.0.failure),
        }
    }

    /// The backend at fault, if it was one.
    pub fn backend(&self) -> Option<&BackendName> {
        match self.kind() {
            ErrorKind::NotReady { backend, .. }
            | ErrorKind::Timeout { backend, .. }
            | ErrorKind::Failed { backend, .. } => Some(backend),
            ErrorKind::NoBackends | ErrorKind::NoneAvailable { .. } => None,
        }
    }
}

#[cfg(feature = "http")]
impl Error {
    /// What a gateway answers with: 503 when there is nobody to ask, 504 when the backend did not answer in time, 502
    /// when it failed.
    pub fn status(&self) -> http::StatusCode {
        match self.kind() {
            ErrorKind::NotReady { .. } => http::StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Failed { .. } => gateway_status(self.failure().map_or(FailureKind::Other, |it| it.kind())),
            _ => gateway_status(self.0.failure.kind()),
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        let failure = match &kind {
            ErrorKind::Timeout { .. } => Failure::new(FailureKind::Timeout),
            ErrorKind::NoneAvailable { retry_after, .. } => {
                Failure::new(FailureKind::Overloaded).retry_after(*retry_after)
            }
            _ => Failure::new(FailureKind::Overloaded),
        };
        Self(Box::new(Inner { kind, failure }))
    }
}

impl Error {
    #[cold]
    #[expect(clippy::boxed_local, reason = "as a search returns it")]
    pub(super) fn unready<S, C, E: Into<BoxError>>(not_ready: Box<NotReady<S, C, E>>) -> Self {
        let NotReady { why, refusals } = *not_ready;
        let last = refusals.into_iter().next_back().map(|refusal| ErrorKind::NotReady {
            backend: refusal.name().clone(),
            source: refusal.error.map_or_else(|| "it panicked".into(), Into::into),
        });
        Self::from(match (why, last) {
            (Unready::Refused, Some(not_ready)) => not_ready,
            (Unready::NoneAvailable(backends, retry_after), _) => ErrorKind::NoneAvailable { backends, retry_after },
            (Unready::NoBackends | Unready::Refused, _) => ErrorKind::NoBackends,
        })
    }
}

impl From<Box<Failed>> for Error {
    #[cold]
    fn from(failed: Box<Failed>) -> Self {
        let Failed { backend, error: source, .. } = *failed;
        Self::from(ErrorKind::Failed { backend, source })
    }
}

impl From<TimedOut> for Error {
    #[cold]
    fn from(TimedOut { backend, timeout, .. }: TimedOut) -> Self {
        Self::from(ErrorKind::Timeout { backend, timeout })
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.kind(), f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            ErrorKind::NoBackends => f.write_str("the fleet has no backends"),
            ErrorKind::NoneAvailable { backends, retry_after } => {
                write!(f, "none of {backends} backends is available")?;
                retry_after.map_or(Ok(()), |wait| write!(f, ", one may be in {wait:.1?}"))
            }
            ErrorKind::NotReady { backend, .. } => write!(f, "backend `{backend}` is not ready"),
            ErrorKind::Timeout { backend, timeout } => {
                write!(f, "backend `{backend}` did not answer within {timeout:?}, its timeout")
            }
            ErrorKind::Failed { backend, .. } => write!(f, "backend `{backend}` failed"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self.kind() {
            ErrorKind::NotReady { source, .. } | ErrorKind::Failed { source, .. } => Some(&**source),
            ErrorKind::NoBackends | ErrorKind::NoneAvailable { .. } | ErrorKind::Timeout { .. } => {
                Some(&self.0.failure)
            }
        }
    }
}
