//! One attempt of a failover, from the call to the moment its response is the answer or is not.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::{Commit, settings::Run};
use crate::{
    attempt::{Attempt, TimeLimit, TimedOut},
    body::Replay,
    name::BackendName,
    outcome::{Classify, FailureKind, Outcome},
    time::Moment,
};

/// The attempt at a service of type `S` with the requests of `H`.
type Call<S, H, C, Req> = Attempt<
    <S as Service<<H as Replay<Req>>::Request>>::Future,
    <C as Classify<<H as Replay<Req>>::Request, <S as Service<<H as Replay<Req>>::Request>>::Response>>::Call,
    S,
    C,
>;

/// The response as the classifier makes it.
pub(super) type Watched<S, H, C, Req> =
    <C as Classify<<H as Replay<Req>>::Request, <S as Service<<H as Replay<Req>>::Request>>::Response>>::Watched;

/// The response as its beginning is looked at.
pub(super) type Peek<S, H, C, Req> = <H as Commit<Watched<S, H, C, Req>>>::Peek;

pin_project! {
    /// One attempt that runs. Dropped, it is cancelled.
    pub(super) struct Running<S, H, C, Req>
    where
        S: Service<H::Request>,
        S: Send,
        S: Sync,
        H: Replay<Req>,
        H: Commit<C::Watched>,
        C: Classify<H::Request, S::Response>,
    {
        // Its line in the ledger.
        line: usize,
        began: Moment,
        limit: Option<(Duration, TimeLimit)>,
        #[pin]
        stage: Stage<Call<S, H, C, Req>, Peek<S, H, C, Req>>,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<A, K> {
        // For the head of its response.
        Calling { #[pin] attempt: A },
        // For the beginning of its body.
        Peeking { peek: Option<K> },
        // For nothing: the backend panicked when it was called.
        Panicked,
    }
}

/// What an attempt came to.
pub(super) struct Finish<K> {
    pub(super) line: usize,
    pub(super) began: Moment,
    pub(super) end: End<K>,
}

pub(super) enum End<K> {
    /// A good beginning.
    Answer(K),
    /// A response that failed, or whose status trips; the last of these may still be all there is.
    Response(K, Outcome),
    /// No response.
    Error(Option<BoxError>, Outcome),
}

impl<S, H, C, Req> Running<S, H, C, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    pub(super) fn begin(
        line: usize,
        began: Moment,
        limit: Option<(Duration, TimeLimit)>,
        call: impl FnOnce() -> Call<S, H, C, Req>,
    ) -> Self {
        // Called at once, as a ready service is, and it may panic at once.
        let call = catch_unwind(AssertUnwindSafe(call));
        let stage = call.map_or(Stage::Panicked, |attempt| Stage::Calling { attempt });
        Self { line, began, limit, stage }
    }

    /// Its line in the ledger.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    pub(super) fn began(&self) -> Moment {
        self.began
    }

    /// When it has to be over.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.limit.map(|(time, _)| self.began.after(time))
    }

    /// Ready when the response is the answer, or has turned out not to be. A backend that panics is one failed attempt.
    #[inline]
    pub(super) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        run: &Run<H>,
    ) -> Poll<Finish<Peek<S, H, C, Req>>> {
        let (line, began) = (self.line, self.began);
        let end = match catch_unwind(AssertUnwindSafe(|| self.as_mut().step(cx, run))) {
            Ok(end) => end,
            // Its guard knows whose code panicked.
            Err(_) => Poll::Ready(End::Error(None, FailureKind::Panic.into())),
        };
        end.map(|end| Finish { line, began, end })
    }

    fn step(mut self: Pin<&mut Self>, cx: &mut Context<'_>, run: &Run<H>) -> Poll<End<Peek<S, H, C, Req>>> {
        let mut this = self.as_mut().project();
        loop {
            let peek = match this.stage.as_mut().project() {
                StageProjection::Panicked => return Poll::Ready(End::Error(None, FailureKind::Panic.into())),
                StageProjection::Calling { attempt } => match ready!(attempt.poll_head(cx, !run.terms.is_at_head())) {
                    Ok((watched, outcome)) => match look::<S, H, C, Req>(watched, outcome, run) {
                        Ok(peek) => peek,
                        Err(end) => return Poll::Ready(end),
                    },
                    Err(failed) => return Poll::Ready(End::Error(Some(failed.error), failed.outcome)),
                },
                StageProjection::Peeking { peek } => {
                    const ONCE: &str = "an attempt answers once";
                    let outcome = ready!(run.terms.poll_commit(peek.as_mut().expect(ONCE), cx));
                    return Poll::Ready(committed::<S, H, C, Req>(peek.take().expect(ONCE), outcome, run));
                }
            };
            this.stage.set(Stage::Peeking { peek: Some(peek) });
        }
    }

    /// Ends it for good, when its time is up.
    pub(super) fn time_out(mut self: Pin<&mut Self>, backend: BackendName, run: &Run<H>) -> Finish<Peek<S, H, C, Req>> {
        let (line, began) = (self.line, self.began);
        let (time, limit) = self.limit.unwrap_or((Duration::ZERO, TimeLimit::Request));
        if limit != TimeLimit::Request {
            self.as_mut().record(run, &FailureKind::Timeout.into());
        }
        let error = TimedOut::new(backend, time, limit);
        Finish { line, began, end: End::Error(Some(error.into()), FailureKind::Timeout.into()) }
    }

    /// Records what came of the call, if nothing was recorded.
    fn record(self: Pin<&mut Self>, run: &Run<H>, outcome: &Outcome) {
        match self.project().stage.project() {
            StageProjection::Calling { attempt } => attempt.record(outcome),
            StageProjection::Peeking { peek: Some(peek) } => {
                if let Some(guard) = C::guard(run.terms.response(peek)) {
                    guard.outcome(outcome);
                }
            }
            StageProjection::Peeking { peek: None } | StageProjection::Panicked => {}
        }
    }
}

/// A response whose body is to be looked at, or an end.
type Looked<K> = Result<K, End<K>>;

/// What the head of a response decides: a look at its body, or an end.
fn look<S, H, C, Req>(mut watched: Watched<S, H, C, Req>, outcome: Outcome, run: &Run<H>) -> Looked<Peek<S, H, C, Req>>
where
    S: Service<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    let status = run.terms.status(&watched);
    if let Some(outcome) = run.settings.on_status(outcome, status) {
        // The status is all there is to know of it.
        if let Some(guard) = C::guard(&mut watched) {
            guard.commit();
        }
        return Err(End::Response(run.terms.peek(watched), outcome));
    }
    let peek = run.terms.peek(watched);
    match outcome {
        Outcome::Failure(_) => Err(End::Response(peek, outcome)),
        _ if run.terms.is_at_head() => Err(End::Answer(peek)),
        _ => Ok(peek),
    }
}

/// What the beginning of a body came to, as it is recorded.
fn committed<S, H, C, Req>(mut peek: Peek<S, H, C, Req>, outcome: Outcome, run: &Run<H>) -> End<Peek<S, H, C, Req>>
where
    S: Service<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    let mut outcome = outcome;
    if let Some(guard) = C::guard(run.terms.response(&mut peek)) {
        match guard.verdict().filter(Outcome::is_failure) {
            // What watches the body knows it better, and recorded it.
            Some(failure) => outcome = failure,
            None if outcome.is_failure() => guard.refuse(&outcome),
            None => guard.commit(),
        }
    }
    match outcome {
        Outcome::Failure(_) => End::Response(peek, outcome),
        _ => End::Answer(peek),
    }
}
