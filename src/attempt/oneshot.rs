//! The future of one request through a door that is made ready first.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// The future of a door's own `oneshot`: waits until the door is ready, then calls it.
    ///
    /// `F` is the door's future. Because it is a parameter, an `async` block with this future is `Send` also if an error
    /// of the backends or of their bodies is a `BoxError`. With [`tower::util::Oneshot`] it is not.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels the request.
    #[must_use = "futures do nothing unless polled"]
    pub struct Oneshot<D, Req, F> {
        #[pin]
        state: State<D, Req, F>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<D, Req, F> {
        // For the door to be ready.
        Waiting { door: D, request: Option<Req> },
        // For the response.
        Calling { #[pin] future: F },
    }
}

impl<D, Req, F> Oneshot<D, Req, F> {
    pub(crate) fn new(door: D, request: Req) -> Self {
        Self { state: State::Waiting { door, request: Some(request) } }
    }
}

impl<D, Req, F> Future for Oneshot<D, Req, F>
where
    D: Service<Req, Future = F>,
    F: Future<Output = Result<D::Response, D::Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let future = match this.state.as_mut().project() {
                StateProjection::Calling { future } => return future.poll(cx),
                StateProjection::Waiting { door, request } => {
                    ready!(door.poll_ready(cx))?;
                    door.call(request.take().expect("polled after completion"))
                }
            };
            this.state.set(State::Calling { future });
        }
    }
}

impl<D, Req, F> fmt::Debug for Oneshot<D, Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oneshot").finish_non_exhaustive()
    }
}
