//! Why a replayed body ended before its end.

use std::fmt;
use std::sync::Arc;

use tower::BoxError;

use super::Unreplayable;

/// Why a [`ReplayBody`](super::ReplayBody) ended before its end.
///
/// All of these are about the caller's request, none about the backend that it was sent to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ReplayError {
    /// The caller's body failed; every reader is told. `source()` has the cause.
    Source(Arc<dyn std::error::Error + Send + Sync>),
    /// This reader fell behind, and what it had yet to read is not kept any more.
    NotKept(Unreplayable),
    /// The caller's body panicked while another reader polled it.
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
            Self::NotKept(why) => Some(why),
            Self::Panicked => None,
        }
    }
}
