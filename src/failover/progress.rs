//! One request on its way: what was tried, and what may be tried next.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;

use super::{
    Attempted, Commit, Ending, Ledger, Mode, Stopped,
    plan::Plan,
    running::{Peek, Running},
    settings::{Run, Settings},
    tries::Tries,
};
use crate::{
    attempt::{Ready, ReadySearch, Refusal, TimeLimit},
    body::Replay,
    health::Ticket,
    name::BackendId,
    outcome::{Classify, FailureKind, inspect},
    pick::{AnyStrategy, SKIP_NONE},
    rng::Rng,
    time::Moment,
};

/// One request on its way.
pub(super) struct Progress<S, H, C, Req>
where
    S: Service<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    pub(super) search: ReadySearch<S, C, AnyStrategy, Run<H>>,
    /// The caller's request, while a further attempt may be made of it.
    pub(super) kept: Option<H::Request>,
    pub(super) ledger: Ledger,
    pub(super) plan: Plan,
    /// There from the first trip on.
    pub(super) tries: Option<Box<Tries>>,
    pub(super) last: Option<Last<Peek<S, H, C, Req>>>,
    pub(super) rng: Rng,
}

/// What there is to pass on when no attempt succeeds.
pub(super) enum Last<K> {
    Response(K, usize),
    Error(BoxError),
}

impl<S, H, C, Req> Progress<S, H, C, Req>
where
    S: Service<H::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Response>,
{
    #[inline]
    pub(super) fn new(search: ReadySearch<S, C, AnyStrategy, Run<H>>, now: Moment, request: Req) -> Self {
        let run = &search.local().extra;
        if let Some(budget) = &run.settings.budget {
            budget.pay_in();
        }
        let kept = Some(run.terms.keep(request));
        let deadline = run.settings.deadline.map(|deadline| now.after(deadline));
        let (ledger, plan) = (Ledger::default(), Plan::new(deadline));
        Self { kept, ledger, plan, tries: None, last: None, rng: Rng::new(), search }
    }

    pub(super) fn run(&self) -> &Run<H> {
        &self.search.local().extra
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.run().settings
    }

    pub(super) fn now(&self) -> Moment {
        self.search.local().core.clock.now()
    }

    /// Makes an attempt at a ready backend, if there is a request to send.
    #[inline]
    pub(super) fn enter(&mut self, ready: Ready<S, C>, ticket: Ticket, now: Moment) -> Option<Running<S, H, C, Req>> {
        let (name, id) = (ready.shard().name.clone(), ready.shard().info().id);
        let is_last = self.is_last_try(id);
        let own = ready.shard().info().timeout().map(|time| (time, TimeLimit::Backend));
        let patience = own.or(self.settings().timeout.map(|time| (time, TimeLimit::Attempt)));
        let admitted = ready.enter(ticket);
        let request = self.copy(is_last)?;
        let (may_follow, line) = (self.kept.is_some() && self.may_repeat(), self.ledger.attempts().len());
        let limit = self.plan.limit(self.settings(), patience, now, is_last, may_follow);
        let (ending, took) = (Ending::Dropped, Duration::ZERO);
        self.ledger.lines.push(Attempted { backend: name, ending, took, id });
        self.plan.started(&self.search.local().extra.settings, now, may_follow);
        Some(Running::begin(line, now, limit, || admitted.call(request)))
    }

    /// Whether one more attempt may run beside so many.
    pub(super) fn has_room(&self, running: usize) -> bool {
        !self.plan.races || running < self.settings().race_width as usize
    }

    /// The caller's request, once more. The last possible attempt gets the original, and nothing is copied.
    fn copy(&mut self, is_last: bool) -> Option<H::Request> {
        let kept = self.kept.as_ref()?;
        let terms = &self.search.local().extra.terms;
        let is_first = !self.has_called();
        if is_last {
            if let Some(reason) = terms.unreplayable(kept).filter(|_| !is_first) {
                self.ledger.stopped = Some(Stopped::Unreplayable(reason));
                return None;
            }
            return self.kept.take();
        }
        match terms.again(kept) {
            Ok(copy) => Some(copy),
            Err(reason) => {
                self.ledger.stopped = Some(Stopped::Unreplayable(reason));
                // It can be sent once, and that is now or was before.
                self.kept.take().filter(|_| is_first)
            }
        }
    }

    /// Whether the request may be sent although another attempt may be at work on it: not what may be done only once.
    pub(super) fn may_repeat(&self) -> bool {
        let Run { terms, settings, .. } = self.run();
        !settings.idempotent_only || self.kept.as_ref().is_some_and(|kept| terms.is_idempotent(kept))
    }

    /// Whether an attempt was made already: a backend that did not get ready had none.
    fn has_called(&self) -> bool {
        self.ledger.attempts().iter().any(|attempt| !matches!(attempt.ending, Ending::NotReady { .. }))
    }

    pub(super) fn count(&mut self) -> &Tries {
        let tries = self.tries.get_or_insert_default();
        tries.count(self.ledger.attempts(), &self.search.local().extra.settings, self.plan.races);
        tries
    }

    /// Whether no attempt can follow the one at this backend, as far as is known now.
    fn is_last_try(&mut self, id: BackendId) -> bool {
        let attempts = self.settings().attempts_per_backend;
        let repeats = self.settings().mode != Mode::Race && attempts > 1;
        if self.ledger.attempts().is_empty() {
            return !repeats && !self.search.has_another(&SKIP_NONE, Some(id));
        }
        let tries = self.count();
        let again = repeats && tries.counts.get(&id).copied().unwrap_or_default() + 1 < attempts;
        !again && self.tries.as_deref().is_none_or(|tries| !self.search.has_another(&tries.spent, Some(id)))
    }

    /// Starts one more attempt, unless something speaks against it: at the first backend that is ready. Pending while
    /// none that may be tried is.
    pub(super) fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<Option<Running<S, H, C, Req>>> {
        loop {
            if self.kept.is_none() {
                return Poll::Ready(None);
            }
            let Some(ready) = ready!(self.poll_backend(cx)) else { return Poll::Ready(None) };
            if !self.plan.races {
                // In a race those that are pending are asked too, when they are ready.
                self.search.stop();
            }
            let now = self.now();
            // In this order: a token is not for a request that cannot be sent.
            if self.has_called() && (self.is_unreplayable() || !self.affords_another(now)) {
                self.search.stop();
                return Poll::Ready(None);
            }
            // Its circuit may have opened, or its permit be taken, since it was found.
            if let Some(ticket) = ready.admit(|| now) {
                return Poll::Ready(self.enter(ready, ticket, now));
            }
        }
    }

    /// The next backend that is ready: the same as before while a sequence stays there, elsewhere one that was not tried
    /// before one that was.
    fn poll_backend(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ready<S, C>>> {
        self.count();
        let last = self.ledger.attempts().last().map(|last| last.id);
        if self.plan.stays
            && let Some(last) = last
            && let Some(ready) = self.search.poll_same::<H::Request>(cx, last)
        {
            return Poll::Ready(Some(ready));
        }
        let prefers_new = !self.plan.races && last.is_some() && self.settings().attempts_per_backend > 1;
        let mut refusals = Vec::new();
        let tries = self.tries.as_deref().expect("they were counted");
        let avoid = prefers_new.then_some(&tries.tried);
        let found = self.search.poll_further::<H::Request>(cx, &tries.spent, avoid, &mut refusals);
        self.note(refusals);
        found.map(Result::ok)
    }

    /// A backend that did not get ready is in the ledger too.
    fn note(&mut self, refusals: Vec<Refusal<S, C, S::Error>>) {
        for refusal in refusals {
            let (backend, id) = (refusal.name().clone(), refusal.shard.info().id);
            let error = refusal.error.map(Into::into);
            let outcome = error.as_ref().map_or(FailureKind::Panic.into(), |error| inspect(&**error));
            let (ending, took) = (Ending::NotReady { outcome }, Duration::ZERO);
            self.ledger.lines.push(Attempted { backend, ending, took, id });
            self.last = self.last.take().or(error.map(Last::Error));
        }
    }

    fn is_unreplayable(&mut self) -> bool {
        let reason = self.kept.as_ref().and_then(|kept| self.run().terms.unreplayable(kept));
        self.ledger.stopped = reason.map(Stopped::Unreplayable).or(self.ledger.stopped);
        reason.is_some()
    }

    /// Whether an extra attempt may be made, for its time and its price.
    fn affords_another(&mut self, now: Moment) -> bool {
        if self.plan.ends.is_some_and(|ends| now.reached(ends)) {
            self.ledger.stopped = Some(Stopped::OutOfTime);
            return false;
        }
        let affordable = self.settings().budget.as_ref().is_none_or(|budget| budget.take());
        if !affordable {
            self.ledger.stopped = Some(Stopped::OverBudget);
        }
        affordable
    }
}
