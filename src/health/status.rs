//! The status that an operator gives a backend.

use std::fmt;

/// The administrative status of a backend, as the operator set it.
///
/// Only a [`Healthy`](AdminStatus::Healthy) backend, which is the default, gets new requests. The status is independent
/// of the backend's circuit: neither changes the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AdminStatus {
    /// The backend gets requests.
    #[default]
    Healthy,
    /// The backend gets no new requests until it is set to healthy again.
    Degraded,
    /// The backend gets no new requests and finishes the running ones, usually before it is removed.
    Draining,
}

impl fmt::Display for AdminStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        })
    }
}
