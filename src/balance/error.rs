//! The error of a balancer.

use std::{error, fmt, time::Duration};

use tower::BoxError;
#[cfg(feature = "http")]
use tower_http::classify::GrpcCode;

#[cfg(feature = "http")]
use crate::outcome::{gateway_status, grpc_code};
use crate::{
    attempt::{Failed, NotReady, Unready},
    name::BackendName,
    outcome::{Failure, FailureKind, TimedOut, inspect},
};
#[cfg(feature = "http")]
use crate::{body::ReplayError, outcome::find_replay_error};

/// The error of a [`Balance`](super::Balance): what failed, and at which backend.
///
/// It is one pointer wide, since every `Result` of a response reserves space for it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// What an outer classifier finds in the source chain, if there is no other source.
    failure: Failure,
}

/// The kinds of [`Error`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The fleet is empty.
    NoBackends,
    /// No backend of the fleet is eligible: each is drained, cooling down, or its circuit is open.
    #[non_exhaustive]
    NoneAvailable {
        /// How many backends the fleet has.
        backends: usize,
        /// The time until a backend may be eligible again. `None` if an operator must act first.
        retry_after: Option<Duration>,
    },
    /// Every eligible backend has as many calls in flight as its [limit](crate::Backend::limit) allows, and the fleet
    /// [refuses](crate::WhenFull::Refuse) further ones.
    #[non_exhaustive]
    AtLimit {
        /// How many backends are eligible.
        backends: usize,
    },
    /// The `poll_ready` of every eligible backend failed.
    #[non_exhaustive]
    NotReady {
        /// The last backend that failed to become ready.
        backend: BackendName,
        /// The error of its `poll_ready`.
        source: BoxError,
    },
    /// The backend did not respond within its [timeout](crate::Backend::timeout).
    #[non_exhaustive]
    Timeout {
        /// The backend.
        backend: BackendName,
        /// Its timeout.
        timeout: Duration,
    },
    /// The call to the backend returned an error.
    #[non_exhaustive]
    Failed {
        /// The backend.
        backend: BackendName,
        /// Its error, unchanged.
        source: BoxError,
    },
}

impl Error {
    /// Returns the kind of the error.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns how long the caller should wait before it sends the request again, if that is known: from a circuit, or
    /// from a `Retry-After` in the error of the backend.
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure()?.retry_delay()
    }

    /// How the request failed, for a status, a gRPC code or an outer breaker.
    fn failure(&self) -> Option<Failure> {
        match self.kind() {
            ErrorKind::NotReady { source, .. } | ErrorKind::Failed { source, .. } => {
                inspect(&**source).failure().copied()
            }
            _ => Some(self.0.failure),
        }
    }

    /// Returns the backend that failed, or `None` if no backend was eligible.
    pub fn backend(&self) -> Option<&BackendName> {
        match self.kind() {
            ErrorKind::NotReady { backend, .. }
            | ErrorKind::Timeout { backend, .. }
            | ErrorKind::Failed { backend, .. } => Some(backend),
            ErrorKind::NoBackends | ErrorKind::NoneAvailable { .. } | ErrorKind::AtLimit { .. } => None,
        }
    }
}

#[cfg(feature = "http")]
impl Error {
    /// Returns the status for the response of a gateway: 503 if no backend was available, 504 after a timeout, 408 if
    /// the client stalled in the middle of its request body, 502 after any other failure. A [`Failure`] in the source
    /// chain of the backend's error decides likewise.
    pub fn status(&self) -> http::StatusCode {
        match self.kind() {
            ErrorKind::NotReady { .. } => http::StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Failed { source, .. } => match find_replay_error(&**source) {
                Some(ReplayError::Stalled { .. }) => http::StatusCode::REQUEST_TIMEOUT,
                _ => gateway_status(self.failure_kind()),
            },
            _ => gateway_status(self.0.failure.kind()),
        }
    }

    /// Returns the gRPC code for the response of a gateway: `DEADLINE_EXCEEDED` after a timeout, else
    /// `UNAVAILABLE`. See [`failover::Error::grpc_code`](crate::failover::Error::grpc_code).
    pub fn grpc_code(&self) -> GrpcCode {
        grpc_code(self.failure_kind())
    }

    fn failure_kind(&self) -> FailureKind {
        self.failure().map_or(FailureKind::Other, |failure| failure.kind())
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        let failure = match &kind {
            ErrorKind::Timeout { .. } => Failure::new(FailureKind::Timeout),
            ErrorKind::NoneAvailable { retry_after, .. } => {
                Failure::new(FailureKind::Overloaded).pushback(*retry_after)
            }
            _ => Failure::new(FailureKind::Overloaded),
        };
        Self(Box::new(Inner { kind, failure }))
    }
}

impl Error {
    #[cold]
    #[expect(clippy::boxed_local, reason = "as a search returns it")]
    pub(super) fn unready(not_ready: Box<NotReady>) -> Self {
        let NotReady { why, refusals } = *not_ready;
        let last = refusals.into_iter().next_back().map(|refusal| ErrorKind::NotReady {
            backend: refusal.name,
            source: refusal.error.unwrap_or_else(|| "`poll_ready` panicked".into()),
        });
        Self::from(match (why, last) {
            (Unready::Refused, Some(not_ready)) => not_ready,
            (Unready::NoneAvailable(backends, retry_after), _) => ErrorKind::NoneAvailable { backends, retry_after },
            (Unready::AtLimit(backends), _) => ErrorKind::AtLimit { backends },
            (Unready::NoBackends | Unready::Refused | Unready::OutOfTime, _) => ErrorKind::NoBackends,
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
                retry_after.map_or(Ok(()), |wait| write!(f, ", next attempt in {wait:.1?}"))
            }
            ErrorKind::AtLimit { backends } => write!(f, "all {backends} eligible backends are at their limits"),
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
            ErrorKind::NoBackends
            | ErrorKind::NoneAvailable { .. }
            | ErrorKind::AtLimit { .. }
            | ErrorKind::Timeout { .. } => Some(&self.0.failure),
        }
    }
}
