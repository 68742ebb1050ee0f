//! A body whose errors are boxed.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::BoxError;

pin_project! {
    /// A body with the frames of another, and its errors as [`BoxError`]s.
    ///
    /// How an error is boxed is stored where the body is made, since the impl of [`Body`] must not depend on
    /// `B::Error: Into<BoxError>`. In an `async` block, rustc has to prove that bound for an error of any lifetime, also
    /// if the error is a `BoxError`, and that fails. A future that collects the body would then not be `Send`.
    pub(crate) struct BoxErrors<B> {
        #[pin]
        body: B,
        convert: fn(&mut dyn TakeError<B>) -> BoxError,
    }
}

/// The error of a body, once. Names the body and not its error, so that a pointer to a function of it does not either.
trait TakeError<B> {
    fn take(&mut self) -> B::Error
    where
        B: Body;
}

struct ErrorOf<B: Body>(Option<B::Error>);

impl<B: Body> TakeError<B> for ErrorOf<B> {
    fn take(&mut self) -> B::Error {
        self.0.take().expect("an error is boxed once")
    }
}

impl<B: Body> BoxErrors<B> {
    pub(crate) fn new(body: B) -> Self
    where
        B::Error: Into<BoxError>,
    {
        Self { body, convert: |error| error.take().into() }
    }
}

impl<B> BoxErrors<B> {
    pub(crate) fn inner(&self) -> &B {
        &self.body
    }
}

impl<B: Body> Body for BoxErrors<B> {
    type Data = B::Data;
    type Error = BoxError;

    #[inline]
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        let convert = *this.convert;
        this.body.poll_frame(cx).map_err(|error| convert(&mut ErrorOf::<B>(Some(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
