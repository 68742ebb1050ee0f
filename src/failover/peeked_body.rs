//! The response body of a failover.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    body::into_bytes,
    outcome::{HttpEnd, WatchedBody},
};

/// The response body of a [`Failover`](super::Failover) whose backends return bodies of type `B`.
///
/// ```
/// # use http::Response;
/// # use hyper::body::Incoming;
/// // The response of a failover over hyper's clients.
/// type FromFleet = Response<tower_fleet::failover::ResponseBody<Incoming>>;
/// ```
pub type ResponseBody<B, E = HttpEnd> = PeekedBody<WatchedBody<B, E>>;

/// The first step by which the buffer of a beginning grows.
const SMALLEST_STEP: usize = 256;

/// The beginning of a body, which is read before the response is final.
///
/// Its data is copied into one buffer. The frames of a connection are slices of its read buffers, and would keep all of
/// these alive: a response that arrives a byte at a time would hold 8 KiB for each byte.
pub(super) struct Beginning<E> {
    pub(super) data: Vec<u8>,
    // Boxed: most bodies have none.
    pub(super) trailers: Option<Box<HeaderMap>>,
    /// The error after the data.
    pub(super) error: Option<E>,
    /// Whether the end of the body was read.
    pub(super) ended: bool,
}

impl<E> Beginning<E> {
    pub(super) const fn new() -> Self {
        Self { data: Vec::new(), trailers: None, error: None, ended: false }
    }

    /// Adds the data of a frame. The buffer is doubled when it is full, but not beyond `bound` before that is reached.
    pub(super) fn add(&mut self, data: impl Buf, bound: usize) {
        let (len, capacity) = (self.data.len(), self.data.capacity());
        let needed = len.saturating_add(data.remaining());
        if needed > capacity {
            let doubled = if capacity == 0 { 0 } else { capacity.saturating_mul(2).max(SMALLEST_STEP) };
            self.data.reserve_exact(doubled.min(bound).max(needed) - len);
        }
        self.data.put(data);
    }

    /// Puts the beginning in front of the rest of the body.
    pub(super) fn before<B: Body<Error = E>>(self, rest: B) -> PeekedBody<B> {
        let Self { data, trailers, error, ended } = self;
        PeekedBody { data: data.into(), trailers, error, ended, rest }
    }
}

pin_project! {
    /// A body whose beginning was read before the response was final: returns what was read, then the rest.
    ///
    /// See [`ResponseBody`] for the body of a failover's responses, and [`CommitPoint`](super::CommitPoint) for how
    /// much is read. The data that was read is returned as one frame, the frames after it as they come.
    pub struct PeekedBody<B>
    where
        B: Body,
    {
        // What was read and not yet returned.
        data: Bytes,
        trailers: Option<Box<HeaderMap>>,
        // The error after that.
        error: Option<B::Error>,
        // Whether the body ends after that.
        ended: bool,
        #[pin]
        rest: B,
    }
}

impl<B: Body> Body for PeekedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if !this.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(this.data)))));
        }
        if let Some(trailers) = this.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
        }
        if let Some(error) = this.error.take() {
            *this.ended = true;
            return Poll::Ready(Some(Err(error)));
        }
        if *this.ended {
            return Poll::Ready(None);
        }
        this.rest.poll_frame(cx).map(|frame| frame.map(|frame| frame.map(into_bytes)))
    }

    fn is_end_stream(&self) -> bool {
        let is_read = self.data.is_empty() && self.trailers.is_none() && self.error.is_none();
        is_read && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.data.len() as u64;
        let rest = if self.ended { SizeHint::with_exact(0) } else { self.rest.size_hint() };
        let mut hint = SizeHint::new();
        // `SizeHint` panics if the bounds cross. Saturating both of them keeps their order.
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint.set_lower(rest.lower().saturating_add(read));
        hint
    }
}

impl<B: Body> fmt::Debug for PeekedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekedBody").field("bytes_read", &self.data.len()).finish_non_exhaustive()
    }
}
