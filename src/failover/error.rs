//! The error of a failover.

use std::{error, fmt, sync::Arc, time::Duration};

use tower::BoxError;

use super::Ledger;
use crate::outcome::{Outcome, inspect};

/// The error of a [`Failover`](super::Failover): why a request has no response, and which attempts were made.
///
/// It is one pointer wide, since every result of a failover has room for it.
pub struct Error(Box<(ErrorKind, Ledger)>);

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The fleet has no backends.
    NoBackends,
    /// No backend is eligible, for example because each is drained or its circuit is open. No attempt was made.
    #[non_exhaustive]
    NoneAvailable {
        /// The number of backends in the fleet.
        backends: usize,
        /// The time until a backend may be eligible again; `None` if that takes an intervention.
        retry_after: Option<Duration>,
    },
    /// Every eligible backend has as many calls in flight as its [limit](crate::Backend::limit) allows, and the fleet
    /// [refuses](crate::WhenFull::Refuse) further ones. No attempt was made.
    #[non_exhaustive]
    AtLimit {
        /// How many backends are eligible.
        backends: usize,
    },
    /// A backend returned an error that fires no trigger. It is passed on unchanged.
    #[non_exhaustive]
    Failed {
        /// The error of the backend.
        source: BoxError,
    },
    /// Every attempt failed, and no response is passed through.
    #[non_exhaustive]
    Exhausted {
        /// The name of the fleet.
        fleet: Arc<str>,
        /// The last error, if there was one.
        source: Option<BoxError>,
    },
}

impl Error {
    #[cold]
    pub(super) fn new(kind: ErrorKind, ledger: Ledger) -> Self {
        Self(Box::new((kind, ledger)))
    }

    /// Returns what went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.0
    }

    /// Returns the record of the attempts.
    pub fn ledger(&self) -> &Ledger {
        &self.0.1
    }

    /// Returns the time after which the caller may send the request again: until a backend may be eligible, or the
    /// `Retry-After` of the last backend that failed. `None` if neither is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind() {
            ErrorKind::NoneAvailable { retry_after, .. } => *retry_after,
            _ => self.outcome()?.failure()?.retry_delay(),
        }
    }

    /// The outcome of the last failed attempt.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self.kind() {
            // No trigger fired, so the ledger has no failure.
            ErrorKind::Failed { source } => Some(inspect(&**source)),
            _ => self.ledger().last_failure(),
        }
    }

    /// Returns the error of the backend; of several, the last one.
    pub fn into_source(self) -> Option<BoxError> {
        match self.0.0 {
            ErrorKind::Failed { source } => Some(source),
            ErrorKind::Exhausted { source, .. } => source,
            _ => None,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", self.kind()).field("ledger", self.ledger()).finish()
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
            ErrorKind::Failed { .. } => match self.ledger().served() {
                Some(backend) => write!(f, "backend `{backend}` failed"),
                // The attempt was broken off: the body of the request failed.
                None => write!(f, "the request failed: {}", self.ledger()),
            },
            ErrorKind::Exhausted { fleet, .. } => {
                write!(f, "no backend of fleet `{fleet}` could serve the request: {}", self.ledger())
            }
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self.kind() {
            ErrorKind::Failed { source } | ErrorKind::Exhausted { source: Some(source), .. } => Some(&**source),
            _ => None,
        }
    }
}
