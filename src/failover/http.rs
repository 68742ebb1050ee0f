//! Terms for HTTP and gRPC.

use std::{
    fmt,
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tower::BoxError;

use super::{Accept, AnswerBody, Attempted, Ending, Error, ErrorKind, Ledger, Stopped, accept};
use crate::{
    body::{Replay, ReplayBody, ReplayLayer, Unreplayable},
    outcome::{Classify, FailureKind, HttpClassifier, Outcome, gateway_status},
};

/// From which moment on a response is the answer. Until then a failure or a stall moves the request on; from then on
/// nothing is sent again, and an error is the body's.
///
/// To a breaker around the backend a good head is a success at once, whatever follows, unless its classifier waits for
/// [`success_at_end`](HttpClassifier::success_at_end).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum CommitPoint {
    /// With its head.
    #[default]
    Head,
    /// With the first frame of its body, or its end: for streams that are slow to begin.
    FirstFrame,
    /// With its end, if it is known beforehand to have at most so many bytes; any other with its head.
    ///
    /// So that a small answer that breaks off in the middle is lost on nobody, while streams and large bodies flow at
    /// once. What has come of it is kept as it came, and timeouts run until its end. One that comes in more than
    /// 64 pieces, and one for each 64 bytes of the bound, is not waited for any longer: they would take more than their data.
    Whole(usize),
    /// When a predicate says so that looks at the beginning of the body.
    Prelude(Prelude),
}

/// A predicate on the beginning of a body. See [`CommitPoint::prelude`].
#[derive(Clone)]
pub struct Prelude {
    bound: usize,
    decide: Arc<Decide>,
}

type Decide = dyn Fn(&[u8]) -> Decision + Send + Sync;

/// What a predicate makes of the beginning of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It does not know yet.
    Wait,
    /// The response is the answer.
    Accept,
    /// The response is a failure, of this name.
    Refuse(&'static str),
}

impl CommitPoint {
    /// When `decide` accepts what has come of the body so far. Beyond the bound, or at the end of the body, a response
    /// that is still waited for is accepted.
    ///
    /// ```
    /// # use tower_fleet::failover::{CommitPoint, Decision};
    /// // An event stream may open with a comment and go on with an error.
    /// let point = CommitPoint::prelude(8 * 1024, |seen| {
    ///     let text = String::from_utf8_lossy(seen);
    ///     match text.split("\n\n").find(|event| !event.starts_with(':') && !event.is_empty()) {
    ///         Some(event) if event.starts_with("event: error") => Decision::Refuse("error event"),
    ///         Some(_) => Decision::Accept,
    ///         None => Decision::Wait,
    ///     }
    /// });
    /// # let _ = point;
    /// ```
    pub fn prelude(bound: usize, decide: impl Fn(&[u8]) -> Decision + Send + Sync + 'static) -> Self {
        Self::Prelude(Prelude { bound, decide: Arc::new(decide) })
    }
}

impl fmt::Debug for CommitPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("Head"),
            Self::FirstFrame => f.write_str("FirstFrame"),
            Self::Whole(bound) => f.debug_tuple("Whole").field(bound).finish(),
            Self::Prelude(prelude) => prelude.fmt(f),
        }
    }
}

impl fmt::Debug for Prelude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prelude").field("bound", &self.bound).finish_non_exhaustive()
    }
}

/// How HTTP requests are sent again, and which responses are good. The parts are set on the
/// [`FailoverLayer`](super::FailoverLayer).
#[derive(Clone, Debug)]
pub struct HttpTerms<C = HttpClassifier> {
    replay: ReplayLayer,
    classifier: C,
    commit: CommitPoint,
    served_by: Option<HeaderName>,
}

impl HttpTerms {
    /// Bodies up to 1 MiB are sent again, 429 and 5xx are failures, a response is the answer with its head.
    pub fn new() -> Self {
        Self {
            replay: ReplayLayer::new(),
            classifier: HttpClassifier::new(),
            commit: CommitPoint::Head,
            served_by: None,
        }
    }
}

impl Default for HttpTerms {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> HttpTerms<C> {
    pub(super) fn classify<D>(self, classifier: D) -> HttpTerms<D> {
        let Self { replay, commit, served_by, .. } = self;
        HttpTerms { replay, classifier, commit, served_by }
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

impl<B: Body, C> Replay<Request<B>> for HttpTerms<C> {
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

impl<B, C> Accept<Response<B>> for HttpTerms<C>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
    C: Classify<(), Response<B>>,
{
    type Opening = Opening<B>;
    type Response = Response<AnswerBody<B>>;

    fn head(&self, response: &Response<B>) -> Outcome {
        accept::head(&self.classifier, response)
    }

    fn error(&self, error: &BoxError) -> Outcome {
        self.classifier.error(self.classifier.request(&()), error)
    }

    fn open(&self, response: Response<B>) -> Opening<B> {
        let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
        let room = match self.commit {
            CommitPoint::Whole(bound) if size.is_some_and(|size| size <= bound) => Some(bound),
            _ => None,
        };
        Opening { response: response.map(AnswerBody::new), seen: Vec::new(), room }
    }

    fn poll_open(&self, opening: &mut Opening<B>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Opening { response, seen, room } = opening;
        let body = response.body_mut();
        for _ in 0..FRAMES {
            match &self.commit {
                CommitPoint::Head => return Poll::Ready(Outcome::Success),
                CommitPoint::FirstFrame if !body.read.is_empty() => return Poll::Ready(Outcome::Success),
                CommitPoint::FirstFrame => {}
                CommitPoint::Whole(_) if room.is_none() => return Poll::Ready(Outcome::Success),
                CommitPoint::Whole(_) => {}
                CommitPoint::Prelude(Prelude { bound, decide }) => match decide(seen) {
                    Decision::Accept => return Poll::Ready(Outcome::Success),
                    Decision::Refuse(name) => return Poll::Ready(FailureKind::Custom(name).into()),
                    Decision::Wait if seen.len() >= *bound => return Poll::Ready(Outcome::Success),
                    Decision::Wait => {}
                },
            }
            match ready!(Pin::new(&mut body.rest).poll_frame(cx)) {
                None => {
                    body.ended = true;
                    return Poll::Ready(Outcome::Success);
                }
                // Whatever broke, it broke before it was an answer. Should it trip nothing, the caller gets it.
                Some(Err(error)) => {
                    body.broken = Some(error);
                    return Poll::Ready(FailureKind::Body.into());
                }
                Some(Ok(frame)) => {
                    if let (Some(data), CommitPoint::Prelude(_)) = (frame.data_ref(), &self.commit) {
                        see(data, seen);
                    }
                    // One that is longer than it said is not waited for without an end.
                    *room = room.and_then(|room| room.checked_sub(frame.data_ref().map_or(0, Buf::remaining)));
                    // An empty frame says nothing yet, and nothing is lost with it.
                    if frame.data_ref().is_none_or(|data| data.has_remaining()) {
                        body.read.push_back(frame);
                    }
                    // Nor one in pieces so small that keeping them takes more than their data.
                    if let CommitPoint::Whole(bound) = self.commit
                        && body.read.len() > 64 + bound / 64
                    {
                        *room = None;
                    }
                }
            }
        }
        // A body of frames that say nothing is not to keep the task from its timers.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn hand_over(&self, opening: Opening<B>, ledger: Ledger) -> Self::Response {
        let mut response = opening.response;
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
    /// What a gateway answers with: 503 when there was nobody to ask, 504 when nobody answered in time, 502 when nobody
    /// could answer, 500 when the failover itself is misconfigured.
    pub fn status(&self) -> StatusCode {
        let is_ready = |attempt: &Attempted| !matches!(attempt.ending, Ending::NotReady { .. });
        match self.kind() {
            ErrorKind::NoBackends | ErrorKind::NoneAvailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Misconfigured(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ if self.ledger().stopped() == Some(Stopped::OutOfTime) => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Exhausted { .. } if !self.ledger().attempts().iter().any(is_ready) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::Failed { .. } | ErrorKind::Exhausted { .. } => {
                let failure = self.outcome().and_then(|outcome| outcome.failure().copied());
                gateway_status(failure.map_or(FailureKind::Other, |failure| failure.kind()))
            }
        }
    }
}

/// Frames that one poll looks at.
const FRAMES: u32 = 32;

/// A response whose beginning is being looked at.
pub struct Opening<B: Body> {
    response: Response<AnswerBody<B>>,
    /// What a predicate has seen of it.
    seen: Vec<u8>,
    /// How much more of it may come while its end is waited for. None when it is not.
    room: Option<usize>,
}

/// Copies the data of a frame, which stays whole, in whatever pieces it is.
fn see(data: &impl Buf, seen: &mut Vec<u8>) {
    let mut pieces = [IoSlice::new(&[]); 16];
    let filled = data.chunks_vectored(&mut pieces);
    pieces[..filled].iter().for_each(|piece| seen.extend_from_slice(piece));
}
