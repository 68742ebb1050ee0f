//! A body that may not stand still for ever.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tower::BoxError;

/// Gives a body so long for each of its frames.
///
/// `tower_http`'s `TimeoutBody` does the same. It starts a timer for frames that are there already, which nearly all
/// are, looks at the clock before it looks at the body, so that a slow reader is told the body was slow, and cannot be
/// moved, as replayed bodies have to be.
pub(crate) struct Patience<B> {
    body: B,
    limit: Duration,
    /// While a frame is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Patience<B> {
    pub(crate) fn new(limit: Duration, body: B) -> Self {
        Self { body, limit, timer: None }
    }
}

impl<B> Body for Patience<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.limit)));
        timer.as_mut().poll(cx).map(|()| Some(Err(Stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body stood still for too long.
#[derive(Debug)]
pub(crate) struct Stalled;

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body stood still for too long")
    }
}

impl std::error::Error for Stalled {}
