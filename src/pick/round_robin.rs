//! Round robin.

use super::{Candidate, Candidates, Pick, PickContext, Strategy, rotation::Rotation};

/// Selects one candidate after the other: A, B, C, A … The order is exact among the requests of one thread.
///
/// When backends are added, removed or ejected, the rotation continues with the next candidate after the last one
/// selected.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

/// The rotation of [`RoundRobin`] over one set of candidates.
#[derive(Debug, Default)]
pub struct RoundRobinPick(Rotation);

impl RoundRobin {
    /// Creates the strategy. The rotation begins with the first candidate.
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

/// Carries a rotation over the places of a tier over to the tier after a change of its members.
pub(super) fn carried(rotation: &Rotation, before: &[Candidate], now: &[Candidate]) -> Rotation {
    if before.iter().map(Candidate::id).eq(now.iter().map(Candidate::id)) {
        return rotation.clone();
    }
    rotation.moved(|next| {
        // The first backend behind the last one selected is next.
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
