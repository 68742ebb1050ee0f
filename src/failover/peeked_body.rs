//! The response body of a failover.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::outcome::{HttpEnd, WatchedBody};

/// The response body of a [`Failover`](super::Failover) whose backends return bodies of type `B`.
///
/// ```
/// # use http::Response;
/// # use hyper::body::Incoming;
/// // The response of a failover over hyper's clients.
/// type FromFleet = Response<tower_fleet::failover::ResponseBody<Incoming>>;
/// ```
pub type ResponseBody<B, E = HttpEnd> = PeekedBody<WatchedBody<B, E>>;

pin_project! {
    /// A body whose beginning was read before the response was final: returns the frames that were read, then the rest.
    ///
    /// See [`ResponseBody`] for the body of a failover's responses, and [`CommitPoint`](super::CommitPoint) for how
    /// much is read. Frames are returned as they came, except that a frame without data is left out of the beginning.
    pub struct PeekedBody<B>
    where
        B: Body,
    {
        // The frames that were read and not yet returned.
        pub(super) read: VecDeque<Frame<B::Data>>,
        // The error after these frames.
        pub(super) error: Option<B::Error>,
        // Whether the body ends after these frames and the error.
        pub(super) ended: bool,
        #[pin]
        pub(super) rest: B,
    }
}

impl<B: Body> Body for PeekedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        match this.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if *this.ended => Poll::Ready(None),
            None if this.error.is_some() => {
                *this.ended = true;
                Poll::Ready(this.error.take().map(Err))
            }
            None => this.rest.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.error.is_none() && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let read: u64 = self.read.iter().filter_map(Frame::data_ref).map(|data| data.remaining() as u64).sum();
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
        f.debug_struct("PeekedBody").field("frames_read", &self.read.len()).finish_non_exhaustive()
    }
}
