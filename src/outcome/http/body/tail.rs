//! What follows the last frame of a body.

use std::{
    mem,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tower::BoxError;

use crate::body::Pause;

/// What follows the last frame of a body.
#[derive(Default)]
pub(super) struct Tail {
    pub(super) data: Option<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) error: Option<BoxError>,
    /// Whether data was returned, which an error waits for.
    pub(super) has_data: bool,
    pub(super) pause: Pause,
    /// Whether the task has yielded before an error without data.
    pub(super) has_yielded: bool,
}

impl Tail {
    /// Puts data in front of the rest.
    pub(super) fn prepend(&mut self, data: Bytes) {
        if !data.is_empty() {
            let rest = self.data.take().unwrap_or_default();
            self.data = Some(if rest.is_empty() { data } else { [data, rest].concat().into() });
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(data) = self.data.take() {
            self.has_data = true;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if self.error.is_some() && self.has_data {
            ready!(self.pause.poll(cx));
        } else if self.error.is_some() && !mem::replace(&mut self.has_yielded, true) {
            // hyper sends when the body is pending.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.error.take().map(Err))
    }

    pub(super) fn is_over(&self) -> bool {
        self.data.is_none() && self.trailers.is_none() && self.error.is_none()
    }
}
