//! The response body of a failover.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    body::{Charge, into_bytes},
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
    /// The frame that made the response final, which is not copied.
    pub(super) last: Bytes,
    charge: Charge,
    // Boxed: most bodies have none.
    pub(super) trailers: Option<Box<HeaderMap>>,
    /// The error after the data.
    pub(super) error: Option<E>,
    /// Whether the end of the body was read.
    pub(super) ended: bool,
}

impl<E> Beginning<E> {
    pub(super) const fn new(charge: Charge) -> Self {
        Self { data: Vec::new(), last: Bytes::new(), charge, trailers: None, error: None, ended: false }
    }

    /// Adds the data of a frame. The buffer is doubled when it is full, but not beyond `bound` before that is reached.
    /// Returns whether there was memory for it; if not, the frame is the last one that is held.
    pub(super) fn add(&mut self, data: Bytes, bound: usize) -> bool {
        let (len, capacity) = (self.data.len(), self.data.capacity());
        let needed = len.saturating_add(data.len());
        if needed > capacity {
            let doubled = if capacity == 0 { 0 } else { capacity.saturating_mul(2).max(SMALLEST_STEP) };
            let grown = doubled.min(bound).max(needed);
            if !self.charge.grow(grown - capacity) {
                self.last = data;
                return false;
            }
            self.data.reserve_exact(grown - len);
        }
        self.data.put(data);
        true
    }

    /// Whether the marker is in the data so far together with this, and was not in it before.
    pub(super) fn contains(&self, data: &[u8], marker: &[u8]) -> bool {
        let before = &self.data[self.data.len().saturating_sub(marker.len() - 1)..];
        let edge: Vec<u8> = before.iter().chain(data.iter().take(marker.len() - 1)).copied().collect();
        let is_in = |data: &[u8]| data.windows(marker.len()).any(|window| window == marker);
        is_in(&edge) || is_in(data)
    }

    /// Puts the beginning in front of the rest of the body.
    pub(super) fn before<B: Body<Error = E>>(self, rest: B) -> PeekedBody<B> {
        let Self { data, last, charge, trailers, error, ended } = self;
        PeekedBody { data: data.into(), last, charge: Some(charge), trailers, error, ended, rest }
    }
}

pin_project! {
    /// A body whose beginning was read before the response was final: returns what was read, then the rest.
    ///
    /// See [`ResponseBody`] for the body of a failover's responses, and [`CommitPoint`](super::CommitPoint) for how
    /// much is read. The data that was held is returned as one frame, the frames after it as they come.
    pub struct PeekedBody<B>
    where
        B: Body,
    {
        // What was read and not yet returned.
        data: Bytes,
        last: Bytes,
        // Of `data`.
        charge: Option<Charge>,
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
            *this.charge = None;
            return Poll::Ready(Some(Ok(Frame::data(mem::take(this.data)))));
        }
        if !this.last.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(this.last)))));
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
        let is_read = self.data.is_empty() && self.last.is_empty() && self.trailers.is_none() && self.error.is_none();
        is_read && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let read = (self.data.len() + self.last.len()) as u64;
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
        f.debug_struct("PeekedBody").field("bytes_read", &(self.data.len() + self.last.len())).finish_non_exhaustive()
    }
}
