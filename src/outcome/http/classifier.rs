//! The default classifier for HTTP and gRPC.

use http::{HeaderMap, Response};
use http_body::Body;
use tower_http::classify::GrpcCode;

use super::{
    super::{
        BoxError, Classify, Failure, FailureKind, Outcome, Report, Verdict,
        error::{Finding, find},
    },
    ClassifyEnd, Statuses, WatchedBody,
    grpc::{self, FailureCodes},
    retry_after,
};

/// What came of an HTTP or gRPC call.
///
/// | seen | outcome |
/// |---|---|
/// | status 429 or 500–599 | failure, with the `Retry-After` it came with |
/// | any other status | success |
/// | an error | what [`inspect`](crate::outcome::inspect) finds in it |
/// | a body that breaks off | failure |
/// | `grpc-status` in the headers of `application/grpc*` | decides at once |
/// | `application/grpc` without one | the trailers decide at the end of the body; ending without is a failure |
///
/// Which gRPC codes count is told at [`grpc_codes`](Self::grpc_codes).
///
/// ```
/// use tower_fleet::outcome::{HttpClassifier, Statuses};
///
/// // What most APIs need.
/// let classifier = HttpClassifier::new();
///
/// // Only an overloaded gateway counts, and a stream is good when it has ended well.
/// let classifier = HttpClassifier::new()
///     .statuses(Statuses::none().and(429)?.and(502..=504)?)
///     .success_at_end(true);
/// # let _ = classifier;
/// # Ok::<_, tower_fleet::outcome::InvalidStatus>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HttpClassifier {
    statuses: Statuses,
    grpc: FailureCodes,
    network_errors: bool,
    success_at_end: bool,
}

/// What [`HttpClassifier`] remembers of one call, and its judge of the end of the body.
#[derive(Clone, Copy, Debug)]
pub struct HttpEnd {
    grpc: FailureCodes,
    network_errors: bool,
    owes_status: bool,
}

impl HttpClassifier {
    /// The defaults, as in the table above.
    pub fn new() -> Self {
        Self {
            statuses: Statuses::default(),
            grpc: FailureCodes::default(),
            network_errors: true,
            success_at_end: false,
        }
    }

    /// Replaces the list of statuses that are failures.
    pub fn statuses(mut self, statuses: Statuses) -> Self {
        self.statuses = statuses;
        self
    }

    /// Replaces the list of gRPC codes that are failures. `Ok` never is.
    ///
    /// | code | by default | why |
    /// |---|---|---|
    /// | UNKNOWN, INTERNAL, DATA_LOSS | failure | the backend broke, a 500 elsewhere |
    /// | UNAVAILABLE | failure | a 503 |
    /// | DEADLINE_EXCEEDED | failure | a 504 |
    /// | RESOURCE_EXHAUSTED | failure | a 429 |
    /// | CANCELLED | neutral | somebody left |
    /// | UNIMPLEMENTED | success | who asks for a method nobody has (reflection) would cool the whole fleet |
    /// | ABORTED, FAILED_PRECONDITION | success | the state of the data, the same everywhere |
    /// | the others | success | the caller's mistakes, a 4xx elsewhere |
    ///
    /// A code that no specification knows counts as UNKNOWN. OpenTelemetry and Envoy's outlier
    /// detection count the same codes but for two: UNIMPLEMENTED counts there, and
    /// RESOURCE_EXHAUSTED does not; here it goes with 429.
    pub fn grpc_codes(mut self, codes: impl IntoIterator<Item = GrpcCode>) -> Self {
        self.grpc = codes.into_iter().collect();
        self
    }

    /// Whether errors of the network count, connections that break under a body included. They do
    /// by default.
    ///
    /// Switched off, what is left are errors with a reason of their own: timeouts of a middleware,
    /// shed requests, a [`Failure`] in the chain. A timeout of the socket is an error of the
    /// network.
    pub fn network_errors(mut self, count: bool) -> Self {
        self.network_errors = count;
        self
    }

    /// Whether a good head is not enough for a success and the body must end well too.
    ///
    /// Off by default: a stream that never ends would never succeed, and a half-open breaker would
    /// wait for it. gRPC waits for its trailers in any case.
    pub fn success_at_end(mut self, wait: bool) -> Self {
        self.success_at_end = wait;
        self
    }
}

impl Default for HttpClassifier {
    fn default() -> Self {
        Self::new()
    }
}

impl<Req, B> Classify<Req, Response<B>> for HttpClassifier
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Call = HttpEnd;
    type Watched = Response<WatchedBody<B, HttpEnd>>;

    fn request(&self, _: &Req) -> HttpEnd {
        HttpEnd { grpc: self.grpc, network_errors: self.network_errors, owes_status: false }
    }

    fn response(&self, call: &mut HttpEnd, response: &Response<B>) -> Verdict {
        let (status, headers) = (response.status(), response.headers());
        if self.statuses.contains(status.as_u16()) {
            let failure = Failure::new(FailureKind::Status(status.as_u16()));
            return Verdict::Now(failure.retry_after(retry_after::from_headers(headers)).into());
        }
        if let Some(flavour) = grpc::flavour(headers) {
            if let Some(outcome) = grpc::outcome(headers, self.grpc) {
                return Verdict::Now(outcome);
            }
            call.owes_status = grpc::owes_status(status, flavour);
        }
        if call.owes_status || self.success_at_end { Verdict::AtEnd } else { Verdict::Now(Outcome::Success) }
    }

    fn error(&self, call: HttpEnd, error: &BoxError) -> Outcome {
        call.admit(find(&**error))
    }

    fn watch(&self, call: HttpEnd, response: Response<B>, report: Report) -> Self::Watched {
        response.map(|body| WatchedBody::new(body, call, report))
    }
}

impl HttpEnd {
    /// Leaves the network out, if it does not count.
    fn admit(&self, finding: Finding) -> Outcome {
        if finding.network && !self.network_errors { Outcome::Neutral } else { finding.outcome }
    }
}

impl ClassifyEnd for HttpEnd {
    fn end(self, trailers: Option<&HeaderMap>) -> Outcome {
        if !self.owes_status {
            return Outcome::Success;
        }
        // A stream that ends without its status was cut by somebody on the way.
        trailers.and_then(|trailers| grpc::outcome(trailers, self.grpc)).unwrap_or(FailureKind::Body.into())
    }

    fn error(self, error: &BoxError) -> Outcome {
        self.admit(broken_off(error))
    }
}

/// What the error of a body says. Its head was good, so whatever failed on the way is one kind of
/// failure.
pub(super) fn broken_off(error: &BoxError) -> Finding {
    let mut finding = find(&**error);
    if let Outcome::Failure(failure) = finding.outcome
        && finding.network
        && failure.kind() != FailureKind::Timeout
    {
        finding.outcome = FailureKind::Body.into();
    }
    finding
}

#[cfg(test)]
#[path = "classifier_tests.rs"]
mod tests;
