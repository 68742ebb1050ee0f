//! One running attempt, from the call until its response is final or has failed.

use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;

use super::{
    Commit,
    end::{AttemptEnd, CallFuture, CallState, End, Peek, inspect_head, record_commit},
    measure::Pace,
    settings::Policy,
};
use crate::{
    attempt::Attempt,
    body::{Replay, RunningUpload, Upload},
    fleet::{BackendService, MemberInfo, Shard},
    name::BackendName,
    outcome::{Classify, FailureKind, Outcome, TimeLimit, TimedOut},
    time::Moment,
};

/// The call of a service of type `S` with the requests of `H`.
type Call<S, H, C, Req> = Attempt<CallFuture<S, H, Req>, CallState<S, H, C, Req>, S, C>;

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
        entry: u32,
        // When it is late, if it is measured.
        pace: Pace,
        // Its backend, if it is measured, until it has ended.
        measured: Option<Arc<Shard<S, C>>>,
        started: Moment,
        limit: Option<(Duration, TimeLimit)>,
        // The limit on the time until the head, if it ends before that.
        until_head: Option<(Duration, TimeLimit)>,
        upload: Option<RunningUpload>,
        #[pin]
        stage: Stage<Attempt<F, N, S, C>, K>,
        of: PhantomData<fn(S, H, C, Req)>,
    }

    impl<S, H, C, Req, F, N, K> PinnedDrop for Running<S, H, C, Req, F, N, K>
    where
        S: Send,
        S: Sync,
        C: Send,
        C: Sync,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(backend) = this.measured.take() {
                let (took, now) = took(backend.info(), *this.started, this.upload.as_deref());
                this.pace.cancelled(backend.info(), took, now);
            }
        }
    }
}

pin_project! {
    // What an attempt waits for.
    #[project = StageProjection]
    enum Stage<A, K> {
        // The head of the response.
        Calling { #[pin] attempt: A },
        // The beginning of the body.
        Peeking { peek: Option<K>, head: Outcome },
        // Nothing: the backend panicked when it was called.
        Panicked,
    }
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
        until_head: Option<(Duration, TimeLimit)>,
        measured: Option<(Arc<Shard<S, C>>, Pace)>,
        call: impl FnOnce() -> Call<S, H, C, Req>,
    ) -> Self {
        // A ready service is called without delay. The call itself may panic.
        let call = catch_unwind(AssertUnwindSafe(call));
        let stage = call.map_or(Stage::Panicked, |attempt| Stage::Calling { attempt });
        let upload = if let Stage::Calling { attempt } = &stage { attempt.upload().map(Upload::running) } else { None };
        let (measured, pace) =
            measured.map_or((None, Pace::new(Duration::ZERO)), |(backend, pace)| (Some(backend), pace));
        // A request has far fewer attempts than that.
        let entry = u32::try_from(entry).unwrap_or(u32::MAX);
        Self { entry, pace, measured, started, limit, until_head, upload, stage, of: PhantomData }
    }

    /// The index of its ledger entry.
    pub(super) fn entry(&self) -> usize {
        self.entry as usize
    }

    pub(super) fn started(&self) -> Moment {
        self.started
    }

    /// The upload of its request body.
    pub(super) fn upload(&self) -> Option<&Upload> {
        self.upload.as_deref()
    }

    /// When its time is up. `None` while it waits for the caller; then the task is woken when it does not any more.
    pub(super) fn deadline(&self, cx: &mut Context<'_>, policy: &Policy<H>) -> Option<Moment> {
        let (time, _) = self.limit_now(policy)?;
        let waited = match &self.upload {
            Some(upload) => upload.poll_waited(cx)?,
            None => Duration::ZERO,
        };
        Some(self.started.after(time).after(waited))
    }

    /// The limit that ends first at this stage. `None` in place of the limit's name: how long the response is held.
    fn limit_now(&self, policy: &Policy<H>) -> Option<(Duration, Option<TimeLimit>)> {
        let named = |(time, limit)| (time, Some(limit));
        let stage = match &self.stage {
            Stage::Calling { .. } => self.until_head.map(named),
            Stage::Peeking { .. } => policy.protocol.held_for().map(|time| (time, None)),
            Stage::Panicked => None,
        };
        self.limit.map(named).into_iter().chain(stage).min_by_key(|(time, _)| *time)
    }

    /// Ready when the response is final or has failed. A panic of the backend is a failed attempt.
    #[inline]
    pub(super) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        policy: &Policy<H>,
    ) -> Poll<AttemptEnd<Peek<S, H, C, Req>>> {
        let (entry, started) = (self.entry(), self.started);
        let end = match catch_unwind(AssertUnwindSafe(|| self.as_mut().step(cx, policy))) {
            Ok(end) => end,
            // If the backend's code panicked, the guard of the call records it.
            Err(_) => Poll::Ready(End::Error(None, FailureKind::Panic.into())),
        };
        if let Poll::Ready(end) = &end {
            self.measured(end);
        }
        end.map(|end| AttemptEnd { entry, started, end })
    }

    /// Records how long the response took. A failure takes no time that counts.
    #[inline]
    fn measured(self: Pin<&mut Self>, end: &End<Peek<S, H, C, Req>>) {
        let this = self.project();
        if let Some(backend) = this.measured.take()
            && let End::Final(_) = end
        {
            let (took, now) = took(backend.info(), *this.started, this.upload.as_deref());
            this.pace.responded(backend.info(), took, now);
        }
    }

    /// Notes that the hedge of the attempt is due. Returns its backend, if it is measured.
    pub(super) fn is_due(self: Pin<&mut Self>, now: Moment) -> Option<&MemberInfo> {
        let this = self.project();
        let backend = this.measured.as_ref()?.info();
        let (took, _) = took(backend, *this.started, this.upload.as_deref());
        this.pace.running(backend, took, now);
        Some(backend)
    }

    fn step(mut self: Pin<&mut Self>, cx: &mut Context<'_>, policy: &Policy<H>) -> Poll<End<Peek<S, H, C, Req>>> {
        let mut this = self.as_mut().project();
        let limits = policy.settings.time_limits;
        let door = (!limits.is_none()).then_some((limits, *this.started));
        loop {
            let (peek, head) = match this.stage.as_mut().project() {
                StageProjection::Panicked => return Poll::Ready(End::Error(None, FailureKind::Panic.into())),
                StageProjection::Calling { attempt } => {
                    match ready!(attempt.poll_head(cx, !policy.protocol.is_at_head(), door)) {
                        Ok((watched, outcome)) => match inspect_head::<S, H, C, Req>(watched, outcome, policy) {
                            Ok(peeked) => peeked,
                            Err(end) => return Poll::Ready(end),
                        },
                        Err(failed) => return Poll::Ready(End::Error(Some(failed.error), failed.outcome)),
                    }
                }
                StageProjection::Peeking { peek, head } => {
                    const ONCE: &str = "an attempt ends once";
                    let outcome = ready!(policy.protocol.poll_commit(peek.as_mut().expect(ONCE), cx, C::guard));
                    return Poll::Ready(record_commit::<S, H, C, Req>(
                        peek.take().expect(ONCE),
                        *head,
                        outcome,
                        policy,
                    ));
                }
            };
            this.stage.set(Stage::Peeking { peek: Some(peek), head });
        }
    }

    /// Ends the attempt because its time is up.
    pub(super) fn time_out(
        mut self: Pin<&mut Self>,
        backend: BackendName,
        policy: &Policy<H>,
    ) -> AttemptEnd<Peek<S, H, C, Req>> {
        let (entry, started) = (self.entry(), self.started);
        let (time, limit) = self.limit_now(policy).unwrap_or((Duration::ZERO, Some(TimeLimit::Request)));
        let Some(limit) = limit else {
            let end = self.as_mut().overdue(policy);
            self.measured(&end);
            return AttemptEnd { entry, started, end };
        };
        if limit != TimeLimit::Request {
            self.as_mut().record(policy, &FailureKind::Timeout.into());
        }
        let error = TimedOut::new(backend, time, limit);
        AttemptEnd { entry, started, end: End::Error(Some(error.into()), FailureKind::Timeout.into()) }
    }

    /// Ends the attempt because its response is not held any longer.
    fn overdue(self: Pin<&mut Self>, policy: &Policy<H>) -> End<Peek<S, H, C, Req>> {
        match self.project().stage.project() {
            StageProjection::Peeking { peek, head } => {
                let peek = peek.take().expect("an attempt ends once");
                let outcome = policy.protocol.overdue(&peek);
                record_commit::<S, H, C, Req>(peek, *head, outcome, policy)
            }
            StageProjection::Calling { .. } | StageProjection::Panicked => End::Error(None, Outcome::Neutral),
        }
    }

    /// Records the outcome of the call, unless an outcome was recorded already.
    fn record(self: Pin<&mut Self>, policy: &Policy<H>, outcome: &Outcome) {
        match self.project().stage.project() {
            StageProjection::Calling { attempt } => attempt.record(outcome),
            StageProjection::Peeking { peek: Some(peek), .. } => {
                if let Some(guard) = C::guard(policy.protocol.response(peek)) {
                    guard.outcome(outcome);
                }
            }
            StageProjection::Peeking { peek: None, .. } | StageProjection::Panicked => {}
        }
    }
}

/// How long an attempt has taken until now. What it has waited for the caller is not the time of the backend.
fn took(backend: &MemberInfo, started: Moment, upload: Option<&Upload>) -> (Duration, Moment) {
    let now = backend.clock.now();
    (now.since(started).saturating_sub(upload.map(Upload::waited).unwrap_or_default()), now)
}
