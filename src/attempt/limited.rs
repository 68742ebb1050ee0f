use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::{Timed, TimedOut};
use crate::fleet::BackendName;

/// The service of a backend under its timeout, inside a breaker that is to see when it is not kept.
#[derive(Clone)]
pub struct Limited<S> {
    inner: S,
    // None without a timeout, which then costs nothing.
    limit: Option<Arc<Limit>>,
}

#[derive(Debug)]
struct Limit {
    name: BackendName,
    timeout: Duration,
}

impl<S> Limited<S> {
    pub(crate) fn new(inner: S, name: BackendName, timeout: Option<Duration>) -> Self {
        Self { inner, limit: timeout.map(|timeout| Arc::new(Limit { name, timeout })) }
    }
}

impl<S, Req> Service<Req> for Limited<S>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = LimitedFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, request: Req) -> LimitedFuture<S::Future> {
        let call = Timed::new(self.inner.call(request));
        LimitedFuture { call, limit: self.limit.clone() }
    }
}

impl<S> fmt::Debug for Limited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("limit", &self.limit).finish_non_exhaustive()
    }
}

pin_project! {
    /// The response of a [`Limited`] service, if it comes in time.
    #[must_use = "futures do nothing unless polled"]
    pub struct LimitedFuture<F> {
        #[pin]
        call: Timed<F>,
        limit: Option<Arc<Limit>>,
    }
}

impl<F, T, E> Future for LimitedFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let limit = this.limit.as_deref();
        this.call.poll(cx, limit.map(|limit| limit.timeout)).map(|output| match (output, limit) {
            (Some(result), _) => result.map_err(Into::into),
            (None, Some(Limit { name, timeout })) => Err(TimedOut::new(name.clone(), *timeout).into()),
            (None, None) => unreachable!("without a limit no time is up"),
        })
    }
}

impl<F> fmt::Debug for LimitedFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedFuture").finish_non_exhaustive()
    }
}
