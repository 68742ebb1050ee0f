//! Why a probe failed.

use std::{error::Error, fmt, io, time::Duration};

use tower::BoxError;

/// Why a probe failed.
///
/// Its text is safe to log: it has a code, a kind or a limit, and never the text of a client's error, which may hold a URL
/// with credentials. That error is the [`source`](Error::source).
#[derive(Debug)]
pub struct ProbeError {
    kind: Kind,
    source: Option<BoxError>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Failed,
    Io(io::ErrorKind),
    #[cfg(feature = "http")]
    Status(u16),
    #[cfg(feature = "http")]
    Grpc(i32),
    Text(&'static str),
    TimedOut(Duration),
    Panicked,
}

impl ProbeError {
    /// A probe that failed with this error.
    pub fn new(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        Self { kind: io_kind(&*error).map_or(Kind::Failed, Kind::Io), source: Some(error) }
    }

    /// A response with a status that is not expected.
    #[cfg(feature = "http")]
    pub(super) fn status(status: u16) -> Self {
        Kind::Status(status).into()
    }

    /// A gRPC response with a status other than `OK`.
    #[cfg(feature = "http")]
    pub(super) fn grpc(code: i32) -> Self {
        Kind::Grpc(code).into()
    }

    /// A reason of the crate's own.
    pub(super) fn text(text: &'static str) -> Self {
        Kind::Text(text).into()
    }

    pub(super) fn timed_out(limit: Duration) -> Self {
        Kind::TimedOut(limit).into()
    }

    pub(super) fn panicked() -> Self {
        Kind::Panicked.into()
    }
}

impl From<Kind> for ProbeError {
    fn from(kind: Kind) -> Self {
        Self { kind, source: None }
    }
}

/// Returns the kind of the I/O error behind an error, if there is one.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let (mut kind, mut next) = (None, Some(error));
    // A chain of errors may be endless.
    for _ in 0..MAX_CHAIN {
        let Some(error) = next else { break };
        kind = error.downcast_ref().map(io::Error::kind).or(kind);
        // The source of an I/O error is that of the error within, which may be an I/O error too.
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = within.map(|within| within as _).or_else(|| error.source());
    }
    kind
}

const MAX_CHAIN: usize = 32;

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Failed => f.write_str("the call failed"),
            Kind::Io(kind) => kind.fmt(f),
            #[cfg(feature = "http")]
            Kind::Status(status) => write!(f, "status {status}"),
            #[cfg(feature = "http")]
            Kind::Grpc(code) => write!(f, "grpc status {code}"),
            Kind::Text(text) => f.write_str(text),
            Kind::TimedOut(limit) => write!(f, "timed out after {limit:?}"),
            Kind::Panicked => f.write_str("the probe panicked"),
        }
    }
}

impl Error for ProbeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C59
    #[test]
    fn the_text_of_a_clients_error_is_not_shown() {
        let error = ProbeError::new("http://user:hush@10.0.0.1/ is gone");
        assert_eq!(error.to_string(), "the call failed");
        assert!(error.source().unwrap().to_string().contains("is gone"));
        let io = io::Error::new(io::ErrorKind::ConnectionRefused, "http://user:hush@10.0.0.1/");
        assert_eq!(ProbeError::new(io).to_string(), "connection refused");
        // The I/O error within an I/O error is the cause.
        let inner = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(ProbeError::new(io::Error::other(inner)).to_string(), "connection reset");
    }
}
