//! The future of a balancer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::Error;
use crate::{
    attempt::{AtLimit, Attempt, AttemptTimer, ReadySearch, Sends},
    fleet::BackendService,
    outcome::{Classify, TimeLimit},
    pick::Strategy,
};

pin_project! {
    /// The response future of [`Balance`](super::Balance).
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the call and releases the permit of a probe. A cancelled call is neutral for its circuit,
    /// unless it was already [slow](crate::CircuitPolicy::slow_calls).
    ///
    /// The parameters after `Req` are always their defaults.
    // Parameters, since rustc cannot prove in an `async` block that a future with such projections is `Send` if the
    // error of the bodies is a `BoxError`.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<
        S,
        P,
        C,
        Req,
        F = <S as Service<Req>>::Future,
        N = <C as Classify<Req, <S as Service<Req>>::Response>>::Call,
    >
    where
        S: Send,
        S: Sync,
        P: Strategy,
        C: Send,
        C: Sync,
    {
        #[pin]
        state: State<S, P, C, Req, F, N>,
        // The timeout of the backend, if it has one. Set when the call is first pending. Boxed, to keep the future
        // small.
        timer: Option<Pin<Box<AttemptTimer>>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, P, C, Req, F, N>
    where
        S: Send,
        S: Sync,
        P: Strategy,
        C: Send,
        C: Sync,
    {
        // Waits for a ready backend.
        Searching { search: Box<ReadySearch<S, C, P, ()>>, request: Option<Req> },
        // Waits for the response of the backend.
        Calling { #[pin] attempt: Attempt<F, N, S, C>, limit: Option<(Duration, TimeLimit)> },
    }
}

impl<S, P, C, Req, F, N> State<S, P, C, Req, F, N>
where
    S: Send + Sync,
    P: Strategy,
    C: Send + Sync,
{
    #[inline(always)]
    fn calling(attempt: Attempt<F, N, S, C>) -> Self {
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
    pub(super) fn searching(search: ReadySearch<S, C, P, ()>, request: Req) -> Self {
        Self { state: State::Searching { search: Box::new(search), request: Some(request) }, timer: None }
    }

    #[inline(always)]
    pub(super) fn calling(attempt: Attempt<S::Future, C::Call, S, C>) -> Self {
        Self { state: State::calling(attempt), timer: None }
    }
}

impl<S, P, C, Req> Future for ResponseFuture<S, P, C, Req>
where
    S: BackendService<Req>,
    P: Strategy,
    C: Classify<Req, S::Reply>,
{
    type Output = Result<C::Watched, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let attempt = match this.state.as_mut().project() {
                StateProjection::Calling { mut attempt, limit } => {
                    return match attempt.as_mut().poll_head(cx, false, None) {
                        Poll::Ready(Ok((watched, _))) => Poll::Ready(Ok(watched)),
                        Poll::Ready(Err(failed)) => Poll::Ready(Err(failed.into())),
                        Poll::Pending => {
                            if let Some(limit) = *limit {
                                let upload = attempt.upload();
                                let start = || Box::pin(AttemptTimer::start(limit.0, upload));
                                ready!(this.timer.get_or_insert_with(start).as_mut().poll(cx, upload));
                                return Poll::Ready(Err(attempt.time_out(limit).into()));
                            }
                            Poll::Pending
                        }
                    };
                }
                StateProjection::Searching { search, request } => {
                    let at_limit = AtLimit::in_call(search.local().core.slots.when_full, || {
                        request.as_ref().map(|request| search.local().classifier().class(request)).unwrap_or_default()
                    });
                    let found = ready!(search.poll::<Req>(cx, None, Sends::Once, Some(at_limit)));
                    let mut ready = found.map_err(Error::unready)?;
                    // If another request has acquired the slot or the permit, or the circuit has opened, searches again.
                    let Some(pass) = ready.admit(|| search.local().core.clock.now()) else {
                        search.keep_turn(ready.take_turn());
                        continue;
                    };
                    ready.call(pass, request.take().expect("polled after completion"))
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
