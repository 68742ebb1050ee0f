use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::BoxError;
use tower_service::Service;

use super::{
    Commit, Error, ErrorKind, Ledger, Stopped,
    attempts::Attempts,
    plan::Next,
    progress::Progress,
    running::{End, Finish},
    settings::Run,
};
use crate::{
    attempt::{Ready, ReadySearch},
    body::Replay,
    outcome::Classify,
    pick::AnyStrategy,
};

pin_project! {
    /// The answer of one backend. Dropping it cancels the request everywhere.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, H, C, Req>
    where
        S: Service<H::Request>,
        S: Send,
        S: Sync,
        H: Replay<Req>,
        H: Commit<C::Watched>,
        C: Classify<H::Request, S::Response>,
    {
        #[pin]
        attempts: Attempts<S, H, C, Req>,
        // The one timer, for whatever is due first.
        #[pin]
        timer: Option<Sleep>,
        progress: Progress<S, H, C, Req>,
    }
}

impl<S, H, C, Req> ResponseFuture<S, H, C, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    #[inline]
    pub(super) fn begin(
        search: &ReadySearch<S, C, AnyStrategy, Run<H>>,
        held: Option<Ready<S, C>>,
        request: Req,
    ) -> Self {
        let now = search.local().core.clock.now();
        let mut progress = Progress::new(search.another(), now, request);
        let first = held.filter(|_| progress.run().refused.is_none()).and_then(|ready| match ready.pass() {
            Some(ticket) => progress.enter(ready, ticket, now),
            None => {
                let ticket = ready.admit(|| now)?;
                progress.enter(ready, ticket, now)
            }
        });
        Self { attempts: Attempts::new(first), timer: None, progress }
    }
}

impl<S, H, C, Req> Future for ResponseFuture<S, H, C, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    type Output = Result<<H as Commit<C::Watched>>::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let progress = this.progress;
        if let Some(refused) = &progress.run().refused {
            let kind = ErrorKind::Misconfigured((**refused).clone());
            return Poll::Ready(Err(Error::new(kind, Ledger::default())));
        }
        for _ in 0..ROUNDS {
            // The attempts that run.
            if let Poll::Ready(finish) = this.attempts.as_mut().poll(cx, progress.run()) {
                let finish = match finish.end {
                    // The usual way: nothing is to be told, and nothing but this attempt was made.
                    End::Answer(peek) if !H::KEEPS_LEDGER && this.attempts.is_empty() => {
                        return Poll::Ready(Ok(progress.run().terms.finish(peek, Ledger::default())));
                    }
                    end => Finish { end, ..finish },
                };
                let now = progress.now();
                if let Some(answer) = progress.settle(finish, now, this.attempts.is_empty(), |ledger| {
                    // The losers are dropped before the answer is handed out.
                    this.attempts.as_mut().cancel(now, ledger);
                }) {
                    return Poll::Ready(answer);
                }
                continue;
            }
            // Those that may start.
            let is_idle = this.attempts.is_empty();
            match progress.plan.next {
                wanted @ (Next::Now | Next::All) if progress.has_room(this.attempts.len()) => {
                    progress.plan.next = Next::OnEnd;
                    match progress.poll_start(cx) {
                        Poll::Ready(Some(running)) => {
                            this.attempts.as_mut().add(running);
                            continue;
                        }
                        Poll::Ready(None) if is_idle => return Poll::Ready(progress.conclude()),
                        Poll::Ready(None) => progress.plan.next = Next::Never,
                        Poll::Pending => progress.plan.next = wanted,
                    }
                }
                Next::OnEnd | Next::Never if is_idle => return Poll::Ready(progress.conclude()),
                _ => {}
            }
            // The timer.
            let due = this.attempts.deadline().into_iter().chain(progress.plan.wakes()).min();
            let Some(due) = due else { return Poll::Pending };
            let at = progress.search.local().core.clock.instant(due);
            if this.timer.as_ref().as_pin_ref().is_none_or(|timer| timer.deadline() != at) {
                this.timer.set(Some(tokio::time::sleep_until(at)));
            }
            if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                ready!(timer.poll(cx));
            }
            // A timer is exact to a millisecond only.
            let now = progress.now().max(due);
            if progress.plan.ends.is_some_and(|ends| now.reached(ends)) {
                this.attempts.as_mut().cancel(now, &mut progress.ledger);
                progress.ledger.stopped.get_or_insert(Stopped::OutOfTime);
                return Poll::Ready(progress.conclude());
            }
            progress.plan.wake(now);
            if let Some(finish) = this.attempts.as_mut().expire(now, &progress.ledger, progress.run())
                && let Some(answer) = progress.settle(finish, now, this.attempts.is_empty(), |ledger| {
                    this.attempts.as_mut().cancel(now, ledger);
                })
            {
                return Poll::Ready(answer);
            }
        }
        // Backends that fail at once, one after the other, are not to keep the task from its timers.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Attempts and their ends that one poll may see.
const ROUNDS: u32 = 64;

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
