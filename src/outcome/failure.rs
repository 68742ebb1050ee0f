//! The outcomes of a call, and the kinds of failure.

use std::{error, fmt, time::Duration};

/// The outcome of one call, as far as it concerns the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The backend did its work. An HTTP response that blames the request, such as a 404, is a success too.
    Success,
    /// The backend, or the way to it, failed.
    Failure(Failure),
    /// The call counts neither for nor against the backend: it was cancelled, or the caller caused its failure.
    Neutral,
}

/// A failed call: its kind, and what the backend responded about a retry: how long it wants to get no requests, or that
/// the request must not be sent again.
///
/// It is also an error. A service that knows how its call failed puts a `Failure` into the source chain of its error,
/// where [`inspect`](super::inspect) finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    kind: FailureKind,
    retry: Retry,
}

/// What the backend responded about a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    Unspecified,
    /// The backend wants no request before that.
    After(Duration),
    /// The backend wants this request not before that.
    Pushback(Duration),
    Never,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The response has a status that counts as a failure.
    Status(u16),
    /// A timeout or a deadline ended before the response arrived.
    Timeout,
    /// No connection was established, so that nothing was sent.
    Connect,
    /// The backend reports that it did not process the request: HTTP/2 `REFUSED_STREAM`, or a `GOAWAY` that excludes
    /// it.
    Refused,
    /// The connection failed during the call. Whether the backend processed the request is unknown.
    Transport,
    /// The response has a gRPC status that counts as a failure.
    Grpc(i32),
    /// A middleware in front of the backend shed the request, so that nothing was sent.
    Overloaded,
    /// The service panicked.
    Panic,
    /// The response body ended early or with an error, after a good head.
    Body,
    /// The backend rejected the request, by the rule of this name of a failover's `Rejections`.
    Rejected(&'static str),
    /// A middleware in front of the backend did not send the request, since it does not suit this backend, for this
    /// reason. It says nothing about the backend, so it is neutral for its circuit.
    Unsuitable(&'static str),
    /// The response exceeds what a failover holds before it is final: [`Beyond::Fail`](crate::failover::Beyond::Fail)
    /// (feature `http`). It is neutral for the circuit of the backend.
    NotHeld,
    /// A failure that a service or a classifier of your own named.
    Custom(&'static str),
    /// An unknown error.
    Other,
}

impl Outcome {
    /// Returns whether the backend did its work.
    #[inline]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Returns whether the backend, or the way to it, failed.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failure(_))
    }

    /// Returns whether the call counts neither for nor against the backend.
    pub fn is_neutral(&self) -> bool {
        matches!(self, Self::Neutral)
    }

    /// Returns the failure, if it is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failure(failure) => Some(failure),
            _ => None,
        }
    }
}

impl Failure {
    /// Creates a failure of this kind, without a `Retry-After`.
    pub const fn new(kind: FailureKind) -> Self {
        Self { kind, retry: Retry::Unspecified }
    }

    /// Sets how long the backend wants to get no requests: a `Duration`, or an `Option` of one.
    ///
    /// A backend of a fleet gets none until then, from any door: see [`named_time`](Self::named_time).
    pub fn retry_after(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.retry = delay.into().map_or(Retry::Unspecified, Retry::After);
        self
    }

    /// Sets how long this request must not be sent to the backend again: a `Duration`, or an `Option` of one. In place
    /// of a [`retry_after`](Self::retry_after); other requests are not affected.
    ///
    /// gRPC servers state this with `grpc-retry-pushback-ms`, and so does a layer on the way to the backend that rejects
    /// a request, such as an open circuit.
    pub fn pushback(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.retry = delay.into().map_or(Retry::Unspecified, Retry::Pushback);
        self
    }

    /// Sets that the request must not be sent again, to any backend, in place of a `Retry-After`.
    ///
    /// gRPC servers state this with a negative `grpc-retry-pushback-ms` (gRFC A6). A [`Failover`](crate::Failover)
    /// starts no further attempt; those that run may still succeed.
    pub const fn no_retry(mut self) -> Self {
        self.retry = Retry::Never;
        self
    }

    /// Returns the kind of the failure.
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Returns how long this request must not be sent to the backend again, counted from the response.
    ///
    /// It is not capped, so that adding it to an instant can overflow.
    pub const fn retry_delay(&self) -> Option<Duration> {
        match self.retry {
            Retry::After(delay) | Retry::Pushback(delay) => Some(delay),
            Retry::Unspecified | Retry::Never => None,
        }
    }

    /// Returns how long the backend wants to get no requests at all, counted from the response: the time of a
    /// [`retry_after`](Self::retry_after) that is longer than zero, and not that of a [`pushback`](Self::pushback).
    ///
    /// It is not capped. For what a fleet does with it see [`FleetBuilder::named_times`](crate::fleet::FleetBuilder::named_times).
    pub const fn named_time(&self) -> Option<Duration> {
        match self.retry {
            Retry::After(delay) if !delay.is_zero() => Some(delay),
            _ => None,
        }
    }

    /// Returns whether the backend throttles: it responded with status 429 or gRPC `RESOURCE_EXHAUSTED`, and with the
    /// [time](Self::named_time) from which on it serves again. That is no failure to its circuit.
    pub const fn is_throttled(&self) -> bool {
        self.kind.is_of_quota() && self.named_time().is_some()
    }

    /// Returns whether the request must not be sent again, to any backend.
    pub const fn forbids_retry(&self) -> bool {
        matches!(self.retry, Retry::Never)
    }

    /// Whether nothing is known about a retry.
    #[cfg(feature = "http")]
    pub(super) const fn leaves_retry_open(&self) -> bool {
        matches!(self.retry, Retry::Unspecified)
    }
}

impl FailureKind {
    /// A stream that ended without its end marker.
    #[cfg(feature = "http")]
    pub(crate) const NO_END: Self = Self::Custom("no end marker");
    /// A stream with an event that is not one of its API.
    #[cfg(feature = "http")]
    pub(crate) const MALFORMED: Self = Self::Custom("malformed event");

    /// Whether a response that failed so is not complete, so that it is of no use to the caller.
    pub(crate) fn breaks_body(&self) -> bool {
        matches!(self, Self::Body | Self::Timeout | Self::Custom("no end marker" | "malformed event"))
    }

    /// Returns whether the backend has certainly not processed the request, so that it may be sent again whatever its
    /// method is.
    pub const fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Connect | Self::Refused | Self::Overloaded | Self::Unsuitable(_))
    }

    /// Whether a rate limit or a quota rejected the request.
    pub(super) const fn is_of_quota(&self) -> bool {
        matches!(self, Self::Status(429) | Self::Grpc(8))
    }

    /// Returns whether the failure is one of the request at this backend, and says nothing about the backend. It moves a
    /// request on, and no circuit counts it.
    pub const fn is_neutral(&self) -> bool {
        matches!(self, Self::Unsuitable(_) | Self::NotHeld)
    }

    /// Returns the name of the kind, without a code: a label with few values. That of a custom kind is its own.
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
            Self::Rejected(_) => "rejected",
            Self::Unsuitable(_) => "unsuitable",
            Self::NotHeld => "not held",
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
        match self.retry {
            Retry::After(delay) | Retry::Pushback(delay) => write!(f, "{}, retry after {delay:?}", self.kind),
            Retry::Never => write!(f, "{}, no retry", self.kind),
            Retry::Unspecified => self.kind.fmt(f),
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(f, "status {code}"),
            Self::Grpc(code) => write!(f, "grpc status {code}"),
            Self::Rejected(rule) => write!(f, "rejected: {rule}"),
            Self::Connect => f.write_str("connection not established"),
            Self::Refused => f.write_str("refused unprocessed"),
            Self::Transport => f.write_str("transport error"),
            Self::Body => f.write_str("body broken off"),
            Self::Unsuitable(reason) => f.write_str(reason),
            other => f.write_str(other.name()),
        }
    }
}

impl error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_shown_in_lower_case_without_a_full_stop() {
        let failure = Failure::new(FailureKind::Status(429)).retry_after(Duration::from_secs(30));
        assert_eq!(failure.to_string(), "status 429, retry after 30s");
        assert_eq!(failure.no_retry().to_string(), "status 429, no retry");
        assert_eq!(Outcome::from(FailureKind::Timeout).to_string(), "timeout");
        assert_eq!(Outcome::from(FailureKind::Grpc(14)).to_string(), "grpc status 14");
        assert_eq!(Outcome::from(FailureKind::Custom("quota")).to_string(), "quota");
    }

    #[test]
    fn a_delay_and_a_forbidden_retry_replace_each_other() {
        // C52
        let failure = Failure::new(FailureKind::Grpc(14));
        let second = Duration::from_secs(1);
        let read = |failure: Failure| (failure.retry_delay(), failure.forbids_retry());
        assert_eq!(read(failure), (None, false));
        assert_eq!(read(failure.no_retry()), (None, true));
        assert_eq!(read(failure.retry_after(second).no_retry()), (None, true));
        assert_eq!(read(failure.no_retry().retry_after(second)), (Some(second), false));
    }

    // C37, C71
    #[test]
    fn only_a_time_that_is_for_every_request_is_named() {
        let (second, throttled) = (Duration::from_secs(1), Failure::new(FailureKind::Status(429)));
        assert_eq!(throttled.retry_after(second).named_time(), Some(second));
        assert_eq!(throttled.retry_after(Duration::ZERO).named_time(), None);
        assert_eq!((throttled.pushback(second).named_time(), throttled.named_time()), (None, None));
        assert_eq!(throttled.pushback(second).retry_delay(), Some(second));
        for (kind, is_throttled) in [
            (FailureKind::Status(429), true),
            (FailureKind::Grpc(8), true),
            (FailureKind::Status(503), false),
            (FailureKind::Grpc(14), false),
        ] {
            assert_eq!(Failure::new(kind).retry_after(second).is_throttled(), is_throttled, "{kind}");
            assert!(
                !Failure::new(kind).is_throttled() && !Failure::new(kind).pushback(second).is_throttled(),
                "{kind}"
            );
        }
    }

    #[test]
    fn only_failures_before_any_processing_are_unprocessed() {
        // C26
        use FailureKind::*;
        for kind in [Connect, Refused, Overloaded, Unsuitable("x")] {
            assert!(kind.is_unprocessed(), "{kind}");
        }
        for kind in [Status(503), Timeout, Transport, Grpc(14), Panic, Body, Custom("x"), Other] {
            assert!(!kind.is_unprocessed(), "{kind}");
        }
    }
}
