//! Terms for HTTP and gRPC.

use std::{
    collections::VecDeque,
    fmt,
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};

use super::{AnswerBody, Attempted, Commit, Ending, Error, ErrorKind, Ledger, Stopped};
use crate::{
    body::{Replay, ReplayBody, ReplayLayer, Unreplayable},
    outcome::{FailureKind, Outcome, gateway_status},
};

/// From which moment on a response is the answer. Until then a failure or a stall moves the request on; from then on
/// nothing is sent again, and an error is the body's.
///
/// The success of the attempt is recorded at this moment too: what it refuses is a failure of its backend, for the circuit
/// as for the request. A classifier that waits for the end of the body records it then.
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

/// How HTTP requests are sent again, and from which moment on a response is the answer. The parts are set on the
/// [`FailoverLayer`](super::FailoverLayer).
#[derive(Clone, Debug, Default)]
pub struct Http {
    replay: ReplayLayer,
    commit: CommitPoint,
    served_by: Option<HeaderName>,
}

impl Http {
    /// Bodies up to 1 MiB are sent again, a response is the answer with its head.
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
    type Response = Response<AnswerBody<B>>;

    fn is_at_head(&self) -> bool {
        matches!(self.commit, CommitPoint::Head)
    }

    fn status(&self, response: &Response<B>) -> Option<u16> {
        Some(response.status().as_u16())
    }

    fn peek(&self, response: Response<B>) -> Peek<B> {
        let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
        let room = match self.commit {
            CommitPoint::Whole(bound) if size.is_some_and(|size| size <= bound) => Some(bound),
            _ => None,
        };
        Peek { response, held: VecDeque::new(), broken: None, ended: false, seen: Vec::new(), room }
    }

    fn response<'a>(&self, peek: &'a mut Peek<B>) -> &'a mut Response<B> {
        &mut peek.response
    }

    fn poll_commit(&self, peek: &mut Peek<B>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Peek { response, held, broken, ended, seen, room } = peek;
        for _ in 0..FRAMES {
            match &self.commit {
                CommitPoint::Head => return Poll::Ready(Outcome::Success),
                CommitPoint::FirstFrame if !held.is_empty() => return Poll::Ready(Outcome::Success),
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
            match ready!(Pin::new(response.body_mut()).poll_frame(cx)) {
                None => {
                    *ended = true;
                    return Poll::Ready(Outcome::Success);
                }
                // Whatever broke, it broke before it was an answer. Should it trip nothing, the caller gets it.
                Some(Err(error)) => {
                    *broken = Some(error);
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
                        held.push_back(frame);
                    }
                    // Nor one in pieces so small that keeping them takes more than their data.
                    if let CommitPoint::Whole(bound) = self.commit
                        && held.len() > 64 + bound / 64
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

    fn finish(&self, peek: Peek<B>, ledger: Ledger) -> Self::Response {
        let Peek { response, held, broken, ended, .. } = peek;
        let mut response = response.map(|rest| AnswerBody { read: held, broken, ended, rest });
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
pub struct Peek<B: Body> {
    response: Response<B>,
    /// What was read of its body.
    held: VecDeque<Frame<B::Data>>,
    broken: Option<B::Error>,
    ended: bool,
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
