//! How the requests of several attempts are made out of one request.

use std::fmt;

/// Makes the requests of several attempts out of one request.
///
/// [`keep`](Self::keep) takes the caller's request once. The kept request is not sent while further attempts may
/// follow: each attempt sends a copy from [`again`](Self::again), and changes to one copy do not affect the others. The
/// last attempt sends the kept request itself, so it costs no copy.
///
/// | attempt | sends | if that is not possible |
/// |---|---|---|
/// | the first, others may follow | [`again`](Self::again) | the kept request, in the only attempt |
/// | a further one | [`again`](Self::again) | no further attempt |
/// | the last | the kept request, if [`unreplayable`](Self::unreplayable) returns `None` | no further attempt |
///
/// | request | implementation |
/// |---|---|
/// | an `http::Request` with any body | [`ReplayLayer`](super::ReplayLayer) |
/// | a request that is `Clone` | [`CloneRequest`] |
/// | a request that a closure can copy | [`replay_fn`] |
/// | a request that must be sent once only | [`Once`] |
///
/// ```
/// use tower_fleet::body::{CloneRequest, Once, Replay, Unreplayable};
///
/// let kept = CloneRequest.keep(String::from("hello"));
/// assert_eq!(CloneRequest.again(&kept).as_deref(), Ok("hello"));
///
/// let kept = Once.keep(String::from("hello"));
/// assert_eq!(Once.again(&kept), Err(Unreplayable::NoCopy));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot send a request of type `{Req}` again",
    note = "over HTTP a failover takes any `http::Request`; for services that are not HTTP, make it with `FailoverLayer::plain()`, which clones requests"
)]
pub trait Replay<Req> {
    /// The request of an attempt.
    type Request;

    /// Takes the caller's request, before the first attempt.
    fn keep(&self, request: Req) -> Self::Request;

    /// Returns a copy of `kept`, complete and as the caller sent it.
    ///
    /// # Errors
    ///
    /// Returns [`Unreplayable`] if a copy would not be complete. After the first error, all later calls fail too.
    fn again(&self, kept: &Self::Request) -> Result<Self::Request, Unreplayable>;

    /// Returns the request of the last attempt: `kept` itself.
    ///
    /// For an implementation that attaches something to the request of each attempt, such as an
    /// [`Upload`](super::Upload). Default: `kept`, unchanged.
    fn last(&self, kept: Self::Request) -> Self::Request {
        kept
    }

    /// Returns why `kept` itself is not complete any more, after copies of it were sent. Default `None`.
    fn unreplayable(&self, kept: &Self::Request) -> Option<Unreplayable> {
        let _ = kept;
        None
    }

    /// Returns an extension of the request, such as an `Earlier` run of a failover. Default `None`: it has none.
    fn extension<'a, T: Send + Sync + 'static>(&self, kept: &'a Self::Request) -> Option<&'a T> {
        let _ = kept;
        None
    }

    /// Whether the request has the same effect when it is sent twice. Default `true`.
    fn is_idempotent(&self, kept: &Self::Request) -> bool {
        let _ = kept;
        true
    }
}

/// The reason why a request cannot be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unreplayable {
    /// The body is over the limit of one body.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The [`ReplayMemory`](super::ReplayMemory) is used up by all bodies together.
    ProcessLimit,
    /// The caller's body failed, so it cannot be read completely.
    SourceFailed,
    /// The caller sent no frame of the body for too long:
    /// [`ReplayError::Stalled`](super::ReplayError::Stalled).
    Stalled,
    /// This handle was polled already. Only an unread handle can be copied.
    Begun,
    /// The request is not copied, by choice of its [`Replay`] or of [`ReplayBody::once`](super::ReplayBody::once).
    NoCopy,
}

impl fmt::Display for Unreplayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "request body exceeds the replay limit of {limit} bytes"),
            Self::ProcessLimit => f.write_str("memory for replaying request bodies is used up"),
            Self::SourceFailed => f.write_str("request body failed"),
            Self::Stalled => f.write_str("request body stalled"),
            Self::Begun => f.write_str("request body is already being read"),
            Self::NoCopy => f.write_str("request is sent once only"),
        }
    }
}

impl std::error::Error for Unreplayable {}

/// Copies a request by cloning it.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneRequest;

impl<Req: Clone> Replay<Req> for CloneRequest {
    type Request = Req;

    fn keep(&self, request: Req) -> Req {
        request
    }

    fn again(&self, kept: &Req) -> Result<Req, Unreplayable> {
        Ok(kept.clone())
    }
}

/// Copies no request: each gets one attempt.
#[derive(Debug, Clone, Copy, Default)]
pub struct Once;

impl<Req> Replay<Req> for Once {
    type Request = Req;

    fn keep(&self, request: Req) -> Req {
        request
    }

    fn again(&self, _: &Req) -> Result<Req, Unreplayable> {
        Err(Unreplayable::NoCopy)
    }
}

/// Copies a request with a closure. Made by [`replay_fn`].
#[derive(Clone, Copy)]
pub struct ReplayFn<F> {
    copy: F,
}

/// Returns a [`Replay`] that copies a request with `copy`, which returns `None` for a request that must not be sent
/// twice.
///
/// ```
/// use tower_fleet::body::{Replay, replay_fn};
///
/// let reads_only = replay_fn(|command: &String| command.starts_with("GET ").then(|| command.clone()));
/// assert!(reads_only.again(&String::from("GET key")).is_ok());
/// assert!(reads_only.again(&String::from("INCR key")).is_err());
/// ```
pub fn replay_fn<F, Req>(copy: F) -> ReplayFn<F>
where
    F: Fn(&Req) -> Option<Req>,
{
    ReplayFn { copy }
}

impl<F, Req> Replay<Req> for ReplayFn<F>
where
    F: Fn(&Req) -> Option<Req>,
{
    type Request = Req;

    fn keep(&self, request: Req) -> Req {
        request
    }

    fn again(&self, kept: &Req) -> Result<Req, Unreplayable> {
        (self.copy)(kept).ok_or(Unreplayable::NoCopy)
    }
}

impl<F> fmt::Debug for ReplayFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayFn").field("copy", &std::any::type_name::<F>()).finish()
    }
}
