//! The attempts of one request that run.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::BoxError;
use tower_service::Service;

use super::{
    Commit, Ledger,
    running::{Finish, Peek, Running},
    settings::Run,
};
use crate::{body::Replay, outcome::Classify, time::Moment};

pin_project! {
    /// The attempts that run, in the order in which they began. Dropped, they are cancelled.
    pub(super) struct Attempts<S, H, C, Req>
    where
        S: Service<H::Request>,
        S: Send,
        S: Sync,
        H: Replay<Req>,
        H: Commit<C::Watched>,
        C: Classify<H::Request, S::Response>,
    {
        // In its place from the start: a request that goes well needs no more than this.
        #[pin]
        first: Option<Running<S, H, C, Req>>,
        others: Vec<Pin<Box<Running<S, H, C, Req>>>>,
    }
}

impl<S, H, C, Req> Attempts<S, H, C, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    #[inline]
    pub(super) fn new(first: Option<Running<S, H, C, Req>>) -> Self {
        Self { first, others: Vec::new() }
    }

    pub(super) fn add(self: Pin<&mut Self>, running: Running<S, H, C, Req>) {
        self.project().others.push(Box::pin(running));
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Polls them, and takes out one that has ended.
    #[inline]
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>, run: &Run<H>) -> Poll<Finish<Peek<S, H, C, Req>>> {
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(finish) = first.poll(cx, run)
        {
            end(|| this.first.set(None));
            return Poll::Ready(finish);
        }
        for index in 0..this.others.len() {
            if let Poll::Ready(finish) = this.others[index].as_mut().poll(cx, run) {
                end(|| drop(this.others.remove(index)));
                return Poll::Ready(finish);
            }
        }
        Poll::Pending
    }

    /// Takes out one whose time is up.
    pub(super) fn expire(
        self: Pin<&mut Self>,
        now: Moment,
        ledger: &Ledger,
        run: &Run<H>,
    ) -> Option<Finish<Peek<S, H, C, Req>>> {
        let is_up = |running: &Running<S, H, C, Req>| running.deadline().is_some_and(|at| now.reached(at));
        let name = |running: &Running<S, H, C, Req>| ledger.attempts()[running.line()].backend.clone();
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && is_up(&first)
        {
            let name = name(&first);
            let finish = first.time_out(name, run);
            end(|| this.first.set(None));
            return Some(finish);
        }
        let index = this.others.iter().position(|running| is_up(running))?;
        let mut running = this.others.remove(index);
        let name = name(&running);
        let finish = running.as_mut().time_out(name, run);
        end(|| drop(running));
        Some(finish)
    }

    /// When the first of them has to be over.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.iter().filter_map(Running::deadline).min()
    }

    /// Cancels them all, and notes how long each has taken.
    pub(super) fn cancel(mut self: Pin<&mut Self>, now: Moment, ledger: &mut Ledger) {
        for running in self.iter() {
            ledger.took(running.line(), now.since(running.began()));
        }
        let mut this = self.as_mut().project();
        end(|| this.others.clear());
        end(|| this.first.set(None));
    }

    fn iter(&self) -> impl Iterator<Item = &Running<S, H, C, Req>> {
        self.first.iter().chain(self.others.iter().map(|running| &**running))
    }
}

/// Drops what is given up. A backend that panics there takes no other's answer away.
#[inline]
fn end(drop: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(drop));
}
