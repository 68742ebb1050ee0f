//! A call to a backend, up to the head of its response.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use crate::{
    body::Upload,
    fleet::{MemberInfo, Shard},
    name::BackendName,
    outcome::{
        BodyTimer, CallGuard, Classify, FailureKind, Guard, Outcome, TimeLimit, TimeLimits, TimedOut, Verdict,
        find_replay_error,
    },
    time::Moment,
};

pin_project! {
    /// A running call, until the head of its response. On drop, it is recorded as cancelled.
    ///
    /// `N` is the classifier's state of the call. The attempt has no timer: the future that polls it has one timer for
    /// all that it waits for, and calls [`time_out`](Self::time_out).
    pub(crate) struct Attempt<F, N, S, C>
    where
        S: Send,
        S: Sync,
        C: Send,
        C: Sync,
    {
        #[pin]
        call: F,
        // Both are `Some` until the call has ended.
        state: Option<N>,
        // When the call began, if its backend limits the parts of its responses.
        started: Option<Moment>,
        guard: Option<Guard<Shard<S, C>>>,
    }
}

const COMPLETED: &str = "polled after completion";

/// A call that failed without a response. The failure is already recorded.
pub(crate) struct Failed {
    pub(crate) backend: BackendName,
    pub(crate) error: BoxError,
    pub(crate) outcome: Outcome,
}

/// The response for the caller, and the outcome as far as its head shows it.
type Head<W> = Result<(W, Outcome), Box<Failed>>;

impl<F, N, S: Send + Sync, C: Send + Sync> Attempt<F, N, S, C> {
    /// Starts a call to a ready instance.
    #[inline(always)]
    pub(crate) fn begin<V, Req>(mut guard: Guard<Shard<S, C>>, service: &mut V, request: Req) -> Self
    where
        V: Service<Req, Future = F>,
        C: Classify<Req, V::Response, Call = N>,
    {
        let shard = guard.to().expect(COMPLETED);
        let (state, upload) = (shard.classifier().request(&request), shard.classifier().upload(&request));
        let started = shard.info().time_limits().map(|_| shard.info().clock.now());
        guard.set_upload(upload);
        let call = guard.during(|| service.call(request));
        Self { call, state: Some(state), started, guard: Some(guard) }
    }

    /// Polls the call for the head of its response. Classifies and records the head, or the error.
    ///
    /// `door` has the limits of the door on the parts of a response, and when the attempt began.
    ///
    /// With `is_late`, the attempt commits later than its head. A successful head is then recorded at the commit, if
    /// [the classifier](Classify::guard) keeps the guard in the response.
    #[inline(always)]
    pub(crate) fn poll_head<Req, R, E>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        is_late: bool,
        door: Option<(TimeLimits, Moment)>,
    ) -> Poll<Head<C::Watched>>
    where
        S: 'static,
        F: Future<Output = Result<R, E>>,
        E: Into<BoxError>,
        C: Classify<Req, R, Call = N>,
    {
        let this = self.project();
        let guard = this.guard.as_mut().expect(COMPLETED);
        let result = ready!(guard.during(|| this.call.poll(cx)));
        let mut state = this.state.take().expect(COMPLETED);
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                let guard = this.guard.take().expect(COMPLETED);
                return Poll::Ready(Err(fail::<Req, R, N, S, C>(state, error.into(), guard)));
            }
        };
        let verdict = guard.to().expect(COMPLETED).classifier().response(&mut state, &response);
        let outcome = match verdict {
            Verdict::Now(outcome) => outcome,
            // The outcome is known at the end of the body. That is too late for another attempt, unless the commit
            // waits.
            Verdict::AtEnd => Outcome::Success,
        };
        if outcome.is_success() {
            if C::WATCHES && C::REPORTS_FIRST_BYTE { guard.head() } else { guard.first_byte() }
        }
        if outcome.is_success() {
            note_headroom::<Req, R, N, S, C>(guard, &response);
        }
        let is_held = C::WATCHES && is_late && outcome.is_success();
        match verdict {
            _ if is_held => {}
            Verdict::Now(Outcome::Success) => guard.succeed(),
            Verdict::Now(outcome) => guard.outcome(&outcome),
            Verdict::AtEnd => guard.hand_on(),
        }
        if !C::WATCHES {
            // The guard is dropped in place, not moved: this is the path of a plain service.
            let watched = C::watch(state, response, CallGuard::empty());
            *this.guard = None;
            return Poll::Ready(Ok((watched, outcome)));
        }
        let guard = this.guard.take().expect(COMPLETED);
        let shard = guard.to().expect(COMPLETED);
        let timer = body_timer(shard.info(), door, *this.started, guard.upload());
        let mut guard = match is_held {
            true => CallGuard::uncommitted(guard, matches!(verdict, Verdict::AtEnd)),
            false => CallGuard::new(guard),
        };
        if let Some(timer) = timer {
            guard.set_timer(timer);
        }
        let mut watched = C::watch(state, response, guard);
        if is_held && let Some(guard) = C::guard(&mut watched) {
            guard.ride();
        }
        Poll::Ready(Ok((watched, outcome)))
    }

    /// Returns the upload of the request body, until the head is received.
    #[inline]
    pub(crate) fn upload(&self) -> Option<&Upload> {
        self.guard.as_ref()?.upload()
    }

    /// Returns the limit of the backend on the time until the head.
    #[inline]
    pub(crate) fn limit(&self) -> Option<(Duration, TimeLimit)> {
        let info = self.guard.as_ref()?.to()?.info();
        let timeout = info.timeout().map(|time| (time, TimeLimit::Backend));
        let head = info.time_limits().and_then(|limits| limits.until_head());
        timeout.into_iter().chain(head).min_by_key(|(time, _)| *time)
    }

    /// Ends the call and records this outcome, before its response was received.
    pub(crate) fn record(self: Pin<&mut Self>, outcome: &Outcome) {
        if let Some(mut guard) = self.project().guard.take() {
            guard.outcome(outcome);
        }
    }

    /// Ends the call and records a timeout after this limit.
    #[cold]
    pub(crate) fn time_out(self: Pin<&mut Self>, (time, limit): (Duration, TimeLimit)) -> TimedOut {
        let mut guard = self.project().guard.take().expect("a running call has a guard");
        guard.outcome(&FailureKind::Timeout.into());
        let shard = guard.to().expect("the guard of a running call has a member");
        TimedOut::new(shard.name.clone(), time, limit)
    }
}

/// Notes what a response states to be left of the rate limit of its backend, if the fleet wants to know.
#[inline(always)]
fn note_headroom<Req, R, N, S, C>(guard: &Guard<Shard<S, C>>, response: &R)
where
    S: Send + Sync,
    C: Classify<Req, R, Call = N>,
{
    let shard = guard.to().expect(COMPLETED);
    if shard.info().reads_headroom()
        && let Some(headroom) = shard.classifier().headroom(response)
    {
        shard.info().note_headroom(headroom);
    }
}

/// The limits on the body of a response whose head was received now.
#[inline]
fn body_timer(
    info: &MemberInfo,
    door: Option<(TimeLimits, Moment)>,
    started: Option<Moment>,
    upload: Option<&Upload>,
) -> Option<Box<BodyTimer>> {
    let started = door.map(|(_, started)| started).or(started)?;
    let (own, door) = (info.time_limits(), door.map(|(limits, _)| limits));
    let limits = own.unwrap_or_default().or(&door.unwrap_or_default());
    let until_head = info.clock.now().since(started).saturating_sub(upload.map(Upload::waited).unwrap_or_default());
    limits.limits_body().then(|| BodyTimer::new(limits, until_head))
}

/// Records the error of a call.
#[cold]
fn fail<Req, R, N, S, C>(state: N, error: BoxError, mut guard: Guard<Shard<S, C>>) -> Box<Failed>
where
    S: Send + Sync,
    C: Classify<Req, R, Call = N>,
{
    let shard = guard.to().expect(COMPLETED);
    let (mut outcome, backend) = (shard.classifier().error(state, &error), shard.name.clone());
    let mut error = error;
    if let Some(failure) = guard.upload().and_then(Upload::failure) {
        // Not every client passes the error of the body on. Over HTTP/2 it is a reset stream.
        outcome = Outcome::Neutral;
        if find_replay_error(&*error).is_none() {
            error = failure.into();
        }
    }
    guard.outcome(&outcome);
    Box::new(Failed { backend, error, outcome })
}
