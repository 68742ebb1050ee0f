//! A response body that reports how it ended.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::super::{BoxError, Outcome, Report};

/// Decides over the end of a body.
pub trait ClassifyEnd {
    /// The body ended as it should, with these trailers if it had any.
    fn end(self, trailers: Option<&HeaderMap>) -> Outcome;

    /// The body broke off.
    fn error(self, error: &BoxError) -> Outcome;
}

pin_project! {
    /// A response body that is passed on as it is, and whose end is reported.
    ///
    /// The call counts as in flight until the last frame, an error, or the drop, whichever is
    /// first. Dropped before its end, it says nothing: the caller left.
    ///
    /// Its error is a [`BoxError`] holding the one of `B`, since that is what can be looked into.
    pub struct WatchedBody<B, J> {
        #[pin]
        inner: B,
        // `None` once the end was reported.
        watch: Option<Watch<J>>,
    }
}

struct Watch<J> {
    judge: J,
    report: Report,
}

impl<B, J> WatchedBody<B, J>
where
    B: Body,
    J: ClassifyEnd,
{
    /// Watches `inner`. One that has ended already, being empty, is reported at once: nobody may
    /// ever poll it.
    pub fn new(inner: B, judge: J, report: Report) -> Self {
        let mut watch = Some(Watch { judge, report });
        if inner.is_end_stream() {
            end(&mut watch, None);
        }
        Self { inner, watch }
    }
}

impl<B, J> WatchedBody<B, J> {
    /// The body inside.
    pub fn inner(&self) -> &B {
        &self.inner
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
        Poll::Ready(match ready!(this.inner.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    end(this.watch, Some(trailers));
                } else if this.inner.is_end_stream() {
                    // Servers do not poll again for a `None` that they know of.
                    end(this.watch, None);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let error = error.into();
                if let Some(Watch { judge, mut report }) = this.watch.take() {
                    report.outcome(&judge.error(&error));
                }
                Some(Err(error))
            }
            None => {
                end(this.watch, None);
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

fn end<J: ClassifyEnd>(watch: &mut Option<Watch<J>>, trailers: Option<&HeaderMap>) {
    if let Some(Watch { judge, mut report }) = watch.take() {
        report.outcome(&judge.end(trailers));
    }
}

/// Unwatched, for middleware that makes responses of its own.
impl<B: Default, J> Default for WatchedBody<B, J> {
    fn default() -> Self {
        Self { inner: B::default(), watch: None }
    }
}

/// Without the body inside: what it holds is nobody's business.
impl<B, J> fmt::Debug for WatchedBody<B, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedBody").field("watched", &self.watch.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
