//! The search for a backend that is ready.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;

use super::{
    local::Local,
    ready::{Found, NotReady, Ready, Refusal, Sends, Unready},
    scan::{Scope, Wanted},
    state::{Scanned, SearchState},
    underway::{RecordPanic, Underway},
    wait::Wait,
};
use crate::{
    fleet::MemberInfo,
    pick::{Prefix, SKIP_NONE, Skip, Strategy},
    rng::Rng,
    shard::slot,
};

/// Finds a backend that is ready: for the next request of a door, and for the further attempts of a request.
///
/// Polls the strategy's pick first. If that is pending, polls the others of the tier too, and takes the first one that
/// is ready. Pending instances are kept, with their places in the queues of their backends, until the search is over.
pub(crate) struct ReadySearch<S, C, P: Strategy, X> {
    local: Arc<Local<S, C, P, X>>,
    /// `Some` while a search is under way.
    underway: Option<Box<Underway<S, C>>>,
    rng: Rng,
}

/// An instance and the result of its `poll_ready`.
type Polled<S, C, E> = (Ready<S, C>, Poll<Result<(), E>>);

impl<S, C, P, X> ReadySearch<S, C, P, X>
where
    P: Strategy,
{
    #[inline]
    pub(crate) fn new(local: Arc<Local<S, C, P, X>>) -> Self {
        Self { local, underway: None, rng: Rng::new() }
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
    /// backends are, for no longer than `within`.
    #[inline(always)]
    pub(crate) fn poll<Req>(
        &mut self,
        cx: &mut Context<'_>,
        within: Option<Duration>,
        sends: Sends,
    ) -> Poll<Found<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        if self.underway.is_none()
            && !self.renew().has_probe_to_send(sends)
            && let Some(shard) = self.local.select(slot(), &mut self.rng)
            && shard.info().health.is_eligible()
        {
            let on_unwind = RecordPanic { shard: &shard, underway: &mut self.underway };
            let mut service = shard.service().clone();
            let polled = service.poll_ready(cx);
            mem::forget(on_unwind);
            let instance = Ready { shard, service, is_probe: false };
            return match polled {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(instance)),
                polled => self.poll_slowly(cx, within, sends, Some((instance, polled))),
            };
        }
        self.poll_slowly(cx, within, sends, None)
    }

    #[cold]
    fn poll_slowly<Req>(
        &mut self,
        cx: &mut Context<'_>,
        within: Option<Duration>,
        sends: Sends,
        first: Option<Polled<S, C, S::Error>>,
    ) -> Poll<Found<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let prefix = &mut Prefix::default();
        let (scope, spent) = (Scope::ServingTier, &SKIP_NONE);
        let wanted = Wanted { scope, spent, prefix, avoid: None, prefer: None, sends, within };
        let mut refusals = Vec::new();
        let found = self.search(cx, wanted, &mut refusals, first);
        if found.is_ready() {
            self.underway = None;
        } else if let Some(underway) = &mut self.underway {
            underway.state.refusals = mem::take(&mut refusals);
        }
        found.map_err(|why| Box::new(NotReady { why, refusals }))
    }

    /// Polls for an instance for a further attempt, in all tiers. The backends that failed to become ready meanwhile
    /// are added to the `refusals`.
    ///
    /// The search goes on until it is stopped: the next attempt continues from its position, with its pending
    /// instances.
    pub(crate) fn poll_further<Req>(
        &mut self,
        cx: &mut Context<'_>,
        wanted: Wanted<'_>,
        refusals: &mut Vec<Refusal>,
    ) -> Poll<Result<Ready<S, C>, Unready>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        if let Some(Underway { state, has_found, .. }) = self.underway.as_deref_mut()
            && mem::take(has_found)
        {
            // An attempt that may return to a backend considers all of them again.
            if wanted.avoid.is_some() || wanted.prefer.is_some() { state.scan_again() } else { state.go_on() }
        }
        self.search(cx, wanted, refusals, None)
    }

    /// Updates the selection to the current version.
    #[inline(always)]
    pub(crate) fn renew(&mut self) -> &Local<S, C, P, X> {
        self.local.core.process_due();
        if !self.local.is_current() {
            self.renew_local();
        }
        &self.local
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

    /// Excludes backends that have failed to become ready a moment ago from the next search.
    #[cold]
    pub(crate) fn exclude(&mut self, refusals: Vec<Refusal>) {
        let state = &mut self.underway.get_or_insert_default().state;
        refusals.into_iter().for_each(|refusal| state.exclude(refusal));
    }

    /// Returns whether a search is under way.
    pub(crate) fn is_underway(&self) -> bool {
        self.underway.is_some()
    }

    /// Ends the search.
    pub(crate) fn stop(&mut self) {
        self.underway = None;
    }

    /// Ends the search. Returns the backends that failed to become ready.
    pub(crate) fn stop_with_refusals(&mut self) -> Vec<Refusal> {
        self.underway.take().map(|mut underway| mem::take(&mut underway.state.refusals)).unwrap_or_default()
    }

    /// Drops the pending instances: no task waits for them any more.
    pub(crate) fn drop_pending(&mut self) {
        if let Some(underway) = &mut self.underway {
            underway.state.drop_pending();
            underway.wait = None;
        }
    }

    /// Considers all backends again with the next poll.
    pub(crate) fn scan_again(&mut self) {
        if let Some(underway) = &mut self.underway {
            underway.state.scan_again();
        }
    }

    /// Searches for a request whose first pick, with its result in `first`, was not ready.
    #[cold]
    fn search<Req>(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: Wanted<'_>,
        refusals: &mut Vec<Refusal>,
        first: Option<Polled<S, C, S::Error>>,
    ) -> Poll<Result<Ready<S, C>, Unready>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let mut underway = self.underway.take().unwrap_or_default();
        let Underway { state, has_found, since, wait } = &mut *underway;
        if let Some(wait) = wait {
            wait.unregister();
        }
        self.renew();
        let now = self.local.core.clock.now();
        let ends = wanted.within.map(|within| since.get_or_insert(now).after(within));
        state.forgive(now);
        let mut first = first.and_then(|(instance, polled)| state.accept(instance, polled));
        for _ in 0..MAX_ROUNDS {
            let scanned = match first.take() {
                Some(ready) => Scanned::Ready(ready),
                None => state.poll(cx, &self.local, &mut wanted, &mut self.rng),
            };
            refusals.append(&mut state.refusals);
            match scanned {
                Scanned::Ready(ready) => {
                    if let Some(mut wait) = wait.take()
                        && ready.is_probe
                    {
                        wait.used();
                    }
                    (*has_found, *since) = (true, None);
                    self.underway = Some(underway);
                    return Poll::Ready(Ok(ready));
                }
                _ if state.is_pending() && ends.is_some_and(|ends| now.reached(ends)) => {
                    return Poll::Ready(Err(Unready::OutOfTime));
                }
                Scanned::Unfinished => break,
                Scanned::Nothing => {}
            }
            let version = self.local.selection.version;
            // Registers the waker before it reads the version again, so that no change in between is missed.
            let must_repeat = if state.is_pending() {
                let wait = wait.get_or_insert_with(|| Wait::new(&self.local.core));
                wait.register(cx, &self.local.core, now, [ends, state.forgives_at()])
            } else {
                // A tier is not left because its backends fail to become ready.
                (wanted.scope == Scope::AllTiers || refusals.is_empty()) && self.misses(state, wanted.spent)
            };
            if must_repeat {
                state.scan_again();
            }
            self.renew();
            // The fleet may have changed while its backends were polled.
            let is_final = self.local.selection.version == version && !must_repeat;
            if is_final && !state.is_pending() {
                return Poll::Ready(Err(self.local.unready(!refusals.is_empty())));
            }
            if is_final {
                self.underway = Some(underway);
                return Poll::Pending;
            }
        }
        // The fleet is too large for one poll, or changes faster than it is polled. Yields to other tasks.
        cx.waker().wake_by_ref();
        self.underway = Some(underway);
        Poll::Pending
    }

    /// Returns whether the last round missed an eligible backend: its circuit has an unpublished transition.
    fn misses(&self, state: &SearchState<S, C>, spent: &Skip) -> bool {
        let (core, selection) = (&self.local.core, &self.local.selection);
        let is_missed = |info: &Arc<MemberInfo>| {
            info.health.is_eligible() && !spent.contains(info.id) && !state.has_polled(info.id)
        };
        if core.has_ejection_limits() {
            core.note_openings(selection.infos());
            selection.infos().any(is_missed)
        } else {
            selection.rows().iter().any(|row| is_missed(selection.info(*row)))
        }
    }
}

/// How many rounds one poll makes if the fleet changes meanwhile.
const MAX_ROUNDS: u32 = 3;

impl<S, C, P: Strategy, X> fmt::Debug for ReadySearch<S, C, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local.fmt(f)
    }
}
