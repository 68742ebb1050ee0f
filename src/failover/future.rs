use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::stream::Stream;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::BoxError;
use tower_service::Service;

use super::{
    Accept, Error, ErrorKind, Ledger, Stopped,
    layer::Run,
    racer::Racer,
    schedule::{Next, Schedule},
};
use crate::{attempt::Held, body::Replay};

pin_project! {
    /// The answer of one backend to come. Dropping it takes the request back from everybody.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, H, Req>
    where
        S: Service<H::Request>,
        H: Replay<Req>,
        H: Accept<S::Response>,
    {
        // The first attempt, alone at the start: a request that goes well needs no more than this.
        #[pin]
        first: Option<Racer<S, H, Req>>,
        #[pin]
        pause: Option<Sleep>,
        #[pin]
        bound: Option<Sleep>,
        schedule: Schedule<S, H, Req>,
    }
}

impl<S, H, Req> ResponseFuture<S, H, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Accept<S::Response>,
{
    pub(super) fn begin(run: Arc<Run<S, H>>, held: Option<Held<S>>, request: Req) -> Self {
        let mut schedule = Schedule::new(run, request);
        let first = held.and_then(|held| schedule.open_with(held));
        Self { first, pause: None, bound: None, schedule }
    }
}

impl<S, H, Req> Future for ResponseFuture<S, H, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Accept<S::Response>,
{
    type Output = Result<<H as Accept<S::Response>>::Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let schedule = this.schedule;
        if let Some(refused) = &schedule.run.refused {
            return Poll::Ready(Err(Error::new(ErrorKind::Misconfigured(refused.clone()), Ledger::default())));
        }
        for _ in 0..ROUNDS {
            // Those who run.
            let mut settled = false;
            if let Some(first) = this.first.as_mut().as_pin_mut()
                && let Poll::Ready((finish, member)) = first.poll(cx)
            {
                this.first.set(None);
                settled = true;
                schedule.take_time(None);
                let alone = !schedule.running();
                if let Some(answer) = schedule.settle(finish, &member, alone) {
                    // The losers are gone before the answer is handed out.
                    schedule.give_up(None);
                    return Poll::Ready(answer);
                }
            }
            while !settled && let Some(others) = schedule.others.as_mut() {
                let Poll::Ready(Some((finish, member))) = Pin::new(others).poll_next(cx) else { break };
                settled = true;
                schedule.take_time(this.first.as_ref().as_pin_ref());
                let alone = this.first.is_none() && !schedule.running();
                if let Some(answer) = schedule.settle(finish, &member, alone) {
                    schedule.give_up(this.first.as_ref().as_pin_ref());
                    this.first.set(None);
                    return Poll::Ready(answer);
                }
            }
            // Those who may start.
            let running = this.first.is_some() || schedule.running();
            match schedule.next {
                wanted @ (Next::Now | Next::All) => {
                    schedule.next = Next::Later;
                    this.pause.set(None);
                    let mut started = false;
                    let waits = loop {
                        match schedule.start(cx) {
                            Poll::Pending => break true,
                            Poll::Ready(None) => break false,
                            Poll::Ready(Some(racer)) => schedule.launch(racer),
                        }
                        started = true;
                        if wanted == Next::Now {
                            break false;
                        }
                    };
                    if waits {
                        schedule.next = wanted;
                    }
                    if started {
                        continue;
                    }
                    if !waits {
                        schedule.next = Next::Never;
                        if !running {
                            return Poll::Ready(schedule.conclude());
                        }
                    }
                }
                Next::After(pause) => {
                    if this.pause.is_none() {
                        this.pause.set(Some(tokio::time::sleep(pause)));
                    }
                    if let Some(timer) = this.pause.as_mut().as_pin_mut()
                        && timer.poll(cx).is_ready()
                    {
                        schedule.next = Next::Now;
                        continue;
                    }
                }
                Next::Later | Next::Never if !running => return Poll::Ready(schedule.conclude()),
                Next::Later | Next::Never => {}
            }
            if settled {
                continue;
            }
            // The end of all time. Those who still run are dropped with us.
            let Some(ends) = schedule.ends else { return Poll::Pending };
            if this.bound.as_ref().as_pin_ref().is_none_or(|bound| bound.deadline() != ends) {
                this.bound.set(Some(tokio::time::sleep_until(ends)));
            }
            if let Some(bound) = this.bound.as_mut().as_pin_mut() {
                ready!(bound.poll(cx));
            }
            schedule.take_time(this.first.as_ref().as_pin_ref());
            schedule.give_up(this.first.as_ref().as_pin_ref());
            this.first.set(None);
            schedule.ledger.stopped.get_or_insert(Stopped::OutOfTime);
            return Poll::Ready(schedule.conclude());
        }
        // Backends that fail at once, one after the other, are not to keep the task from its timers.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Attempts and their ends that one poll may see.
const ROUNDS: u32 = 64;

impl<S, H, Req> fmt::Debug for ResponseFuture<S, H, Req>
where
    S: Service<H::Request>,
    H: Replay<Req> + Accept<S::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
