//! The request body that several attempts can read.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::{
    ReplayError, ReplayMemory, Unreplayable, Upload,
    frames::into_bytes,
    reader::{Polled, Reader},
    uploading::Uploading,
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
/// The body ends at its first error. If the source ends before its length is reached, that is an error too. A source
/// body that is not `Unpin` is passed as `Box::pin(body)`.
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
    pub(super) inner: Inner<BoxErrors<B>>,
    /// How many bytes are missing to the length of the body; 0 if it has none.
    pub(super) owed: u64,
    /// The upload of the attempt that reads it.
    pub(super) uploading: Option<Uploading>,
}

pub(super) enum Inner<B> {
    /// A body without frames, which can always be copied.
    Empty,
    /// A body that is in memory, and has a byte at least.
    Whole(Bytes),
    /// Data that was put back in front of the rest.
    PutBack(Bytes, Box<Self>),
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
            return Self::default();
        }
        let (hint, body) = (body.size_hint(), BoxErrors::new(body));
        let inner = if limit == 0 || hint.lower() > limit as u64 {
            Inner::PassThrough { source: body, reason: Unreplayable::TooLarge { limit } }
        } else {
            Inner::Shared(Reader::new(body, limit, memory.clone()))
        };
        Self { inner, owed: hint.exact().unwrap_or(0), uploading: None }
    }

    /// Creates a body for a single attempt: it cannot be copied, and no frame is kept.
    pub fn once(body: B) -> Self {
        let (owed, source) = (body.size_hint().exact().unwrap_or(0), BoxErrors::new(body));
        Self { inner: Inner::PassThrough { source, reason: Unreplayable::NoCopy }, owed, uploading: None }
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
            Inner::Whole(bytes) => Inner::Whole(bytes.clone()),
            Inner::Shared(reader) => Inner::Shared(reader.again()?),
            Inner::PutBack(..) => return Err(Unreplayable::Begun),
            Inner::PassThrough { reason, .. } | Inner::Ended { reason, .. } => return Err(*reason),
        };
        Ok(Self { inner, owed: self.owed, uploading: None })
    }

    /// Returns the error that [`again`](Self::again) would return; `None` if it would succeed.
    pub fn unreplayable(&self) -> Option<Unreplayable> {
        match &self.inner {
            Inner::Empty | Inner::Whole(_) => None,
            Inner::Shared(reader) => reader.unreplayable(),
            Inner::PutBack(..) => Some(Unreplayable::Begun),
            Inner::PassThrough { reason, .. } | Inner::Ended { reason, .. } => Some(*reason),
        }
    }

    /// Sets the length that the head of the request announces. Before the first poll.
    pub(super) fn announced(mut self, length: u64) -> Self {
        self.owed = length;
        self
    }

    /// Returns the upload of the attempt that will read this handle; `None` for a body that no caller sends.
    pub(super) fn track(&mut self, idle_timeout: Option<Duration>) -> Option<&Upload> {
        if matches!(self.inner, Inner::Empty | Inner::Whole(_)) {
            return None;
        }
        Some(self.uploading.get_or_insert_with(|| Uploading::new(idle_timeout)).upload())
    }

    fn end(&mut self, is_whole: bool) {
        let reason = self.unreplayable().unwrap_or(Unreplayable::Begun);
        self.inner = Inner::Ended { is_whole, reason };
    }
}

/// The result of a poll of a body.
type Item = Option<Result<Frame<Bytes>, ReplayError>>;

impl<B: Body + Unpin> ReplayBody<B> {
    /// Polls the source, or the kept frames.
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if let Inner::PutBack(..) = &self.inner {
            return Poll::Ready(self.take_back().map(|data| Ok(Frame::data(data))));
        }
        if let Inner::Shared(reader) = &mut self.inner {
            match ready!(reader.poll(cx)) {
                Polled::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                Polled::End => self.end(true),
                Polled::Failed(error) => {
                    self.end(false);
                    return Poll::Ready(Some(Err(error)));
                }
                Polled::TakeOver { source, frame, reason } => {
                    self.inner = Inner::PassThrough { source, reason };
                    if let Some(frame) = frame {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
        }
        if let Inner::Whole(bytes) = &mut self.inner {
            let bytes = std::mem::take(bytes);
            self.end(true);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Inner::PassThrough { source, .. } = &mut self.inner else {
            return Poll::Ready(None);
        };
        let polled = ready!(Pin::new(source).poll_frame(cx));
        if !matches!(polled, Some(Ok(_))) {
            self.end(polled.is_none());
        }
        Poll::Ready(polled.map(|item| item.map(into_bytes).map_err(ReplayError::from_source)))
    }

    /// The same, with the waits for the caller counted and limited.
    fn poll_uploading(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        let Some(mut uploading) = self.uploading.take() else { return self.poll_inner(cx) };
        let mut polled = uploading.poll(cx, |cx| self.poll_inner(cx));
        if polled.is_pending()
            && let Poll::Ready(error) = uploading.poll_stalled(cx)
        {
            if let Inner::Shared(reader) = &self.inner {
                reader.fail(&error);
            }
            self.end(false);
            polled = Poll::Ready(Some(Err(error)));
        }
        self.uploading = Some(uploading);
        polled
    }
}

impl<B: Body + Unpin> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = ReplayError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item> {
        let this = &mut *self;
        let mut item = ready!(this.poll_uploading(cx));
        match &item {
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, Bytes::len) as u64;
                this.owed = this.owed.saturating_sub(len);
            }
            None if this.owed > 0 => {
                this.end(false);
                item = Some(Err(ReplayError::Short { missing: std::mem::take(&mut this.owed) }));
            }
            _ => this.owed = 0,
        }
        if let (Some(Err(error)), Some(uploading)) = (&item, &this.uploading) {
            uploading.fail(error);
        }
        Poll::Ready(item)
    }

    fn is_end_stream(&self) -> bool {
        // A body that is too short has yet to fail.
        self.owed == 0
            && match &self.inner {
                Inner::Empty => true,
                Inner::Whole(_) | Inner::PutBack(..) => false,
                Inner::Shared(reader) => reader.is_end_stream(),
                Inner::PassThrough { source, .. } => source.is_end_stream(),
                // Not after an error, which must not look like a clean end.
                Inner::Ended { is_whole, .. } => *is_whole,
            }
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An empty body.
impl<B> Default for ReplayBody<B> {
    fn default() -> Self {
        Self { inner: Inner::Empty, owed: 0, uploading: None }
    }
}

// Shows no data, which may be secret.
impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.inner {
            Inner::Empty => "empty",
            Inner::Whole(_) => "whole",
            Inner::PutBack(..) => "put back",
            Inner::Shared(_) => "shared",
            Inner::PassThrough { .. } => "pass-through",
            Inner::Ended { .. } => "ended",
        };
        f.debug_struct("ReplayBody").field("state", &state).field("unreplayable", &self.unreplayable()).finish()
    }
}
