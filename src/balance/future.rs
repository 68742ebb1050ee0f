use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::Error;
use crate::{
    attempt::{Attempt, Seek},
    pick::Pick,
};

pin_project! {
    /// The response of one backend to come. Dropping it takes the request back from the backend.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, P, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, P, Req>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, P, Req>
    where
        S: Service<Req>,
    {
        // For a ready backend, with the request in hand.
        Seeking { seek: Seek<S, P>, request: Option<Req> },
        // For the backend's response.
        Calling { #[pin] attempt: Attempt<S::Future, S> },
    }
}

impl<S, P, Req> ResponseFuture<S, P, Req>
where
    S: Service<Req>,
{
    #[inline]
    pub(super) fn seeking(seek: Seek<S, P>, request: Req) -> Self {
        Self { state: State::Seeking { seek, request: Some(request) } }
    }

    #[inline]
    pub(super) fn calling(attempt: Attempt<S::Future, S>) -> Self {
        Self { state: State::Calling { attempt } }
    }
}

impl<S, P, Req> Future for ResponseFuture<S, P, Req>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    P: Pick,
{
    type Output = Result<S::Response, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let attempt = match state.as_mut().project() {
                StateProjection::Calling { attempt } => return attempt.poll(cx).map_err(Error::from),
                StateProjection::Seeking { seek, request } => {
                    let held = ready!(seek.poll(cx))?;
                    held.call(request.take().expect("polled after it was ready"))
                }
            };
            state.set(State::Calling { attempt });
        }
    }
}

impl<S, P, Req> fmt::Debug for ResponseFuture<S, P, Req>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
