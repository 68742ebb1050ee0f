use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::TimedOut;
use crate::{
    fleet::Shard,
    health::Ticket,
    name::BackendName,
    outcome::{CallGuard, Classify, FailureKind, Guard, Outcome, Verdict},
};

pin_project! {
    /// A call that runs, until the head of its response is there. Dropped before, it is cancelled.
    ///
    /// `N` is what the classifier remembers of the call. The attempt has no timer: the future that drives it has one for
    /// all it waits for, and says when the time is [up](Self::time_out).
    pub(crate) struct Attempt<F, N, S, C>
    where
        S: Send,
        S: Sync,
        C: Send,
        C: Sync,
    {
        #[pin]
        call: F,
        // Both are there until the call has ended.
        note: Option<N>,
        guard: Option<Guard<Shard<S, C>>>,
    }
}

/// A response with its verdict, before it is made what the caller gets.
pub(crate) struct Answered<R, N, S: Send + Sync, C: Send + Sync> {
    pub(crate) verdict: Verdict,
    response: R,
    note: N,
    guard: Guard<Shard<S, C>>,
}

const AGAIN: &str = "polled after it was ready";

/// Records the verdict on a head.
#[inline(always)]
fn judge<Req, R, N, S, C>(mut note: N, response: &R, guard: &mut Guard<Shard<S, C>>) -> N
where
    S: Send + Sync,
    C: Classify<Req, R, Call = N>,
{
    let verdict = guard.to().expect(AGAIN).classifier().response(&mut note, response);
    settle(guard, verdict);
    note
}

/// Records the verdict on a head, and makes what the caller gets.
fn watch<Req, R, N, S, C>(note: N, response: R, mut guard: Guard<Shard<S, C>>) -> C::Watched
where
    S: Send + Sync + 'static,
    C: Classify<Req, R, Call = N>,
{
    let note = judge::<Req, R, N, S, C>(note, &response, &mut guard);
    hand_over::<Req, R, N, S, C>(note, response, guard)
}

/// Makes what the caller gets, with the guard in it if the classifier keeps one.
#[inline(always)]
fn hand_over<Req, R, N, S, C>(note: N, response: R, guard: Guard<Shard<S, C>>) -> C::Watched
where
    S: Send + Sync + 'static,
    C: Classify<Req, R, Call = N>,
{
    let classifier = guard.to().expect(AGAIN).classifier();
    if C::WATCHES {
        return classifier.clone().watch(note, response, CallGuard::new(guard));
    }
    classifier.watch(note, response, CallGuard::empty())
}

/// Records the verdict on a head.
#[inline(always)]
fn settle<S: Send + Sync, C: Send + Sync>(guard: &mut Guard<Shard<S, C>>, verdict: Verdict) {
    match verdict {
        Verdict::Now(Outcome::Success) => guard.succeed(),
        Verdict::Now(outcome) => guard.outcome(&outcome),
        Verdict::AtEnd => guard.hand_on(),
    }
}

#[cold]
fn fail<Req, R, N, S, C>(note: N, error: BoxError, mut guard: Guard<Shard<S, C>>) -> Box<Failed>
where
    S: Send + Sync,
    C: Classify<Req, R, Call = N>,
{
    let shard = guard.to().expect(AGAIN);
    let (outcome, backend) = (shard.classifier().error(note, &error), shard.name.clone());
    guard.outcome(&outcome);
    Box::new(Failed { backend, error, outcome })
}

/// What a call came to, by its head.
pub(crate) type Head<R, N, S, C> = Result<Answered<R, N, S, C>, Box<Failed>>;

/// A call that failed without a response, as it was recorded.
pub(crate) struct Failed {
    pub(crate) backend: BackendName,
    pub(crate) error: BoxError,
    pub(crate) outcome: Outcome,
}

impl<F, N, S: Send + Sync, C: Send + Sync> Attempt<F, N, S, C> {
    /// Calls a ready instance, as admitted by the ticket.
    #[inline(always)]
    pub(crate) fn begin<V, Req>(shard: Arc<Shard<S, C>>, ticket: Ticket, service: &mut V, request: Req) -> Self
    where
        V: Service<Req, Future = F>,
        C: Classify<Req, V::Response, Call = N>,
    {
        let note = shard.classifier().request(&request);
        let mut guard = Guard::begin(shard, ticket);
        let call = guard.during(|| service.call(request));
        Self { call, note: Some(note), guard: Some(guard) }
    }

    /// Polls the call until the head of its response is there, or an error, which is recorded.
    #[inline(always)]
    pub(crate) fn poll_head<Req, R, E>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Head<R, N, S, C>>
    where
        F: Future<Output = Result<R, E>>,
        E: Into<BoxError>,
        C: Classify<Req, R, Call = N>,
    {
        let this = self.project();
        let result = ready!(this.guard.as_mut().expect(AGAIN).during(|| this.call.poll(cx)));
        let (mut note, guard) = (this.note.take().expect(AGAIN), this.guard.take().expect(AGAIN));
        Poll::Ready(match result {
            Ok(response) => {
                let verdict = guard.to().expect(AGAIN).classifier().response(&mut note, &response);
                Ok(Answered { verdict, response, note, guard })
            }
            Err(error) => Err(fail::<Req, R, N, S, C>(note, error.into(), guard)),
        })
    }

    /// Polls the call until the head of its response is there, records the verdict on it, and makes what the caller gets.
    #[inline(always)]
    pub(crate) fn poll_watched<Req, R, E>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<C::Watched, Box<Failed>>>
    where
        S: 'static,
        F: Future<Output = Result<R, E>>,
        E: Into<BoxError>,
        C: Classify<Req, R, Call = N>,
    {
        let this = self.project();
        let result = {
            let guard = this.guard.as_mut().expect(AGAIN);
            ready!(guard.during(|| this.call.poll(cx)))
        };
        let note = this.note.take().expect(AGAIN);
        Poll::Ready(match result {
            // In its place: a guard that rides no further is not moved.
            Ok(response) if !C::WATCHES => {
                let guard = this.guard.as_mut().expect(AGAIN);
                let note = judge::<Req, R, N, S, C>(note, &response, guard);
                let classifier = guard.to().expect(AGAIN).classifier();
                let watched = classifier.watch(note, response, CallGuard::empty());
                *this.guard = None;
                Ok(watched)
            }
            Ok(response) => Ok(watch::<Req, R, N, S, C>(note, response, this.guard.take().expect(AGAIN))),
            Err(error) => Err(fail::<Req, R, N, S, C>(note, error.into(), this.guard.take().expect(AGAIN))),
        })
    }

    /// How long the call may take, as set for its backend.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.guard.as_ref()?.to()?.info().timeout()
    }

    /// Records what came of a call whose response is not waited for any longer, and ends it.
    pub(crate) fn record(self: Pin<&mut Self>, outcome: &Outcome) {
        if let Some(mut guard) = self.project().guard.take() {
            guard.outcome(outcome);
        }
    }

    /// Records that the call took longer than its limit, and ends it.
    #[cold]
    pub(crate) fn time_out(self: Pin<&mut Self>, limit: Duration) -> TimedOut {
        let mut guard = self.project().guard.take().expect("a call that runs has its guard");
        guard.outcome(&FailureKind::Timeout.into());
        TimedOut::new(guard.to().expect("a guard of a call has its member").name.clone(), limit)
    }
}

impl<R, N, S, C> Answered<R, N, S, C>
where
    S: Send + Sync + 'static,
    C: Send + Sync + 'static,
{
    /// Makes what the caller gets, with the verdict on the head recorded.
    #[inline(always)]
    pub(crate) fn commit<Req>(self) -> C::Watched
    where
        C: Classify<Req, R, Call = N>,
    {
        let Self { verdict, response, note, mut guard } = self;
        settle(&mut guard, verdict);
        hand_over::<Req, R, N, S, C>(note, response, guard)
    }

    /// Makes what the caller will get, of a good head that is recorded with its commit: see [`Classify::guard`].
    pub(crate) fn hold<Req>(self) -> C::Watched
    where
        C: Classify<Req, R, Call = N>,
    {
        let Self { verdict, response, note, guard } = self;
        let classifier = guard.to().expect("a call that answered has its member").classifier().clone();
        let guard = match verdict {
            Verdict::AtEnd => CallGuard::new(guard),
            Verdict::Now(_) => CallGuard::uncommitted(guard),
        };
        let mut watched = classifier.watch(note, response, guard);
        if let Some(guard) = C::guard(&mut watched) {
            guard.ride();
        }
        watched
    }
}
