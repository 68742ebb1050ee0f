//! The protocol of HTTP and gRPC: how requests are sent again, when a response is final, and the status of an error.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tower::BoxError;
use tower_http::classify::GrpcCode;

use super::{
    Attempted, Commit, CommitPoint, Decision, Ending, Error, ErrorKind, Ledger, PeekedBody, Stopped,
    commit_point::Point, peeked_body::Beginning,
};
use crate::{
    body::{Replay, ReplayBody, ReplayLayer, Unreplayable},
    outcome::{FailureKind, Outcome, gateway_status},
};

/// The protocol of HTTP and gRPC: how a request is sent again, and when a response is final.
///
/// The default protocol of a [`FailoverLayer`](super::FailoverLayer); its parts are set on the
/// [`FailoverBuilder`](super::FailoverBuilder).
#[derive(Clone, Debug, Default)]
pub struct Http {
    replay: ReplayLayer,
    commit: CommitPoint,
    served_by: Option<HeaderName>,
}

impl Http {
    /// Creates the default protocol: request bodies up to 1 MiB are sent again, and a response is final with its head.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn commit(mut self, point: CommitPoint) -> Self {
        self.commit = point;
        self
    }

    pub(super) fn replay(mut self, replay: ReplayLayer) -> Self {
        self.replay = replay;
        self
    }

    pub(super) fn served_by(mut self, header: HeaderName) -> Self {
        self.served_by = Some(header);
        self
    }
}

impl<B> Replay<Request<B>> for Http
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Request = Request<ReplayBody<B>>;

    fn keep(&self, request: Request<B>) -> Self::Request {
        self.replay.keep(request)
    }

    fn again(&self, kept: &Self::Request) -> Result<Self::Request, Unreplayable> {
        Replay::<Request<B>>::again(&self.replay, kept)
    }

    fn last(&self, kept: Self::Request) -> Self::Request {
        Replay::<Request<B>>::last(&self.replay, kept)
    }

    fn unreplayable(&self, kept: &Self::Request) -> Option<Unreplayable> {
        Replay::<Request<B>>::unreplayable(&self.replay, kept)
    }

    fn is_idempotent(&self, kept: &Self::Request) -> bool {
        Replay::<Request<B>>::is_idempotent(&self.replay, kept)
    }
}

impl<B> Commit<Response<B>> for Http
where
    B: Body + Unpin,
{
    type Peek = Peek<B>;
    type Response = Response<PeekedBody<B>>;

    fn is_at_head(&self) -> bool {
        matches!(self.commit.0, Point::Head)
    }

    fn status(&self, response: &Response<B>) -> Option<u16> {
        Some(response.status().as_u16())
    }

    fn peek(&self, response: Response<B>) -> Peek<B> {
        let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
        let remaining = match self.commit.0 {
            Point::Whole(bound) if size.is_some_and(|size| size <= bound) => Some(bound),
            _ => None,
        };
        Peek { response, beginning: Beginning::new(), remaining }
    }

    fn response<'a>(&self, peek: &'a mut Peek<B>) -> &'a mut Response<B> {
        &mut peek.response
    }

    fn poll_commit(&self, peek: &mut Peek<B>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Peek { response, beginning, remaining } = peek;
        for _ in 0..MAX_FRAMES {
            let bound = match &self.commit.0 {
                Point::Head => return Poll::Ready(Outcome::Success),
                Point::FirstFrame if !beginning.data.is_empty() => return Poll::Ready(Outcome::Success),
                Point::FirstFrame => 0,
                Point::Whole(_) if remaining.is_none() => return Poll::Ready(Outcome::Success),
                Point::Whole(bound) => *bound,
                Point::Prelude(bound, decide) => match decide(&beginning.data) {
                    Decision::Accept => return Poll::Ready(Outcome::Success),
                    Decision::Refuse(name) => return Poll::Ready(FailureKind::Custom(name).into()),
                    Decision::Wait if beginning.data.len() >= *bound => return Poll::Ready(Outcome::Success),
                    Decision::Wait => *bound,
                },
            };
            let frame = match ready!(Pin::new(response.body_mut()).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                None => {
                    beginning.ended = true;
                    return Poll::Ready(Outcome::Success);
                }
                // The response fails before it is final. If no trigger fires, the caller gets it with this error.
                Some(Err(error)) => {
                    beginning.error = Some(error);
                    return Poll::Ready(FailureKind::Body.into());
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    // A body that is longer than its announced size is not buffered without a limit.
                    *remaining = remaining.and_then(|remaining| remaining.checked_sub(data.remaining()));
                    beginning.add(data, bound);
                }
                // Trailers are the last frame of a body.
                Err(frame) => {
                    beginning.trailers = frame.into_trailers().ok().map(Box::new);
                    beginning.ended = true;
                    return Poll::Ready(Outcome::Success);
                }
            }
        }
        // Yields to the task's timers, even if the body is always ready with another frame.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn finish(&self, peek: Peek<B>, ledger: Ledger) -> Self::Response {
        let Peek { response, beginning, .. } = peek;
        let mut response = response.map(|rest| beginning.before(rest));
        if let (Some(header), Some(backend)) = (&self.served_by, ledger.served())
            && let Ok(value) = HeaderValue::from_str(backend)
        {
            response.headers_mut().insert(header.clone(), value);
        }
        response.extensions_mut().insert(ledger);
        response
    }
}

impl Error {
    /// Returns the status with which a gateway responds to its client: 503 if no backend was available, 504 if the time
    /// ran out, 408 if the client stalled in the middle of its request body, 502 if the backends failed.
    pub fn status(&self) -> StatusCode {
        let was_called = |attempt: &Attempted| !matches!(attempt.ending, Ending::NotReady { .. });
        match self.kind() {
            ErrorKind::NoBackends | ErrorKind::NoneAvailable { .. } | ErrorKind::AtLimit { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ if self.ledger().stopped() == Some(Stopped::OutOfTime) => StatusCode::GATEWAY_TIMEOUT,
            _ if self.ledger().stopped() == Some(Stopped::Unreplayable(Unreplayable::Stalled)) => {
                StatusCode::REQUEST_TIMEOUT
            }
            ErrorKind::Exhausted { .. } if !self.ledger().attempts().iter().any(was_called) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::Failed { .. } | ErrorKind::Exhausted { .. } => {
                let failure = self.outcome().and_then(|outcome| outcome.failure().copied());
                gateway_status(failure.map_or(FailureKind::Other, |failure| failure.kind()))
            }
        }
    }
}

impl Error {
    /// Returns the gRPC code for this error: `DEADLINE_EXCEEDED` if the time ran out, otherwise `UNAVAILABLE`.
    ///
    /// tonic maps an error of an unknown type to `UNKNOWN`. Convert the error before it reaches tonic:
    ///
    /// ```text
    /// ServiceBuilder::new()
    ///     .map_err(|error: failover::Error| tonic::Status::new((error.grpc_code() as i32).into(), error.to_string()))
    ///     .layer(FailoverLayer::new())
    ///     .service(fleet)
    /// ```
    pub fn grpc_code(&self) -> GrpcCode {
        match self.status() {
            StatusCode::GATEWAY_TIMEOUT => GrpcCode::DeadlineExceeded,
            _ => GrpcCode::Unavailable,
        }
    }
}

/// How many frames one poll reads at most.
const MAX_FRAMES: u32 = 32;

/// An HTTP response, and what was read of its body before it is final.
pub struct Peek<B: Body> {
    response: Response<B>,
    beginning: Beginning<B::Error>,
    /// Under [`CommitPoint::whole`], how many more bytes are buffered; `None` if the end is not waited for.
    remaining: Option<usize>,
}
