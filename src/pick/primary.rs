use super::{Candidates, Pick, PickContext, Strategy};

/// Always the first of the highest tier: one active backend, the others in reserve.
#[derive(Clone, Copy, Debug, Default)]
pub struct Primary;

impl Strategy for Primary {
    type Pick = Self;

    fn make(&self, _: &Candidates<'_>, _: Option<(&Self, &Candidates<'_>)>) -> Self {
        Self
    }
}

impl Pick for Primary {
    #[inline(always)]
    fn pick(&self, candidates: &Candidates<'_>, cx: &mut PickContext<'_>) -> usize {
        if cx.skips_none() {
            return 0;
        }
        candidates.iter().position(|candidate| !cx.skips(candidate)).unwrap_or(0)
    }
}
