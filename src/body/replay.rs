//! How one request becomes several attempts.

use std::fmt;

/// Says how several attempts are made out of one request.
///
/// The request goes in once, through [`keep`](Self::keep). What comes out is the original that
/// every attempt is copied from, untouched by what others did to theirs. It is also the last
/// attempt: when no more are to follow, the kept request itself is sent, and nothing is copied.
///
/// 1. To send a first attempt that others may follow, send [`again`](Self::again). Refused? Send
///    what was kept: there will be this one attempt.
/// 2. To send a further one, send `again` too. Refused? Then no more attempts can be whole.
/// 3. To send a further one that is the last, ask [`unreplayable`](Self::unreplayable), and unless
///    it says why not, send what was kept.
///
/// | what the caller sends | how it is replayed |
/// |---|---|
/// | an `http::Request` with any body | [`ReplayLayer`](super::ReplayLayer) |
/// | anything that is `Clone` | [`CloneRequest`] |
/// | something that needs a few words | a closure, through [`replay_fn`] |
/// | something that must go out once only | [`Once`] |
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
pub trait Replay<Req> {
    /// What an attempt sends.
    type Request;

    /// Takes the caller's request in, before the first attempt.
    fn keep(&self, request: Req) -> Self::Request;

    /// One more copy of `kept`, whole and as the caller sent it.
    ///
    /// # Errors
    ///
    /// [`Unreplayable`] when no further copy can be whole. Once refused, always refused.
    fn again(&self, kept: &Self::Request) -> Result<Self::Request, Unreplayable>;

    /// Why `kept` itself is not whole any more, now that copies of it were sent.
    fn unreplayable(&self, kept: &Self::Request) -> Option<Unreplayable> {
        let _ = kept;
        None
    }

    /// Whether sending it twice does no more than sending it once. True unless the protocol knows better.
    fn is_idempotent(&self, kept: &Self::Request) -> bool {
        let _ = kept;
        true
    }
}

/// Why no further copy of a request can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unreplayable {
    /// The body is larger than what is kept of one body, or came in too many small pieces.
    TooLarge {
        /// The bound it went over, in bytes.
        limit: usize,
    },
    /// All bodies together reached the bound of their [`ReplayMemory`](super::ReplayMemory).
    ProcessLimit,
    /// The caller's body failed, so nobody can have all of it.
    SourceFailed,
    /// This handle has begun to read. Copies are made of a handle that has not.
    Begun,
    /// No copy is made of this request, by choice.
    NoCopy,
}

impl fmt::Display for Unreplayable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => {
                write!(f, "request body exceeds the replay limit of {limit} bytes")
            }
            Self::ProcessLimit => f.write_str("memory for replaying request bodies is used up"),
            Self::SourceFailed => f.write_str("request body failed"),
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

/// Copies nothing: every request gets one attempt.
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

/// Copies a request by asking a closure; see [`replay_fn`].
#[derive(Clone, Copy)]
pub struct ReplayFn<F> {
    copy: F,
}

/// Copies a request by asking `copy`, which answers `None` for one that must not be sent twice.
///
/// ```
/// use tower_fleet::body::{Replay, replay_fn};
///
/// let reads_only =
///     replay_fn(|command: &String| command.starts_with("GET ").then(|| command.clone()));
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
