//! The view of a fleet that doors read: the members in order, and which of them are eligible.

use std::{
    cmp::Reverse,
    collections::HashMap,
    num::NonZeroU32,
    ops::Range,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
};

use super::{
    candidate::{Candidate, Candidates},
    core::FleetCore,
    marks::PROBE_DUE,
    member::{Links, MemberInfo, Waiting},
    registry::Registry,
    shard::{MemberRef, OwnedMember, Shard},
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

/// The members in the order of their tiers, highest first. Valid for one version of the membership.
struct View<S, C> {
    membership: u64,
    rows: Box<[MemberRef<S, C>]>,
    candidates: Box<[Candidate]>,
    /// The end of each tier, as a row.
    ends: Box<[u32]>,
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
        let view = View { membership: 0, rows: Box::default(), candidates: Box::default(), ends: Box::default() };
        let selection = Selection {
            version: 0,
            view: Arc::new(view),
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
            links: Arc::new(Links { publisher, waiting }),
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
        let is_same_view = registry.membership == before.view.membership;
        let view = if is_same_view { Arc::clone(&before.view) } else { Arc::new(self.view(&registry)) };
        let Registry { members, shares, .. } = &mut *registry;
        shares.serve(members.iter().map(|member| member.health.is_eligible()), || self.core.clock.now());
        drop(registry);
        let (eligible, probes_due): (Vec<u32>, Vec<u32>) = if is_same_view && !all_changed {
            let (mut eligible, mut probes_due) = (before.eligible.to_vec(), before.probes_due.to_vec());
            for member in &changed {
                let row = member.marks.row.load(Ordering::Relaxed);
                set_row(&mut eligible, row, member.health.is_eligible());
                set_row(&mut probes_due, row, member.marks.has(PROBE_DUE));
            }
            (eligible, probes_due)
        } else {
            let rows = || (0..).zip(&view.candidates);
            let eligible = rows().filter(|(_, Candidate(info))| info.health.is_eligible()).map(|(row, _)| row);
            let probes_due = rows().filter(|(_, Candidate(info))| info.marks.has(PROBE_DUE)).map(|(row, _)| row);
            (eligible.collect(), probes_due.collect())
        };
        let tier = eligible.first().map_or(0..0, |row| view.start_of(*row)..view.end_of(*row));
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

    /// Makes the view of the current members, and notes their rows.
    fn view(&self, registry: &Registry) -> View<S, C> {
        let mut members: Vec<_> = registry.members.iter().collect();
        // A stable sort: members of equal priority stay in the order of the fleet.
        members.sort_by_key(|member| Reverse(member.priority()));
        let services = self.services();
        let mut view = View {
            membership: registry.membership,
            rows: members.iter().map(|member| services[&member.id].weak.clone()).collect(),
            candidates: members.iter().map(|member| Candidate(Arc::clone(member))).collect(),
            ends: Box::default(),
        };
        drop(services);
        for (row, member) in (0..).zip(&members) {
            member.marks.row.store(row, Ordering::Relaxed);
        }
        let tiers = members.chunk_by(|a, b| a.priority() == b.priority());
        let ends = tiers.scan(0, |end, tier| {
            *end += tier.len() as u32;
            Some(*end)
        });
        view.ends = ends.collect();
        view
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

impl<S, C> View<S, C> {
    /// Returns the end of a row's tier.
    fn end_of(&self, row: u32) -> u32 {
        self.ends[self.ends.partition_point(|end| *end <= row)]
    }

    /// Returns the first row of a row's tier.
    fn start_of(&self, row: u32) -> u32 {
        match self.ends.partition_point(|end| *end <= row) {
            0 => 0,
            tier => self.ends[tier - 1],
        }
    }
}

impl<S, C> Selection<S, C> {
    /// Returns the number of backends, eligible or not.
    pub(crate) fn backends(&self) -> usize {
        self.view.rows.len()
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
        let reference = |row: &u32| Weak::clone(self.view.rows[*row as usize].at(slot));
        match self.view.rows.len() {
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
        self.view.rows[row as usize].at(slot).upgrade()
    }

    /// Returns the row of a member. `None` if it is not eligible.
    pub(crate) fn eligible_row(&self, id: BackendId) -> Option<u32> {
        self.eligible.iter().copied().find(|row| self.info(*row).id == id)
    }
}
