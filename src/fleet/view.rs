//! What requests see: the members in order, and which of them are eligible.

use std::{
    any::Any,
    cmp::Reverse,
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
};

use super::{
    books::Books,
    candidate::{Candidate, Candidates},
    core::FleetCore,
    member::{MemberInfo, RIPE},
    shard::{Member, Shard},
};
use crate::{name::BackendId, shard};

/// A fleet: its core, and the services of its members.
pub(crate) struct Shared<S, C> {
    pub(crate) core: Arc<FleetCore>,
    pub(crate) classifier: C,
    /// Locked inside the core's books only.
    services: Mutex<HashMap<BackendId, Entry<S, C>>>,
    /// Derived from the books by the first pick that needs it, once for all doors.
    selection: Mutex<Arc<Selection<S, C>>>,
}

/// A member as the fleet owns it.
pub(super) struct Entry<S, C> {
    #[expect(dead_code, reason = "owns what views refer to")]
    shards: Box<[Arc<Shard<S, C>>]>,
    weak: Row<S, C>,
    /// What the service was made of, where [`Fleet::reconcile`](super::Fleet::reconcile) made it.
    key: Option<Key>,
}

/// A key of any type that can be compared.
pub(super) type Key = Arc<dyn Any + Send + Sync>;

/// The references to one member, one for each thread or one for all. A view owns no service, so a door that is never
/// polled again keeps none alive but what it holds.
enum Row<S, C> {
    One(Weak<Shard<S, C>>),
    Each(Arc<[Weak<Shard<S, C>>]>),
}

impl<S, C> Row<S, C> {
    /// That of a slot.
    #[inline(always)]
    fn at(&self, slot: usize) -> &Weak<Shard<S, C>> {
        match self {
            Self::One(shard) => shard,
            Self::Each(shards) => shards.get(slot).unwrap_or(&shards[shard::SHARED]),
        }
    }
}

impl<S, C> Clone for Row<S, C> {
    fn clone(&self) -> Self {
        match self {
            Self::One(shard) => Self::One(Weak::clone(shard)),
            Self::Each(shards) => Self::Each(Arc::clone(shards)),
        }
    }
}

/// The members in the order in which tiers are asked, until members come or go.
struct View<S, C> {
    membership: u64,
    rows: Box<[Row<S, C>]>,
    candidates: Box<[Candidate]>,
    /// Where each tier ends.
    ends: Box<[u32]>,
}

/// Which members are eligible, as of one version.
pub(crate) struct Selection<S, C> {
    pub(crate) version: u64,
    view: Arc<View<S, C>>,
    /// Rows, in order.
    eligible: Box<[u32]>,
    /// How many of them are in the first tier that has any.
    first: usize,
    /// All rows of that tier.
    tier: Range<u32>,
    /// Rows of the members whose circuits are to be probed now.
    ripe: Box<[u32]>,
    /// Rises when the eligible members of the first tier change.
    pub(crate) tier_version: u64,
}

/// Above so many backends the counters of a member are shared by all threads: that many rarely collide, and each would
/// take a few hundred bytes more.
const SPREAD: usize = 256;

impl<S: Send + Sync + 'static, C: Clone + Send + Sync + 'static> Shared<S, C> {
    pub(super) fn new(core: FleetCore, classifier: C) -> Self {
        let view = View { membership: 0, rows: Box::default(), candidates: Box::default(), ends: Box::default() };
        let (eligible, ripe) = (Box::default(), Box::default());
        let selection =
            Selection { version: 0, view: Arc::new(view), eligible, first: 0, tier: 0..0, ripe, tier_version: 0 };
        Self {
            core: Arc::new(core),
            classifier,
            services: Mutex::default(),
            selection: Mutex::new(Arc::new(selection)),
        }
    }

    /// How many lines the counters of a member get that is added to so many.
    pub(super) fn lines(members: usize) -> usize {
        if members < SPREAD { shard::lines() } else { 1 }
    }

    /// Owns the service of a member that was put in the books.
    pub(super) fn own(&self, info: Arc<MemberInfo>, (service, classifier): (S, C), key: Option<Key>, lines: usize) {
        let id = info.id;
        let member = Arc::new(Member { info, service, classifier });
        let shards: Box<[_]> = (0..lines).map(|slot| Arc::new(Shard::new(Arc::clone(&member), slot))).collect();
        let weak = match &*shards {
            [shard] => Row::One(Arc::downgrade(shard)),
            _ => Row::Each(shards.iter().map(Arc::downgrade).collect()),
        };
        self.services().insert(id, Entry { shards, weak, key });
    }

    /// Gives up the service of a member that was taken out; to be dropped outside the lock.
    pub(super) fn disown(&self, info: &MemberInfo) -> Option<Entry<S, C>> {
        self.services().remove(&info.id)
    }

    /// What the service of a member was made of.
    pub(super) fn key(&self, id: BackendId) -> Option<Key> {
        self.services().get(&id)?.key.clone()
    }

    fn services(&self) -> MutexGuard<'_, HashMap<BackendId, Entry<S, C>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The eligible members as of now.
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
        let mut books = self.core.books();
        let version = self.core.version();
        let changed = std::mem::take(&mut books.changed);
        let all_changed = std::mem::take(&mut books.all_changed);
        let is_same_view = books.membership == before.view.membership;
        let view = if is_same_view { Arc::clone(&before.view) } else { Arc::new(self.view(&books)) };
        drop(books);
        let (eligible, ripe): (Vec<u32>, Vec<u32>) = if is_same_view && !all_changed {
            let (mut eligible, mut ripe) = (before.eligible.to_vec(), before.ripe.to_vec());
            for member in &changed {
                let row = member.marks.row.load(Ordering::Relaxed);
                put(&mut eligible, row, member.health.is_eligible());
                put(&mut ripe, row, member.marks.has(RIPE));
            }
            (eligible, ripe)
        } else {
            let rows = || (0..).zip(&view.candidates);
            let eligible = rows().filter(|(_, Candidate(info))| info.health.is_eligible()).map(|(row, _)| row);
            let ripe = rows().filter(|(_, Candidate(info))| info.marks.has(RIPE)).map(|(row, _)| row);
            (eligible.collect(), ripe.collect())
        };
        let tier = eligible.first().map_or(0..0, |row| view.start_of(*row)..view.end_of(*row));
        let first = eligible.partition_point(|row| *row < tier.end);
        let is_same_tier = is_same_view && before.eligible[..before.first] == eligible[..first];
        let tier_version = before.tier_version + u64::from(!is_same_tier);
        Selection { version, view, eligible: eligible.into(), first, tier, ripe: ripe.into(), tier_version }
    }

    fn view(&self, books: &Books) -> View<S, C> {
        let mut members: Vec<_> = books.members.iter().collect();
        // Stable: the order of the fleet among equals.
        members.sort_by_key(|member| Reverse(member.priority()));
        let services = self.services();
        let mut view = View {
            membership: books.membership,
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

/// Puts a row into a sorted list, or takes it out.
fn put(rows: &mut Vec<u32>, row: u32, is_in: bool) {
    match rows.binary_search(&row) {
        Ok(index) if !is_in => drop(rows.remove(index)),
        Err(index) if is_in => rows.insert(index, row),
        _ => {}
    }
}

impl<S, C> View<S, C> {
    /// Where the tier of a row ends.
    fn end_of(&self, row: u32) -> u32 {
        self.ends[self.ends.partition_point(|end| *end <= row)]
    }

    /// Where the tier of a row begins.
    fn start_of(&self, row: u32) -> u32 {
        match self.ends.partition_point(|end| *end <= row) {
            0 => 0,
            tier => self.ends[tier - 1],
        }
    }
}

impl<S, C> Selection<S, C> {
    /// How many backends the fleet has, eligible or not.
    pub(crate) fn backends(&self) -> usize {
        self.view.rows.len()
    }

    /// The eligible members of the first tier that has any.
    #[inline(always)]
    pub(crate) fn first_tier(&self) -> Candidates<'_> {
        let Range { start, end } = self.tier;
        let all = &self.view.candidates[start as usize..end as usize];
        Candidates { all, eligible: &self.eligible[..self.first], base: start }
    }

    /// The rows of the eligible members of the first tier.
    #[inline(always)]
    pub(crate) fn first_rows(&self) -> &[u32] {
        &self.eligible[..self.first]
    }

    /// The eligible members of the first tier as this thread refers to them; none of a large fleet.
    pub(crate) fn near(&self, slot: usize) -> Box<[Weak<Shard<S, C>>]> {
        let reference = |row: &u32| Weak::clone(self.view.rows[*row as usize].at(slot));
        if self.view.rows.len() > SPREAD { Box::default() } else { self.first_rows().iter().map(reference).collect() }
    }

    /// The rows of all eligible members, tier by tier.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.eligible
    }

    /// The rows of members whose circuits are to be probed now.
    #[inline(always)]
    pub(crate) fn ripe(&self) -> &[u32] {
        &self.ripe
    }

    /// Whether a row is in the tier that serves, or in a higher one.
    pub(crate) fn is_of_serving_tier(&self, row: u32) -> bool {
        self.eligible.is_empty() || row < self.tier.end
    }

    /// What is known of the member in a row.
    #[inline(always)]
    pub(crate) fn info(&self, row: u32) -> &Arc<MemberInfo> {
        &self.view.candidates[row as usize].0
    }

    /// What is known of all members.
    pub(crate) fn infos(&self) -> impl Iterator<Item = &Arc<MemberInfo>> {
        self.view.candidates.iter().map(|Candidate(info)| info)
    }

    /// The member in a row as this thread refers to it; none when it was removed just now.
    #[inline(always)]
    pub(crate) fn shard(&self, row: u32, slot: usize) -> Option<Arc<Shard<S, C>>> {
        self.view.rows[row as usize].at(slot).upgrade()
    }

    /// The row of a member, if it is eligible.
    pub(crate) fn eligible_row(&self, id: BackendId) -> Option<u32> {
        self.eligible.iter().copied().find(|row| self.info(*row).id == id)
    }
}
