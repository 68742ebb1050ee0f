use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::duty::Duty;
use crate::{
    attempt::{Timed, TimedOut},
    outcome::{Classify, FailureKind, Verdict},
};

pin_project! {
    /// The response to come of a call that was admitted, or the reason why it was not.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
        C: Classify<Req, S::Response>,
    {
        #[pin]
        state: State<S::Future, C, C::Call>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, C, K> {
        // For the service's response.
        Calling { #[pin] call: Timed<F>, part: Option<Part<C, K>> },
        // For nothing: it is said when it is polled.
        Rejected { error: Option<BoxError> },
    }
}

/// Our part in a call: to say what came of it, as the classifier sees it.
struct Part<C, K> {
    duty: Duty<C>,
    note: K,
}

impl<S, C, Req> ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    C: Classify<Req, S::Response>,
{
    /// Calls a service that is ready, as one who was admitted.
    #[inline]
    pub(super) fn begin(service: &mut S, request: Req, timeout: Option<Duration>, mut duty: Duty<C>) -> Self {
        duty.begin();
        let note = duty.post().classifier.request(&request);
        let call = duty.during(|| service.call(request));
        Self { state: State::Calling { call: Timed::new(call, timeout), part: Some(Part { duty, note }) } }
    }

    #[cold]
    pub(super) fn rejected(error: impl Into<BoxError>) -> Self {
        Self { state: State::Rejected { error: Some(error.into()) } }
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
        let (call, part) = match self.project().state.project() {
            StateProjection::Rejected { error } => return Poll::Ready(Err(error.take().expect(AGAIN))),
            StateProjection::Calling { call, part } => (call, part),
        };
        let result = ready!(part.as_mut().expect(AGAIN).duty.during(|| call.poll(cx)));
        let Part { mut duty, mut note } = part.take().expect("it was there a line ago");
        match result {
            Ok(Ok(response)) => {
                let classifier = duty.post().classifier.clone();
                let verdict = classifier.response(&mut note, &response);
                let mut report = duty.hand_on();
                if let Verdict::Now(outcome) = verdict {
                    report.outcome(&outcome);
                }
                Poll::Ready(Ok(classifier.watch(note, response, report)))
            }
            Ok(Err(error)) => {
                let error = error.into();
                let outcome = duty.post().classifier.error(note, &error);
                duty.fulfil(&outcome);
                Poll::Ready(Err(error))
            }
            Err(limit) => {
                duty.fulfil(&FailureKind::Timeout.into());
                Poll::Ready(Err(TimedOut::new(duty.post().core.name().clone(), limit).into()))
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
