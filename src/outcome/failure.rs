//! The three outcomes of a call, and the kinds of failure.

use std::{error, fmt, time::Duration};

/// What one call says about the backend that served it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The backend did its work. An answer that the caller does not like (a 404) is still work
    /// done.
    Success,
    /// The backend, or the way to it, failed.
    Failure(Failure),
    /// Nothing was learned: the caller left, or made the mistake.
    Neutral,
}

/// A failed call: its kind, and when the backend asked to be left alone until.
///
/// It is an error as well: a service that knows how its call failed puts a `Failure` into the
/// source chain of its error, and [`inspect`](super::inspect) believes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    kind: FailureKind,
    retry_after: Option<Duration>,
}

/// How a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The response has a status that counts as a failure.
    Status(u16),
    /// Time ran out before the answer was there.
    Timeout,
    /// No connection took the request: nothing was sent.
    Connect,
    /// The backend says that it has not looked at the request (HTTP/2 `REFUSED_STREAM`, or a
    /// `GOAWAY` that leaves it out).
    Refused,
    /// The connection failed while the request was under way: how much the backend did of it is
    /// unknown.
    Transport,
    /// The gRPC status, as it came.
    Grpc(i32),
    /// A middleware in front of the backend shed the request: nothing was sent.
    Overloaded,
    /// The service panicked.
    Panic,
    /// The body broke off after a good head.
    Body,
    /// A failure with a name of your own.
    Custom(&'static str),
    /// An error that nothing is known about.
    Other,
}

impl Outcome {
    /// Whether the backend did its work.
    #[inline]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Whether the backend, or the way to it, failed.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failure(_))
    }

    /// Whether nothing was learned.
    pub fn is_neutral(&self) -> bool {
        matches!(self, Self::Neutral)
    }

    /// The failure, if it is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failure(failure) => Some(failure),
            _ => None,
        }
    }
}

impl Failure {
    /// A failure of this kind that says nothing about when to come back.
    pub const fn new(kind: FailureKind) -> Self {
        Self { kind, retry_after: None }
    }

    /// Sets when the backend wants to see us again: a `Duration`, or an `Option` of one.
    pub fn retry_after(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.retry_after = delay.into();
        self
    }

    /// How the call failed.
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// How long the backend asked to be left alone, counted from the response.
    ///
    /// Not capped, so that adding it to a moment can overflow: what to believe is up to the reader.
    pub const fn retry_delay(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl FailureKind {
    /// Whether the backend has certainly not begun to work on the request, so that it may be sent
    /// again whatever its method is.
    pub const fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Connect | Self::Refused | Self::Overloaded)
    }

    /// The name without the number, for a label with few values. A custom kind has its own.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Refused => "refused",
            Self::Transport => "transport",
            Self::Grpc(_) => "grpc",
            Self::Overloaded => "overloaded",
            Self::Panic => "panic",
            Self::Body => "body",
            Self::Custom(name) => name,
            Self::Other => "error",
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<FailureKind> for Outcome {
    fn from(kind: FailureKind) -> Self {
        Self::Failure(Failure::new(kind))
    }
}

impl From<FailureKind> for Failure {
    fn from(kind: FailureKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Failure(failure) => failure.fmt(f),
            Self::Neutral => f.write_str("neutral"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.retry_after {
            Some(delay) => write!(f, "{}, retry after {delay:?}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "status {code}"),
            Self::Grpc(code) => write!(f, "grpc status {code}"),
            Self::Connect => f.write_str("connection not established"),
            Self::Refused => f.write_str("refused unprocessed"),
            Self::Transport => f.write_str("transport error"),
            Self::Body => f.write_str("body broken off"),
            other => f.write_str(other.name()),
        }
    }
}

impl error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_itself_in_lower_case_without_a_full_stop() {
        let failure = Failure::new(FailureKind::Status(429)).retry_after(Duration::from_secs(30));
        assert_eq!(failure.to_string(), "status 429, retry after 30s");
        assert_eq!(Outcome::from(FailureKind::Timeout).to_string(), "timeout");
        assert_eq!(Outcome::from(FailureKind::Grpc(14)).to_string(), "grpc status 14");
        assert_eq!(Outcome::from(FailureKind::Custom("quota")).to_string(), "quota");
    }

    #[test]
    fn only_what_was_never_worked_on_is_unprocessed() {
        // C26
        use FailureKind::*;
        for kind in [Connect, Refused, Overloaded] {
            assert!(kind.is_unprocessed(), "{kind}");
        }
        for kind in [Status(503), Timeout, Transport, Grpc(14), Panic, Body, Custom("x"), Other] {
            assert!(!kind.is_unprocessed(), "{kind}");
        }
    }
}
