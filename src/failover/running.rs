//! One running attempt, from the call until its response is final or has failed.

use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::{Commit, settings::Policy};
use crate::{
    attempt::{Attempt, TimeLimit, TimedOut},
    body::{Replay, RunningUpload, Upload},
    fleet::BackendService,
    name::BackendName,
    outcome::{Classify, FailureKind, Outcome},
    time::Moment,
};

/// The call of a service of type `S` with the requests of `H`.
type Call<S, H, C, Req> = Attempt<CallFuture<S, H, Req>, CallState<S, H, C, Req>, S, C>;

/// The future of a service of type `S` with the requests of `H`.
pub(super) type CallFuture<S, H, Req> = <S as Service<<H as Replay<Req>>::Request>>::Future;

/// The state of the classifier for such a call.
pub(super) type CallState<S, H, C, Req> =
    <C as Classify<<H as Replay<Req>>::Request, <S as Service<<H as Replay<Req>>::Request>>::Response>>::Call;

/// The response as the classifier makes it.
pub(super) type Watched<S, H, C, Req> =
    <C as Classify<<H as Replay<Req>>::Request, <S as Service<<H as Replay<Req>>::Request>>::Response>>::Watched;

/// The response while its beginning is read.
pub(super) type Peek<S, H, C, Req> = <H as Commit<Watched<S, H, C, Req>>>::Peek;

pin_project! {
    /// A running attempt. Dropping it cancels it.
    ///
    /// The parameters after `Req` are always their defaults, as in [`ResponseFuture`](super::ResponseFuture).
    pub(super) struct Running<
        S,
        H,
        C,
        Req,
        F = CallFuture<S, H, Req>,
        N = CallState<S, H, C, Req>,
        K = Peek<S, H, C, Req>,
    >
    where
        S: Send,
        S: Sync,
        C: Send,
        C: Sync,
    {
        // The index of its ledger entry.
        entry: usize,
        started: Moment,
        limit: Option<(Duration, TimeLimit)>,
        upload: Option<RunningUpload>,
        #[pin]
        stage: Stage<Attempt<F, N, S, C>, K>,
        of: PhantomData<fn(S, H, C, Req)>,
    }
}

pin_project! {
    // What an attempt waits for.
    #[project = StageProjection]
    enum Stage<A, K> {
        // The head of the response.
        Calling { #[pin] attempt: A },
        // The beginning of the body.
        Peeking { peek: Option<K> },
        // Nothing: the backend panicked when it was called.
        Panicked,
    }
}

/// The end of an attempt.
pub(super) struct AttemptEnd<K> {
    /// The index of its ledger entry.
    pub(super) entry: usize,
    pub(super) started: Moment,
    pub(super) end: End<K>,
}

pub(super) enum End<K> {
    /// The response is final.
    Final(K),
    /// The response is a failure, or its status fires a trigger. It may still be passed through.
    Response(K, Outcome),
    /// There is no response; and no error if the backend panicked.
    Error(Option<BoxError>, Outcome),
}

impl<S, H, C, Req> Running<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    pub(super) fn start(
        entry: usize,
        started: Moment,
        limit: Option<(Duration, TimeLimit)>,
        call: impl FnOnce() -> Call<S, H, C, Req>,
    ) -> Self {
        // A ready service is called without delay. The call itself may panic.
        let call = catch_unwind(AssertUnwindSafe(call));
        let stage = call.map_or(Stage::Panicked, |attempt| Stage::Calling { attempt });
        let upload = if let Stage::Calling { attempt } = &stage { attempt.upload().map(Upload::running) } else { None };
        Self { entry, started, limit, upload, stage, of: PhantomData }
    }

    /// The index of its ledger entry.
    pub(super) fn entry(&self) -> usize {
        self.entry
    }

    pub(super) fn started(&self) -> Moment {
        self.started
    }

    /// The upload of its request body.
    pub(super) fn upload(&self) -> Option<&Upload> {
        self.upload.as_deref()
    }

    /// When its time is up. `None` while it waits for the caller; then the task is woken when it does not any more.
    pub(super) fn deadline(&self, cx: &mut Context<'_>) -> Option<Moment> {
        let (time, _) = self.limit?;
        let waited = match &self.upload {
            Some(upload) => upload.poll_waited(cx)?,
            None => Duration::ZERO,
        };
        Some(self.started.after(time).after(waited))
    }

    /// Ready when the response is final or has failed. A panic of the backend is a failed attempt.
    #[inline]
    pub(super) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        policy: &Policy<H>,
    ) -> Poll<AttemptEnd<Peek<S, H, C, Req>>> {
        let (entry, started) = (self.entry, self.started);
        let end = match catch_unwind(AssertUnwindSafe(|| self.as_mut().step(cx, policy))) {
            Ok(end) => end,
            // If the backend's code panicked, the guard of the call records it.
            Err(_) => Poll::Ready(End::Error(None, FailureKind::Panic.into())),
        };
        end.map(|end| AttemptEnd { entry, started, end })
    }

    fn step(mut self: Pin<&mut Self>, cx: &mut Context<'_>, policy: &Policy<H>) -> Poll<End<Peek<S, H, C, Req>>> {
        let mut this = self.as_mut().project();
        loop {
            let peek = match this.stage.as_mut().project() {
                StageProjection::Panicked => return Poll::Ready(End::Error(None, FailureKind::Panic.into())),
                StageProjection::Calling { attempt } => {
                    match ready!(attempt.poll_head(cx, !policy.protocol.is_at_head())) {
                        Ok((watched, outcome)) => match inspect_head::<S, H, C, Req>(watched, outcome, policy) {
                            Ok(peek) => peek,
                            Err(end) => return Poll::Ready(end),
                        },
                        Err(failed) => return Poll::Ready(End::Error(Some(failed.error), failed.outcome)),
                    }
                }
                StageProjection::Peeking { peek } => {
                    const ONCE: &str = "an attempt ends once";
                    let outcome = ready!(policy.protocol.poll_commit(peek.as_mut().expect(ONCE), cx));
                    return Poll::Ready(record_commit::<S, H, C, Req>(peek.take().expect(ONCE), outcome, policy));
                }
            };
            this.stage.set(Stage::Peeking { peek: Some(peek) });
        }
    }

    /// Ends the attempt because its time is up.
    pub(super) fn time_out(
        mut self: Pin<&mut Self>,
        backend: BackendName,
        policy: &Policy<H>,
    ) -> AttemptEnd<Peek<S, H, C, Req>> {
        let (entry, started) = (self.entry, self.started);
        let (time, limit) = self.limit.unwrap_or((Duration::ZERO, TimeLimit::Request));
        if limit != TimeLimit::Request {
            self.as_mut().record(policy, &FailureKind::Timeout.into());
        }
        let error = TimedOut::new(backend, time, limit);
        AttemptEnd { entry, started, end: End::Error(Some(error.into()), FailureKind::Timeout.into()) }
    }

    /// Records the outcome of the call, unless an outcome was recorded already.
    fn record(self: Pin<&mut Self>, policy: &Policy<H>, outcome: &Outcome) {
        match self.project().stage.project() {
            StageProjection::Calling { attempt } => attempt.record(outcome),
            StageProjection::Peeking { peek: Some(peek) } => {
                if let Some(guard) = C::guard(policy.protocol.response(peek)) {
                    guard.outcome(outcome);
                }
            }
            StageProjection::Peeking { peek: None } | StageProjection::Panicked => {}
        }
    }
}

/// A response whose body has to be read before it is final, or the end of the attempt.
type Inspected<K> = Result<K, End<K>>;

/// Decides by the head of a response whether the attempt ends.
fn inspect_head<S, H, C, Req>(
    mut watched: Watched<S, H, C, Req>,
    outcome: Outcome,
    policy: &Policy<H>,
) -> Inspected<Peek<S, H, C, Req>>
where
    S: Service<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    let status = policy.protocol.status(&watched);
    if let Some(outcome) = policy.settings.on_status(outcome, status) {
        // To the classifier it is no failure, and is committed: only the failover's list of statuses makes it one.
        if let Some(guard) = C::guard(&mut watched) {
            guard.commit();
        }
        return Err(End::Response(policy.protocol.peek(watched), outcome));
    }
    let peek = policy.protocol.peek(watched);
    match outcome {
        Outcome::Failure(_) => Err(End::Response(peek, outcome)),
        _ if policy.protocol.is_at_head() => Err(End::Final(peek)),
        _ => Ok(peek),
    }
}

/// Records the outcome at the commit point, and ends the attempt.
fn record_commit<S, H, C, Req>(
    mut peek: Peek<S, H, C, Req>,
    outcome: Outcome,
    policy: &Policy<H>,
) -> End<Peek<S, H, C, Req>>
where
    S: Service<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    let mut outcome = outcome;
    if let Some(guard) = C::guard(policy.protocol.response(&mut peek)) {
        match guard.verdict().filter(Outcome::is_failure) {
            // The classifier watches the body too, and has recorded a failure of its own.
            Some(failure) => outcome = failure,
            None if outcome.is_failure() => guard.refuse(&outcome),
            None => guard.commit(),
        }
    }
    match outcome {
        Outcome::Failure(_) => End::Response(peek, outcome),
        _ => End::Final(peek),
    }
}
