use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::BoxError;
use tower_service::Service;

use super::Error;
use crate::{
    attempt::{Attempt, Door},
    outcome::Classify,
    pick::Strategy,
};

pin_project! {
    /// The response of one backend. Dropping it cancels the request.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, P, C, Req>
    where
        S: Service<Req>,
        S: Send,
        S: Sync,
        P: Strategy,
        C: Classify<Req, S::Response>,
    {
        #[pin]
        state: State<S, P, C, Req>,
        // Of the attempt; set once the call was pending, if it has a limit. Boxed, since a future is moved more often.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, P, C, Req>
    where
        S: Service<Req>,
        S: Send,
        S: Sync,
        P: Strategy,
        C: Classify<Req, S::Response>,
    {
        // For a ready backend, with the request in hand.
        Searching { door: Box<Door<S, C, P, ()>>, request: Option<Req> },
        // For the backend's response.
        Calling { #[pin] attempt: Attempt<S::Future, C::Call, S, C>, limit: Option<Duration> },
    }
}

impl<S, P, C, Req> State<S, P, C, Req>
where
    S: Service<Req> + Send + Sync,
    P: Strategy,
    C: Classify<Req, S::Response>,
{
    #[inline(always)]
    fn calling(attempt: Attempt<S::Future, C::Call, S, C>) -> Self {
        let limit = attempt.limit();
        Self::Calling { attempt, limit }
    }
}

impl<S, P, C, Req> ResponseFuture<S, P, C, Req>
where
    S: Service<Req> + Send + Sync,
    P: Strategy,
    C: Classify<Req, S::Response>,
{
    #[cold]
    pub(super) fn searching(door: Door<S, C, P, ()>, request: Req) -> Self {
        Self { state: State::Searching { door: Box::new(door), request: Some(request) }, timer: None }
    }

    #[inline(always)]
    pub(super) fn calling(attempt: Attempt<S::Future, C::Call, S, C>) -> Self {
        Self { state: State::calling(attempt), timer: None }
    }
}

impl<S, P, C, Req> Future for ResponseFuture<S, P, C, Req>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    P: Strategy,
    C: Classify<Req, S::Response>,
{
    type Output = Result<C::Watched, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let attempt = match this.state.as_mut().project() {
                StateProjection::Calling { mut attempt, limit } => {
                    return match attempt.as_mut().poll_head(cx, false) {
                        Poll::Ready(Ok((watched, _))) => Poll::Ready(Ok(watched)),
                        Poll::Ready(Err(failed)) => Poll::Ready(Err(failed.into())),
                        Poll::Pending => {
                            if let Some(limit) = *limit {
                                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                                ready!(timer.as_mut().poll(cx));
                                return Poll::Ready(Err(attempt.time_out(limit).into()));
                            }
                            Poll::Pending
                        }
                    };
                }
                StateProjection::Searching { door, request } => {
                    let ready = ready!(door.search.poll::<Req>(cx)).map_err(Error::unready)?;
                    // Another request may have taken the permit, or the circuit opened: then another backend is.
                    let Some(ticket) = ready.admit(|| door.search.local().core.clock.now()) else { continue };
                    ready.call(ticket, request.take().expect("polled after it was ready"))
                }
            };
            this.state.set(State::calling(attempt));
        }
    }
}

impl<S, P, C, Req> fmt::Debug for ResponseFuture<S, P, C, Req>
where
    S: Service<Req> + Send + Sync,
    P: Strategy,
    C: Classify<Req, S::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
