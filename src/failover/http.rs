//! The protocol of HTTP and gRPC: how requests are sent again, when a response is final, and the status of an error.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tower::BoxError;
use tower_http::classify::GrpcCode;

use super::{
    Attempted, Commit, CommitPoint, Ending, Error, ErrorKind, GuardOf, Ledger, PeekedBody, Rejected, Rejections,
    Stopped, commit_point::Point, peek::Peek,
};
use crate::{
    body::{Replay, ReplayBody, ReplayLayer, Unreplayable},
    outcome::{CallGuard, FailureKind, Outcome, gateway_status},
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
    pub(super) rejections: Option<Rejections>,
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

    pub(super) fn rejections(mut self, rejections: Rejections) -> Self {
        self.rejections = Some(rejections);
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

    fn extension<'a, T: Send + Sync + 'static>(&self, kept: &'a Self::Request) -> Option<&'a T> {
        Replay::<Request<B>>::extension(&self.replay, kept)
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
        // Whether a rejection counts is known when it was read.
        matches!(self.commit.point, Point::Head) && self.rejections.is_none()
    }

    fn status(&self, response: &Response<B>) -> Option<u16> {
        Some(response.status().as_u16())
    }

    fn may_reject(&self, response: &Response<B>) -> bool {
        self.rejections.as_ref().is_some_and(|rejections| rejections.concerns(response.status().as_u16()))
    }

    fn rejection(&self, peek: &Peek<B>) -> Option<Rejected> {
        peek.rejection(self.rejections.as_ref()?)
    }

    fn peek(&self, mut response: Response<B>, guard: GuardOf<Response<B>>) -> Peek<B> {
        if let Some(rejections) = self.rejections.as_ref().filter(|_| Commit::may_reject(self, &response)) {
            return Peek::of_error(response, rejections, &self.commit);
        }
        let received = guard(&mut response).map(|guard| CallGuard::received(guard)).unwrap_or_default();
        Peek::new(response, &self.commit, received)
    }

    fn response<'a>(&self, peek: &'a mut Peek<B>) -> &'a mut Response<B> {
        &mut peek.response
    }

    fn poll_commit(&self, peek: &mut Peek<B>, cx: &mut Context<'_>, guard: GuardOf<Response<B>>) -> Poll<Outcome> {
        peek.poll(cx, guard)
    }

    fn held_for(&self) -> Option<Duration> {
        self.commit.within
    }

    fn overdue(&self, peek: &Peek<B>) -> Outcome {
        peek.overdue()
    }

    fn finish(&self, peek: Peek<B>, mut ledger: Ledger) -> Self::Response {
        let Peek { response, beginning, .. } = peek;
        let mut response = response.map(|rest| beginning.before(rest));
        if let Some(note) = response.extensions_mut().remove() {
            ledger.set_note(note);
        }
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
    /// ran out, 408 if the client stalled in the middle of its request body, 400 if the request suits none of the backends,
    /// 502 if the backends failed.
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
            ErrorKind::Exhausted { .. } if self.ledger().attempts().iter().all(Attempted::is_unsuitable) => {
                StatusCode::BAD_REQUEST
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
