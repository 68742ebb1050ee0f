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

/// Looks for a backend that is ready now: for the next request of a door, and for further attempts of one.
///
/// The strategy's choice is asked first. While it is pending the others of its tier are asked too, and the first that
/// is ready is taken; those that are pending keep their place in their queues until then.
pub(crate) struct ReadySearch<S, C, P: Strategy, X> {
    local: Arc<Local<S, C, P, X>>,
    /// There while at least one backend is pending.
    waiting: Option<Box<Waiting<S, C>>>,
    rng: Rng,
}

/// What a search that found no backend ready keeps until one is.
struct Waiting<S, C> {
    pending: Vec<Pending<S, C>>,
    /// Woken when the fleet changes.
    waker: Arc<AtomicWaker>,
    /// Until something about the fleet is due. Boxed, since a service is not pinned.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Which backends are wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    scope: Scope,
    /// Not these.
    skip: &'a Skip,
    /// These only if no other is ready.
    avoid: Option<&'a Skip>,
}

/// How a backend came by its question whether it is ready.
type Asked<S, C, E> = (Arc<Shard<S, C>>, S, Poll<Result<(), E>>);

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
    /// Ready with an instance to call, or with the reason why there is none. Pending only while all eligible backends
    /// are.
    #[inline(always)]
    pub(crate) fn poll<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Found<S, C, S::Error>>
    where
        S: Service<Req>,
    {
        self.renew();
        if self.waiting.is_none()
            && !self.local.has_ripe
            && let Some(shard) = self.local.choose(slot(), &mut self.rng)
            && shard.info().health.is_eligible()
        {
            let mut service = shard.service().clone();
            return match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(Ready { shard, service, is_probe: false })),
                answer => self.poll_slowly(cx, Some((shard, service, answer))),
            };
        }
        self.poll_slowly(cx, None)
    }

    #[cold]
    fn poll_slowly<Req>(
        &mut self,
        cx: &mut Context<'_>,
        first: Option<Asked<S, C, S::Error>>,
    ) -> Poll<Found<S, C, S::Error>>
    where
        S: Service<Req>,
    {
        let mut refusals = Vec::new();
        let wanted = Wanted { scope: Scope::FirstTier, skip: &SKIP_NONE, avoid: None };
        let found = self.search(cx, wanted, &mut refusals, first);
        found.map_err(|why| Box::new(NotReady { why, refusals }))
    }

    /// The same for a further attempt of a request, at any backend but those to skip; at one of those to avoid only if no
    /// other is ready. A panic of a backend is one of the refusals.
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

    /// Asks one backend once more; none when it is not eligible or not ready now.
    pub(crate) fn poll_same<Req>(&mut self, cx: &mut Context<'_>, id: BackendId) -> Option<Ready<S, C>>
    where
        S: Service<Req>,
    {
        self.renew();
        let shard = self.local.shard(self.local.selection.eligible_row(id)?, slot())?;
        let mut service = shard.service().clone();
        let answer = catch_unwind(AssertUnwindSafe(|| service.poll_ready(cx))).ok()?;
        match answer {
            Poll::Ready(Ok(())) => Some(Ready { shard, service, is_probe: false }),
            _ => None,
        }
    }

    /// Sees to it that the selection is the present one.
    #[inline(always)]
    pub(crate) fn renew(&mut self) {
        self.local.core.settle_due();
        if !self.local.is_current() {
            self.renew_local();
        }
    }

    #[cold]
    fn renew_local(&mut self) {
        self.local = self.local.renewed();
    }

    /// A search of its own for a request that may need further attempts.
    #[inline]
    pub(crate) fn another(&self) -> Self {
        Self::new(Arc::clone(&self.local))
    }

    /// Whether a further attempt could find a backend that is not to be skipped, beside this one.
    #[inline]
    pub(crate) fn has_another(&self, skip: &Skip, beside: Option<BackendId>) -> bool {
        let selection = &self.local.selection;
        let mut rows = selection.rows().iter().chain(selection.ripe()).map(|row| selection.info(*row).id);
        // Without a look at each one, where the numbers tell.
        selection.rows().len() > skip.len() + 1 || rows.any(|other| Some(other) != beside && !skip.contains(other))
    }

    /// Forgets the backends that are pending: nothing is waited for any more.
    pub(crate) fn stop(&mut self) {
        self.waiting = None;
    }

    /// The way of a request whose first choice is not ready.
    #[cold]
    fn search<Req>(
        &mut self,
        cx: &mut Context<'_>,
        wanted: Wanted<'_>,
        refusals: &mut Vec<Refusal<S, C, S::Error>>,
        first: Option<Asked<S, C, S::Error>>,
    ) -> Poll<Result<Ready<S, C>, Unready>>
    where
        S: Service<Req>,
    {
        let mut pending = match self.waiting.as_mut() {
            Some(waiting) => {
                // What this search brings about itself is no news to it.
                waiting.waker.take();
                std::mem::take(&mut waiting.pending)
            }
            None => Vec::new(),
        };
        let mut round = Round { cx, scope: wanted.scope, refused: Skip::default(), refusals, pending: &mut pending };
        let mut found = first.and_then(|(shard, service, answer)| round.take(shard, service, Ok(answer), false));
        let mut looks = 0;
        loop {
            looks += 1;
            found = found
                .or_else(|| round.look_elsewhere(&self.local, wanted.avoid?, &mut self.rng))
                .or_else(|| round.look(&self.local, wanted.skip, &mut self.rng));
            if let Some(ready) = found {
                self.waiting = None;
                return Poll::Ready(Ok(ready));
            }
            let version = self.local.selection.version;
            // In this order, so that a change in between is not missed.
            let may_be_missed = match round.pending.is_empty() {
                true => round.refusals.is_empty() && self.misses(wanted.skip),
                false => self.wait(round.cx),
            };
            self.renew();
            // The fleet may have changed while its backends were asked.
            let is_settled = self.local.selection.version == version && !may_be_missed;
            if is_settled && round.pending.is_empty() {
                self.waiting = None;
                return Poll::Ready(Err(self.unready(!round.refusals.is_empty())));
            }
            if !is_settled && looks < LOOKS {
                continue;
            }
            if !is_settled {
                // It changes faster than it is looked at: others have their turn.
                round.cx.waker().wake_by_ref();
            }
            if let Some(waiting) = &mut self.waiting {
                waiting.pending = pending;
            }
            return Poll::Pending;
        }
    }

    /// Whether a backend may serve that a look at the selection does not find: its circuit moved, and the fleet is about
    /// to note it.
    fn misses(&self, skip: &Skip) -> bool {
        let (core, selection) = (&self.local.core, &self.local.selection);
        let serves = |info: &Arc<MemberInfo>| info.health.is_eligible() && !skip.contains(info.id);
        if core.has_limits() {
            core.catch_up(selection.infos());
            selection.infos().any(serves)
        } else {
            selection.rows().iter().any(|row| serves(selection.info(*row)))
        }
    }

    /// Sees to it that the task is woken when something about the fleet changes or is due. Whether that is now.
    fn wait(&mut self, cx: &mut Context<'_>) -> bool {
        let core = &self.local.core;
        let new = || Box::new(Waiting { pending: Vec::new(), waker: core.wait(), timer: None });
        let waiting = self.waiting.get_or_insert_with(new);
        waiting.waker.register(cx.waker());
        waiting.timer = core.next_due().map(|due| {
            // One that is due and did not get ready is not asked again at once.
            let wait = due.since(core.clock.now()).max(Duration::from_millis(1));
            Box::pin(tokio::time::sleep(wait))
        });
        waiting.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
    }

    fn unready(&self, any_refused: bool) -> Unready {
        match self.local.selection.backends() {
            0 => Unready::NoBackends,
            _ if any_refused => Unready::Refused,
            backends => Unready::NoneAvailable(backends, self.retry_after()),
        }
    }

    /// After how long a backend may be eligible again, if one ever is by itself.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let selection = &self.local.selection;
        // A circuit opens a moment before the fleet knows.
        let opening = || {
            let now = self.local.core.clock.now();
            let due = selection.rows().iter().filter_map(|row| selection.info(*row).health.due());
            due.min().map(|due| due.since(now))
        };
        self.local.core.retry_after().or_else(opening)
    }
}

/// How often one poll looks at a fleet that changes meanwhile.
const LOOKS: u32 = 3;

impl<S, C, P: Strategy, X> fmt::Debug for ReadySearch<S, C, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local.fmt(f)
    }
}
