//! What a thread needs to select a backend: the selection of the fleet and the pick of the strategy.

use std::{
    any::Any,
    fmt,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use super::ready::{Sends, Unready};
use crate::{
    fleet::{FleetCore, FleetInner, MemberInfo, Selection, Shard},
    foreign,
    name::BackendId,
    pick::{KeySource, Skip, Strategy},
    shard::slot,
    telemetry,
};

/// What all clones of a door share: the fleet, the strategy, and what the door adds.
struct DoorShared<S, C, P: Strategy, X> {
    fleet: Arc<FleetInner<S, C>>,
    strategy: P,
    extra: X,
    honours_shares: bool,
    /// Updated by the first request that reads a new version.
    current: Mutex<Current<S, C, P>>,
}

/// The selection of one version, and the pick for its serving tier.
struct Current<S, C, P: Strategy> {
    selection: Arc<Selection<S, C>>,
    pick: Option<Arc<P::Pick>>,
    /// The selection whose candidates the pick was made for.
    made_for: Arc<Selection<S, C>>,
}

/// The local part of a door: the selection and the pick of one version, for one thread.
///
/// Held by the doors of the thread, and by requests that may need another backend. Each of them counts a reference, so
/// it has cache lines of its own.
#[repr(align(128))]
pub(crate) struct Local<S, C, P: Strategy, X> {
    pub(crate) core: Arc<FleetCore>,
    pub(crate) selection: Arc<Selection<S, C>>,
    /// The version of the selection. Copied, like the two flags, so that a request reads one cache line less.
    version: u64,
    /// Whether a request needs nothing but a pick: no key, no share that matters, and no circuit that is due for a
    /// probe.
    pub(super) is_plain: bool,
    /// Whether circuits of the serving tier are due for a probe.
    has_probes_due: bool,
    /// The largest share in the serving tier, if shares differ and the strategy does not honour them.
    pub(super) thins: Option<NonZeroU32>,
    /// Whether circuits of lower tiers are.
    has_spares_due: bool,
    /// Whether the strategy needs the key of the request, so that backends are selected in `call`.
    pub(super) needs_key: bool,
    pub(super) pick: Option<Arc<P::Pick>>,
    /// This thread's references to the candidates. Empty for a large fleet, where they are looked up in the selection.
    pub(super) shards: Box<[Weak<Shard<S, C>>]>,
    slot: usize,
    pub(crate) extra: X,
    shared: Arc<DoorShared<S, C, P, X>>,
}

impl<S, C, P, X> DoorShared<S, C, P, X>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    /// Makes the local part of a slot, of the current version.
    fn local(self: &Arc<Self>, slot: usize, is_first: bool) -> Arc<Local<S, C, P, X>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = is_first || current.selection.version != self.fleet.core.version();
        let replaced = if is_stale { self.renew(&mut current) } else { None };
        let (selection, pick) = (Arc::clone(&current.selection), current.pick.clone());
        drop(current);
        // Outside of the lock, since picks, panics and subscribers are the caller's code.
        if let Some(Replaced { pick, panic }) = replaced {
            foreign::discard(pick);
            if let Some(panic) = panic {
                foreign::discard([panic]);
                foreign::run(|| telemetry::strategy_panicked(&self.fleet.core.name));
            }
        }
        let thins = selection.largest_share().filter(|_| !self.honours_shares);
        let needs_key = self.strategy.key().is_some();
        Arc::new(Local {
            core: Arc::clone(&self.fleet.core),
            version: selection.version,
            is_plain: thins.is_none() && !needs_key && selection.probes_due().is_empty(),
            has_probes_due: selection.probes_due().iter().any(|row| selection.is_in_serving_tier(*row)),
            has_spares_due: selection.probes_due().iter().any(|row| !selection.is_in_serving_tier(*row)),
            needs_key,
            thins,
            shards: selection.serving_shards(slot),
            selection,
            pick,
            slot,
            extra: self.extra.clone(),
            shared: Arc::clone(self),
        })
    }

    /// Updates the selection, and makes a new pick if its candidates changed. Returns what that replaced.
    #[cold]
    fn renew(&self, current: &mut Current<S, C, P>) -> Option<Replaced<P::Pick>> {
        current.selection = self.fleet.selection();
        let candidates = current.selection.serving_tier();
        let is_made = current.pick.is_some() && current.made_for.tier_version == current.selection.tier_version;
        // Without candidates the last pick is kept, so that the strategy continues from it later.
        if candidates.is_empty() || is_made {
            return None;
        }
        let before = current.made_for.serving_tier();
        let before = current.pick.as_deref().map(|pick| (pick, &before));
        // A strategy may be the caller's code. If it panics, backends are selected at random.
        let (made, panic) = match catch_unwind(AssertUnwindSafe(|| self.strategy.make(&candidates, before))) {
            Ok(made) => (Some(Arc::new(made)), None),
            Err(panic) => (None, Some(panic)),
        };
        current.made_for = Arc::clone(&current.selection);
        Some(Replaced { pick: std::mem::replace(&mut current.pick, made), panic })
    }
}

/// What a new pick replaced, to be dropped outside of the lock.
struct Replaced<K> {
    pick: Option<Arc<K>>,
    /// The panic of the strategy.
    panic: Option<Box<dyn Any + Send>>,
}

impl<S, C, P, X> Local<S, C, P, X>
where
    S: Send + Sync + 'static,
    C: Clone + Send + Sync + 'static,
    P: Strategy,
    X: Clone,
{
    #[inline(always)]
    pub(super) fn is_current(&self) -> bool {
        self.version == self.core.version()
    }

    /// Whether the next request may have to probe a circuit.
    #[inline(always)]
    pub(super) fn has_probe_to_send(&self, sends: Sends) -> bool {
        self.has_probes_due || (self.has_spares_due && sends == Sends::Again && self.core.is_spare_turn())
    }

    /// Where the key of a request is, if the strategy needs it.
    #[inline]
    pub(super) fn key_source(&self) -> Option<&KeySource> {
        if self.needs_key { self.shared.strategy.key() } else { None }
    }

    /// Whether a backend is a spare: in a lower tier than the one that serves.
    pub(crate) fn is_spare(&self, info: &MemberInfo) -> bool {
        let serving = self.selection.serving_tier();
        !serving.is_empty() && serving[0].priority() > info.priority()
    }

    /// The classifier of the fleet.
    pub(crate) fn classifier(&self) -> &C {
        &self.shared.fleet.classifier
    }

    /// Makes the first local part of a door.
    pub(super) fn first(fleet: &Arc<FleetInner<S, C>>, strategy: P, extra: X) -> Arc<Self> {
        let selection = fleet.selection();
        let current = Current { made_for: Arc::clone(&selection), selection, pick: None };
        let needs = strategy.needs();
        fleet.core.measure(needs.measures(), |metering| needs.apply(metering));
        let (fleet, honours_shares, current) = (Arc::clone(fleet), needs.honours_shares(), Mutex::new(current));
        let shared = DoorShared { fleet, strategy, extra, honours_shares, current };
        Arc::new(shared).local(slot(), true)
    }

    /// Returns the local part of this thread, of the current version.
    pub(super) fn renewed(&self) -> Arc<Self> {
        self.at(slot())
    }

    /// Returns the local part of a slot, of the current version.
    pub(super) fn at(&self, slot: usize) -> Arc<Self> {
        self.shared.local(slot, false)
    }

    #[inline(always)]
    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    /// Returns the reference of a slot to the member in a row. `None` if the member was removed meanwhile.
    #[inline]
    pub(super) fn shard(&self, row: u32, slot: usize) -> Option<Arc<Shard<S, C>>> {
        self.selection.shard(row, slot)
    }

    /// Returns whether a further attempt could use another backend than those in `skip` and `beside` now.
    pub(crate) fn has_another(&self, skip: &Skip, beside: Option<BackendId>) -> bool {
        let selection = &self.selection;
        let mut rows = selection.rows().iter().chain(selection.probes_due()).map(|row| selection.info(*row).id);
        // Usually the numbers alone decide.
        selection.rows().len() > skip.len() + 1 || rows.any(|other| Some(other) != beside && !skip.contains(other))
    }

    /// Returns whether a further attempt could use another backend at some time: also one whose circuit is open now.
    #[inline]
    pub(crate) fn may_have_another(&self, skip: &Skip, beside: BackendId) -> bool {
        let selection = &self.selection;
        let is_other = |info: &Arc<MemberInfo>| info.id != beside && !skip.contains(info.id);
        selection.backends() > skip.len() + 1 || (selection.backends() > 1 && selection.infos().any(is_other))
    }

    /// Returns why no backend is ready.
    pub(super) fn unready(&self, any_refused: bool, any_full: bool) -> Unready {
        match self.selection.backends() {
            0 => Unready::NoBackends,
            _ if any_full => Unready::AtLimit(self.selection.rows().len()),
            _ if any_refused => Unready::Refused,
            backends => Unready::NoneAvailable(backends, self.retry_after()),
        }
    }

    /// Returns the time until a backend may become eligible, if one does without a change from outside.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let selection = &self.selection;
        // A circuit has opened, and the transition is not published yet.
        let unpublished = || {
            let now = self.core.clock.now();
            let due = selection.rows().iter().filter_map(|row| selection.info(*row).health.due());
            due.min().map(|due| due.since(now))
        };
        self.core.retry_after().or_else(unpublished)
    }
}

impl<S, C, P: Strategy, X> fmt::Debug for Local<S, C, P, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("fleet", &self.core.name).field("backends", &self.core.snapshot()).finish()
    }
}
