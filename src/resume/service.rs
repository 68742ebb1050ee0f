//! The service of the resume layer.

use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{Keep, RequestBody, ResponseBody, ResponseFuture, Resume, kept::Kept, settings::Settings};
use crate::{attempt::Oneshot, body::ReplayBody, outcome::PlainErrors};

/// Calls the inner service, and resumes the response bodies that break off. Made by a
/// [`ResumeLayer`](super::ResumeLayer).
#[derive(Clone, Debug)]
pub struct Resuming<S, R> {
    inner: S,
    resume: R,
    settings: Settings,
}

impl<S, R> Resuming<S, R> {
    pub(super) const fn new(inner: S, resume: R, settings: Settings) -> Self {
        Self { inner, resume, settings }
    }
}

impl<S, R> Resuming<S, R> {
    /// Keeps what is needed of a request. Returns the request that is sent.
    fn keep<B>(&self, request: Request<B>, keeps: &mut Option<Kept<S, R, B>>) -> Request<RequestBody<B>>
    where
        S: Clone,
        R: Resume,
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        let keep = self.resume.keeps(&head).filter(|_| self.settings.most > 0);
        let (kept, body) = match keep {
            Some(Keep::Head) if body.is_end_stream() => (Some(ReplayBody::default()), ReplayBody::default()),
            Some(Keep::Body) => {
                let body = ReplayBody::bounded(body, self.settings.limit, &self.settings.memory);
                (body.again().ok(), body)
            }
            _ => (None, ReplayBody::once(body)),
        };
        *keeps = kept.map(|body| Kept::new(self.inner.clone(), self.resume.clone(), &self.settings, &head, body));
        Request::from_parts(head, body)
    }
}

impl<S, R> Resuming<S, R> {
    /// Sends one request, as [`ServiceExt::oneshot`](tower::ServiceExt::oneshot) does, with a future that is `Send` over
    /// bodies with a `BoxError` too.
    ///
    /// # Errors
    ///
    /// Returns an error if the inner service does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the request.
    // The return type is named, and made of parameters, as for the doors.
    pub fn oneshot<B, F>(self, request: Request<B>) -> Oneshot<Self, Request<B>, ResponseFuture<F, S, R, B>>
    where
        S: Service<Request<RequestBody<B>>, Future = F>,
    {
        Oneshot::new(self, request)
    }
}

impl<S, R, B, D> Service<Request<B>> for Resuming<S, R>
where
    S: Service<Request<RequestBody<B>>, Response = Response<D>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Resume,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    D: Body + Send + 'static,
    D::Error: Send,
{
    type Response = Response<ResponseBody<D>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, S, R, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut kept = None;
        let mut request = self.keep(request, &mut kept);
        if kept.is_some() {
            request.extensions_mut().insert(PlainErrors);
        }
        ResponseFuture::new(self.inner.call(request), kept)
    }
}
