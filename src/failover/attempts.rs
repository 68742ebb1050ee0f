//! The running attempts of one request.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{
    Commit, Ledger,
    end::{AttemptEnd, CallFuture, CallState, Peek},
    running::Running,
    settings::Policy,
};
use crate::{
    body::Replay,
    fleet::{BackendService, MemberInfo},
    foreign,
    outcome::Classify,
    time::Moment,
};

pin_project! {
    /// The running attempts, in the order in which they started. Dropping them cancels them.
    ///
    /// The parameters after `Req` are always their defaults, as in [`ResponseFuture`](super::ResponseFuture).
    pub(super) struct Attempts<
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
        // Inline, so that a request without further attempts costs no allocation.
        #[pin]
        first: Option<Running<S, H, C, Req, F, N, K>>,
        others: Vec<Pin<Box<Running<S, H, C, Req, F, N, K>>>>,
    }
}

impl<S, H, C, Req> Attempts<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
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

    /// Polls the attempts. Ready when one has ended, which is removed.
    #[inline]
    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        policy: &Policy<H>,
    ) -> Poll<AttemptEnd<Peek<S, H, C, Req>>> {
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && let Poll::Ready(ended) = first.poll(cx, policy)
        {
            foreign::run(|| this.first.set(None));
            return Poll::Ready(ended);
        }
        for index in 0..this.others.len() {
            if let Poll::Ready(ended) = this.others[index].as_mut().poll(cx, policy) {
                foreign::discard([this.others.remove(index)]);
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    }

    /// Notes that the hedge of the newest attempt is due. Returns its backend, if it is measured.
    pub(super) fn newest_is_due(self: Pin<&mut Self>, now: Moment) -> Option<&MemberInfo> {
        let this = self.project();
        match this.others.last_mut() {
            Some(newest) => newest.as_mut().is_due(now),
            None => this.first.as_pin_mut()?.is_due(now),
        }
    }

    /// Ends and removes one attempt whose time is up.
    pub(super) fn expire(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        now: Moment,
        ledger: &Ledger,
        policy: &Policy<H>,
    ) -> Option<AttemptEnd<Peek<S, H, C, Req>>> {
        let mut is_due =
            |running: &Running<S, H, C, Req>| running.deadline(cx, policy).is_some_and(|at| now.reached(at));
        let name = |running: &Running<S, H, C, Req>| ledger.attempts()[running.entry()].backend.clone();
        let mut this = self.project();
        if let Some(first) = this.first.as_mut().as_pin_mut()
            && is_due(&first)
        {
            let name = name(&first);
            let ended = first.time_out(name, policy);
            foreign::run(|| this.first.set(None));
            return Some(ended);
        }
        let index = this.others.iter().position(|running| is_due(running))?;
        let mut running = this.others.remove(index);
        let name = name(&running);
        let ended = running.as_mut().time_out(name, policy);
        foreign::discard([running]);
        Some(ended)
    }

    /// The earliest moment at which the time of an attempt is up.
    pub(super) fn deadline(&self, cx: &mut Context<'_>, policy: &Policy<H>) -> Option<Moment> {
        self.iter().filter_map(|running| running.deadline(cx, policy)).min()
    }

    /// Cancels all attempts, and records in the ledger how long each took.
    pub(super) fn cancel(mut self: Pin<&mut Self>, now: Moment, ledger: &mut Ledger) {
        for running in self.iter() {
            ledger.set_took(running.entry(), now.since(running.started()));
        }
        let mut this = self.as_mut().project();
        foreign::discard(std::mem::take(this.others));
        foreign::run(|| this.first.set(None));
    }

    fn iter(&self) -> impl Iterator<Item = &Running<S, H, C, Req>> {
        self.first.iter().chain(self.others.iter().map(|running| &**running))
    }
}
