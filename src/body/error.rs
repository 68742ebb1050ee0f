//! The error of a replayed body.

use std::{fmt, sync::Arc};

use tower::BoxError;

use super::Unreplayable;

/// The error of a [`ReplayBody`](super::ReplayBody) that ended early.
///
/// It is always caused by the caller's request, never by the backend that the request was sent to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReplayError {
    /// The caller's body failed. Every reader gets this error; its `source()` is the cause.
    Source(Arc<dyn std::error::Error + Send + Sync>),
    /// This reader fell behind, and the frames that it had yet to read are no longer kept.
    NotKept(Unreplayable),
    /// The caller's body panicked in a poll.
    Panicked,
}

impl ReplayError {
    pub(super) fn from_source(error: impl Into<BoxError>) -> Self {
        Self::Source(Arc::from(error.into()))
    }
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(_) => f.write_str("request body failed"),
            Self::NotKept(_) => f.write_str("request body cannot be replayed"),
            Self::Panicked => f.write_str("request body panicked"),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(error) => Some(&**error),
            Self::NotKept(reason) => Some(reason),
            Self::Panicked => None,
        }
    }
}
