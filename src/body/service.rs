//! The service of the replay layer.

use std::task::{Context, Poll};

use http::Request;
use http_body::Body;
use tower::BoxError;
use tower_layer::Layer;
use tower_service::Service;

use super::{Replay, ReplayBody, ReplayLayer};

/// Calls the inner service with requests whose bodies can be replayed. Made by a [`ReplayLayer`].
#[derive(Debug, Clone)]
pub struct ReplayService<S> {
    inner: S,
    layer: ReplayLayer,
}

impl<S> ReplayService<S> {
    /// Wraps `inner`, with the bounds of `layer`.
    pub const fn new(inner: S, layer: ReplayLayer) -> Self {
        Self { inner, layer }
    }
}

impl<S, B> Service<Request<B>> for ReplayService<S>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
    B::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let kept = self.layer.keep(request);
        self.inner.call(Replay::<Request<B>>::last(&self.layer, kept))
    }
}

impl<S> Layer<S> for ReplayLayer {
    type Service = ReplayService<S>;

    fn layer(&self, inner: S) -> ReplayService<S> {
        ReplayService::new(inner, self.clone())
    }
}
