use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::duty::{Admitted, Duty, Panic};
use crate::outcome::Classify;

pin_project! {
    /// The response to come of a call that was admitted, or the reason why it was not.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        // None when the call was rejected.
        #[pin]
        call: Option<S::Future>,
        duty: Duty<C>,
        // What the classifier remembers of the call, until it is over.
        note: Option<C::Call>,
        rejected: Option<Box<BoxError>>,
    }
}

impl<S, C, Req> ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    C: Classify<Req, S::Response>,
{
    /// Calls a service that is ready, as one who was admitted.
    #[inline]
    pub(super) fn begin(service: &mut S, request: Req, admitted: Admitted<C>) -> Self {
        let Admitted { post, ticket, timed } = admitted;
        let in_case = Panic { post: &post, ticket };
        let note = post.classifier.request(&request);
        let call = service.call(request);
        std::mem::forget(in_case);
        Self { call: Some(call), duty: Duty::new(post, ticket, timed), note: Some(note), rejected: None }
    }

    #[inline]
    pub(super) fn rejected(error: Box<BoxError>) -> Self {
        Self { call: None, duty: Duty::none(), note: None, rejected: Some(error) }
    }
}

impl<S, C, Req> Future for ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    C: Classify<Req, S::Response>,
{
    type Output = Result<C::Watched, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const AGAIN: &str = "polled after it was ready";
        let this = self.project();
        let (duty, note) = (this.duty, this.note);
        let Some(call) = this.call.as_pin_mut() else {
            return Poll::Ready(Err(*this.rejected.take().expect(AGAIN)));
        };
        let result = ready!(duty.during(|| call.poll(cx)));
        let mut note = note.take().expect(AGAIN);
        match result {
            Ok(response) => {
                let classifier = duty.classifier().clone();
                let verdict = classifier.response(&mut note, &response);
                Poll::Ready(Ok(classifier.watch(note, response, duty.hand_on(&verdict))))
            }
            Err(error) => {
                let error = error.into();
                let outcome = duty.classifier().error(note, &error);
                duty.fulfil(&outcome);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<S, C, Req> fmt::Debug for ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    C: Classify<Req, S::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
