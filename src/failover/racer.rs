use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::BoxError;
use tower_service::Service;

use super::{Accept, layer::Run};
use crate::{
    body::Replay,
    fleet::Member,
    outcome::{FailureKind, Outcome},
};

pin_project! {
    /// One attempt, from the call to the moment its response is the answer or is not.
    pub(super) struct Racer<S, H, Req>
    where
        S: Service<H::Request>,
        H: Replay<Req>,
        H: Accept<S::Response>,
    {
        // Its line in the ledger.
        line: usize,
        member: Arc<Member<S>>,
        run: Arc<Run<S, H>>,
        began: Instant,
        limit: Option<Duration>,
        // Set once the call was pending.
        #[pin]
        timer: Option<Sleep>,
        #[pin]
        stage: Stage<S::Future, H::Opening>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<F, O> {
        // For the head of its response.
        Calling { #[pin] call: F },
        // For the beginning of its body.
        Opening { opening: Option<O> },
        // For nothing: the backend panicked when it was called.
        Panicked,
    }
}

/// A backend that was chosen for an attempt, and the ready instance that is called.
pub(super) struct Entrant<S> {
    pub(super) member: Arc<Member<S>>,
    pub(super) service: S,
    /// How long it has, from now on.
    pub(super) limit: Option<Duration>,
}

/// What an attempt came to.
pub(super) struct Finish<O> {
    pub(super) line: usize,
    pub(super) took: Duration,
    pub(super) end: End<O>,
}

/// Where an attempt was when it was given up.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Stalled {
    BeforeHead,
    /// Its circuit has seen a head, and nothing else.
    InBody,
}

pub(super) enum End<O> {
    /// A good beginning.
    Answer(O),
    /// A response that says it failed; the last of these may still be all there is.
    Response(O, Outcome),
    /// No response.
    Error(Option<BoxError>, Outcome),
    /// It took longer than this limit.
    Timeout(Duration, Stalled),
}

impl<S, H, Req> Racer<S, H, Req>
where
    S: Service<H::Request>,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Accept<S::Response>,
{
    pub(super) fn new(run: &Arc<Run<S, H>>, line: usize, entrant: Entrant<S>, request: H::Request) -> Self {
        let Entrant { member, mut service, limit } = entrant;
        let began = Instant::now();
        // Called at once, as a ready service is, and it may panic at once.
        let call = catch_unwind(AssertUnwindSafe(|| service.call(request)));
        let stage = call.map_or(Stage::Panicked, |call| Stage::Calling { call });
        Self { line, member, run: Arc::clone(run), began, limit, timer: None, stage }
    }

    /// Its line in the ledger.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Where it would be given up now.
    pub(super) fn place(&self) -> Stalled {
        if matches!(self.stage, Stage::Opening { .. }) { Stalled::InBody } else { Stalled::BeforeHead }
    }

    pub(super) fn member(&self) -> &Member<S> {
        &self.member
    }

    /// How long it has taken so far.
    pub(super) fn took(&self) -> Duration {
        self.began.elapsed()
    }

    fn step(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End<H::Opening>> {
        let mut this = self.as_mut().project();
        loop {
            let next = match this.stage.as_mut().project() {
                StageProjection::Panicked => return Poll::Ready(End::Error(None, FailureKind::Panic.into())),
                StageProjection::Calling { call } => match call.poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Err(error)) => {
                        let error = error.into();
                        let outcome = this.run.terms.error(&error);
                        return Poll::Ready(End::Error(Some(error), outcome));
                    }
                    Poll::Ready(Ok(response)) => {
                        let outcome = this.run.terms.head(&response);
                        let opening = this.run.terms.open(response);
                        if outcome.is_failure() {
                            return Poll::Ready(End::Response(opening, outcome));
                        }
                        Stage::Opening { opening: Some(opening) }
                    }
                },
                StageProjection::Opening { opening } => {
                    let looked_at = opening.as_mut().expect("a racer answers once");
                    let Poll::Ready(outcome) = this.run.terms.poll_open(looked_at, cx) else { break };
                    let opening = opening.take().expect("it was there a line ago");
                    return Poll::Ready(match outcome.failure() {
                        None => End::Answer(opening),
                        Some(_) => End::Response(opening, outcome),
                    });
                }
            };
            this.stage.set(next);
        }
        let Some(limit) = *this.limit else { return Poll::Pending };
        if this.timer.is_none() {
            this.timer.set(Some(tokio::time::sleep(limit)));
        }
        if let Some(timer) = this.timer.as_mut().as_pin_mut() {
            ready!(timer.poll(cx));
        }
        Poll::Ready(End::Timeout(limit, self.place()))
    }
}

impl<S, H, Req> Future for Racer<S, H, Req>
where
    S: Service<H::Request>,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Accept<S::Response>,
{
    /// How it ended, and at whose place.
    type Output = (Finish<H::Opening>, Arc<Member<S>>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A backend that panics is one failed attempt; nothing of the racer is looked at afterwards.
        let end = match catch_unwind(AssertUnwindSafe(|| self.as_mut().step(cx))) {
            Ok(end) => ready!(end),
            Err(_) => End::Error(None, FailureKind::Panic.into()),
        };
        let finish = Finish { line: self.line, took: self.took(), end };
        Poll::Ready((finish, Arc::clone(&self.member)))
    }
}
