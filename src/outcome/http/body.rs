//! A response body that reports how it ended.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::super::{BoxError, CallGuard, InFlight, Outcome};

/// Decides over the end of a body.
pub trait ClassifyEnd {
    /// The body ended as it should, with these trailers if it had any.
    fn end(self, trailers: Option<&HeaderMap>) -> Outcome;

    /// The body broke off.
    fn error(self, error: &BoxError) -> Outcome;
}

pin_project! {
    /// A response body that is passed on as it is, and whose end is recorded.
    ///
    /// The call counts as in flight until the last frame, an error, or the drop, whichever is
    /// first. Dropped before its end, it says nothing: the caller left.
    ///
    /// Its error is a [`BoxError`] holding the one of `B`, since that is what can be looked into.
    pub struct WatchedBody<B, J> {
        #[pin]
        inner: B,
        // `None` once the end was seen.
        judge: Option<J>,
        guard: Option<CallGuard>,
    }
}

impl<B, J> WatchedBody<B, J>
where
    B: Body,
    J: ClassifyEnd,
{
    /// Watches `inner`. One that has ended already, being empty, is reported at once: nobody may
    /// ever poll it.
    pub fn new(inner: B, judge: J, guard: CallGuard) -> Self {
        let (mut judge, mut guard) = (Some(judge), Some(guard));
        if inner.is_end_stream() {
            end(&mut judge, &mut guard, None);
        }
        Self { inner, judge, guard }
    }
}

impl<B, J> WatchedBody<B, J>
where
    B: Body,
    J: ClassifyEnd,
{
    /// Watches the body of a response. An upgraded connection goes on after its response: its call is kept
    /// [`InFlight`] in the extensions.
    pub(super) fn watch(judge: J, response: Response<B>, mut guard: CallGuard) -> Response<Self> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(|body| Self::new(body, judge, guard));
        }
        // The head is all that can be told of it.
        guard.commit();
        guard.outcome(&Outcome::Success);
        let mut response = response.map(|inner| Self { inner, judge: None, guard: None });
        response.extensions_mut().insert(InFlight::new(guard));
        response
    }
}

impl<B, J> WatchedBody<B, J> {
    /// The body inside.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// What keeps account of the call; none in a body that was made without a call.
    pub fn guard(&mut self) -> Option<&mut CallGuard> {
        self.guard.as_mut()
    }
}

impl<B, J> Body for WatchedBody<B, J>
where
    B: Body,
    B::Error: Into<BoxError>,
    J: ClassifyEnd,
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
                if let Some(trailers) = frame.trailers_ref() {
                    end(this.judge, this.guard, Some(trailers));
                } else if this.inner.is_end_stream() {
                    // Servers do not poll again for a `None` that they know of.
                    end(this.judge, this.guard, None);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let error = error.into();
                if let Some((judge, guard)) = this.judge.take().zip(this.guard.as_mut()) {
                    guard.outcome(&judge.error(&error));
                    guard.end();
                }
                Some(Err(error))
            }
            None => {
                end(this.judge, this.guard, None);
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

fn end<J: ClassifyEnd>(judge: &mut Option<J>, guard: &mut Option<CallGuard>, trailers: Option<&HeaderMap>) {
    if let Some((judge, guard)) = judge.take().zip(guard.as_mut()) {
        guard.outcome(&judge.end(trailers));
        guard.end();
    }
}

/// Unwatched, for middleware that makes responses of its own.
impl<B: Default, J> Default for WatchedBody<B, J> {
    fn default() -> Self {
        Self { inner: B::default(), judge: None, guard: None }
    }
}

/// Without the body inside: what it holds is not for logs.
impl<B, J> fmt::Debug for WatchedBody<B, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedBody").field("watched", &self.judge.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
