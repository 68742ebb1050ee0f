//! What the default classifier makes of responses, errors and the ends of bodies.

use http::{HeaderMap, Response, StatusCode};
use http_body::Body;
use tower_http::classify::GrpcCode;

use super::{
    super::{BoxError, CallGuard, Classify, Failure, FailureKind, Outcome, Verdict, clue::Finding, error::find},
    ClassifyEnd, HttpClassifier, StatusRange, Statuses, WatchedBody,
    codes::FailureCodes,
    grpc, retry_after,
};

/// What [`HttpClassifier`] remembers of one call, and its judge of the end of the body.
#[derive(Clone, Copy, Debug)]
pub struct HttpEnd {
    grpc: FailureCodes,
    network_errors: bool,
    owes_status: bool,
}

impl HttpClassifier {
    /// Replaces the list of gRPC codes that are failures. `Ok` never is.
    ///
    /// | code | by default | why |
    /// |---|---|---|
    /// | UNKNOWN, INTERNAL, DATA_LOSS | failure | the backend broke, a 500 elsewhere |
    /// | UNAVAILABLE | failure | a 503 |
    /// | DEADLINE_EXCEEDED | failure | a 504 |
    /// | RESOURCE_EXHAUSTED | failure | a 429 |
    /// | CANCELLED | neutral | the caller left |
    /// | UNIMPLEMENTED | success | requests for a method that no backend has (reflection) would cool the whole fleet |
    /// | ABORTED, FAILED_PRECONDITION | success | the state of the data, the same everywhere |
    /// | the others | success | the caller's mistakes, a 4xx elsewhere |
    ///
    /// A code that no specification knows counts as UNKNOWN. OpenTelemetry and Envoy's outlier
    /// detection count the same codes but for two: UNIMPLEMENTED counts there, and
    /// RESOURCE_EXHAUSTED does not; here it goes with 429.
    pub fn grpc_codes(mut self, codes: impl IntoIterator<Item = GrpcCode>) -> Self {
        self.grpc = codes.into_iter().map(|code| code as i32).collect();
        self
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

    fn watch(&self, call: HttpEnd, response: Response<B>, guard: CallGuard) -> Self::Watched {
        WatchedBody::watch(call, response, guard)
    }

    fn guard(watched: &mut Self::Watched) -> Option<&mut CallGuard> {
        watched.body_mut().guard()
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
        // A stream that ends without its status was cut on its way.
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

impl FromIterator<StatusCode> for Statuses {
    fn from_iter<I: IntoIterator<Item = StatusCode>>(codes: I) -> Self {
        let mut statuses = Self::none();
        for code in codes {
            statuses.insert(code.as_u16());
        }
        statuses
    }
}

impl From<StatusCode> for StatusRange {
    fn from(code: StatusCode) -> Self {
        Self::from(code.as_u16())
    }
}

/// The status by which a gateway says that a backend failed so.
pub(crate) fn gateway_status(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        FailureKind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    }
}

#[cfg(test)]
#[path = "classifier_tests.rs"]
mod tests;
