//! The default classifier at work: heads, errors, and the statuses of a gateway.

use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body;
use tower_http::classify::GrpcCode;

use super::{
    super::{
        BoxError, CallGuard, Classify, Failure, FailureKind, Headroom, Outcome, PriorityClass, Verdict, error::find,
    },
    HttpClassifier, HttpEnd, Statuses, WatchedBody,
    events::{EventWatch, has_events, is_encoded},
    grpc, retry_after,
};
use crate::{body::Upload, content::EventRules, key::KeySource};

impl HttpClassifier {
    /// Sets a function that reads the time that a failed response names, for a service whose headers are not among those
    /// [known](Self#the-time-that-a-backend-names). Default none.
    ///
    /// It is called for each status that is a failure. What it returns takes precedence over all headers; for `None`,
    /// they are read as without it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_fleet::outcome::HttpClassifier;
    ///
    /// let classifier = HttpClassifier::new().named_time(|_status, headers| {
    ///     let minutes = headers.get("x-quota-minutes")?.to_str().ok()?.parse::<u32>().ok()?;
    ///     Some(Duration::from_secs(60) * minutes)
    /// });
    /// # let _ = classifier;
    /// ```
    pub fn named_time(mut self, read: fn(StatusCode, &HeaderMap) -> Option<Duration>) -> Self {
        self.named_time = Some(read);
        self
    }

    /// Sets the gRPC codes that are failures. OK never is.
    ///
    /// | code | default | reason |
    /// |---|---|---|
    /// | UNKNOWN, INTERNAL, DATA_LOSS | failure | the backend failed, as with a 500 |
    /// | UNAVAILABLE | failure | as a 503 |
    /// | DEADLINE_EXCEEDED | failure | as a 504 |
    /// | RESOURCE_EXHAUSTED | failure | as a 429 |
    /// | CANCELLED | neutral | the caller cancelled the call |
    /// | UNIMPLEMENTED | success | calls of a method that no backend has, such as reflection, would open all circuits |
    /// | ABORTED, FAILED_PRECONDITION | success | the state of the data, which is the same at every backend |
    /// | all others | success | a fault of the request, as with a 4xx |
    ///
    /// A code outside the specification counts as UNKNOWN. OpenTelemetry and Envoy's outlier detection have the same
    /// list but for two codes: UNIMPLEMENTED is a failure there, and RESOURCE_EXHAUSTED, which is treated like 429
    /// here, is not.
    pub fn grpc_codes(mut self, codes: impl IntoIterator<Item = GrpcCode>) -> Self {
        self.grpc = codes.into_iter().map(|code| code as i32).collect();
        self
    }
}

/// An extension of a request: when its response breaks, the error event is not part of the body, but of the error, which
/// is an [`Interrupted`](super::super::Interrupted). For middleware that goes on with a broken stream, and passes the
/// event on if it cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlainErrors;

impl HttpClassifier {
    /// Sets what the events of an event stream mean: which have content, which is an error, and which is the last one.
    /// By default events are not read.
    ///
    /// With rules, a response with the content type `text/event-stream` and a status 2xx is passed on event by event,
    /// and these are failures of the backend. Not one without a body, such as that of a `HEAD` request, and not a part of
    /// a stream (206).
    ///
    /// | the stream | its failure | the caller gets |
    /// |---|---|---|
    /// | has an error event | `error event` | that event |
    /// | has a malformed event | `malformed event` | an error event in its place, and a body error |
    /// | ends without its end marker | `no end marker` | the same |
    /// | breaks off, or [stalls](crate::TimeLimits) | `body`, `timeout` | the same |
    ///
    /// Before the response is [committed](crate::failover::CommitPoint), a failover moves on instead. The `Content-Length`
    /// of such a response is removed, since an error event may follow.
    ///
    /// ```
    /// use tower_fleet::{content::EventRules, outcome::HttpClassifier};
    ///
    /// let classifier = HttpClassifier::new().events(EventRules::new().end_data("[DONE]"));
    /// # let _ = classifier;
    /// ```
    pub fn events(mut self, rules: EventRules) -> Self {
        self.events = Some(rules);
        self
    }
}

impl<A, B> Classify<Request<A>, Response<B>> for HttpClassifier
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Call = HttpEnd;
    type Watched = Response<WatchedBody<B, HttpEnd>>;
    const REPORTS_FIRST_BYTE: bool = true;

    fn upload(&self, request: &Request<A>) -> Option<Upload> {
        request.extensions().get().cloned()
    }

    fn class(&self, request: &Request<A>) -> PriorityClass {
        request.extensions().get().copied().unwrap_or_default()
    }

    fn key(&self, request: &Request<A>, source: &KeySource) -> Option<u64> {
        source.key_of(request)
    }

    fn request(&self, request: &Request<A>) -> HttpEnd {
        let reads_events = self.events.as_ref().is_some_and(|rules| rules.concerns(request.uri().path()));
        let has_plain_errors = reads_events && request.extensions().get::<PlainErrors>().is_some();
        let (grpc, network_errors) = (self.grpc, self.network_errors);
        let has_no_body = request.method() == Method::HEAD;
        HttpEnd { grpc, network_errors, owes_status: false, reads_events, has_plain_errors, has_no_body, events: None }
    }

    fn response(&self, call: &mut HttpEnd, response: &Response<B>) -> Verdict {
        let (status, headers) = (response.status(), response.headers());
        if self.statuses.contains(status.as_u16()) {
            let failure = Failure::new(FailureKind::Status(status.as_u16()));
            let named = self.named_time.and_then(|read| read(status, headers));
            return Verdict::Now(match named {
                Some(time) => failure.retry_after(time).into(),
                None => retry_after::with_headers(failure, headers).into(),
            });
        }
        if let Some(flavour) = grpc::flavour(headers) {
            if let Some(outcome) = grpc::outcome(headers, self.grpc) {
                return Verdict::Now(outcome);
            }
            call.owes_status = grpc::owes_status(status, flavour);
        }
        call.has_no_body |= matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
        // A part of a stream may begin within an event.
        let is_whole = status.is_success() && status != StatusCode::PARTIAL_CONTENT && !call.has_no_body;
        let is_read = call.reads_events && is_whole && has_events(headers) && !is_encoded(headers);
        if let Some(rules) = self.events.as_ref().filter(|_| is_read) {
            call.events = Some(EventWatch::new(rules, call.has_plain_errors));
        }
        if call.owes_status || self.success_at_end { Verdict::AtEnd } else { Verdict::Now(Outcome::Success) }
    }

    fn headroom(&self, response: &Response<B>) -> Option<Headroom> {
        retry_after::headroom(response.headers())
    }

    fn error(&self, call: HttpEnd, error: &BoxError) -> Outcome {
        call.outcome_of(find(&**error))
    }

    fn watch(call: HttpEnd, response: Response<B>, mut guard: CallGuard) -> Self::Watched {
        guard.received_mut().has_no_body = call.has_no_body;
        WatchedBody::watch(call, response, guard)
    }

    fn guard(watched: &mut Self::Watched) -> Option<&mut CallGuard> {
        watched.body_mut().guard()
    }
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

/// The status with which a gateway responds to this kind of failure.
pub(crate) fn gateway_status(kind: FailureKind) -> StatusCode {
    match kind {
        FailureKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        FailureKind::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// The gRPC code with which a gateway responds to this kind of failure.
pub(crate) fn grpc_code(kind: FailureKind) -> GrpcCode {
    match kind {
        FailureKind::Timeout => GrpcCode::DeadlineExceeded,
        _ => GrpcCode::Unavailable,
    }
}

#[cfg(test)]
mod tests;
