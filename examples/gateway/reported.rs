//! A response body whose failure is logged: its client has the head already, and no status tells it.

use std::{
    fmt, iter,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::body::{Body, Frame, SizeHint};
use tower::BoxError;

use crate::log::WorkerLog;

/// Logs one line if the body ends with an error.
pub(crate) struct Reported<B, T> {
    body: B,
    /// What the line begins with.
    title: T,
    log: Arc<WorkerLog>,
}

impl<B, T> Reported<B, T> {
    pub(crate) fn new(body: B, title: T, log: Arc<WorkerLog>) -> Self {
        Self { body, title, log }
    }
}

impl<B, T> Body for Reported<B, T>
where
    B: Body<Error = BoxError> + Unpin,
    T: fmt::Display + Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Err(error))) = &polled {
            let causes = iter::successors(error.source(), |cause| cause.source());
            let causes: String = causes.map(|cause| format!(": {cause}")).collect();
            self.log.line(format_args!("{}: the response broke off: {error}{causes}", self.title));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
