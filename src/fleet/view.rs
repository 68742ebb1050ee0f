//! The view of a fleet that doors read: the members in order, and which of them are eligible.

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::{
    candidate::{Candidate, Candidates},
    core::FleetCore,
    marks::PROBE_DUE,
    member::{Links, MemberInfo, Waiting},
    registry::Registry,
    rows::{Row, RowKey, Splice, View, moved},
    shard::{OwnedMember, Shard},
};
use crate::{name::BackendId, shard};

/// The shared state of the handles of a fleet: its core, and the services of its members.
pub(crate) struct FleetInner<S, C> {
    pub(crate) core: Arc<FleetCore>,
    pub(super) links: Arc<Links>,
    pub(crate) classifier: C,
    /// Locked only while the core's registry is locked, or alone.
    pub(super) services: Mutex<HashMap<BackendId, OwnedMember<S, C>>>,
    /// Derived from the registry by the first door that reads a new version, once for all doors.
    selection: Mutex<Arc<Selection<S, C>>>,
}

/// The eligible members of one version of the fleet. A member is identified by its row in the view.
pub(crate) struct Selection<S, C> {
    pub(crate) version: u64,
    view: Arc<View<S, C>>,
    /// The rows of the eligible members, in ascending order.
    eligible: Box<[u32]>,
    /// The number of eligible members in the serving tier, which is the first one that has any.
    serving: usize,
    /// All rows of the serving tier.
    tier: Range<u32>,
    /// The rows of the members with circuits that are due for a probe.
    probes_due: Box<[u32]>,
    /// Rises when the eligible members of the serving tier change, their weights or their shares.
    pub(crate) tier_version: u64,
    /// The largest share in the serving tier, if another one is smaller; else 0.
    largest_share: u32,
}

/// The most backends with per-thread counters, which take kilobytes. In a larger fleet each member has one counter for all
/// threads: two threads rarely call the same backend at the same time.
const MAX_SHARDED: usize = 256;

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> FleetInner<S, C> {
    pub(super) fn new(core: FleetCore, classifier: C) -> Self {
        let selection = Selection {
            version: 0,
            view: Arc::new(View::empty()),
            eligible: Box::default(),
            serving: 0,
            tier: 0..0,
            probes_due: Box::default(),
            tier_version: 0,
            largest_share: 0,
        };
        let core = Arc::new(core);
        let publisher: Weak<FleetCore> = Arc::downgrade(&core);
        let waiting: Arc<dyn Waiting> = Arc::clone(&core.slots) as _;
        Self {
            links: Arc::new(Links { publisher, waiting, named_times: core.named_times, headroom: core.headroom }),
            core,
            classifier,
            services: Mutex::default(),
            selection: Mutex::new(Arc::new(selection)),
        }
    }

    /// Returns the number of cache lines for the counters of a member that is added to this many.
    pub(super) fn line_count(members: usize) -> usize {
        if members < MAX_SHARDED { shard::line_count() } else { 1 }
    }

    /// Returns the eligible members of the current version.
    pub(crate) fn selection(&self) -> Arc<Selection<S, C>> {
        let mut current = self.selection.lock().unwrap_or_else(PoisonError::into_inner);
        if current.version != self.core.version() {
            let next = self.derive(&current);
            *current = Arc::new(next);
        }
        Arc::clone(&current)
    }

    #[cold]
    fn derive(&self, before: &Selection<S, C>) -> Selection<S, C> {
        let mut registry = self.core.registry();
        let version = self.core.version();
        let changed = std::mem::take(&mut registry.changed);
        let all_changed = std::mem::take(&mut registry.all_changed);
        let shares_changed = std::mem::take(&mut registry.shares_changed);
        let (whole, splices) = match registry.patch.take() {
            Some(rows) => (None, before.view.differences(self.with_services(rows).into_iter())),
            None => (Some(self.view(&registry)), Vec::new()),
        };
        // Under the lock, since that is when the priorities are those of the view.
        let changed: Vec<_> = changed.into_iter().map(|member| (RowKey::of(&member), member)).collect();
        let Registry { members, shares, .. } = &mut *registry;
        shares.serve(members.values().map(|member| member.health.is_eligible()), || self.core.clock.now());
        drop(registry);
        let all_changed = all_changed || whole.is_some();
        let view = match whole {
            Some(view) => Arc::new(view),
            None if splices.is_empty() => Arc::clone(&before.view),
            None => Arc::new(before.view.patched(&splices)),
        };
        let is_same_view = Arc::ptr_eq(&view, &before.view);
        let (eligible, probes_due): (Vec<u32>, Vec<u32>) = if all_changed {
            let rows = || (0..).zip(&view.candidates);
            let eligible = rows().filter(|(_, Candidate(info))| info.health.is_eligible()).map(|(row, _)| row);
            let probes_due = rows().filter(|(_, Candidate(info))| info.marks.has(PROBE_DUE)).map(|(row, _)| row);
            (eligible.collect(), probes_due.collect())
        } else {
            let (mut eligible, mut probes_due) =
                (moved(&before.eligible, &splices), moved(&before.probes_due, &splices));
            let changed = changed.iter().map(|(key, member)| (*key, member));
            for (key, member) in changed.chain(splices.iter().filter_map(Splice::inserted)) {
                // A member that was removed meanwhile has no row, or it is that of its replacement.
                let row = view.row(key).ok().filter(|row| view.candidates[*row as usize].id() == member.id);
                if let Some(row) = row {
                    set_row(&mut eligible, row, member.health.is_eligible());
                    set_row(&mut probes_due, row, member.marks.has(PROBE_DUE));
                }
            }
            (eligible, probes_due)
        };
        let tier = eligible.first().map_or(0..0, |row| view.tier_of(*row));
        let serving = eligible.partition_point(|row| *row < tier.end);
        if let Some(row) = eligible.first() {
            self.core.slots.set_tier(view.candidates[*row as usize].0.priority());
        }
        let is_same_tier = is_same_view && before.eligible[..before.serving] == eligible[..serving];
        let is_same_tier = is_same_tier && !shares_changed;
        let tier_version = before.tier_version + u64::from(!is_same_tier);
        let largest_share = match is_same_tier {
            true => before.largest_share,
            false => largest_share(eligible[..serving].iter().map(|row| view.candidates[*row as usize].0.share())),
        };
        let (eligible, probes_due) = (eligible.into(), probes_due.into());
        Selection { version, view, eligible, serving, tier, probes_due, tier_version, largest_share }
    }

    /// Makes the view of the current members.
    fn view(&self, registry: &Registry) -> View<S, C> {
        let services = self.services();
        let row = |member: &Arc<MemberInfo>| (Arc::clone(member), services[&member.id].weak.clone());
        View::new(registry.members.values().map(row))
    }

    /// Adds the references to the services of members that are in the registry.
    fn with_services(&self, rows: BTreeMap<RowKey, Option<Arc<MemberInfo>>>) -> Vec<(RowKey, Option<Row<S, C>>)> {
        let services = self.services();
        let row = |member: Arc<MemberInfo>| services.get(&member.id).map(|owned| (member, owned.weak.clone()));
        rows.into_iter().map(|(key, member)| (key, member.and_then(row))).collect()
    }
}

/// Returns the largest of these shares, or 0 if all are equal.
fn largest_share(shares: impl Iterator<Item = u32>) -> u32 {
    let (least, most) = shares.fold((u32::MAX, 0), |(least, most), share| (least.min(share), most.max(share)));
    if least < most { most } else { 0 }
}

/// Inserts a row into a sorted list, or removes it.
fn set_row(rows: &mut Vec<u32>, row: u32, is_present: bool) {
    match rows.binary_search(&row) {
        Ok(index) if !is_present => drop(rows.remove(index)),
        Err(index) if is_present => rows.insert(index, row),
        _ => {}
    }
}

impl<S, C> Selection<S, C> {
    /// Returns the number of backends, eligible or not.
    pub(crate) fn backends(&self) -> usize {
        self.view.refs.len()
    }

    /// Returns the eligible members of the serving tier.
    #[inline(always)]
    pub(crate) fn serving_tier(&self) -> Candidates<'_> {
        let Range { start, end } = self.tier;
        let all = &self.view.candidates[start as usize..end as usize];
        Candidates { all, eligible: &self.eligible[..self.serving], base: start }
    }

    /// Returns the largest share in the serving tier. `None` if all shares are equal, so that they have no effect.
    #[inline]
    pub(crate) fn largest_share(&self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.largest_share)
    }

    /// Returns the rows of the eligible members of the serving tier.
    #[inline(always)]
    pub(crate) fn serving_rows(&self) -> &[u32] {
        &self.eligible[..self.serving]
    }

    /// Returns the references of a slot to the eligible members of the serving tier. Empty for a fleet of more than
    /// `MAX_SHARDED` backends, since it would be long.
    pub(crate) fn serving_shards(&self, slot: usize) -> Box<[Weak<Shard<S, C>>]> {
        let reference = |row: &u32| Weak::clone(self.view.refs[*row as usize].at(slot));
        match self.view.refs.len() {
            ..=MAX_SHARDED => self.serving_rows().iter().map(reference).collect(),
            _ => Box::default(),
        }
    }

    /// Returns the rows of all eligible members, tier by tier.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.eligible
    }

    /// Returns the rows of the members with circuits that are due for a probe.
    #[inline(always)]
    pub(crate) fn probes_due(&self) -> &[u32] {
        &self.probes_due
    }

    /// Returns whether a row is in the serving tier, or in a higher one.
    pub(crate) fn is_in_serving_tier(&self, row: u32) -> bool {
        self.eligible.is_empty() || row < self.tier.end
    }

    /// Returns the place of a row in the serving tier. `None` if it is in another tier, or if no member is eligible.
    pub(crate) fn serving_place(&self, row: u32) -> Option<usize> {
        self.tier.contains(&row).then(|| (row - self.tier.start) as usize)
    }

    /// Returns the member in a row.
    #[inline(always)]
    pub(crate) fn info(&self, row: u32) -> &Arc<MemberInfo> {
        &self.view.candidates[row as usize].0
    }

    /// Returns all members, without their services.
    pub(crate) fn infos(&self) -> impl Iterator<Item = &Arc<MemberInfo>> {
        self.view.candidates.iter().map(|Candidate(info)| info)
    }

    /// Returns the reference of a slot to the member in a row. `None` if the member was removed meanwhile.
    #[inline(always)]
    pub(crate) fn shard(&self, row: u32, slot: usize) -> Option<Arc<Shard<S, C>>> {
        self.view.refs[row as usize].at(slot).upgrade()
    }

    /// Returns the row of the eligible member with this id and position. Searches the tiers, not their rows.
    pub(crate) fn eligible_row(&self, id: BackendId, position: u64) -> Option<u32> {
        let row = self.row(id, position)?;
        self.eligible.binary_search(&row).is_ok().then_some(row)
    }

    /// Returns the member with this id and position, eligible or not.
    pub(crate) fn member(&self, id: BackendId, position: u64) -> Option<&Arc<MemberInfo>> {
        self.row(id, position).map(|row| self.info(row))
    }

    fn row(&self, id: BackendId, position: u64) -> Option<u32> {
        self.view.row_at(position).filter(|row| self.info(*row).id == id)
    }

    /// Returns the row of the eligible member with this position in the serving tier.
    pub(crate) fn serving_row(&self, position: u64) -> Option<u32> {
        let Range { start, end } = self.tier;
        let tier = &self.view.candidates[start as usize..end as usize];
        let row = start + tier.binary_search_by_key(&position, Candidate::position).ok()? as u32;
        self.serving_rows().binary_search(&row).is_ok().then_some(row)
    }
}

#[cfg(test)]
impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> FleetInner<S, C> {
    /// Checks that the selection is the one made of all members.
    pub(super) fn assert_derived(&self) {
        let selection = self.selection();
        let view = self.view(&self.core.registry());
        assert!(selection.view.is_same(&view), "the view");
        let rows = |is_in: &dyn Fn(&MemberInfo) -> bool| -> Vec<u32> {
            (0..).zip(&view.candidates).filter(|(_, Candidate(info))| is_in(info)).map(|(row, _)| row).collect()
        };
        assert_eq!(*selection.eligible, rows(&|info| info.health.is_eligible()), "the eligible rows");
        assert_eq!(*selection.probes_due, rows(&|info| info.marks.has(PROBE_DUE)), "the probes that are due");
    }
}

#[cfg(test)]
impl<S, C> Selection<S, C> {
    /// Returns whether both share one view.
    pub(super) fn has_view_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.view, &other.view)
    }
}
