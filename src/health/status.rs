use std::fmt;

/// What the operator says of a backend.
///
/// A backend of which nothing was said is [`Healthy`](Status::Healthy), and only a healthy backend gets new requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Gets requests.
    #[default]
    Healthy,
    /// Gets no new request until it is set healthy again.
    Degraded,
    /// Gets no new request and finishes the running ones: the step before it is removed.
    Draining,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        })
    }
}
