//! The search for a backend that is ready.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::time::Sleep;
use tower_service::Service;

use super::{
    local::Local,
    ready::{Found, NotReady, Pending, Ready, Refusal, Scope, Unready},
    round::Round,
};
use crate::{
    fleet::{MemberInfo, Shard},
    name::BackendId,
    pick::{SKIP_NONE, Skip, Strategy},
    rng::Rng,
    shard::slot,
};

/// Finds a backend that is ready: for the next request of a door, and for the further attempts of a request.
///
/// Polls the strategy's pick first. If that is pending, polls the others of the tier too, and takes the first one that
/// is ready. Pending instances are kept, with their places in the queues of their backends, until the search is over.
pub(crate) struct ReadySearch<S, C, P: Strategy, X> {
    local: Arc<Local<S, C, P, X>>,
    /// `Some` while at least one backend is pending.
    waiting: Option<Box<Waiting<S, C>>>,
    rng: Rng,
}

/// The state of a search while all backends are pending.
struct Waiting<S, C> {
    pending: Vec<Pending<S, C>>,
    /// Woken when the fleet changes.
    waker: Arc<AtomicWaker>,
    /// Ends at the next deadline of the fleet. Boxed, since `poll_ready` does not pin the service.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The backends that a search may take.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    scope: Scope,
    /// Never these.
    skip: &'a Skip,
    /// These only if no other backend is ready.
    avoid: Option<&'a Skip>,
}

/// An instance and the result of its `poll_ready`.
type Polled<S, C, E> = (Arc<Shard<S, C>>, S, Poll<Result<(), E>>);

impl<S, C, P, X> ReadySearch<S, C, P, X>
where
    P: Strategy,
{
    #[inline]
    pub(crate) fn new(local: Arc<Local<S, C, P, X>>) -> Self {
        Self { local, waiting: None, rng: Rng::new() }
    }

    #[inline]
    pub(crate) fn local(&self) -> &Arc<Local<S, C, P, X>> {
        &self.local
    }
}

impl<S, C, P, X> ReadySearch<S, C, P, X>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    /// Polls for an instance to call. Fails with the reason if there is none, and is pending only while all eligible
    /// backends are.
    #[inline(always)]
    pub(crate) fn poll<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Found<S, C, S::Error>>
    where
        S: Service<Req>,
    {
        self.renew();
        if self.waiting.is_none()
            && !self.local.has_probes_due
            && let Some(shard) = self.local.select(slot(), &mut self.rng)
            && shard.info().health.is_eligible()
        {
            let mut service = shard.service().clone();
            return match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(Ready { shard, service, is_probe: false })),
                result => self.poll_slowly(cx, Some((shard, service, result))),
            };
        }
        self.poll_slowly(cx, None)
    }

    #[cold]
    fn poll_slowly<Req>(
        &mut self,
        cx: &mut Context<'_>,
        first: Option<Polled<S, C, S::Error>>,
    ) -> Poll<Found<S, C, S::Error>>
    where
        S: Service<Req>,
    {
        let mut refusals = Vec::new();
        let wanted = Wanted { scope: Scope::ServingTier, skip: &SKIP_NONE, avoid: None };
        let found = self.search(cx, wanted, &mut refusals, first);
        found.map_err(|why| Box::new(NotReady { why, refusals }))
    }

    /// Polls for an instance for a further attempt, in all tiers. Takes none of the backends in `skip`, and one in
    /// `avoid` only if no other is ready. A panic in `poll_ready` is added to the `refusals`.
    pub(crate) fn poll_further<Req>(
        &mut self,
        cx: &mut Context<'_>,
        skip: &Skip,
        avoid: Option<&Skip>,
        refusals: &mut Vec<Refusal<S, C, S::Error>>,
    ) -> Poll<Result<Ready<S, C>, Unready>>
    where
        S: Service<Req>,
    {
        self.renew();
        self.search(cx, Wanted { scope: Scope::AllTiers, skip, avoid }, refusals, None)
    }

    /// Polls the same backend once more. `None` if it is not eligible, or not ready now.
    pub(crate) fn poll_same<Req>(&mut self, cx: &mut Context<'_>, id: BackendId) -> Option<Ready<S, C>>
    where
        S: Service<Req>,
    {
        self.renew();
        let shard = self.local.shard(self.local.selection.eligible_row(id)?, slot())?;
        let mut service = shard.service().clone();
        let result = catch_unwind(AssertUnwindSafe(|| service.poll_ready(cx))).ok()?;
        match result {
            Poll::Ready(Ok(())) => Some(Ready { shard, service, is_probe: false }),
            _ => None,
        }
    }

    /// Updates the selection to the current version.
    #[inline(always)]
    pub(crate) fn renew(&mut self) {
        self.local.core.process_due();
        if !self.local.is_current() {
            self.renew_local();
        }
    }

    #[cold]
    fn renew_local(&mut self) {
        self.local = self.local.renewed();
    }

    /// Returns a new search, for a request that may need further attempts.
    #[inline]
    pub(crate) fn another(&self) -> Self {
        Self::new(Arc::clone(&self.local))
    }

    /// Returns whether a further attempt could use another backend than those in `skip` and `beside`.
    #[inline]
    pub(crate) fn has_another(&self, skip: &Skip, beside: Option<BackendId>) -> bool {
        let selection = &self.local.selection;
        let mut rows = selection.rows().iter().chain(selection.probes_due()).map(|row| selection.info(*row).id);
        // Usually the numbers alone decide.
        selection.rows().len() > skip.len() + 1 || rows.any(|other| Some(other) != beside && !skip.contains(other))
    }

    /// Drops the pending instances: no task waits for them any more.
    pub(crate) fn stop(&mut self) {
        self.waiting = None;
    }

    /// Searches for a request whose first pick, with its result in `first`, was not ready.
    #[cold]
    fn search<Req>(
        &mut self,
        cx: &mut Context<'_>,
        wanted: Wanted<'_>,
        refusals: &mut Vec<Refusal<S, C, S::Error>>,
        first: Option<Polled<S, C, S::Error>>,
    ) -> Poll<Result<Ready<S, C>, Unready>>
    where
        S: Service<Req>,
    {
        let mut pending = match self.waiting.as_mut() {
            Some(waiting) => {
                // Takes out the waker, so that changes made by this search itself do not wake its task.
                waiting.waker.take();
                std::mem::take(&mut waiting.pending)
            }
            None => Vec::new(),
        };
        let mut round = Round { cx, scope: wanted.scope, refused: Skip::default(), refusals, pending: &mut pending };
        let mut found = first.and_then(|(shard, service, result)| round.accept(shard, service, Ok(result), false));
        let mut rounds = 0;
        loop {
            rounds += 1;
            found = found
                .or_else(|| round.run_avoiding(&self.local, wanted.avoid?, &mut self.rng))
                .or_else(|| round.run(&self.local, wanted.skip, &mut self.rng));
            if let Some(ready) = found {
                self.waiting = None;
                return Poll::Ready(Ok(ready));
            }
            let version = self.local.selection.version;
            // Registers the waker before it reads the version again, so that no change in between is missed.
            let must_repeat = match round.pending.is_empty() {
                true => round.refusals.is_empty() && self.misses(wanted.skip),
                false => self.register(round.cx),
            };
            self.renew();
            // The fleet may have changed while its backends were polled.
            let is_final = self.local.selection.version == version && !must_repeat;
            if is_final && round.pending.is_empty() {
                self.waiting = None;
                return Poll::Ready(Err(self.unready(!round.refusals.is_empty())));
            }
            if !is_final && rounds < MAX_ROUNDS {
                continue;
            }
            if !is_final {
                // The fleet changes faster than it is polled. Yields to other tasks.
                round.cx.waker().wake_by_ref();
            }
            if let Some(waiting) = &mut self.waiting {
                waiting.pending = pending;
            }
            return Poll::Pending;
        }
    }

    /// Returns whether the last round missed an eligible backend: its circuit has an unpublished transition.
    fn misses(&self, skip: &Skip) -> bool {
        let (core, selection) = (&self.local.core, &self.local.selection);
        let serves = |info: &Arc<MemberInfo>| info.health.is_eligible() && !skip.contains(info.id);
        if core.has_ejection_limits() {
            core.note_openings(selection.infos());
            selection.infos().any(serves)
        } else {
            selection.rows().iter().any(|row| serves(selection.info(*row)))
        }
    }

    /// Registers the task for the next change or deadline of the fleet. Returns whether a deadline is reached now.
    fn register(&mut self, cx: &mut Context<'_>) -> bool {
        let core = &self.local.core;
        let new = || Box::new(Waiting { pending: Vec::new(), waker: core.add_waker(), timer: None });
        let waiting = self.waiting.get_or_insert_with(new);
        waiting.waker.register(cx.waker());
        waiting.timer = core.next_due().map(|due| {
            // At least 1 ms: a backend that is due but not ready must not be polled in a busy loop.
            let wait = due.since(core.clock.now()).max(Duration::from_millis(1));
            Box::pin(tokio::time::sleep(wait))
        });
        waiting.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }

    /// Returns why no backend is ready.
    fn unready(&self, any_refused: bool) -> Unready {
        match self.local.selection.backends() {
            0 => Unready::NoBackends,
            _ if any_refused => Unready::Refused,
            backends => Unready::NoneAvailable(backends, self.retry_after()),
        }
    }

    /// Returns the time until a backend may become eligible, if one does without a change from outside.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let selection = &self.local.selection;
        // A circuit has opened, and the transition is not published yet.
        let unpublished = || {
            let now = self.local.core.clock.now();
            let due = selection.rows().iter().filter_map(|row| selection.info(*row).health.due());
            due.min().map(|due| due.since(now))
        };
        self.local.core.retry_after().or_else(unpublished)
    }
}

/// How many rounds one poll makes if the fleet changes meanwhile.
const MAX_ROUNDS: u32 = 3;

impl<S, C, P: Strategy, X> fmt::Debug for ReadySearch<S, C, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local.fmt(f)
    }
}
