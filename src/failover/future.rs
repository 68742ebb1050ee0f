//! The response future of a failover.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;

use super::{
    Commit, Error, Ledger, Stopped,
    attempts::Attempts,
    end::{AttemptEnd, CallFuture, CallState, End, Peek},
    plan::{Next, Plan},
    progress::Progress,
    settings::Policy,
};
use crate::{
    attempt::{Ready, ReadySearch},
    body::{Replay, Upload},
    fleet::BackendService,
    outcome::Classify,
    pick::AnyStrategy,
};

pin_project! {
    /// The response future of a [`Failover`](super::Failover). It drives all attempts of a request.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels all attempts of the request, and releases their permits.
    ///
    /// The parameters after `Req` are always their defaults.
    // Parameters, since rustc cannot prove in an `async` block that a future with such projections is `Send` if an error
    // of the backends or of a body is a `BoxError`.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<
        S,
        H,
        C,
        Req,
        Q = <H as Replay<Req>>::Request,
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
        #[pin]
        attempts: Attempts<S, H, C, Req, F, N, K>,
        // One timer for all limits, set to the earliest.
        #[pin]
        timer: Option<Sleep>,
        // The upload of the attempts that run.
        upload: Option<Upload>,
        progress: Progress<S, H, C, Req, Q, K>,
    }
}

impl<S, H, C, Req> ResponseFuture<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    #[inline]
    pub(super) fn begin(
        search: ReadySearch<S, C, AnyStrategy, Policy<H>>,
        ready: Option<Ready<S, C>>,
        request: Req,
    ) -> Self {
        let now = search.local().core.clock.now();
        let mut progress = Progress::new(search, now, request);
        let ready = ready.or_else(|| progress.poll_by_key());
        let first = ready.filter(|ready| progress.may_begin_at(ready)).and_then(|mut ready| match ready.pass() {
            Some(pass) => progress.start(ready, pass, now),
            None => match ready.admit(|| now) {
                Some(pass) => progress.start(ready, pass, now),
                None => {
                    progress.search.keep_turn(ready.take_turn());
                    None
                }
            },
        });
        let upload = first.as_ref().and_then(|first| first.upload().cloned());
        Self { attempts: Attempts::new(first), timer: None, upload, progress }
    }
}

impl<S, H, C, Req> Future for ResponseFuture<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    type Output = Result<<H as Commit<C::Watched>>::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let progress = this.progress;
        for _ in 0..MAX_STEPS {
            // Poll the running attempts.
            if let Poll::Ready(ended) = this.attempts.as_mut().poll(cx, progress.policy()) {
                let ended = match ended.end {
                    // The fast path: a success with no other attempt running, and no use for a ledger.
                    End::Final(peek) if !H::KEEPS_LEDGER && this.attempts.is_empty() && progress.holds_nothing() => {
                        return Poll::Ready(Ok(progress.policy().protocol.finish(peek, Ledger::default())));
                    }
                    end => AttemptEnd { end, ..ended },
                };
                let now = progress.now();
                postpone(&mut progress.plan, this.upload, this.attempts.is_empty());
                if let Some(result) = progress.settle(ended, now, this.attempts.is_empty(), |ledger| {
                    // The other attempts are cancelled before the caller gets the result.
                    this.attempts.as_mut().cancel(now, ledger);
                }) {
                    return Poll::Ready(result);
                }
                continue;
            }
            // Start the attempts that may start.
            let is_idle = this.attempts.is_empty();
            let is_hedge = progress.plan.next == Next::Hedge && !is_idle;
            if is_hedge && progress.is_hedge_withheld(this.attempts.as_mut()) {
                continue;
            }
            match progress.plan.next {
                wanted @ (Next::Now | Next::All | Next::Hedge) if progress.has_room(this.attempts.len()) => {
                    progress.plan.next = Next::OnTrip;
                    postpone(&mut progress.plan, this.upload, is_idle);
                    match progress.poll_start(cx, is_hedge) {
                        Poll::Ready(Some(running)) => {
                            if let Some(further) = running.upload() {
                                let upload = this.upload.take();
                                *this.upload = Some(upload.map_or(further.clone(), |upload| upload.join(further)));
                            }
                            this.attempts.as_mut().add(running);
                            continue;
                        }
                        Poll::Ready(None) if is_idle && progress.waits_for_rested() => continue,
                        Poll::Ready(None) if is_idle => return Poll::Ready(progress.conclude()),
                        // Another request was first to take the last token.
                        Poll::Ready(None) if is_hedge && progress.is_over_budget() => {
                            progress.plan.next = Next::Hedge;
                            continue;
                        }
                        Poll::Ready(None) => progress.plan.next = Next::Never,
                        Poll::Pending => progress.plan.next = wanted,
                    }
                }
                Next::OnTrip | Next::Never if is_idle => return Poll::Ready(progress.conclude()),
                _ => {}
            }
            // Wait for the timer.
            let stands_still = progress.plan.stands_still() && poll_postpone(&mut progress.plan, this.upload, cx);
            let wake = progress.plan.next_wake(stands_still);
            let due = this.attempts.deadline(cx, progress.policy()).into_iter().chain(wake).min();
            let Some(due) = due else { return Poll::Pending };
            let at = progress.search.local().core.clock.instant(due);
            if this.timer.as_ref().as_pin_ref().is_none_or(|timer| timer.deadline() != at) {
                this.timer.set(Some(tokio::time::sleep_until(at)));
            }
            if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                ready!(timer.poll(cx));
            }
            // A timer is exact to a millisecond, so the clock may still be short of `due`.
            let now = progress.now().max(due);
            if progress.plan.is_over(now, stands_still) {
                this.attempts.as_mut().cancel(now, &mut progress.ledger);
                progress.ledger.stopped.get_or_insert(Stopped::OutOfTime);
                return Poll::Ready(progress.conclude());
            }
            if !stands_still {
                progress.plan.wake(now);
            }
            if let Some(ended) = this.attempts.as_mut().expire(cx, now, &progress.ledger, progress.policy()) {
                postpone(&mut progress.plan, this.upload, this.attempts.is_empty());
                if let Some(result) = progress.settle(ended, now, this.attempts.is_empty(), |ledger| {
                    this.attempts.as_mut().cancel(now, ledger);
                }) {
                    return Poll::Ready(result);
                }
            }
        }
        // Yields to the task's timers, even if one backend after the other fails without a delay.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Postpones the times of the plan by what the attempts have waited for the caller so far. With `is_idle`, none of them
/// runs any more.
fn postpone(plan: &mut Plan, upload: &mut Option<Upload>, is_idle: bool) {
    let Some(running) = upload else { return };
    plan.postpone(running.waited());
    if is_idle {
        plan.waited = Duration::ZERO;
        *upload = None;
    }
}

/// The same. Returns whether an attempt waits for the caller now; then the task is woken when none does any more.
fn poll_postpone(plan: &mut Plan, upload: &Option<Upload>, cx: &mut Context<'_>) -> bool {
    let Some(upload) = upload else { return false };
    let waited = upload.poll_waited(cx);
    plan.postpone(waited.unwrap_or_default());
    waited.is_none()
}

/// How many starts and ends of attempts one poll handles at most.
const MAX_STEPS: u32 = 64;

impl<S, H, C, Req> fmt::Debug for ResponseFuture<S, H, C, Req>
where
    S: Service<H::Request> + Send + Sync,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
