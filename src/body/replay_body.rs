//! The body that several attempts may read.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::frames::into_bytes;
use super::reader::{Reader, Turn};
use super::{ReplayError, ReplayMemory, Unreplayable};

/// As much as nginx and Envoy keep of a body for a retry by default; prompts, forms and JSON
/// documents fit, uploads do not.
pub(super) const DEFAULT_LIMIT: usize = 1024 * 1024;

/// A request body that several attempts may read, at the same time too.
///
/// A handle that has not begun to read can be copied with [`again`](Self::again). The first reader
/// streams from the source as it arrives; the others read what it read, from the start, and go on
/// with the source from there, whoever of them asks first. Nothing is pulled from the source before
/// somebody asks, so a body that nobody reads is never asked for.
///
/// What was read is kept while a handle exists that may still need it: once all that are left have
/// begun, only what the slowest has yet to read, and for the last one alone nothing. So the last
/// attempt costs no copy: it sends the original.
///
/// Over the bounds nothing is kept any more. The reader that is ahead goes on undisturbed, `again`
/// refuses and tells why, and readers that are behind get [`ReplayError::NotKept`]: never a body
/// cut short that looks whole.
///
/// It ends at the first error. Source bodies that are not `Unpin` go in as `Box::pin(body)`.
pub struct ReplayBody<B> {
    inner: Inner<B>,
}

enum Inner<B> {
    /// There is nothing to read, and as many copies of that as one likes.
    Empty,
    /// One of several handles on the source, or one that may become several.
    Shared(Reader<B>),
    /// The only reader: frames pass through.
    Passing { source: B, why: Unreplayable },
    /// Read to its end, whole or not.
    Over { whole: bool, why: Unreplayable },
}

impl<B: Body> ReplayBody<B> {
    /// Replays `body` within the defaults: 1 MiB, out of the memory of the
    /// [process](ReplayMemory::process).
    pub fn new(body: B) -> Self {
        Self::bounded(body, DEFAULT_LIMIT, &ReplayMemory::process())
    }

    /// Replays `body` if it has at most `limit` bytes and `memory` has room for them.
    ///
    /// With a limit of 0 only an empty body is replayed. A body that is known to be too large is
    /// not kept at all.
    pub fn bounded(body: B, limit: usize, memory: &ReplayMemory) -> Self {
        if body.is_end_stream() {
            return Self { inner: Inner::Empty };
        }
        if limit == 0 || body.size_hint().lower() > limit as u64 {
            return Self { inner: Inner::Passing { source: body, why: Unreplayable::TooLarge { limit } } };
        }
        Self { inner: Inner::Shared(Reader::new(body, limit, memory.clone())) }
    }

    /// Passes `body` through: there will be one attempt only, and nothing is kept.
    pub fn once(body: B) -> Self {
        Self { inner: Inner::Passing { source: body, why: Unreplayable::NoCopy } }
    }
}

impl<B> ReplayBody<B> {
    /// One more reader of the same body, from its start.
    ///
    /// # Errors
    ///
    /// [`Unreplayable`], when that reader could not get all of it: the body is over a bound or has
    /// failed, or this handle has begun to read. Once refused, always refused.
    pub fn again(&self) -> Result<Self, Unreplayable> {
        let inner = match &self.inner {
            Inner::Empty => Inner::Empty,
            Inner::Shared(reader) => Inner::Shared(reader.again()?),
            Inner::Passing { why, .. } | Inner::Over { why, .. } => return Err(*why),
        };
        Ok(Self { inner })
    }

    /// Why [`again`](Self::again) would refuse, if it would.
    pub fn unreplayable(&self) -> Option<Unreplayable> {
        match &self.inner {
            Inner::Empty => None,
            Inner::Shared(reader) => reader.unreplayable(),
            Inner::Passing { why, .. } | Inner::Over { why, .. } => Some(*why),
        }
    }

    fn end(&mut self, whole: bool) {
        let why = self.unreplayable().unwrap_or(Unreplayable::Begun);
        self.inner = Inner::Over { whole, why };
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = ReplayError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplayError>>> {
        let this = &mut *self;
        if let Inner::Shared(reader) = &mut this.inner {
            match ready!(reader.poll(cx)) {
                Turn::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                Turn::End => this.end(true),
                Turn::Failed(error) => {
                    this.end(false);
                    return Poll::Ready(Some(Err(error)));
                }
                Turn::Taken { source, frame, why } => {
                    this.inner = Inner::Passing { source, why };
                    if let Some(frame) = frame {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
        }
        let Inner::Passing { source, .. } = &mut this.inner else {
            return Poll::Ready(None);
        };
        let polled = ready!(Pin::new(source).poll_frame(cx));
        if !matches!(polled, Some(Ok(_))) {
            this.end(polled.is_none());
        }
        Poll::Ready(polled.map(|item| item.map(into_bytes).map_err(ReplayError::from_source)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Empty => true,
            Inner::Shared(reader) => reader.is_end_stream(),
            Inner::Passing { source, .. } => source.is_end_stream(),
            // Not after an error: nobody shall take that for a clean end.
            Inner::Over { whole, .. } => *whole,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty | Inner::Over { whole: true, .. } => SizeHint::with_exact(0),
            Inner::Shared(reader) => reader.size_hint(),
            Inner::Passing { source, .. } => source.size_hint(),
            Inner::Over { whole: false, .. } => SizeHint::default(),
        }
    }
}

/// An empty body.
impl<B> Default for ReplayBody<B> {
    fn default() -> Self {
        Self { inner: Inner::Empty }
    }
}

// Says nothing of what is in the body.
impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.inner {
            Inner::Empty => "empty",
            Inner::Shared(_) => "shared",
            Inner::Passing { .. } => "passing",
            Inner::Over { .. } => "over",
        };
        f.debug_struct("ReplayBody").field("state", &state).field("unreplayable", &self.unreplayable()).finish()
    }
}
