//! The future of a breaker.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use crate::{attempt::Attempt, outcome::Classify};

pin_project! {
    /// The response future of [`CircuitBreaker`](super::CircuitBreaker) and
    /// [`KeyedCircuitBreaker`](super::KeyedCircuitBreaker).
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
        C,
        Req,
        F = <S as Service<Req>>::Future,
        N = <C as Classify<Req, <S as Service<Req>>::Response>>::Call,
    >
    where
        C: Send,
        C: Sync,
    {
        // `None` if the call was rejected.
        #[pin]
        attempt: Option<Attempt<F, N, (), C>>,
        rejected: Option<Box<BoxError>>,
        of: PhantomData<fn(S, Req)>,
    }
}

impl<S, C, Req> ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    C: Classify<Req, S::Response>,
{
    #[inline(always)]
    pub(super) fn admitted(attempt: Attempt<S::Future, C::Call, (), C>) -> Self {
        Self { attempt: Some(attempt), rejected: None, of: PhantomData }
    }

    #[cold]
    pub(super) fn rejected(error: impl Into<BoxError>) -> Self {
        Self { attempt: None, rejected: Some(Box::new(error.into())), of: PhantomData }
    }
}

impl<S, C, Req> Future for ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response>,
{
    type Output = Result<C::Watched, BoxError>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.attempt.as_pin_mut() {
            Some(attempt) => {
                attempt.poll_head(cx, false, None).map_ok(|(watched, _)| watched).map_err(|failed| failed.error)
            }
            None => Poll::Ready(Err(*this.rejected.take().expect("polled after completion"))),
        }
    }
}

impl<S, C, Req> fmt::Debug for ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    C: Classify<Req, S::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
