//! The response body of the resume layer.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH, response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;

use super::resumption::Source;
use crate::{
    body::{Pause, into_bytes},
    failover::Ledger,
    outcome::Interrupted,
};

pin_project! {
    /// A response body that goes on at another backend when it breaks off. `D` is the body of the inner service.
    ///
    /// It fails with the error of the inner body, if it cannot be resumed. Trailers are those of the last part.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner body, and the request that goes on.
    pub struct ResponseBody<D>
    where
        D: Body,
    {
        // `None` while the rest is awaited, and after the end.
        #[pin]
        inner: Option<D>,
        // `None` for a body that is not resumed. Locked so that the body is `Sync`; only `ledger` ever takes the lock.
        source: Option<Mutex<Box<dyn Source<D> + Send>>>,
        // The trailers behind the last data.
        trailers: Option<HeaderMap>,
        // How many bytes are missing to the announced length, if the body is followed.
        remaining: Option<u64>,
        state: State,
        // The error that follows an error event.
        last: Option<Last<D::Error>>,
        // A pointer, since the impl of `Body` must not depend on a bound of the error: see `BoxErrors`.
        event_of: fn(&D::Error) -> Option<Bytes>,
    }
}

/// The error that follows an error event.
struct Last<E> {
    error: Option<E>,
    pause: Pause,
}

/// What the inner body is at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// It is passed on.
    Passing,
    /// It broke off, and the rest is awaited.
    Resuming,
    /// It has ended.
    Whole,
    /// It has failed.
    Failed,
}

impl<D: Body> ResponseBody<D> {
    pub(super) fn untouched(inner: D) -> Self
    where
        D::Error: 'static,
    {
        let (state, event_of) = (State::Passing, |error: &D::Error| error_event(error));
        Self { inner: Some(inner), source: None, trailers: None, remaining: None, state, last: None, event_of }
    }

    pub(super) fn followed(inner: D, source: impl Source<D> + 'static, head: &response::Parts) -> Self
    where
        D::Error: 'static,
    {
        let announced = head.headers.contains_key(CONTENT_LENGTH).then(|| inner.size_hint().exact()).flatten();
        let source: Box<dyn Source<D> + Send> = Box::new(source);
        Self { source: Some(Mutex::new(source)), remaining: announced, ..Self::untouched(inner) }
    }

    /// Returns the record of all attempts so far, of the resumptions too. `None` if the body is not followed, or if the
    /// inner service is no [`Failover`](crate::Failover).
    ///
    /// The [`Ledger`] in the extensions of the response ends with the head of that response. Read this one at the end of
    /// the body, for a line in a log.
    pub fn ledger(&self) -> Option<Ledger> {
        let source = self.source.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        source.ledger().cloned()
    }
}

/// How many frames one poll handles at most.
const MAX_FRAMES: u32 = 32;

impl<D: Body> Body for ResponseBody<D> {
    type Data = Bytes;
    type Error = D::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, D::Error>>> {
        if let Some(last) = self.as_mut().project().last {
            if last.error.is_some() {
                ready!(last.pause.poll(cx));
            }
            return Poll::Ready(last.error.take().map(Err));
        }
        let frame = ready!(self.as_mut().poll_inner(cx));
        if let Some(Err(error)) = &frame
            && let Some(event) = (self.event_of)(error)
        {
            let error = frame.and_then(Result::err);
            *self.project().last = Some(Last { error, pause: Pause::default() });
            return Poll::Ready(Some(Ok(Frame::data(event))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match (&self.last, &self.inner, &self.source) {
            (Some(last), ..) => last.error.is_none(),
            (None, Some(inner), None) => inner.is_end_stream(),
            // Even if the body is at its end, something may be held back.
            _ => self.state == State::Whole && self.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, &self.source, self.remaining) {
            (Some(inner), None, _) => inner.size_hint(),
            // Of the whole: the rest of another body counts too.
            (_, _, Some(remaining)) if self.state != State::Failed => SizeHint::with_exact(remaining),
            _ => SizeHint::default(),
        }
    }
}

impl<D: Body> ResponseBody<D> {
    /// Polls for the next frame, or for the error that ends the body.
    fn poll_inner(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, D::Error>>> {
        let mut this = self.project();
        if let Some(trailers) = this.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        for _ in 0..MAX_FRAMES {
            let mut source =
                this.source.as_mut().map(|source| source.get_mut().unwrap_or_else(PoisonError::into_inner));
            if *this.state == State::Resuming
                && let Some(source) = source.as_deref_mut()
            {
                match ready!(source.poll_rest(cx)) {
                    Ok(rest) => {
                        this.inner.set(Some(rest));
                        *this.state = State::Passing;
                    }
                    Err(error) => {
                        *this.state = State::Failed;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
            let frame = ready!(inner.poll_frame(cx));
            let Some(source) = source else {
                // As it comes.
                return Poll::Ready(frame.map(|frame| frame.map(into_bytes)));
            };
            let passed = match frame {
                Some(Ok(frame)) => match into_bytes(frame).into_data() {
                    Ok(data) => source.pass(data),
                    Err(frame) => {
                        *this.state = State::Whole;
                        *this.trailers = frame.into_trailers().ok();
                        source.end()
                    }
                },
                None => {
                    *this.state = State::Whole;
                    source.end()
                }
                Some(Err(error)) => {
                    *this.state = State::Resuming;
                    source.broke_off(error).map(|()| Bytes::new())
                }
            };
            if *this.state != State::Passing || passed.is_err() {
                this.inner.set(None);
            }
            match passed {
                Ok(data) if !data.is_empty() => {
                    let length = data.len() as u64;
                    *this.remaining = this.remaining.map(|remaining| remaining.saturating_sub(length));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(_) if *this.state == State::Whole => {
                    return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Ok(_) => {}
                Err(error) => {
                    (*this.state, *this.trailers) = (State::Failed, None);
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        // Yields to other tasks, even if frames without data, or bodies that break off, come without a delay.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The error event that an error of the inner body brings along.
fn error_event<E: 'static>(error: &E) -> Option<Bytes> {
    let error: &dyn Any = error;
    Some(error.downcast_ref::<BoxError>()?.downcast_ref::<Interrupted>()?.event.clone())
}

impl<D: Body> fmt::Debug for ResponseBody<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("state", &self.state).finish_non_exhaustive()
    }
}
