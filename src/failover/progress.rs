//! The state of one request between its attempts: what was attempted, and what may be attempted next.

use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tower::BoxError;

use super::{
    Attempted, Commit, Ending, Ledger, Methods, Mode, Stopped,
    counts::AttemptCounts,
    earlier::Brought,
    end::Peek,
    plan::Plan,
    running::Running,
    settings::{Policy, Settings},
};
use crate::{
    attempt::{Pass, Ready, ReadySearch, Sends},
    body::Replay,
    fleet::{BackendService, MemberInfo},
    outcome::{Classify, TimeLimit},
    pick::AnyStrategy,
    rng::Rng,
    time::Moment,
};

/// The state of one request between its attempts.
///
/// The parameters after `Req` are always their defaults, as in [`ResponseFuture`](super::ResponseFuture).
pub(super) struct Progress<S, H, C, Req, Q = <H as Replay<Req>>::Request, K = Peek<S, H, C, Req>> {
    pub(super) search: ReadySearch<S, C, AnyStrategy, Policy<H>>,
    /// The caller's request; `None` once it cannot be sent again.
    pub(super) kept: Option<Q>,
    pub(super) ledger: Ledger,
    pub(super) plan: Plan,
    pub(super) brought: Option<Box<Brought>>,
    /// Set once a further attempt is considered.
    pub(super) counts: Option<Box<AttemptCounts>>,
    pub(super) last: Option<LastFailure<K>>,
    pub(super) rng: Rng,
    /// The number of backends that were all full when the last search ended.
    pub(super) full: usize,
    of: PhantomData<fn(Req)>,
}

/// How long a request that probes a spare backend waits before it is sent to the tier that serves, too.
const SPARE_PATIENCE: Duration = Duration::from_secs(1);

/// Whether an attempt may follow another one.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum FollowUp {
    /// There is a backend for it now.
    Now,
    /// There may be one later: its circuit is open, for example. So the request is kept, but no time is.
    Later,
    Never,
}

/// What is returned to the caller if no attempt succeeds.
pub(super) enum LastFailure<K> {
    /// A response, and the index of its ledger entry.
    Response(K, usize),
    Error(BoxError),
}

impl<S, H, C, Req> Progress<S, H, C, Req>
where
    S: BackendService<H::Request>,
    H: Replay<Req> + Commit<C::Watched>,
    C: Classify<H::Request, S::Reply>,
{
    #[inline]
    pub(super) fn new(search: ReadySearch<S, C, AnyStrategy, Policy<H>>, now: Moment, request: Req) -> Self {
        let (policy, clock) = (&search.local().extra, search.local().core.clock);
        let kept = policy.protocol.keep(request);
        let brought = Brought::new(policy.protocol.extension(&kept), policy.protocol.extension(&kept));
        let mut ledger = match brought.as_ref().and_then(|brought| brought.earlier.as_ref()) {
            Some(earlier) => earlier.ledger().clone(),
            None => {
                if let Some(budget) = policy.settings.hedge_budget() {
                    budget.deposit();
                }
                Ledger::default()
            }
        };
        let own = || policy.settings.deadline.map(|deadline| now.after(deadline));
        let deadline = ledger.deadline.map(|deadline| clock.moment(deadline)).or_else(own);
        ledger.deadline = deadline.map(|deadline| clock.instant(deadline));
        let (kept, plan, rng, of) = (Some(kept), Plan::new(deadline), Rng::new(), PhantomData);
        Self { kept, ledger, plan, brought, counts: None, last: None, rng, full: 0, search, of }
    }

    /// Reads the key of the request, if the strategy needs it. Returns an instance for the first attempt if one is ready
    /// at once.
    #[inline]
    pub(super) fn poll_by_key(&mut self) -> Option<Ready<S, C>> {
        let search = &mut self.search;
        if !search.read_key::<_, S::Response>(self.kept.as_ref()?) {
            return None;
        }
        // After a panic of a backend, the response future searches among the others.
        let ready = catch_unwind(AssertUnwindSafe(|| search.poll_once::<H::Request>(Sends::Again)));
        ready.ok().flatten()
    }

    pub(super) fn policy(&self) -> &Policy<H> {
        &self.search.local().extra
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.policy().settings
    }

    pub(super) fn now(&self) -> Moment {
        self.search.local().core.clock.now()
    }

    /// Starts an attempt at a ready backend; `None` if the request cannot be sent.
    #[inline]
    pub(super) fn start(&mut self, ready: Ready<S, C>, pass: Pass, now: Moment) -> Option<Running<S, H, C, Req>> {
        let (name, info) = (ready.shard().name.clone(), ready.shard().info());
        let (id, position) = (info.id, info.position());
        let follow_up = self.follow_up(id);
        let own = ready.shard().info().timeout().map(|time| (time, TimeLimit::Backend));
        let timeout = own.or(self.settings().timeout.map(|time| (time, TimeLimit::Attempt)));
        let until_head = self.until_head(ready.shard().info());
        let is_spare = ready.is_probe() && self.search.local().is_spare(ready.shard().info());
        let measured = self.settings().measures().then(|| Arc::clone(ready.shard()));
        // The clock was read for the ledger. A fleet that measures latencies does not read it again.
        let admitted = ready.enter(pass.started_at(now));
        let request = self.request(follow_up == FollowUp::Never)?;
        if self.is_over_budget() {
            // A hedge for which there was no token is sent after all.
            self.ledger.stopped = None;
        }
        let entry = self.ledger.attempts().len();
        let may_hedge = matches!(self.settings().mode, Mode::Hedged(_)) && self.kept.is_some() && self.may_hedge();
        let delay = self.hedge_delay(measured.as_ref().map(|shard| &**shard.info()), now);
        let limit = self.plan.limit(self.settings(), timeout, now, follow_up != FollowUp::Now, may_hedge);
        let (ending, took) = (Ending::Dropped, Duration::ZERO);
        self.ledger.entries.push(Attempted { backend: name, ending, took, note: None, id, position });
        self.plan.started(now, delay.filter(|_| may_hedge).map(|(delay, _)| delay));
        if is_spare && entry == 0 && self.kept.is_some() && self.may_hedge() {
            self.plan.start_at(now.after(SPARE_PATIENCE));
        }
        let measured = measured.zip(delay.map(|(_, pace)| pace));
        Some(Running::start(entry, now, limit, until_head, measured, || admitted.call(request)))
    }

    /// The limit on the time until the head of a response of this backend.
    #[inline]
    fn until_head(&self, backend: &MemberInfo) -> Option<(Duration, TimeLimit)> {
        let door = &self.settings().time_limits;
        backend.time_limits().map_or(*door, |own| own.or(door)).until_head()
    }

    /// Whether one more attempt may run while this many are running.
    pub(super) fn has_room(&self, running: usize) -> bool {
        !self.plan.is_racing || running < self.settings().race_width as usize
    }

    /// The request for an attempt: a copy, or the original if no further attempt is possible.
    fn request(&mut self, is_last: bool) -> Option<H::Request> {
        let kept = self.kept.as_ref()?;
        let protocol = &self.search.local().extra.protocol;
        let is_first = !self.has_called();
        if is_last {
            if let Some(reason) = protocol.unreplayable(kept).filter(|_| !is_first) {
                self.ledger.stopped = Some(Stopped::Unreplayable(reason));
                return None;
            }
            return self.kept.take().map(|kept| protocol.last(kept));
        }
        match protocol.again(kept) {
            Ok(copy) => Some(copy),
            Err(reason) => {
                self.ledger.stopped = Some(Stopped::Unreplayable(reason));
                // The request can be sent once only. If this is the first attempt, it gets the original.
                self.kept.take().filter(|_| is_first).map(|kept| protocol.last(kept))
            }
        }
    }

    /// Whether the request may be sent again although a backend may have begun to work on it.
    pub(super) fn may_repeat(&self) -> bool {
        self.allows(self.settings().retry_methods)
    }

    /// Whether the request may be hedged.
    pub(super) fn may_hedge(&self) -> bool {
        self.allows(self.settings().hedge_methods)
    }

    fn allows(&self, methods: Methods) -> bool {
        let is_idempotent = |kept| self.policy().protocol.is_idempotent(kept);
        methods == Methods::All || self.kept.as_ref().is_some_and(is_idempotent)
    }

    /// Whether a backend was called already. One that did not become ready was not.
    pub(super) fn has_called(&self) -> bool {
        self.ledger
            .attempts()
            .iter()
            .skip(self.earlier())
            .any(|attempt| !matches!(attempt.ending, Ending::NotReady { .. }))
    }

    /// Whether nothing is held for the request but the request itself.
    pub(super) fn holds_nothing(&self) -> bool {
        self.last.is_none() && !self.search.is_underway()
    }

    /// Starts a further attempt at the first backend that is ready. `None` if there is none, or if no further attempt
    /// may be made; pending while every backend that may be attempted is pending. A hedge is sent to a backend without
    /// an attempt only.
    pub(super) fn poll_start(&mut self, cx: &mut Context<'_>, is_hedge: bool) -> Poll<Option<Running<S, H, C, Req>>> {
        loop {
            if self.kept.is_none() {
                return Poll::Ready(None);
            }
            let Some(mut ready) = ready!(self.poll_backend(cx, is_hedge)) else { return Poll::Ready(None) };
            if !self.plan.is_racing {
                // Only a race still waits for the pending backends.
                self.search.drop_pending();
            }
            if self.brought.as_ref().is_some_and(|brought| !brought.allows(&ready.shard().name)) {
                // It was inserted since the attempts were counted.
                self.counts.get_or_insert_default().leave_out(ready.shard().info().id);
                continue;
            }
            let now = self.now();
            if !self.has_time(now) || self.has_called() && self.is_unreplayable() {
                drop(ready);
                self.search.stop();
                return Poll::Ready(None);
            }
            // The circuit may have opened since the backend was found ready, or the permit of a probe may be taken.
            let Some(pass) = ready.admit(|| now) else {
                self.search.keep_turn(ready.take_turn());
                continue;
            };
            // In this order, so that a request that cannot be sent takes no token from the budget.
            let is_extra = self.has_called() || self.earlier() > 0;
            if is_extra && !self.may_spend(is_hedge) {
                drop(ready.enter(pass));
                self.search.stop();
                return Poll::Ready(None);
            }
            return Poll::Ready(self.start(ready, pass, now));
        }
    }

    /// Whether the request cannot be sent again. The ledger records why.
    fn is_unreplayable(&mut self) -> bool {
        let reason = self.kept.as_ref().and_then(|kept| self.policy().protocol.unreplayable(kept));
        self.ledger.stopped = reason.map(Stopped::Unreplayable).or(self.ledger.stopped);
        reason.is_some()
    }

    /// Whether there is time for an attempt: a backend may become ready just when the time is up. The ledger records it
    /// if there is none.
    fn has_time(&mut self, now: Moment) -> bool {
        let is_over = self.plan.ends.is_some_and(|ends| now.reached(ends));
        if is_over {
            self.ledger.stopped = Some(Stopped::OutOfTime);
        }
        !is_over
    }
}
