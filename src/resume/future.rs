//! The response future of the resume layer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{RequestBody, ResponseBody, Resume, kept::Kept, resumption::Resumption};

pin_project! {
    /// The response future of a [`Resuming`](super::Resuming).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the future of the inner service, and what is kept of the request.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, S, R, B> {
        #[pin]
        future: F,
        // `None` if the response is not resumed.
        kept: Option<Kept<S, R, B>>,
    }
}

impl<F, S, R, B> ResponseFuture<F, S, R, B> {
    pub(super) const fn new(future: F, kept: Option<Kept<S, R, B>>) -> Self {
        Self { future, kept }
    }
}

impl<F, S, R, B, D, E> Future for ResponseFuture<F, S, R, B>
where
    F: Future<Output = Result<Response<D>, E>>,
    S: Service<Request<RequestBody<B>>, Response = Response<D>, Error = E, Future = F> + Clone + Send + 'static,
    F: Send + 'static,
    E: Send + 'static,
    R: Resume,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    D: Body + Send + 'static,
    D::Error: Send,
{
    type Output = Result<Response<ResponseBody<D>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (head, body) = ready!(this.future.poll(cx))?.into_parts();
        let follow = |kept: Kept<S, R, B>| {
            let followed = kept.resume.follow(&kept.head, &head)?;
            Some(Resumption::new(kept, followed, &head))
        };
        let body = match this.kept.take().and_then(follow) {
            Some(resumption) => ResponseBody::followed(body, resumption, &head),
            None => ResponseBody::untouched(body),
        };
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

impl<F, S, R, B> fmt::Debug for ResponseFuture<F, S, R, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
