//! The protocol of HTTP and gRPC: how requests are sent again, when a response is final, and the status of an error.

use std::{
    collections::VecDeque,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use tower_http::classify::GrpcCode;

use super::{
    Attempted, Commit, CommitPoint, Decision, Ending, Error, ErrorKind, Ledger, PeekedBody, Stopped,
    commit_point::Point,
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

impl<B: Body> Replay<Request<B>> for Http {
    type Request = Request<ReplayBody<B>>;

    fn keep(&self, request: Request<B>) -> Self::Request {
        self.replay.keep(request)
    }

    fn again(&self, kept: &Self::Request) -> Result<Self::Request, Unreplayable> {
        Replay::<Request<B>>::again(&self.replay, kept)
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
        Peek { response, frames: VecDeque::new(), error: None, ended: false, data: Vec::new(), remaining }
    }

    fn response<'a>(&self, peek: &'a mut Peek<B>) -> &'a mut Response<B> {
        &mut peek.response
    }

    fn poll_commit(&self, peek: &mut Peek<B>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Peek { response, frames, error, ended, data, remaining } = peek;
        for _ in 0..MAX_FRAMES {
            match &self.commit.0 {
                Point::Head => return Poll::Ready(Outcome::Success),
                Point::FirstFrame if !frames.is_empty() => return Poll::Ready(Outcome::Success),
                Point::FirstFrame => {}
                Point::Whole(_) if remaining.is_none() => return Poll::Ready(Outcome::Success),
                Point::Whole(_) => {}
                Point::Prelude(bound, decide) => match decide(data) {
                    Decision::Accept => return Poll::Ready(Outcome::Success),
                    Decision::Refuse(name) => return Poll::Ready(FailureKind::Custom(name).into()),
                    Decision::Wait if data.len() >= *bound => return Poll::Ready(Outcome::Success),
                    Decision::Wait => {}
                },
            }
            match ready!(Pin::new(response.body_mut()).poll_frame(cx)) {
                None => {
                    *ended = true;
                    return Poll::Ready(Outcome::Success);
                }
                // The response fails before it is final. If no trigger fires, the caller gets it with this error.
                Some(Err(failed)) => {
                    *error = Some(failed);
                    return Poll::Ready(FailureKind::Body.into());
                }
                Some(Ok(frame)) => {
                    if let (Some(chunk), Point::Prelude(..)) = (frame.data_ref(), &self.commit.0) {
                        append(chunk, data);
                    }
                    // A body that is longer than its announced size is not buffered without a limit.
                    let len = frame.data_ref().map_or(0, Buf::remaining);
                    *remaining = remaining.and_then(|remaining| remaining.checked_sub(len));
                    // An empty frame is not the first frame, and can be left out.
                    if frame.data_ref().is_none_or(|data| data.has_remaining()) {
                        frames.push_back(frame);
                    }
                    // Frames so small that keeping them takes more memory than their data.
                    if let Point::Whole(bound) = self.commit.0
                        && frames.len() > 64 + bound / 64
                    {
                        *remaining = None;
                    }
                }
            }
        }
        // Yields to the task's timers, even if the body is always ready with another frame.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn finish(&self, peek: Peek<B>, ledger: Ledger) -> Self::Response {
        let Peek { response, frames, error, ended, .. } = peek;
        let mut response = response.map(|rest| PeekedBody { read: frames, error, ended, rest });
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
    /// ran out, 502 if the backends failed.
    pub fn status(&self) -> StatusCode {
        let was_called = |attempt: &Attempted| !matches!(attempt.ending, Ending::NotReady { .. });
        match self.kind() {
            ErrorKind::NoBackends | ErrorKind::NoneAvailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ if self.ledger().stopped() == Some(Stopped::OutOfTime) => StatusCode::GATEWAY_TIMEOUT,
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
    /// The frames that were read.
    frames: VecDeque<Frame<B::Data>>,
    /// The error that followed them.
    error: Option<B::Error>,
    /// Whether the end of the body was read.
    ended: bool,
    /// The data for the predicate of [`CommitPoint::prelude`].
    data: Vec<u8>,
    /// Under [`CommitPoint::whole`], how many more bytes are buffered; `None` if the end is not waited for.
    remaining: Option<usize>,
}

/// Copies the data of a frame without consuming it.
fn append(chunk: &impl Buf, data: &mut Vec<u8>) {
    let mut slices = [IoSlice::new(&[]); 16];
    let filled = chunk.chunks_vectored(&mut slices);
    slices[..filled].iter().for_each(|slice| data.extend_from_slice(slice));
}
