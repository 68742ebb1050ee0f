use std::{error, fmt, sync::Arc, time::Duration};

use tower::BoxError;

use super::Ledger;
use crate::{
    outcome::{Outcome, inspect},
    setting::InvalidSetting,
};

/// Why a request was not answered. One pointer wide, since every response carries the room for it.
pub struct Error(Box<(ErrorKind, Ledger)>);

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
    /// The answer of a backend was an error that trips nothing. Here it is, unchanged.
    #[non_exhaustive]
    Failed {
        /// What the backend said.
        source: BoxError,
    },
    /// Every attempt failed, and there was no response to pass through.
    #[non_exhaustive]
    Exhausted {
        /// Who could not help.
        fleet: Arc<str>,
        /// The last error, if there was one.
        source: Option<BoxError>,
    },
    /// The failover was given a value that makes no sense, and serves nobody.
    Misconfigured(InvalidSetting),
}

impl Error {
    #[cold]
    pub(super) fn new(kind: ErrorKind, ledger: Ledger) -> Self {
        Self(Box::new((kind, ledger)))
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.0
    }

    /// What was tried.
    pub fn ledger(&self) -> &Ledger {
        &self.0.1
    }

    /// After how long the caller may come again, if anybody said so: the circuit that is to be tried first, or the
    /// last backend that failed.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind() {
            ErrorKind::NoneAvailable { retry_after, .. } => *retry_after,
            _ => self.outcome()?.failure()?.retry_delay(),
        }
    }

    /// What the last failure says of its backend.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self.kind() {
            // It tripped nothing, so that the ledger does not tell it as a failure.
            ErrorKind::Failed { source } => Some(inspect(&**source)),
            _ => self.ledger().last_failure(),
        }
    }

    /// The backend's own error, or the last of them.
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
                retry_after.map_or(Ok(()), |wait| write!(f, ", one may be in {wait:.1?}"))
            }
            ErrorKind::Failed { .. } => match self.ledger().served() {
                Some(backend) => write!(f, "backend `{backend}` failed"),
                None => f.write_str("a backend failed"),
            },
            ErrorKind::Exhausted { fleet, .. } => write!(f, "nobody in `{fleet}` could answer: {}", self.ledger()),
            ErrorKind::Misconfigured(refused) => write!(f, "failover: {refused}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self.kind() {
            ErrorKind::Failed { source } | ErrorKind::Exhausted { source: Some(source), .. } => Some(&**source),
            ErrorKind::Misconfigured(refused) => Some(refused),
            _ => None,
        }
    }
}
