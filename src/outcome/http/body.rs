//! A response body whose end is recorded.

mod tail;
mod watch;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, StatusCode, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pub use self::watch::{BrokenStream, Interrupted};
use self::{
    tail::Tail,
    watch::{Read, Watch, record_end},
};
use super::{
    super::{BoxError, CallGuard, InFlight, Outcome, TimedOut, body_timer::BodyTimer},
    end::{ClassifyEnd, HttpEnd},
    events::EventWatch,
};
use crate::{body::into_bytes, boxed::BoxErrors, name::BackendName};

pin_project! {
    /// A response body that passes on the frames of another, and records how it ended.
    ///
    /// The call is in flight until the last frame, an error, or a drop, whichever comes first. A drop before the end is
    /// neutral: the caller stopped reading.
    ///
    /// Its error is a [`BoxError`] that holds the error of `B`, a [`TimedOut`], or a [`BrokenStream`]. Where the
    /// classifier [reads events](super::HttpClassifier::events), an error event of its own comes before the error.
    pub struct WatchedBody<B, E = HttpEnd> {
        #[pin]
        inner: BoxErrors<B>,
        // `None` once the end is recorded.
        end: Option<E>,
        guard: Option<CallGuard>,
        timer: Option<Box<BodyTimer>>,
        events: Option<Box<EventWatch>>,
        // What is returned in place of the rest of `inner`.
        tail: Option<Box<Tail>>,
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
    pub fn new(inner: B, mut end: E, mut guard: CallGuard) -> Self {
        let timer = guard.take_timer();
        let events = end.events();
        guard.received_mut().is_events = events.is_some();
        guard.received_mut().has_end = events.as_ref().is_some_and(|events| events.has_end());
        let is_over = inner.is_end_stream() && events.as_ref().is_none_or(|events| events.is_complete());
        let (mut end, mut guard) = (Some(end), Some(guard));
        if is_over {
            record_end(&mut end, &mut guard, None);
        }
        Self { inner: BoxErrors::new(inner), end, guard, timer, events, tail: None }
    }

    /// Watches the body of a response. An upgraded connection outlives its response, so its call is kept in flight by
    /// an [`InFlight`] in the extensions.
    pub(super) fn watch(end: E, response: Response<B>, mut guard: CallGuard) -> Response<Self> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let mut response = response.map(|body| Self::new(body, end, guard));
            if response.body().events.is_some() {
                // An error event may follow.
                response.headers_mut().remove(CONTENT_LENGTH);
            }
            return response;
        }
        // Nothing after the head is seen here.
        guard.first_byte();
        guard.commit();
        guard.outcome(&Outcome::Success);
        let mut response = response.map(Self::unwatched);
        response.extensions_mut().insert(InFlight::new(guard));
        response
    }

    fn unwatched(inner: B) -> Self {
        Self { inner: BoxErrors::new(inner), end: None, guard: None, timer: None, events: None, tail: None }
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
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        for _ in 0..MAX_FRAMES {
            if let Some(tail) = this.tail {
                return tail.poll(cx);
            }
            let frame = match this.guard {
                Some(guard) => guard.during(|| this.inner.as_mut().poll_frame(cx)),
                None => this.inner.as_mut().poll_frame(cx),
            };
            let frame = match (frame, this.timer.as_mut(), this.guard.as_ref()) {
                (Poll::Ready(frame), None, _) => frame,
                (Poll::Ready(frame), Some(timer), _) => {
                    timer.arrived();
                    frame
                }
                (Poll::Pending, Some(timer), Some(guard)) => {
                    let (time, limit) = ready!(timer.poll(guard.received(), cx));
                    let backend = guard.backend().cloned().unwrap_or_else(|| BackendName::lossy("unknown"));
                    Some(Err(TimedOut::new(backend, time, limit).into()))
                }
                (Poll::Pending, ..) => return Poll::Pending,
            };
            let mut watch = Watch { end: this.end, guard: this.guard, events: this.events };
            let read = match frame {
                Some(Ok(frame)) => watch.frame(into_bytes(frame), this.inner.is_end_stream()),
                Some(Err(error)) => watch.error(error),
                None => watch.end(None).map_or(Read::Passed(None), Read::Tail),
            };
            match read {
                Read::Passed(frame) => return Poll::Ready(frame.map(Ok)),
                Read::Held => {}
                Read::Tail(tail) => *this.tail = Some(tail),
            }
        }
        // Yields to the task's timers, even if the body is always ready with a part of an event.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        match &self.tail {
            Some(tail) => tail.is_over(),
            // If the end is not recorded, something may follow that `inner` does not know of.
            None => self.inner.is_end_stream() && self.end.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.guard.as_ref().is_some_and(|guard| guard.received().is_events) {
            return SizeHint::default();
        }
        self.inner.size_hint()
    }
}

/// How many frames one poll reads at most, if nothing of them can be passed on.
const MAX_FRAMES: u32 = 32;

/// An unwatched body, for middleware that makes responses of its own.
impl<B, E> Default for WatchedBody<B, E>
where
    B: Body + Default,
    B::Error: Into<BoxError>,
{
    fn default() -> Self {
        Self { inner: BoxErrors::new(B::default()), end: None, guard: None, timer: None, events: None, tail: None }
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
