//! The rows of the members, in the order in which doors read them.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use super::{candidate::Candidate, member::MemberInfo, shard::MemberRef};

/// The members in the order of their tiers, highest first, and of their positions.
pub(super) struct View<S, C> {
    pub(super) refs: Box<[MemberRef<S, C>]>,
    pub(super) candidates: Box<[Candidate]>,
    tiers: Box<[Tier]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Tier {
    priority: i32,
    /// The row behind the last one of the tier.
    end: u32,
}

/// What orders the rows: the priority of the member, highest first, and its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    tier: Reverse<i32>,
    position: u64,
}

impl RowKey {
    pub(super) fn new(priority: i32, position: u64) -> Self {
        Self { tier: Reverse(priority), position }
    }

    pub(super) fn of(member: &MemberInfo) -> Self {
        Self::new(member.priority(), member.position())
    }
}

/// The rows that changed since the last view was made.
#[derive(Debug, Default)]
pub(super) struct Patch {
    /// The member that has the row of a key now, if there is one.
    rows: BTreeMap<RowKey, Option<Arc<MemberInfo>>>,
    /// More than `MAX_PATCHED` rows changed, so that `rows` is incomplete.
    is_overfull: bool,
}

/// The most rows that are patched. Beyond it, a new view costs no more.
const MAX_PATCHED: usize = 256;

impl Patch {
    pub(super) fn insert(&mut self, member: &Arc<MemberInfo>) {
        self.set(RowKey::of(member), Some(Arc::clone(member)));
    }

    pub(super) fn remove(&mut self, key: RowKey) {
        self.set(key, None);
    }

    fn set(&mut self, key: RowKey, member: Option<Arc<MemberInfo>>) {
        if !self.is_overfull {
            self.rows.insert(key, member);
        }
        if self.rows.len() > MAX_PATCHED {
            (self.rows, self.is_overfull) = (BTreeMap::new(), true);
        }
    }

    /// Takes the rows that changed, in ascending order. `None` if these are too many.
    pub(super) fn take(&mut self) -> Option<BTreeMap<RowKey, Option<Arc<MemberInfo>>>> {
        let Self { rows, is_overfull } = std::mem::take(self);
        (!is_overfull).then_some(rows)
    }
}

/// A member with the references to its service.
pub(super) type Row<S, C> = (Arc<MemberInfo>, MemberRef<S, C>);

/// A difference between two views, at a row of the first one.
pub(super) struct Splice<S, C> {
    key: RowKey,
    row: u32,
    /// The member in this row is not in the second view.
    removes: bool,
    /// The member that the second view has in its place, or before it.
    inserts: Option<Row<S, C>>,
}

impl<S, C> Splice<S, C> {
    /// The member that is in the second view only.
    pub(super) fn inserted(&self) -> Option<(RowKey, &Arc<MemberInfo>)> {
        self.inserts.as_ref().map(|(member, _)| (self.key, member))
    }
}

impl<S, C> View<S, C> {
    pub(super) fn empty() -> Self {
        Self { refs: Box::default(), candidates: Box::default(), tiers: Box::default() }
    }

    /// Makes the view of these members, which are in the order of their positions.
    pub(super) fn new(members: impl Iterator<Item = Row<S, C>>) -> Self {
        let mut rows: Vec<_> = members.map(|row| (RowKey::of(&row.0), row)).collect();
        // Stable, and so fast: members of equal priority are in order.
        rows.sort_by_key(|(key, _)| *key);
        let tiers = rows.chunk_by(|(a, _), (b, _)| a.tier == b.tier);
        let tiers = tiers.filter_map(|tier| Some((tier.first()?.0.tier, tier.len() as u32)));
        let tiers = ends(tiers);
        let (candidates, refs): (Vec<_>, Vec<_>) =
            rows.into_iter().map(|(_, (member, reference))| (Candidate(member), reference)).unzip();
        Self { refs: refs.into(), candidates: candidates.into(), tiers }
    }

    /// Returns where the view differs from one with these rows.
    pub(super) fn differences(&self, rows: impl Iterator<Item = (RowKey, Option<Row<S, C>>)>) -> Vec<Splice<S, C>> {
        let splices = rows.filter_map(|(key, inserts)| match self.row(key) {
            Ok(row) => Some(Splice { key, row, removes: true, inserts }),
            Err(row) => inserts.is_some().then_some(Splice { key, row, removes: false, inserts }),
        });
        splices.collect()
    }

    /// Makes the view that differs from this one as noted: a copy, without a sort.
    pub(super) fn patched(&self, splices: &[Splice<S, C>]) -> Self {
        let len = self.refs.len() + splices.len();
        let (mut refs, mut candidates) = (Vec::with_capacity(len), Vec::with_capacity(len));
        let mut tiers: BTreeMap<_, _> = self.tier_lens().collect();
        let mut next = 0;
        for Splice { key, row, removes, inserts } in splices {
            let row = *row as usize;
            refs.extend_from_slice(&self.refs[next..row]);
            candidates.extend_from_slice(&self.candidates[next..row]);
            next = row + usize::from(*removes);
            if let Some((member, reference)) = inserts {
                refs.push(reference.clone());
                candidates.push(Candidate(Arc::clone(member)));
            }
            let tier = tiers.entry(key.tier).or_default();
            *tier = *tier + u32::from(inserts.is_some()) - u32::from(*removes);
        }
        refs.extend_from_slice(&self.refs[next..]);
        candidates.extend_from_slice(&self.candidates[next..]);
        let tiers = ends(tiers.into_iter().filter(|(_, len)| *len > 0));
        Self { refs: refs.into(), candidates: candidates.into(), tiers }
    }

    /// Returns the row of a key.
    ///
    /// # Errors
    ///
    /// No row has this key. Contains the row of the next key, which is the number of rows if there is none.
    pub(super) fn row(&self, key: RowKey) -> Result<u32, u32> {
        let tier = self.tiers.partition_point(|tier| Reverse(tier.priority) < key.tier);
        let start = self.start(tier);
        match self.tiers.get(tier) {
            Some(found) if Reverse(found.priority) == key.tier => {
                let rows = &self.candidates[start as usize..found.end as usize];
                let row = rows.binary_search_by_key(&key.position, Candidate::position);
                row.map(|row| start + row as u32).map_err(|row| start + row as u32)
            }
            _ => Err(start),
        }
    }

    /// Returns the row of the member with this position.
    pub(super) fn row_at(&self, position: u64) -> Option<u32> {
        self.tiers.iter().find_map(|tier| self.row(RowKey::new(tier.priority, position)).ok())
    }

    /// Returns the rows of the tier that contains a row.
    pub(super) fn tier_of(&self, row: u32) -> std::ops::Range<u32> {
        let tier = self.tiers.partition_point(|tier| tier.end <= row);
        self.start(tier)..self.tiers.get(tier).map_or(row, |tier| tier.end)
    }

    /// Returns the first row of the tier with this number.
    fn start(&self, tier: usize) -> u32 {
        tier.checked_sub(1).map_or(0, |before| self.tiers[before].end)
    }

    fn tier_lens(&self) -> impl Iterator<Item = (Reverse<i32>, u32)> {
        (0..).zip(&self.tiers).map(|(index, tier)| (Reverse(tier.priority), tier.end - self.start(index)))
    }

    /// Returns whether both views have the same members in the same rows.
    #[cfg(test)]
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let ids = |view: &Self| view.candidates.iter().map(Candidate::id).collect::<Vec<_>>();
        let shards = |view: &Self| view.refs.iter().map(|member| member.at(0).as_ptr()).collect::<Vec<_>>();
        ids(self) == ids(other) && shards(self) == shards(other) && self.tiers == other.tiers
    }
}

/// Returns the tiers with these priorities and numbers of members.
fn ends(tiers: impl Iterator<Item = (Reverse<i32>, u32)>) -> Box<[Tier]> {
    let tiers = tiers.scan(0, |end, (Reverse(priority), len)| {
        *end += len;
        Some(Tier { priority, end: *end })
    });
    tiers.collect()
}

/// Returns the rows that the members in these rows have after the splices, without the members that are not there any
/// more. Both are in ascending order.
pub(super) fn moved<S, C>(rows: &[u32], splices: &[Splice<S, C>]) -> Vec<u32> {
    if splices.is_empty() {
        return rows.to_vec();
    }
    let mut rest = splices.iter().peekable();
    let (mut inserted, mut removed) = (0, 0);
    let moved = rows.iter().filter_map(|row| {
        while let Some(splice) = rest.next_if(|it| it.row < *row || (it.row == *row && !it.removes)) {
            inserted += u32::from(splice.inserts.is_some());
            removed += u32::from(splice.removes);
        }
        let is_removed = rest.peek().is_some_and(|splice| splice.row == *row);
        (!is_removed).then(|| row + inserted - removed)
    });
    moved.collect()
}
