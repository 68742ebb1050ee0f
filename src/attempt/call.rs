use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::{TimeLimit, TimedOut};
use crate::{
    fleet::Shard,
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

const AGAIN: &str = "polled after it was ready";

/// A call that failed without a response, as it was recorded.
pub(crate) struct Failed {
    pub(crate) backend: BackendName,
    pub(crate) error: BoxError,
    pub(crate) outcome: Outcome,
}

/// What the caller gets of a response, and what its head says.
type Head<W> = Result<(W, Outcome), Box<Failed>>;

impl<F, N, S: Send + Sync, C: Send + Sync> Attempt<F, N, S, C> {
    /// Calls a ready instance.
    #[inline(always)]
    pub(crate) fn begin<V, Req>(mut guard: Guard<Shard<S, C>>, service: &mut V, request: Req) -> Self
    where
        V: Service<Req, Future = F>,
        C: Classify<Req, V::Response, Call = N>,
    {
        let note = guard.to().expect(AGAIN).classifier().request(&request);
        let call = guard.during(|| service.call(request));
        Self { call, note: Some(note), guard: Some(guard) }
    }

    /// Polls the call until the head of its response is there, and makes what the caller gets of it; an error is
    /// recorded.
    ///
    /// The verdict on the head is recorded too, unless the commit is `late`: then a good head is recorded with the commit,
    /// where [the classifier](Classify::guard) keeps the guard in what it makes.
    #[inline(always)]
    pub(crate) fn poll_head<Req, R, E>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        is_late: bool,
    ) -> Poll<Head<C::Watched>>
    where
        S: 'static,
        F: Future<Output = Result<R, E>>,
        E: Into<BoxError>,
        C: Classify<Req, R, Call = N>,
    {
        let this = self.project();
        let guard = this.guard.as_mut().expect(AGAIN);
        let result = ready!(guard.during(|| this.call.poll(cx)));
        let mut note = this.note.take().expect(AGAIN);
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                let guard = this.guard.take().expect(AGAIN);
                return Poll::Ready(Err(fail::<Req, R, N, S, C>(note, error.into(), guard)));
            }
        };
        let verdict = guard.to().expect(AGAIN).classifier().response(&mut note, &response);
        let outcome = match verdict {
            Verdict::Now(outcome) => outcome,
            // What only the end of the stream can tell is too late for another attempt, unless the commit waits for it.
            Verdict::AtEnd => Outcome::Success,
        };
        let is_held = C::WATCHES && is_late && outcome.is_success();
        match verdict {
            _ if is_held => {}
            Verdict::Now(Outcome::Success) => guard.succeed(),
            Verdict::Now(outcome) => guard.outcome(&outcome),
            Verdict::AtEnd => guard.hand_on(),
        }
        if !C::WATCHES {
            // In its place: a guard that rides no further is not moved.
            let classifier = guard.to().expect(AGAIN).classifier();
            let watched = classifier.watch(note, response, CallGuard::empty());
            *this.guard = None;
            return Poll::Ready(Ok((watched, outcome)));
        }
        let guard = this.guard.take().expect(AGAIN);
        let classifier = guard.to().expect(AGAIN).classifier().clone();
        let guard = match is_held {
            true => CallGuard::uncommitted(guard, matches!(verdict, Verdict::AtEnd)),
            false => CallGuard::new(guard),
        };
        let mut watched = classifier.watch(note, response, guard);
        if is_held && let Some(guard) = C::guard(&mut watched) {
            guard.ride();
        }
        Poll::Ready(Ok((watched, outcome)))
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
        TimedOut::new(guard.to().expect("a guard of a call has its member").name.clone(), limit, TimeLimit::Backend)
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
