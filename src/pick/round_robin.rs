use super::{Candidate, Candidates, Pick, PickContext, Strategy, rotation::Rotation};

/// One after the other: A, B, C, A …, exactly for what one thread sends.
///
/// When the set changes, the one after the last one chosen is next, wherever it now stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

/// The rotation of [`RoundRobin`] over one set.
#[derive(Debug, Default)]
pub struct RoundRobinPick(Rotation);

impl RoundRobin {
    /// Begins with the first.
    pub fn new() -> Self {
        Self
    }
}

impl Strategy for RoundRobin {
    type Pick = RoundRobinPick;

    fn make(&self, candidates: &Candidates<'_>, before: Option<(&RoundRobinPick, &Candidates<'_>)>) -> RoundRobinPick {
        let Some((RoundRobinPick(rotation), before)) = before else { return RoundRobinPick::default() };
        RoundRobinPick(carried(rotation, before.tier(), candidates.tier()))
    }
}

/// The rotation over the places of a tier, carried over to a tier in which some came or left.
pub(super) fn carried(rotation: &Rotation, before: &[Candidate], now: &[Candidate]) -> Rotation {
    if before.iter().map(Candidate::id).eq(now.iter().map(Candidate::id)) {
        return rotation.clone();
    }
    rotation.moved(|next| {
        // All up to the last one chosen have had their turn.
        let last = next.checked_sub(1).and_then(|last| before.get(last)).map(Candidate::position);
        last.map_or(0, |last| now.partition_point(|candidate| candidate.position() <= last))
    })
}

impl Pick for RoundRobinPick {
    #[inline(always)]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        let skips_none = cx.skips_none();
        let skips = |number: usize| !skips_none && cx.skips(&candidates[number]);
        self.0.take(cx.slot, candidates.len(), |number| candidates.place(number), skips).unwrap_or(0)
    }
}
