//! The request body that several attempts can read.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::{
    ReplayError, ReplayMemory, Unreplayable,
    frames::into_bytes,
    reader::{Polled, Reader},
};
use crate::boxed::BoxErrors;

/// As much as nginx and Envoy keep of a body for a retry by default. Prompts, forms and JSON documents fit, uploads do
/// not.
pub(super) const DEFAULT_LIMIT: usize = 1024 * 1024;

/// A request body that several attempts can read, also at the same time.
///
/// A handle that was not polled yet can be copied with [`again`](Self::again). Each handle reads the whole body: the
/// reader in front streams from the source as data arrives, and the others read the data that was kept. The source is
/// polled only when a reader needs its next frame.
///
/// The reader in front gets each frame as it comes. What is kept is a copy, with small frames joined to larger ones: a
/// frame itself would keep all of the buffer alive in which its connection received it. Only a large frame that is all
/// of its buffer is shared. Trailers and the order of the data stay as they are.
///
/// Data is kept only while a handle may still need it. As long as there is an unread handle, all of it is kept; once all
/// handles are being read, the buffers that the slowest reader has yet to read; for the last handle alone, none. So the
/// last attempt costs no copy: it sends the original.
///
/// Over the bounds, no data is kept any more. The reader in front goes on, `again` returns why it cannot copy the
/// body, and the readers behind get [`ReplayError::NotKept`], so that no body is cut short unnoticed.
///
/// The body ends at its first error. A source body that is not `Unpin` is passed as `Box::pin(body)`.
///
/// # Cancel safety
///
/// Dropping a handle releases the data that only this handle needed. The source is dropped with the last handle.
///
/// # Examples
///
/// ```
/// # use tower_fleet::body::ReplayBody;
/// # use http_body_util::BodyExt;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let body = ReplayBody::new(String::from("hello"));
/// let first = body.again()?; // for the first attempt; the original is kept for the last one
/// assert_eq!(first.collect().await?.to_bytes(), "hello");
/// assert_eq!(body.collect().await?.to_bytes(), "hello");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct ReplayBody<B> {
    inner: Inner<BoxErrors<B>>,
}

enum Inner<B> {
    /// A body without frames, which can always be copied.
    Empty,
    /// A handle on a source that other handles may read too.
    Shared(Reader<B>),
    /// The only reader of the source: frames pass through.
    PassThrough { source: B, reason: Unreplayable },
    /// At the end of the body, or after an error.
    Ended { is_whole: bool, reason: Unreplayable },
}

impl<B> ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// Creates a body that can be replayed within the default bounds: 1 MiB, charged to the memory of the
    /// [process](ReplayMemory::process).
    pub fn new(body: B) -> Self {
        Self::bounded(body, DEFAULT_LIMIT, &ReplayMemory::process())
    }

    /// Creates a body that can be replayed while it has at most `limit` bytes and `memory` has room for them.
    ///
    /// With a limit of 0, only an empty body can be replayed. A body that is known to be too large is not kept at all.
    pub fn bounded(body: B, limit: usize, memory: &ReplayMemory) -> Self {
        if body.is_end_stream() {
            return Self { inner: Inner::Empty };
        }
        let body = BoxErrors::new(body);
        if limit == 0 || body.size_hint().lower() > limit as u64 {
            return Self { inner: Inner::PassThrough { source: body, reason: Unreplayable::TooLarge { limit } } };
        }
        Self { inner: Inner::Shared(Reader::new(body, limit, memory.clone())) }
    }

    /// Creates a body for a single attempt: it cannot be copied, and no frame is kept.
    pub fn once(body: B) -> Self {
        Self { inner: Inner::PassThrough { source: BoxErrors::new(body), reason: Unreplayable::NoCopy } }
    }
}

impl<B> ReplayBody<B> {
    /// Returns one more handle on the same body, which reads it from the start.
    ///
    /// # Errors
    ///
    /// Returns [`Unreplayable`] if the new handle could not read the whole body: it is over a bound, it has failed, or
    /// this handle was polled already. After the first error, all later calls fail too.
    pub fn again(&self) -> Result<Self, Unreplayable> {
        let inner = match &self.inner {
            Inner::Empty => Inner::Empty,
            Inner::Shared(reader) => Inner::Shared(reader.again()?),
            Inner::PassThrough { reason, .. } | Inner::Ended { reason, .. } => return Err(*reason),
        };
        Ok(Self { inner })
    }

    /// Returns the error that [`again`](Self::again) would return; `None` if it would succeed.
    pub fn unreplayable(&self) -> Option<Unreplayable> {
        match &self.inner {
            Inner::Empty => None,
            Inner::Shared(reader) => reader.unreplayable(),
            Inner::PassThrough { reason, .. } | Inner::Ended { reason, .. } => Some(*reason),
        }
    }

    fn end(&mut self, is_whole: bool) {
        let reason = self.unreplayable().unwrap_or(Unreplayable::Begun);
        self.inner = Inner::Ended { is_whole, reason };
    }
}

impl<B: Body + Unpin> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = ReplayError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplayError>>> {
        let this = &mut *self;
        if let Inner::Shared(reader) = &mut this.inner {
            match ready!(reader.poll(cx)) {
                Polled::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                Polled::End => this.end(true),
                Polled::Failed(error) => {
                    this.end(false);
                    return Poll::Ready(Some(Err(error)));
                }
                Polled::TakeOver { source, frame, reason } => {
                    this.inner = Inner::PassThrough { source, reason };
                    if let Some(frame) = frame {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
        }
        let Inner::PassThrough { source, .. } = &mut this.inner else {
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
            Inner::PassThrough { source, .. } => source.is_end_stream(),
            // Not after an error, which must not look like a clean end.
            Inner::Ended { is_whole, .. } => *is_whole,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty | Inner::Ended { is_whole: true, .. } => SizeHint::with_exact(0),
            Inner::Shared(reader) => reader.size_hint(),
            Inner::PassThrough { source, .. } => source.size_hint(),
            Inner::Ended { is_whole: false, .. } => SizeHint::default(),
        }
    }
}

/// An empty body.
impl<B> Default for ReplayBody<B> {
    fn default() -> Self {
        Self { inner: Inner::Empty }
    }
}

// Shows no data, which may be secret.
impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.inner {
            Inner::Empty => "empty",
            Inner::Shared(_) => "shared",
            Inner::PassThrough { .. } => "pass-through",
            Inner::Ended { .. } => "ended",
        };
        f.debug_struct("ReplayBody").field("state", &state).field("unreplayable", &self.unreplayable()).finish()
    }
}
