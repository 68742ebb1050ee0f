//! Polls the instances of a search, one after the other.

use std::{
    any::Any,
    mem,
    num::NonZeroU64,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use tower::BoxError;
use tower_service::Service;

use super::{
    local::Local,
    ready::{Pending, Ready, Refusal, Sends, record},
    scan::{Visit, Wanted},
    state::{Scanned, SearchState},
};
use crate::{
    fleet::Shard,
    foreign,
    name::BackendId,
    outcome::{FailureKind, inspect},
    pick::Strategy,
    rng::Rng,
    shard::slot,
};

impl<S, C> SearchState<S, C>
where
    S: Clone + Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
{
    /// Polls instances until one is ready, up to `MAX_POLLS`.
    pub(super) fn poll<Req, P, X>(
        &mut self,
        cx: &mut Context<'_>,
        local: &Local<S, C, P, X>,
        wanted: &mut Wanted<'_>,
        key: Option<NonZeroU64>,
        rng: &mut Rng,
    ) -> Scanned<S, C>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
        P: Strategy,
        X: Clone,
    {
        if self.scan.begin(local.selection.version, wanted.avoid.is_some(), self.pending.len()) {
            self.ineligible.drain(..).chain(self.full.drain(..)).for_each(|id| self.polled.remove(id));
        }
        let wakeups = (local.selection.backends() > MAX_POLLS).then(|| {
            let wakeups = Arc::clone(self.wakeups.get_or_insert_default());
            wakeups.task.register(cx.waker());
            Waker::from(wakeups)
        });
        let mut cx = Context::from_waker(wakeups.as_ref().unwrap_or(cx.waker()));
        for _ in 0..MAX_POLLS {
            let Some(visit) = self.scan.next(local, wanted, &self.polled, self.pending.len(), key, rng) else {
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
            Some(shard) => self.poll_instance(cx, Ready::new(shard, service, is_probe), wanted.sends),
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
        if info.is_full() {
            if is_probe {
                // It is not eligible, so that no request may wait for its slots.
                return self.pass_over(info.id);
            }
            self.scan.has_full = true;
            // Beyond the picks of the strategy, the scan comes to each backend once.
            if self.full.len() < MAX_FULL {
                self.polled.insert(info.id);
                self.full.push(info.id);
            }
            return None;
        }
        self.poll_new(cx, local, row, is_probe, sends)
    }

    /// Leaves out a backend that is not eligible, until the fleet changes.
    fn pass_over(&mut self, id: BackendId) -> Option<Ready<S, C>> {
        self.polled.insert(id);
        self.ineligible.push(id);
        None
    }

    /// Polls a new instance of the backend in a row, whether it is full or not.
    fn poll_new<Req, P, X>(
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
            return self.pass_over(info.id);
        };
        // A clone may panic too.
        match catch_unwind(AssertUnwindSafe(|| shard.service().clone())) {
            Ok(service) => self.poll_instance(cx, Ready::new(shard, service, is_probe), sends),
            Err(panic) => self.panicked(&shard, is_probe, sends, panic),
        }
    }

    /// Polls an instance of the backend in this row, which has had a free slot just now. With `granted`, the slot of this
    /// member is that of the request.
    pub(super) fn poll_freed<Req, P, X>(
        &mut self,
        cx: &mut Context<'_>,
        local: &Local<S, C, P, X>,
        wanted: &Wanted<'_>,
        position: u64,
        granted: Option<BackendId>,
    ) -> Option<Ready<S, C>>
    where
        S: Service<Req>,
        S::Error: Into<BoxError>,
        P: Strategy,
        X: Clone,
    {
        let row = local.selection.serving_row(position)?;
        let id = local.selection.info(row).id;
        let is_full = |full: &BackendId| *full == id;
        if let Some(index) = self.full.iter().position(is_full) {
            self.full.swap_remove(index);
            self.polled.remove(id);
        }
        let is_free = !self.polled.contains(id) && !wanted.spent.contains(id);
        match granted {
            _ if !is_free => None,
            None => self.poll_row(cx, local, row, false, wanted.sends),
            Some(granted) if granted == id => self.poll_new(cx, local, row, false, wanted.sends),
            Some(_) => None,
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
            Err(panic) => self.panicked(&instance.shard, instance.is_probe(), sends, panic),
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

/// How many full backends are noted, so that the strategy does not pick them again.
const MAX_FULL: usize = 16;
