//! What can be resumed, and how: one trait for the choice, one for a body that is followed.

use std::fmt;

use bytes::Bytes;
use http::{Request, request, response};

/// Decides which response bodies are resumed, and how.
///
/// [`ByteRanges`](super::ByteRanges) and `ChatContinuation` (`json`) implement it, and a pair does of
/// two that do: the first one that [keeps](Self::keeps) a request gets it. It only computes: a
/// [`ResumeLayer`](super::ResumeLayer) sends the requests.
///
/// ```text
/// request ──► keeps ──► response ──► follow ──► pass, pass, pass ─┬─► end
///                                                  ▲              └─► the body fails ──► request ──► join ─┐
///                                                  └───────────────────────────────────────────────────────┘
/// ```
pub trait Resume: Clone + Send + Sync + 'static {
    /// What is known of one response body while it is passed on.
    type Followed: Follow;

    /// Returns what of a request has to be kept for another one that goes on from where its response breaks off. `None`
    /// if its response is never resumed; then it costs nothing.
    fn keeps(&self, request: &request::Parts) -> Option<Keep>;

    /// Begins to follow the body of a response. `None` if this one cannot be resumed; then nothing is kept any more, and
    /// the body is passed on untouched.
    fn follow(&self, request: &request::Parts, response: &response::Parts) -> Option<Self::Followed>;
}

/// Follows one response body, and joins another one to it where it breaks off.
///
/// The caller gets what [`pass`](Self::pass) and [`end`](Self::end) return, so that they can hold data back, or leave
/// some out. After an error of the other methods, the caller gets the error with which the body broke off.
pub trait Follow: Send + 'static {
    /// Takes the next data of the body. Returns what is passed on now; that may be nothing.
    fn pass(&mut self, data: Bytes) -> Bytes;

    /// Takes the end of the body. Returns what was held back, if it belongs to the body.
    fn end(&mut self) -> Bytes;

    /// Checks a joined body, after each [`pass`](Self::pass) and at its [`end`](Self::end). What these have returned is
    /// passed on only if this succeeds. Not called before a body was joined.
    ///
    /// # Errors
    ///
    /// Fails if the joined body turns out not to go on where the first one broke off, or if it ends too early.
    fn check(&self) -> Result<(), NotResumed> {
        Ok(())
    }

    /// Returns the request that goes on from where the body broke off. What was held back is discarded.
    ///
    /// `head` and `body` are those of the caller's request; `body` is empty if only the head is [kept](Keep::Head).
    ///
    /// # Errors
    ///
    /// Fails if no request can go on from there.
    fn request(&mut self, head: &request::Parts, body: &Bytes) -> Result<Request<Bytes>, NotResumed>;

    /// Looks at the head of the response to that request. Its body is passed on next.
    ///
    /// # Errors
    ///
    /// Fails if the response does not go on where the body broke off.
    fn join(&mut self, response: &response::Parts) -> Result<(), NotResumed>;
}

/// What is kept of a request whose response may be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// Its head. A request with a body is not resumed.
    Head,
    /// Its head and its body, within the bounds of the [layer](super::ResumeLayer::replay).
    Body,
}

/// The reason why a body does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotResumed(pub &'static str);

impl fmt::Display for NotResumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotResumed {}

/// The first of the two that keeps a request follows its response.
impl<A: Resume, B: Resume> Resume for (A, B) {
    type Followed = Either<A::Followed, B::Followed>;

    fn keeps(&self, request: &request::Parts) -> Option<Keep> {
        self.0.keeps(request).or_else(|| self.1.keeps(request))
    }

    fn follow(&self, request: &request::Parts, response: &response::Parts) -> Option<Self::Followed> {
        match self.0.keeps(request) {
            Some(_) => self.0.follow(request, response).map(Either::First),
            None => self.1.follow(request, response).map(Either::Second),
        }
    }
}

/// Nothing is resumed without a choice.
impl<R: Resume> Resume for Option<R> {
    type Followed = R::Followed;

    fn keeps(&self, request: &request::Parts) -> Option<Keep> {
        self.as_ref()?.keeps(request)
    }

    fn follow(&self, request: &request::Parts, response: &response::Parts) -> Option<R::Followed> {
        self.as_ref()?.follow(request, response)
    }
}

/// A body that is followed by one of two.
#[derive(Debug)]
pub enum Either<A, B> {
    /// By the first one.
    First(A),
    /// By the second one.
    Second(B),
}

impl<A: Follow, B: Follow> Follow for Either<A, B> {
    fn pass(&mut self, data: Bytes) -> Bytes {
        match self {
            Self::First(followed) => followed.pass(data),
            Self::Second(followed) => followed.pass(data),
        }
    }

    fn end(&mut self) -> Bytes {
        match self {
            Self::First(followed) => followed.end(),
            Self::Second(followed) => followed.end(),
        }
    }

    fn check(&self) -> Result<(), NotResumed> {
        match self {
            Self::First(followed) => followed.check(),
            Self::Second(followed) => followed.check(),
        }
    }

    fn request(&mut self, head: &request::Parts, body: &Bytes) -> Result<Request<Bytes>, NotResumed> {
        match self {
            Self::First(followed) => followed.request(head, body),
            Self::Second(followed) => followed.request(head, body),
        }
    }

    fn join(&mut self, response: &response::Parts) -> Result<(), NotResumed> {
        match self {
            Self::First(followed) => followed.join(response),
            Self::Second(followed) => followed.join(response),
        }
    }
}
