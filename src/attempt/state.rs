//! The state of one search between its polls: the pending instances, and the backends that are not ready.

use std::{
    any::Any,
    collections::VecDeque,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tower::BoxError;
use tower_service::Service;

use super::{
    local::Local,
    ready::{Pending, Ready, Refusal, Sends, record},
    scan::{Scan, Visit, Wanted},
    wait::Wakeups,
};
use crate::{
    fleet::Shard,
    foreign,
    name::BackendId,
    outcome::{FailureKind, inspect},
    pick::{Skip, Strategy},
    rng::Rng,
    shard::slot,
    time::Moment,
};

/// How long a backend that failed to become ready is not polled again by the same request or door.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(1);

/// The state of one search between its polls.
pub(super) struct SearchState<S, C> {
    scan: Scan,
    /// The backends that were polled: each is pending, or failed to become ready.
    polled: Skip,
    /// Those in `polled` that were not eligible when it was their turn. The next scan considers them again.
    ineligible: Vec<BackendId>,
    /// Those in `polled` that failed to become ready, in order.
    refused: VecDeque<(Moment, BackendId)>,
    pending: VecDeque<Pending<S, C>>,
    /// Not yet reported.
    pub(super) refusals: Vec<Refusal>,
    /// For a fleet that is too large for one poll.
    wakeups: Option<Arc<Wakeups>>,
    /// Whether the scan took more than one poll, so that a wake-up may have been missed.
    is_split: bool,
}

/// The result of one poll of a search.
pub(super) enum Scanned<S, C> {
    Ready(Ready<S, C>),
    /// No instance is ready.
    Nothing,
    /// There is more to poll, in the next poll of the task.
    Unfinished,
}

impl<S, C> Default for SearchState<S, C> {
    fn default() -> Self {
        Self {
            scan: Scan::new(),
            polled: Skip::default(),
            ineligible: Vec::new(),
            refused: VecDeque::new(),
            pending: VecDeque::new(),
            refusals: Vec::new(),
            wakeups: None,
            is_split: false,
        }
    }
}

/// Drops the pending instances one by one. A panic in a destructor must not cost a response.
impl<S, C> Drop for SearchState<S, C> {
    fn drop(&mut self) {
        foreign::discard(mem::take(&mut self.pending));
    }
}

impl<S, C> SearchState<S, C>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns whether this backend was polled, so that the search is done with it.
    pub(super) fn has_polled(&self, id: BackendId) -> bool {
        self.polled.contains(id) && !self.ineligible.contains(&id)
    }

    /// Goes on for another attempt of the same request.
    pub(super) fn go_on(&mut self) {
        self.scan.go_on();
    }

    /// Scans all backends again with the next poll.
    pub(super) fn scan_again(&mut self) {
        self.scan.reset();
    }

    /// Excludes a backend that has just failed to become ready.
    pub(super) fn exclude(&mut self, refusal: Refusal) {
        self.polled.insert(refusal.id);
        self.refused.push_back((refusal.at, refusal.id));
        self.refusals.push(refusal);
    }

    /// Considers the backends again that failed to become ready some time ago.
    pub(super) fn forgive(&mut self, now: Moment) {
        while let Some((at, id)) = self.refused.front().copied()
            && now.reached(at.after(REFUSED_FOR))
        {
            self.refused.pop_front();
            self.polled.remove(id);
            self.scan.reset();
        }
    }

    /// Returns when the next backend is considered again.
    pub(super) fn forgives_at(&self) -> Option<Moment> {
        self.refused.front().map(|(at, _)| at.after(REFUSED_FOR))
    }

    /// Drops the pending instances: no task waits for them any more.
    pub(super) fn drop_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        self.pending.iter().for_each(|pending| self.polled.remove(pending.id));
        foreign::discard(mem::take(&mut self.pending));
        self.scan.reset();
    }

    /// Polls instances until one is ready, up to `MAX_POLLS`.
    pub(super) fn poll<Req, P, X>(
        &mut self,
        cx: &mut Context<'_>,
        local: &Local<S, C, P, X>,
        wanted: &mut Wanted<'_>,
        rng: &mut Rng,
    ) -> Scanned<S, C>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
        P: Strategy,
        X: Clone,
    {
        if self.scan.begin(local.selection.version, wanted.avoid.is_some(), self.pending.len()) {
            self.ineligible.drain(..).for_each(|id| self.polled.remove(id));
        }
        let wakeups = (local.selection.backends() > MAX_POLLS).then(|| {
            let wakeups = Arc::clone(self.wakeups.get_or_insert_default());
            wakeups.task.register(cx.waker());
            Waker::from(wakeups)
        });
        let mut cx = Context::from_waker(wakeups.as_ref().unwrap_or(cx.waker()));
        for _ in 0..MAX_POLLS {
            let Some(visit) = self.scan.next(local, wanted, &self.polled, self.pending.len(), rng) else {
                // An instance may have called its waker after its turn. If that is not known, all are polled again.
                let may_have_missed = mem::take(&mut self.is_split)
                    && self.wakeups.as_ref().is_none_or(|wakeups| !wakeups.is_quiet.swap(true, Ordering::AcqRel));
                return if may_have_missed { Scanned::Unfinished } else { Scanned::Nothing };
            };
            let found = match visit {
                Visit::Pending => self.poll_pending(&mut cx, wanted),
                Visit::Row { row, is_probe } => self.poll_row(&mut cx, local, row, is_probe, wanted.sends),
            };
            if let Some(ready) = found {
                return Scanned::Ready(ready);
            }
        }
        self.is_split = true;
        Scanned::Unfinished
    }

    /// Polls the first pending instance again.
    fn poll_pending<Req>(&mut self, cx: &mut Context<'_>, wanted: &Wanted<'_>) -> Option<Ready<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        let pending = self.pending.pop_front()?;
        if self.scan.avoids && wanted.avoid.is_some_and(|avoid| avoid.contains(pending.id)) {
            self.pending.push_back(pending);
            return None;
        }
        let Pending { id, shard, service, is_probe } = pending;
        let may_poll =
            |shard: &Arc<Shard<S, C>>| shard.info().health.is_eligible() || (is_probe && shard.info().may_probe());
        match shard.upgrade().filter(may_poll).filter(|_| !wanted.spent.contains(id)) {
            Some(shard) => self.poll_instance(cx, Ready { shard, service, is_probe }, wanted.sends),
            // The instance of a backend that was removed, or must not be called any more, is dropped.
            None => {
                self.polled.remove(id);
                None
            }
        }
    }

    /// Polls a new instance of the backend in a row.
    fn poll_row<Req, P, X>(
        &mut self,
        cx: &mut Context<'_>,
        local: &Local<S, C, P, X>,
        row: u32,
        is_probe: bool,
        sends: Sends,
    ) -> Option<Ready<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
        P: Strategy,
        X: Clone,
    {
        let info = local.selection.info(row);
        let may_poll = if is_probe { info.may_probe() } else { info.health.is_eligible() };
        let Some(shard) = local.shard(row, slot()).filter(|_| may_poll) else {
            self.polled.insert(info.id);
            self.ineligible.push(info.id);
            return None;
        };
        // A clone may panic too.
        match catch_unwind(AssertUnwindSafe(|| shard.service().clone())) {
            Ok(service) => self.poll_instance(cx, Ready { shard, service, is_probe }, sends),
            Err(panic) => self.panicked(&shard, is_probe, sends, panic),
        }
    }

    fn poll_instance<Req>(
        &mut self,
        cx: &mut Context<'_>,
        mut instance: Ready<S, C>,
        sends: Sends,
    ) -> Option<Ready<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
    {
        match catch_unwind(AssertUnwindSafe(|| instance.service.poll_ready(cx))) {
            Ok(polled) => self.accept(instance, polled),
            Err(panic) => self.panicked(&instance.shard, instance.is_probe, sends, panic),
        }
    }

    /// Records a panic of a backend, and passes it on if the door sends each request once.
    fn panicked(
        &mut self,
        shard: &Arc<Shard<S, C>>,
        is_probe: bool,
        sends: Sends,
        panic: Box<dyn Any + Send>,
    ) -> Option<Ready<S, C>> {
        record(shard, &FailureKind::Panic.into());
        // Not that of a probe, since another backend can serve the request.
        if sends == Sends::Once && !is_probe {
            resume_unwind(panic);
        }
        foreign::discard([panic]);
        self.exclude(Refusal::new(shard, None));
        None
    }

    /// Processes the result of a `poll_ready`: returns an instance that is ready, keeps a pending one, notes a failure.
    pub(super) fn accept<E: Into<BoxError>>(
        &mut self,
        instance: Ready<S, C>,
        polled: Poll<Result<(), E>>,
    ) -> Option<Ready<S, C>> {
        let id = instance.shard.info().id;
        match polled {
            Poll::Ready(Ok(())) => {
                self.polled.remove(id);
                Some(instance)
            }
            Poll::Pending => {
                self.polled.insert(id);
                self.pending.push_back(instance.into());
                None
            }
            Poll::Ready(Err(error)) => {
                let error = error.into();
                let failure = inspect(&*error).failure().copied().unwrap_or(FailureKind::Other.into());
                record(&instance.shard, &failure.into());
                self.exclude(Refusal::new(&instance.shard, Some(error)));
                None
            }
        }
    }
}

/// How many instances one poll of a search polls, so that a large fleet does not block a thread.
const MAX_POLLS: usize = 128;
