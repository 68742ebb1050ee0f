//! Classification of the ends of bodies.

use http::HeaderMap;

use super::{
    super::{BoxError, FailureKind, Outcome, error::find, finding::Finding},
    codes::FailureCodes,
    events::EventWatch,
    grpc,
};

/// Classifies the end of one response body. Used by [`WatchedBody`](super::WatchedBody).
pub trait ClassifyEnd {
    /// Returns the watch over the events of the body, if it is a stream of events that is to be read. Called once, before
    /// the first frame. Default `None`.
    fn events(&mut self) -> Option<Box<EventWatch>> {
        None
    }

    /// Classifies a body that ended without an error, with these trailers if it had any.
    fn end(self, trailers: Option<&HeaderMap>) -> Outcome;

    /// Classifies a body that ended with an error.
    fn error(self, error: &BoxError) -> Outcome;
}

/// The state of an [`HttpClassifier`](super::HttpClassifier) for one call, and its [`ClassifyEnd`].
#[derive(Debug)]
pub struct HttpEnd {
    pub(super) grpc: FailureCodes,
    pub(super) network_errors: bool,
    /// Whether the trailers must have a gRPC status.
    pub(super) owes_status: bool,
    /// Whether the events of the response are read, if it is a stream of them.
    pub(super) reads_events: bool,
    /// Whether an error event is a part of the error.
    pub(super) has_plain_errors: bool,
    /// Whether the response has no body, whatever its headers are: that of a `HEAD` request, for one.
    pub(super) has_no_body: bool,
    pub(super) events: Option<Box<EventWatch>>,
}

impl HttpEnd {
    /// The outcome of a finding: neutral if it is of the network and those are not counted.
    pub(super) fn outcome_of(&self, finding: Finding) -> Outcome {
        if finding.network && !self.network_errors { Outcome::Neutral } else { finding.outcome }
    }
}

impl ClassifyEnd for HttpEnd {
    fn events(&mut self) -> Option<Box<EventWatch>> {
        self.events.take()
    }

    fn end(self, trailers: Option<&HeaderMap>) -> Outcome {
        if !self.owes_status {
            return Outcome::Success;
        }
        // A stream that ends without a status was cut.
        trailers.and_then(|trailers| grpc::outcome(trailers, self.grpc)).unwrap_or(FailureKind::Body.into())
    }

    fn error(self, error: &BoxError) -> Outcome {
        self.outcome_of(find_in_body(error))
    }
}

/// The finding for the error of a body. After a good head, any failure of the network but a timeout is
/// [`FailureKind::Body`].
pub(super) fn find_in_body(error: &BoxError) -> Finding {
    let mut finding = find(&**error);
    if let Outcome::Failure(failure) = finding.outcome
        && finding.network
        && failure.kind() != FailureKind::Timeout
    {
        finding.outcome = FailureKind::Body.into();
    }
    finding
}
