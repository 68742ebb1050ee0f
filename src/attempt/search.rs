//! The search for a backend that is ready.

use std::{
    fmt, mem,
    num::NonZeroU64,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;

use super::{
    local::Local,
    ready::{Found, NotReady, Ready, Refusal, Sends, Turn, Unready},
    scan::{AtLimit, Scope, Wanted},
    underway::{RecordPanic, Underway},
};
use crate::{
    pick::{Prefix, SKIP_NONE, Strategy},
    rng::Rng,
    shard::slot,
};

/// Finds a backend that is ready: for the next request of a door, and for the further attempts of a request.
///
/// Polls the strategy's pick first. If that is pending, polls the others of the tier too, and takes the first one that
/// is ready. Pending instances are kept, with their places in the queues of their backends, until the search is over.
pub(crate) struct ReadySearch<S, C, P: Strategy, X> {
    pub(super) local: Arc<Local<S, C, P, X>>,
    /// `Some` while a search is under way.
    pub(super) underway: Option<Box<Underway<S, C>>>,
    pub(super) rng: Rng,
    /// The key of the request, if it has one and the strategy needs it.
    pub(super) key: Option<NonZeroU64>,
}

/// An instance and the result of its `poll_ready`.
pub(super) type Polled<S, C, E> = (Ready<S, C>, Poll<Result<(), E>>);

impl<S, C, P, X> ReadySearch<S, C, P, X>
where
    P: Strategy,
{
    #[inline]
    pub(crate) fn new(local: Arc<Local<S, C, P, X>>) -> Self {
        Self { local, underway: None, rng: Rng::new(), key: None }
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
    /// backends are, for no longer than `within`. Without `at_limit`, that of a `poll_ready` counts.
    #[inline(always)]
    pub(crate) fn poll<Req>(
        &mut self,
        cx: &mut Context<'_>,
        within: Option<Duration>,
        sends: Sends,
        at_limit: Option<AtLimit>,
    ) -> Poll<Found<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        if self.underway.is_none()
            && let Some(shard) = match self.renew().is_plain {
                true => self.local.select(slot(), &mut self.rng),
                false => self.local.select_specially(sends, slot(), self.key, &mut self.rng),
            }
            && shard.info().may_select()
        {
            let on_unwind = RecordPanic { shard: &shard, underway: &mut self.underway };
            let mut service = shard.service().clone();
            let polled = service.poll_ready(cx);
            mem::forget(on_unwind);
            let instance = Ready::new(shard, service, false);
            return match polled {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(instance)),
                polled => self.poll_slowly(cx, within, sends, at_limit, Some((instance, polled))),
            };
        }
        self.poll_slowly(cx, within, sends, at_limit, None)
    }

    #[cold]
    fn poll_slowly<Req>(
        &mut self,
        cx: &mut Context<'_>,
        within: Option<Duration>,
        sends: Sends,
        at_limit: Option<AtLimit>,
        first: Option<Polled<S, C, S::Error>>,
    ) -> Poll<Found<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let prefix = &mut Prefix::default();
        let (scope, spent) = (Scope::ServingTier, &SKIP_NONE);
        let (avoid, prefer, stays) = (None, None, true);
        let at_limit = at_limit.unwrap_or_else(|| AtLimit::before_call(self.local.core.slots.when_full));
        let wanted = Wanted { scope, spent, prefix, avoid, prefer, sends, within, at_limit, stays };
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

    /// Keeps the turn of a task whose instance was not admitted, so that it waits at its place.
    #[cold]
    pub(crate) fn keep_turn(&mut self, turn: Option<Box<Turn>>) {
        if turn.is_some() {
            self.underway.get_or_insert_default().turn = turn;
        }
    }

    /// Returns the number of eligible backends if the search waits for a slot at one of them; else 0.
    pub(crate) fn full(&self) -> usize {
        let waits = self.underway.as_ref().is_some_and(|underway| underway.turn.is_some());
        if waits { self.local.selection.rows().len() } else { 0 }
    }

    /// Considers the lower tiers although backends of the serving tier are full: they were for long enough.
    #[cold]
    pub(crate) fn overflow(&mut self) {
        self.underway.get_or_insert_default().overflows = true;
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
}

impl<S, C, P: Strategy, X> fmt::Debug for ReadySearch<S, C, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local.fmt(f)
    }
}
