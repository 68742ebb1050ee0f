//! The error of a replayed body.

use std::{fmt, sync::Arc, time::Duration};

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
    /// The caller sent no frame for this long while an attempt waited for one:
    /// [`ReplayLayer::idle_timeout`](super::ReplayLayer::idle_timeout). Every reader gets this error.
    Stalled {
        /// The limit that was reached.
        timeout: Duration,
    },
    /// The caller's body ended before its length was reached: its `content-length`, or its size hint.
    Short {
        /// How many bytes are missing.
        missing: u64,
    },
}

impl ReplayError {
    /// Returns why a body with this error cannot be sent again.
    pub(crate) fn reason(&self) -> Unreplayable {
        match self {
            Self::NotKept(reason) => *reason,
            Self::Stalled { .. } => Unreplayable::Stalled,
            Self::Source(_) | Self::Panicked | Self::Short { .. } => Unreplayable::SourceFailed,
        }
    }
}

#[cfg(feature = "http")]
impl ReplayError {
    pub(super) fn from_source(error: impl Into<tower::BoxError>) -> Self {
        Self::Source(Arc::from(error.into()))
    }
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(_) => f.write_str("request body failed"),
            Self::NotKept(_) => f.write_str("request body cannot be replayed"),
            Self::Panicked => f.write_str("request body panicked"),
            Self::Stalled { timeout } => write!(f, "request body stalled: no frame within {timeout:?}"),
            Self::Short { missing } => write!(f, "request body ended {missing} bytes before its length"),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Source(error) => Some(&**error),
            Self::NotKept(reason) => Some(reason),
            Self::Panicked | Self::Stalled { .. } | Self::Short { .. } => None,
        }
    }
}
