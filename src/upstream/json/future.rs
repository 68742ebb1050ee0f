//! The response future of an edited request.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::{EditedBody, asked::Asked, reading::Reading};
use crate::{body::PutBack, outcome::Note};

pin_project! {
    /// The future of a [`JsonEdit`](super::JsonEdit). On drop, it releases the body, the service and the call that it holds.
    pub struct ResponseFuture<F, S, B> {
        #[pin]
        state: State<F, S, B>,
    }
}

pin_project! {
    // What the future waits for.
    #[project = StateProjection]
    enum State<F, S, B> {
        // The caller's body. Boxed: most requests to most backends are not read.
        Reading { reading: Option<Box<Reading<S, B>>> },
        // The response of the backend.
        Calling { #[pin] call: F, note: Option<Note>, asked: Option<Box<Asked>> },
        // Nothing: the request is not sent.
        Failed { error: Option<BoxError> },
    }
}

const COMPLETED: &str = "polled after completion";

impl<F, S, B> ResponseFuture<F, S, B> {
    pub(super) fn reading(reading: Box<Reading<S, B>>) -> Self {
        Self { state: State::Reading { reading: Some(reading) } }
    }

    pub(super) fn calling(call: F, note: Option<Note>) -> Self {
        Self { state: State::Calling { call, note, asked: None } }
    }

    pub(super) fn failed(error: BoxError) -> Self {
        Self { state: State::Failed { error: Some(error) } }
    }
}

impl<F, S, B, R> Future for ResponseFuture<F, S, B>
where
    S: Service<Request<B>, Response = Response<R>, Future = F>,
    S::Error: Into<BoxError>,
    F: Future<Output = Result<Response<R>, S::Error>>,
    B: PutBack,
    B::Error: Into<BoxError>,
    R: Body,
{
    type Output = Result<Response<EditedBody<R>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Reading { reading } => {
                    let kept = ready!(reading.as_mut().expect(COMPLETED).poll(cx))?;
                    let mut edited = reading.take().expect(COMPLETED).finish(kept)?;
                    let call = edited.service.call(edited.request);
                    State::Calling { call, note: edited.note, asked: edited.asked.map(Box::new) }
                }
                StateProjection::Calling { call, note, asked } => {
                    let mut response = ready!(call.poll(cx)).map_err(Into::into)?;
                    if let Some(note) = note.take() {
                        response.extensions_mut().insert(note);
                    }
                    return Poll::Ready(Ok(EditedBody::of(response, asked.take())));
                }
                StateProjection::Failed { error } => return Poll::Ready(Err(error.take().expect(COMPLETED))),
            };
            state.set(next);
        }
    }
}

impl<F, S, B> fmt::Debug for ResponseFuture<F, S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
