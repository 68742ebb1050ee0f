//! A response body whose end is recorded.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    super::{BoxError, CallGuard, InFlight, Outcome},
    end::{ClassifyEnd, HttpEnd},
};
use crate::boxed::BoxErrors;

pin_project! {
    /// A response body that passes on the frames of another, and records how it ended.
    ///
    /// The call is in flight until the last frame, an error, or a drop, whichever comes first. A drop before the end is
    /// neutral: the caller stopped reading.
    ///
    /// Its error is a [`BoxError`] that holds the error of `B`.
    pub struct WatchedBody<B, E = HttpEnd> {
        #[pin]
        inner: BoxErrors<B>,
        // `None` once the end is recorded.
        end: Option<E>,
        guard: Option<CallGuard>,
    }
}

impl<B, E> WatchedBody<B, E>
where
    B: Body,
    B::Error: Into<BoxError>,
    E: ClassifyEnd,
{
    /// Creates a body that watches `inner`.
    ///
    /// The end of an empty body is recorded here, since it may never be polled.
    pub fn new(inner: B, end: E, guard: CallGuard) -> Self {
        let (mut end, mut guard) = (Some(end), Some(guard));
        if inner.is_end_stream() {
            record_end(&mut end, &mut guard, None);
        }
        Self { inner: BoxErrors::new(inner), end, guard }
    }

    /// Watches the body of a response. An upgraded connection outlives its response, so its call is kept in flight by
    /// an [`InFlight`] in the extensions.
    pub(super) fn watch(end: E, response: Response<B>, mut guard: CallGuard) -> Response<Self> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(|body| Self::new(body, end, guard));
        }
        // Nothing after the head is seen here.
        guard.first_byte();
        guard.commit();
        guard.outcome(&Outcome::Success);
        let mut response = response.map(|inner| Self { inner: BoxErrors::new(inner), end: None, guard: None });
        response.extensions_mut().insert(InFlight::new(guard));
        response
    }
}

impl<B, E> WatchedBody<B, E> {
    /// Returns the inner body.
    pub fn inner(&self) -> &B {
        self.inner.inner()
    }

    /// Returns the guard of the call, or `None` for a body without a call.
    pub fn guard(&mut self) -> Option<&mut CallGuard> {
        self.guard.as_mut()
    }
}

impl<B, E> Body for WatchedBody<B, E>
where
    B: Body,
    E: ClassifyEnd,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let frame = match this.guard {
            Some(guard) => guard.during(|| this.inner.as_mut().poll_frame(cx)),
            None => this.inner.as_mut().poll_frame(cx),
        };
        Poll::Ready(match ready!(frame) {
            Some(Ok(frame)) => {
                if let Some(guard) = this.guard
                    && frame.data_ref().is_some_and(Buf::has_remaining)
                {
                    guard.first_byte();
                }
                if let Some(trailers) = frame.trailers_ref() {
                    record_end(this.end, this.guard, Some(trailers));
                } else if this.inner.is_end_stream() {
                    // A server does not poll again for the final `None`.
                    record_end(this.end, this.guard, None);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                if let Some((end, guard)) = this.end.take().zip(this.guard.as_mut()) {
                    guard.outcome(&end.error(&error));
                    guard.end();
                }
                Some(Err(error))
            }
            None => {
                record_end(this.end, this.guard, None);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn record_end<E: ClassifyEnd>(end: &mut Option<E>, guard: &mut Option<CallGuard>, trailers: Option<&HeaderMap>) {
    if let Some((end, guard)) = end.take().zip(guard.as_mut()) {
        let outcome = end.end(trailers);
        if outcome.is_success() {
            // Of a body without data, which has ended.
            guard.first_byte();
        }
        guard.outcome(&outcome);
        guard.end();
    }
}

/// An unwatched body, for middleware that makes responses of its own.
impl<B, E> Default for WatchedBody<B, E>
where
    B: Body + Default,
    B::Error: Into<BoxError>,
{
    fn default() -> Self {
        Self { inner: BoxErrors::new(B::default()), end: None, guard: None }
    }
}

/// Does not show the inner body, which may hold data that must not be logged.
impl<B, E> fmt::Debug for WatchedBody<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedBody").field("watched", &self.end.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
