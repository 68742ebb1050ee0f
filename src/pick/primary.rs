//! Always the first backend.

use super::{Candidates, Pick, PickContext, Strategy};

/// Selects the first candidate: one active backend, and the others as reserves.
///
/// The default of a [`Failover`](crate::Failover).
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
        let from = cx.skipped_prefix();
        (from..candidates.len()).find(|number| !cx.skips(&candidates[*number])).unwrap_or(0)
    }
}
